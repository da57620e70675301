"""Who may come, and how much of us one peer or address gets. Each attack succeeds on the bare py-libp2p 0.8.1."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import anyio
import pytest
import transport_hostile as hostile
import trio
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr
from transport_victim import ECHO, Eventually, New, assert_unharmed, echo

from gesso.transport import PeerId, Rate
from gesso.transport._libp2p.limits import Limits
from gesso_protocol.errors import PeerUnreachable

pytestmark = pytest.mark.anyio


async def test_a_peer_without_encryption_is_refused(new: New) -> None:
    async def dial(address: str) -> str:
        try:
            async with hostile.connected(address, hostile.plaintext_host()):
                return "connected"
        except Exception:
            return "refused"

    async with new() as victim:
        victim.serve(ECHO, echo)
        assert await hostile.attack(dial, victim.addresses[0]) == "refused"
        assert victim.peers() == ()
        await assert_unharmed(victim, new)


async def test_idle_sockets_do_not_keep_honest_peers_out(new: New, eventually: Eventually) -> None:
    limits = Limits(max_handshakes=8, max_connections=64, max_connections_per_ip=32, handshake_timeout_s=60)
    async with new(limits=limits) as victim:
        victim.serve(ECHO, echo)
        port = int(victim.addresses[0].split("/")[4])
        idle = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(100)]
        for sock in idle:
            sock.setblocking(False)
        try:
            await eventually(lambda: sum(map(hung_up, idle)) >= 92)  # the oldest made room long before their time
            await assert_unharmed(victim, new)
        finally:
            for sock in idle:
                sock.close()


def hung_up(sock: socket.socket) -> bool:
    """Whether the other side has closed it; what it said before that stays to be read."""
    try:
        while sock.recv(4096):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return True


async def test_connections_that_ended_give_their_place_back(new: New, eventually: Eventually) -> None:
    async def come_and_go(address: str) -> None:
        async with hostile.connected(address):
            pass

    limits = Limits(max_connections=4, max_connections_per_ip=4)
    async with new(limits=limits) as victim:
        victim.serve(ECHO, echo)
        for _ in range(6):
            await hostile.attack(come_and_go, victim.addresses[0])
            await eventually(lambda: not victim.peers())
        await assert_unharmed(victim, new)


async def test_whoever_comes_leaves_places_to_those_that_we_dial(new: New) -> None:
    async with AsyncExitStack() as stack:
        victim = await stack.enter_async_context(new(limits=Limits(max_connections=8)))
        for number in range(8):
            stranger = await stack.enter_async_context(new(f"stranger-{number}"))
            with contextlib.suppress(PeerUnreachable):
                await stranger.connect(victim.addresses[0])
        assert len(victim.peers()) <= 7
        friend = await stack.enter_async_context(new("friend"))
        friend.serve(ECHO, echo)
        assert await victim.connect(friend.addresses[0], timeout_s=30) == friend.peer_id
        assert await victim.request(friend.peer_id, ECHO, b"hello", timeout_s=30) == b"hello"


@pytest.mark.parametrize("apart_s", [0.1, 0])  # at once, all shake hands before the first has its place
async def test_one_address_gets_its_share_and_no_more(apart_s: float, new: New, eventually: Eventually) -> None:
    async def crowd(address: str) -> int:
        hosts = [hostile.noise_host() for _ in range(6)]
        tried: list[None] = []
        over = trio.Event()

        def alive() -> int:
            return sum(bool(host.get_network().connections) for host in hosts)

        async def member(host: hostile.BasicHost) -> None:
            try:
                async with hostile.connected(address, host):
                    tried.append(None)
                    await over.wait()  # nobody leaves, and so makes room
            except Exception:
                if not over.is_set():
                    tried.append(None)

        async with trio.open_nursery() as nursery:
            for host in hosts:
                nursery.start_soon(member, host)
                await trio.sleep(apart_s)
            with trio.fail_after(60):
                while len(tried) < 6 or alive() > 3:  # noqa: ASYNC110 - whoever is cut off is not told
                    await trio.sleep(0.05)
            await trio.sleep(1)
            left = alive()
            over.set()
        return left

    async with new(limits=Limits(max_connections_per_ip=3)) as victim:
        assert await hostile.attack(crowd, victim.addresses[0]) == 3
        await eventually(lambda: not victim.peers())


async def test_one_peer_s_idle_streams_do_not_starve_the_others(new: New) -> None:
    async def hoard(address: str) -> int:
        opened = 0
        async with hostile.connected(address) as host:
            for _ in range(16):
                with contextlib.suppress(Exception), trio.fail_after(2):
                    await hostile.open_stream(host, address, ECHO)
                    opened += 1
        return opened

    limits = Limits(max_streams_per_peer=8, stream_timeout_s=60)
    async with new(limits=limits) as victim:
        victim.serve(ECHO, echo, max_concurrent=10, per_peer_rate=Rate(1000, 1000))
        async with new("honest") as honest, anyio.create_task_group() as group:
            await honest.connect(victim.addresses[0])

            async def count() -> None:
                assert await hostile.attack(hoard, victim.addresses[0]) <= 8

            group.start_soon(count)
            assert await honest.request(victim.peer_id, ECHO, b"hello") == b"hello"
        await assert_unharmed(victim, new)


async def begin_and_break_off(host: hostile.BasicHost, address: str) -> None:
    stream = await hostile.open_stream(host, address, ECHO)
    await stream.write(b"\x00")
    await stream.reset()


async def open_one_more(host: hostile.BasicHost, address: str) -> None:
    with trio.move_on_after(0.2):
        await hostile.open_stream(host, address, ECHO)


@pytest.mark.parametrize("misdeed", [begin_and_break_off, open_one_more])
async def test_a_peer_that_goes_on_misbehaving_is_dropped_and_stays_out(
    new: New, misdeed: Callable[[hostile.BasicHost, str], Awaitable[None]]
) -> None:
    async def misbehave(address: str) -> bool:
        host = hostile.noise_host()
        async with hostile.connected(address, host):
            while host.get_network().connections:
                with contextlib.suppress(Exception):
                    await misdeed(host, address)
            with contextlib.suppress(Exception), trio.move_on_after(2):
                await host.connect(info_from_p2p_addr(Multiaddr(address)))
                await hostile.open_stream(host, address, ECHO)
                return True
        return False

    limits = Limits(max_streams_per_peer=4, stream_timeout_s=60, patience=Rate(0.001, 5))
    async with new(limits=limits) as victim:
        victim.serve(ECHO, echo)
        assert not await hostile.attack(misbehave, victim.addresses[0])
        await assert_unharmed(victim, new)


async def test_a_peer_that_ignores_flow_control_is_dropped(new: New, eventually: Eventually) -> None:
    async def push(address: str) -> int:
        sent = 0
        async with hostile.connected(address) as host:
            stream = await hostile.open_stream(host, address, ECHO)
            await stream.write(struct.pack(">I", 1) + b"x")  # a whole request: nobody reads what follows
            stream.muxed_stream.send_window = 1 << 40  # type: ignore[attr-defined]
            try:
                for _ in range(1024):
                    await stream.write(b"x" * 60_000)
                    sent += 60_000
            except Exception:
                return sent
        return sent

    async def hang(_peer: PeerId, data: bytes) -> bytes:
        if data == b"x":
            await anyio.sleep_forever()
        return data

    async with new(limits=Limits(max_buffered_per_peer=1024 * 1024)) as victim:
        victim.serve(ECHO, hang)
        sent = await hostile.attack(push, victim.addresses[0])
        assert sent < 16 * 1024 * 1024  # the rest of what left is in the kernel's buffers, not ours
        await eventually(lambda: not victim.peers())
        await assert_unharmed(victim, new)
