"""Terms must name a listing that pays those whose models a task uses; the board cannot know, so nodes hold to it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from gesso_protocol.ids import NO_LISTING, BlobRef, ListingId
from gesso_protocol.royalties import (
    BUNDLES,
    bundle_limit_bps,
    by_manifest,
    is_bundle,
    least_members,
    lineage,
    pays_its_owners,
    royalty_bps,
    shares_bps,
)
from gesso_protocol.spec import Adapter, Spec, TextToImage, UsedAdapter
from gesso_protocol.training.presets import make_training

BASE, OTHER, LORA, ORPHAN, FINE, SECOND, FREE = (
    BlobRef.of(text) for text in (b"base", b"other", b"lora", b"orphan", b"fine", b"second", b"free")
)


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
        Listed(ListingId(7), SECOND, ListingId(1), 400),
        Listed(ListingId(8), FREE, ListingId(1), 0),
    )
}


def bundled(*members: int) -> tuple[ListingId, ...]:
    return tuple(map(ListingId, members))


BOTH, ALL, STRANGE = BUNDLES + 1, BUNDLES + 2, BUNDLES + 3
BUNDLED = {
    ListingId(BOTH): bundled(3, 7),
    ListingId(ALL): bundled(3, 5, 7),
    ListingId(STRANGE): bundled(2, 3, 7),
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
        (drawing(LORA, FINE), 3, False),
        (drawing(LORA, FINE), 5, True),  # made from the other, whose owner it pays too
        (drawing(LORA, SECOND), BOTH, True),
        (drawing(SECOND, LORA), BOTH, True),
        (drawing(LORA, SECOND), 3, False),
        (drawing(LORA, SECOND), 7, False),
        (drawing(LORA, SECOND), BUNDLES + 9, False),  # nobody knows what it is
        (drawing(LORA, SECOND), STRANGE, False),  # somebody would have a part who has none in it
        (drawing(LORA, SECOND), ALL, False),
        (drawing(LORA, FINE, SECOND), ALL, True),
        (drawing(LORA, FINE, SECOND), BOTH, False),
        (drawing(LORA), BOTH, False),
        (drawing(LORA, FREE), 3, True),  # asks for nothing, and its base is paid
        (drawing(LORA, FREE), 8, False),
        (drawing(ORPHAN, LORA, SECOND), BOTH, True),
        (drawing(ORPHAN), 1, True),
        (drawing(ORPHAN), 4, False),  # it would cut out the base's owner
        (drawing(ORPHAN, LORA), 3, True),
        (drawing(BlobRef.of(b"private")), 1, True),
        (training(LORA), 3, True),
        (training(LORA), 1, False),
    ],
)
def test_who_must_be_paid(spec: Spec, named: int, fine: bool) -> None:
    assert pays_its_owners(spec, BASE, ListingId(named), MARKET, by_manifest(MARKET), BUNDLED) is fine


def test_where_nobody_asks_for_a_royalty_any_listing_will_do() -> None:
    free = {ListingId(1): Listed(ListingId(1), BASE, None, 0)}
    assert pays_its_owners(drawing(), BASE, NO_LISTING, free, by_manifest(free), {})
    assert pays_its_owners(drawing(), BlobRef.of(b"unlisted"), NO_LISTING, MARKET, by_manifest(MARKET), BUNDLED)


def test_shares_along_a_lineage() -> None:
    assert royalty_bps(ListingId(5), MARKET) == 1000
    assert royalty_bps(NO_LISTING, MARKET) == 0
    assert [one.id for one in lineage(ListingId(5), MARKET)] == [5, 3, 1]


def test_shares_of_several_pay_their_base_once_and_nobody_less_than_alone() -> None:
    assert shares_bps(bundled(3, 5, 7), MARKET) == {3: 500, 1: 300, 5: 200, 7: 400}
    assert shares_bps(bundled(99), MARKET) == {}


@pytest.mark.parametrize(("listing", "bundle"), [(0, 0), (1000, 3000), (1666, 4998), (1667, 5000), (5000, 5000)])
def test_what_a_bundle_may_cost(listing: int, bundle: int) -> None:
    assert bundle_limit_bps(listing) == bundle


@pytest.mark.parametrize("named", [99, BUNDLES + 9])
def test_a_number_that_somebody_may_yet_publish_under_is_refused_even_where_nobody_asks_for_a_royalty(
    named: int,
) -> None:
    free = {ListingId(1): Listed(ListingId(1), BASE, None, 0)}
    assert pays_its_owners(drawing(), BASE, ListingId(1), free, by_manifest(free), {})
    assert not pays_its_owners(drawing(), BASE, ListingId(named), free, by_manifest(free), {})


@pytest.mark.parametrize(
    ("wanted", "named"),
    [((3,), (3,)), ((7, 3), (3, 7)), ((3, 5), (5,)), ((8, 3), (3,)), ((8, 6), (8,)), ((8, 8), (8,))],
)
def test_no_more_is_named_than_must_be(wanted: tuple[int, ...], named: tuple[int, ...]) -> None:
    assert least_members(bundled(*wanted), MARKET) == bundled(*named)


def test_numbers_of_bundles_are_nobody_elses() -> None:
    assert is_bundle(ListingId(BOTH))
    assert not is_bundle(ListingId(BUNDLES))
    assert not is_bundle(ListingId(8))


def test_a_lineage_that_goes_in_a_circle_ends() -> None:
    loop = {ListingId(1): Listed(ListingId(1), BASE, ListingId(1))}
    assert len(list(lineage(ListingId(1), loop))) == 4
