"""Whose listings a task names: all that are owed, and a sentence where they cost too much together."""

from __future__ import annotations

from typing import cast

import pytest

from gesso.chain.records import Listing
from gesso.directory import Directory
from gesso.market.owed import owed_by
from gesso_protocol.errors import UsageError
from gesso_protocol.ids import Address, BlobRef, ListingId
from gesso_protocol.spec import TextToImage, UsedAdapter

pytestmark = pytest.mark.anyio

CAP_BPS = 1000


class Shelf:
    """A base and LoRAs made from it, asking for these basis points."""

    def __init__(self, *asked: int) -> None:
        self.listings = [self._listing(1, "base", None, 200)]
        self.listings += [self._listing(n, f"l{n}", ListingId(1), bps) for n, bps in enumerate(asked, 2)]

    async def listing(self, ref: str) -> Listing:
        return next(one for one in self.listings if f"{one.name}@1" == ref)

    async def lineage(self, listing: Listing) -> tuple[Listing, ...]:
        return (listing,) if listing.parent is None else (listing, self.listings[0])

    def spec(self) -> TextToImage:
        loras = tuple(UsedAdapter(ref=f"{one.name}@1", manifest=one.manifest) for one in self.listings[1:])
        return TextToImage(prompt="a", model="base@1", loras=loras)

    def _listing(self, number: int, name: str, parent: ListingId | None, bps: int) -> Listing:
        return Listing(
            id=ListingId(number), owner=Address("0x" + "11" * 20), manifest=BlobRef.of(name.encode()), kind=1,
            parent=parent, royalty_bps=bps, licence=bytes(32), yanked=False, name=name, version=1,
        )  # fmt: skip


async def test_everybody_gets_what_they_published() -> None:
    shelf = Shelf(800, 700)
    owed = await owed_by(cast(Directory, shelf), shelf.spec(), CAP_BPS)
    assert (owed.members, sorted(owed.bps)) == ((2, 3), [200, 700, 800])


async def test_loras_that_cost_too_much_together_are_refused_with_a_sentence() -> None:
    shelf = Shelf(800, 800, 800, 400)
    assert sum((await owed_by(cast(Directory, shelf), shelf.spec(), CAP_BPS)).bps) == 3000
    dear = Shelf(800, 800, 800, 401)
    with pytest.raises(UsageError, match=r"ask for 30\.01 % of the fee together, and a task may pay them 30 %"):
        await owed_by(cast(Directory, dear), dear.spec(), CAP_BPS)
