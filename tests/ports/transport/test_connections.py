"""What every transport promises about connections."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio
import pytest

from gesso.transport import PeerDown, PeerUp, Transport
from gesso_protocol.errors import PeerUnreachable

if TYPE_CHECKING:
    from conftest import Net

pytestmark = pytest.mark.anyio
Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


def knows(one: Transport, other: Transport) -> Callable[[], bool]:
    return lambda: other.peer_id in [info.peer for info in one.peers()]


async def test_a_connection_is_seen_from_both_ends(net: Net, eventually: Eventually) -> None:
    async with net.new("a") as a, net.new("b") as b:
        seen = b.events()
        assert await a.connect(b.addresses[0]) == b.peer_id
        await eventually(knows(a, b))
        await eventually(knows(b, a))
        with anyio.fail_after(60):
            assert await anext(seen) == PeerUp(a.peer_id)
        assert a.health().peers == b.health().peers == 1


async def test_connecting_twice_is_one_connection(net: Net, eventually: Eventually) -> None:
    async with net.new("a") as a, net.new("b") as b:
        await a.connect(b.addresses[0])
        await a.connect(b.addresses[0])
        await eventually(knows(b, a))
        assert len(a.peers()) == 1


async def test_nobody_at_the_address(net: Net) -> None:
    async with net.new("a") as a:
        b = net.new("b")
        async with b:
            address = b.addresses[0]
        with anyio.fail_after(60), pytest.raises(PeerUnreachable):
            await a.connect(address, timeout_s=3)
        assert a.peers() == ()


async def test_another_peer_at_the_address(net: Net) -> None:
    async with net.new("a") as a, net.new("b") as b, net.new("c") as c:
        where = b.addresses[0].rpartition("/p2p/")[0]
        if where != c.addresses[0].rpartition("/p2p/")[0]:
            with pytest.raises(PeerUnreachable):
                await a.connect(f"{where}/p2p/{c.peer_id}", timeout_s=5)
            assert a.peers() == ()


@pytest.mark.parametrize(
    "address",
    [
        "",
        "/",
        "garbage",
        "/p2p/",
        "/ip4/127.0.0.1/tcp/1",
        "/ip4/127.0.0.1/tcp/99999/p2p/16Uiu2HAmN7gXuoxguCxhJw7AZ9hZxsojsL338Qj4nvqJXViwpZa5",
        "/ip4/127.0.0.1/udp/1/quic-v1/p2p/16Uiu2HAmN7gXuoxguCxhJw7AZ9hZxsojsL338Qj4nvqJXViwpZa5",
        "/ip4/127.0.0.1/tcp/1/p2p/not-base58-0OIl",
        "/ip4/127.0.0.1/tcp/1/p2p/" + "1" * 5000,
        "/p2p/16Uiu2HAmN7gXuoxguCxhJw7AZ9hZxsojsL338Qj4nvqJXViwpZa5/p2p-circuit",
    ],
)
async def test_an_address_that_is_none(net: Net, address: str) -> None:
    async with net.new("a") as a:
        with anyio.fail_after(60), pytest.raises(PeerUnreachable):
            await a.connect(address, timeout_s=2)


async def test_our_own_address(net: Net) -> None:
    async with net.new("a") as a:
        with pytest.raises(PeerUnreachable):
            await a.connect(a.addresses[0])


async def test_a_peer_that_leaves_is_noticed_and_met_again_when_it_returns(net: Net, eventually: Eventually) -> None:
    async with net.new("a") as a:
        events = a.events()
        async with net.new("b") as b:
            await a.connect(b.addresses[0])
            await eventually(knows(b, a))
        with anyio.fail_after(60):
            assert await anext(events) == PeerUp(b.peer_id)
            assert await anext(events) == PeerDown(b.peer_id)
        async with net.new("b") as again:
            assert again.peer_id == b.peer_id
            await eventually(knows(a, again))
            await eventually(knows(again, a))


async def test_a_peer_we_disconnect_is_not_redialled(net: Net, eventually: Eventually) -> None:
    async with net.new("a") as a, net.new("b") as b, net.new("c") as c:
        await a.connect(b.addresses[0])
        await eventually(knows(b, a))
        await a.disconnect(b.peer_id)
        await eventually(lambda: not a.peers() and not b.peers())
        await a.connect(c.addresses[0])  # gives a redial every chance to happen
        await eventually(knows(c, a))
        with anyio.move_on_after(0.7):
            await eventually(knows(a, b))
        assert [info.peer for info in a.peers()] == [c.peer_id]


async def test_disconnecting_a_stranger_changes_nothing(net: Net) -> None:
    async with net.new("a") as a, net.new("b") as b:
        await a.disconnect(b.peer_id)
        assert a.health().running


async def test_a_transport_that_is_closed_says_so(net: Net) -> None:
    transport = net.new("a")
    async with transport as a, net.new("b") as b:
        address = b.addresses[0]
        await a.connect(address)
    with pytest.raises(PeerUnreachable):
        await transport.connect(address)
    with pytest.raises(PeerUnreachable):
        await transport.publish("t", b"x")
    with pytest.raises(PeerUnreachable):
        await transport.request(b.peer_id, "/x/1", b"")
    assert not transport.health().running
