"""Dials, ports, frames and buffers: what the bare py-libp2p 0.8.1 gets wrong below all protocols."""

from __future__ import annotations

import anyio
import pytest
import transport_hostile as hostile
import trio
from libp2p.io.exceptions import ConnectionClosedError, IncompleteReadError
from libp2p.io.trio import TrioTCPStream
from libp2p.io.utils import read_exactly
from multiaddr import Multiaddr
from transport_victim import ECHO, Eventually, New, assert_unharmed, echo

from gesso.transport._libp2p.limits import Limits
from gesso.transport._libp2p.sockets import PatientStream
from gesso_protocol.errors import PeerUnreachable, TransportError

pytestmark = pytest.mark.anyio


async def test_a_peer_that_was_down_for_long_is_found_again_at_once(
    new: New, eventually: Eventually, ports: tuple[int, ...]
) -> None:
    """The library blacklists a peer for 60 s after one failed dial."""
    async with new("victim", limits=Limits(redial_min_s=0.05, redial_max_s=0.2)) as victim:
        async with new("peer", port=ports[0]) as peer:
            address = peer.addresses[0]
            await victim.connect(address)
        await eventually(lambda: not victim.peers())
        with pytest.raises(PeerUnreachable):
            await victim.connect(address, timeout_s=1)
        await anyio.sleep(0.5)  # long enough for several redials to fail
        async with new("peer", port=ports[0]):
            await eventually(lambda: len(victim.peers()) == 1)


async def test_a_dial_that_fails_is_ours_to_repeat_not_the_library_s(new: New) -> None:
    async with new() as victim, new("gone") as gone:
        address = gone.addresses[0]
        await gone.__aexit__(None, None, None)
        assert victim._engine is not None
        tcp = victim._engine._swarm.tcp
        dialled: list[Multiaddr] = []
        dial = tcp.dial

        async def counted(where: Multiaddr) -> object:
            dialled.append(where)
            return await dial(where)

        tcp.dial = counted  # type: ignore[assignment, method-assign]
        with pytest.raises(PeerUnreachable):
            await victim.connect(address, timeout_s=30)
        assert len(dialled) == 1


async def test_a_port_belongs_to_one_transport(new: New) -> None:
    async with new("first") as first:
        port = int(first.addresses[0].split("/")[4])
        with anyio.fail_after(60), pytest.raises(TransportError, match="cannot listen"):
            async with new("second", port=port):
                pass
        first.serve(ECHO, echo)
        await assert_unharmed(first, new)


async def test_a_bare_host_cannot_share_our_port(new: New) -> None:
    async def squat(address: str) -> int:
        host = hostile.noise_host()
        async with host.run([Multiaddr(address.rpartition("/p2p/")[0])]):
            return len(host.get_addrs())

    async with new() as victim:
        assert await hostile.attack(squat, victim.addresses[0]) == 0


async def test_a_frame_in_a_thousand_pieces_is_whole() -> None:
    async def pieces(kind: type[TrioTCPStream]) -> bytes:
        listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
        client = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        server = await listener.accept()
        async with listener, client, server:
            await server.send_all(b"x" * 1000)
            return await read_exactly(kind(_OneByteAtATime(client)), 1000)  # type: ignore[arg-type]

    with pytest.raises(IncompleteReadError):
        await hostile.attack(pieces, TrioTCPStream)
    assert await hostile.attack(pieces, PatientStream) == b"x" * 1000


class _OneByteAtATime:
    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self._stream.receive_some(1))


async def test_no_reader_may_ask_for_a_gigabyte() -> None:
    async def ask() -> None:
        one, other = trio.socket.socketpair()
        stream = trio.SocketStream(one)
        async with stream, trio.SocketStream(other):
            await PatientStream(stream).read(2**30)

    with pytest.raises(Exception, match="announced a frame"):
        await hostile.attack(ask)


async def test_what_a_stalled_peer_does_not_take_is_bounded() -> None:
    async def write_and_give_up() -> int:
        one, other = trio.socket.socketpair()
        stream = PatientStream(trio.SocketStream(one))
        taken = 0
        with one, other:
            while taken < 16 * 1024 * 1024:
                with trio.move_on_after(0):
                    await stream.write(b"x" * 65_536)
                taken += 65_536
            await stream.close()
        return taken

    with pytest.raises(ConnectionClosedError, match="takes nothing"):
        await hostile.attack(write_and_give_up)
