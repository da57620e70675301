"""What tasks lately were for is fetched before it is needed, and never at the cost of what is in use."""

from __future__ import annotations

from pathlib import Path

import pytest

from gesso.blobs import LocalBlobs
from gesso.chain import Listing
from gesso_node.models.cache import ModelCache
from gesso_node.models.catalogue import Catalogue
from gesso_node.models.demand import HALF_LIFE_S, RETRY_S, SPARED_S, Demand, Prefetcher
from gesso_protocol.ids import NO_LISTING, Address, BlobRef, ListingId

from ..doubles import BoardDouble, ChainDouble, node_address
from .test_models import publish

pytestmark = pytest.mark.anyio
ONE, TWO, THREE = (ListingId(number) for number in (1, 2, 3))


def test_demand_fades_and_orders() -> None:
    demand = Demand()
    for _ in range(4):
        demand.note(ONE, 1000)
    for _ in range(3):
        demand.note(TWO, 1000 + HALF_LIFE_S)
    demand.note(THREE, 1000 + HALF_LIFE_S)
    demand.note(NO_LISTING, 1000 + HALF_LIFE_S)
    now = demand.latest()
    assert now == 1000 + HALF_LIFE_S
    assert (demand.of(ONE, now), demand.of(TWO, now)) == (2.0, 3.0)
    assert demand.top(5, now) == [TWO, ONE]  # one task alone says nothing
    assert demand.top(1, now) == [TWO]
    assert demand.top(5, now + 9 * HALF_LIFE_S) == []
    assert demand.of(THREE, 0) == 1.0  # an earlier second does not make it more


class Desk:
    """A market of a base and two LoRAs of it, a small cache, and a clock that the test moves."""

    def __init__(self, blobs: LocalBlobs, folder: Path, budget: int) -> None:
        self.blobs, self.now, self.board = blobs, 10_000.0, BoardDouble()
        self.cache = ModelCache(folder / "models", blobs, budget_bytes=budget, clock=lambda: self.now)
        self.catalogue = Catalogue(ChainDouble(self.board, node_address(1)).as_chain())
        self.demand = Demand()
        self.denied: set[str] = set()

    async def list(self, name: str, size: int, parent: int | None = None, *, omit: bool = False) -> BlobRef:
        manifest = await publish(self.blobs, name, size, omit=omit)
        number = ListingId(len(self.board.listings) + 1)
        self.board.listings.append(
            Listing(id=number, owner=Address("0x" + "11" * 20), manifest=manifest, kind=1 if parent else 0,
                    parent=ListingId(parent) if parent else None, royalty_bps=0, licence=bytes(32), yanked=False,
                    name=name, version=1)
        )  # fmt: skip
        await self.catalogue.learn(number)
        return manifest

    def prefetcher(self, *pins: str) -> Prefetcher:
        return Prefetcher(self.demand, self.catalogue, self.cache, count=4, chain_now=self.demand.latest,
                          clock=lambda: self.now, wanted=lambda label: label not in self.denied, pins=pins)  # fmt: skip

    def ask(self, listing: int, times: int = 2) -> None:
        for _ in range(times):
            self.demand.note(ListingId(listing), 500)


@pytest.fixture
def desk(blobs: LocalBlobs, tmp_path: Path) -> Desk:
    return Desk(blobs, tmp_path, 1000)


async def test_a_lora_in_demand_comes_with_its_base(desk: Desk) -> None:
    await desk.list("base", 400)
    await desk.list("zbx", 100, 1)
    desk.ask(2)
    prefetcher = desk.prefetcher()
    assert await prefetcher.once() == ("base@1", "zbx@1")
    assert await prefetcher.once() == ()


async def test_nothing_is_fetched_that_nobody_asks_for_or_the_operator_denies(desk: Desk) -> None:
    await desk.list("base", 100)
    await desk.list("zbx", 100, 1)
    desk.ask(1, times=1)
    assert await desk.prefetcher().once() == ()
    desk.ask(2)
    desk.denied = {"base@1"}
    assert await desk.prefetcher().once() == ()


async def test_a_guess_pushes_out_what_is_idle_and_nothing_else(desk: Desk) -> None:
    old, base = await desk.list("old", 600), await desk.list("base", 600)
    await desk.cache.ensure(old)
    desk.ask(2)
    prefetcher = desk.prefetcher()
    assert await prefetcher.once() == ()
    assert desk.cache.has(old)
    desk.now += RETRY_S + 1
    assert await prefetcher.once() == ()
    desk.now += SPARED_S
    assert await prefetcher.once() == ("base@1",)
    assert (desk.cache.has(old), desk.cache.has(base)) == (False, True)


async def test_what_is_pinned_stays(desk: Desk) -> None:
    kept, other = await desk.list("kept", 600), await desk.list("other", 600)
    await desk.cache.ensure(kept)
    prefetcher = desk.prefetcher("kept@1", "unheard-of@1")
    prefetcher.pin()
    desk.now += 10 * SPARED_S
    desk.ask(2)
    assert await prefetcher.once() == ()
    assert (desk.cache.has(kept), desk.cache.has(other)) == (True, False)


async def test_what_nobody_serves_is_not_asked_for_all_the_time(desk: Desk) -> None:
    await desk.list("gone", 100, omit=True)
    desk.ask(1)
    prefetcher = desk.prefetcher()
    assert await prefetcher.once() == ()
    await publish(desk.blobs, "gone", 100)
    assert await prefetcher.once() == ()
    desk.now += RETRY_S + 1
    assert await prefetcher.once() == ("gone@1",)
