"""Terms must name a listing that pays those whose models a task uses; the board cannot know, so nodes hold to it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from gesso_protocol.ids import NO_LISTING, BlobRef, ListingId
from gesso_protocol.royalties import by_manifest, lineage, pays_its_owners, royalty_bps
from gesso_protocol.spec import Adapter, Spec, TextToImage, UsedAdapter
from gesso_protocol.training.presets import make_training

BASE, OTHER, LORA, ORPHAN, FINE = (BlobRef.of(text) for text in (b"base", b"other", b"lora", b"orphan", b"fine"))


@dataclass(frozen=True)
class Listed:
    id: ListingId
    manifest: BlobRef
    parent: ListingId | None = None
    royalty_bps: int = 100


MARKET = {
    one.id: one
    for one in (
        Listed(ListingId(1), BASE, None, 300),
        Listed(ListingId(2), OTHER),
        Listed(ListingId(3), LORA, ListingId(1), 500),
        Listed(ListingId(4), ORPHAN, None, 500),
        Listed(ListingId(5), FINE, ListingId(3), 200),
        Listed(ListingId(6), BASE, None, 0),
    )
}


def drawing(*loras: BlobRef) -> Spec:
    used = tuple(UsedAdapter(manifest=ref) for ref in loras)
    return TextToImage(prompt="a", model="m", loras=used)


def training(start: BlobRef) -> Spec:
    return make_training("gesso-tiny@1", dataset=BlobRef.of(b"d"), continue_from=Adapter(manifest=start))


@pytest.mark.parametrize(
    ("spec", "named", "fine"),
    [
        (drawing(), 1, True),
        (drawing(), 6, True),  # the same files, listed again by their owner
        (drawing(), 0, False),
        (drawing(), 2, False),
        (drawing(), 3, False),
        (drawing(LORA), 3, True),
        (drawing(LORA), 1, False),
        (drawing(LORA), 0, False),
        (drawing(FINE), 5, True),
        (drawing(FINE), 3, False),
        (drawing(LORA, FINE), 3, True),
        (drawing(LORA, FINE), 5, True),
        (drawing(ORPHAN), 1, True),
        (drawing(ORPHAN), 4, False),  # it would cut out the base's owner
        (drawing(ORPHAN, LORA), 3, True),
        (drawing(BlobRef.of(b"private")), 1, True),
        (training(LORA), 3, True),
        (training(LORA), 1, False),
    ],
)
def test_who_must_be_paid(spec: Spec, named: int, fine: bool) -> None:
    assert pays_its_owners(spec, BASE, ListingId(named), MARKET, by_manifest(MARKET)) is fine


def test_where_nobody_asks_for_a_royalty_any_listing_will_do() -> None:
    free = {ListingId(1): Listed(ListingId(1), BASE, None, 0)}
    assert pays_its_owners(drawing(), BASE, NO_LISTING, free, by_manifest(free))
    assert pays_its_owners(drawing(), BlobRef.of(b"unlisted"), NO_LISTING, MARKET, by_manifest(MARKET))


def test_shares_along_a_lineage() -> None:
    assert royalty_bps(ListingId(5), MARKET) == 1000
    assert royalty_bps(NO_LISTING, MARKET) == 0
    assert [one.id for one in lineage(ListingId(5), MARKET)] == [5, 3, 1]


def test_a_lineage_that_goes_in_a_circle_ends() -> None:
    loop = {ListingId(1): Listed(ListingId(1), BASE, ListingId(1))}
    assert len(list(lineage(ListingId(1), loop))) == 4
