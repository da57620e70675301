"""Links between nodes: they hold without the peer that introduced them, and lies lead nowhere."""

from __future__ import annotations

import pytest

from gesso.transport.memory import MemoryHub, MemoryTransport
from gesso.transport.port import PeerId
from gesso_node.network.neighbours import GIVEN_UP_AFTER_S, MAX_TRIED, WANTED, Neighbours

pytestmark = pytest.mark.anyio
Known = dict[PeerId, tuple[str, ...]]


class AddressesDouble:
    """Knows what it is told to know."""

    def __init__(self, known: Known) -> None:
        self.known = known

    async def everyone(self) -> Known:
        return dict(self.known)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def neighbours(transport: MemoryTransport, known: Known, clock: Clock | None = None) -> Neighbours:
    return Neighbours(transport, AddressesDouble(known), clock_s=clock or Clock())  # type: ignore[arg-type]


def peers(transport: MemoryTransport) -> set[PeerId]:
    return {info.peer for info in transport.peers()}


async def test_a_node_links_to_others_and_to_no_more_than_it_wants() -> None:
    hub = MemoryHub()
    async with MemoryTransport(hub) as me:
        others = [await MemoryTransport(hub).__aenter__() for _ in range(WANTED + 3)]
        known = {other.peer_id: other.addresses for other in others} | {me.peer_id: me.addresses}
        keeper = neighbours(me, known)
        await keeper.once()
        await keeper.once()
        assert len(peers(me)) == WANTED
        assert me.peer_id not in peers(me)


async def test_two_nodes_pick_differently() -> None:
    hub = MemoryHub()
    others = [await MemoryTransport(hub).__aenter__() for _ in range(40)]
    known = {other.peer_id: other.addresses for other in others}
    picks = set()
    for _ in range(5):
        async with MemoryTransport(hub) as me:
            await neighbours(me, known).once()
            picks.add(frozenset(peers(me)))
    assert len(picks) > 1


async def test_an_address_of_somebody_else_is_not_dialled() -> None:
    hub = MemoryHub()
    async with MemoryTransport(hub) as me, MemoryTransport(hub) as liar, MemoryTransport(hub) as victim:
        await neighbours(me, {liar.peer_id: victim.addresses}).once()
        assert peers(me) == set()


async def test_made_up_peers_cost_a_bounded_number_of_dials() -> None:
    hub = MemoryHub()
    dialled: list[str] = []
    ghosts = {PeerId(f"ghost{at}"): (f"/memory/1/p2p/ghost{at}",) for at in range(100)}

    class Watched(MemoryTransport):
        async def connect(self, address: str, *, timeout_s: float = 10.0) -> PeerId:
            dialled.append(address)
            return await super().connect(address, timeout_s=timeout_s)

    async with Watched(hub) as watched:
        await neighbours(watched, ghosts).once()
    assert 0 < len(dialled) <= MAX_TRIED


async def test_a_neighbour_that_is_long_gone_is_replaced() -> None:
    hub, clock = MemoryHub(), Clock()
    async with MemoryTransport(hub) as me, MemoryTransport(hub) as next_one:
        async with MemoryTransport(hub) as gone:
            known = {gone.peer_id: gone.addresses}
            keeper = neighbours(me, known, clock)
            await keeper.once()
            assert peers(me) == {gone.peer_id}
        known = {next_one.peer_id: next_one.addresses}
        keeper._addresses.known = known  # type: ignore[attr-defined]
        clock.now_s = GIVEN_UP_AFTER_S + 1
        await keeper.once()
        assert gone.peer_id not in keeper._seen_at_s
        assert peers(me) == {next_one.peer_id}
