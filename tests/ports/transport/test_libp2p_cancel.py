"""A deadline ends a request, not the connection that it shares with everybody."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from gesso.transport import PeerDown, PeerId, Rate
from gesso.transport._libp2p.limits import Limits
from gesso.transport.libp2p import Libp2pSettings, Libp2pTransport
from gesso_protocol.errors import PeerUnreachable

pytestmark = pytest.mark.anyio
ECHO = "/gesso/test/1"
_SMALL_BYTES = 4096


async def echo(_peer: PeerId, data: bytes) -> bytes:
    return data


@pytest.fixture
def new(tmp_path: Path) -> Callable[[str], Libp2pTransport]:
    def make(name: str) -> Libp2pTransport:
        # No heartbeat: a link that stands still for a moment shall not be taken for a dead one here.
        settings = Libp2pSettings(key_file=tmp_path / name, listen_host="127.0.0.1")
        return Libp2pTransport(settings, limits=Limits(heartbeat_s=3600))

    return make


class Link:
    """A TCP link that stands still once `budget` bytes have gone by; small buffers make the sender feel it at once."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.budget = 0
        self.flowing = asyncio.Event()
        self.flowing.set()

    def stop_after(self, budget: int) -> None:
        self.budget = budget
        self.flowing.clear()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BYTES)
        listener.bind(("127.0.0.1", 0))
        server = await asyncio.start_server(self._join, sock=listener, limit=_SMALL_BYTES)
        async with server:
            yield listener.getsockname()[1]

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", self._port)
        async with anyio.create_task_group() as group:
            group.start_soon(self._carry, reader, forth)
            group.start_soon(self._carry, back, writer)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(_SMALL_BYTES):
                self.budget -= len(data)
                if self.budget < 0:
                    await self.flowing.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


def sockets_of(transport: Libp2pTransport) -> list[socket.socket]:
    assert transport._engine is not None
    return [stream.stream.socket for stream in transport._engine._swarm.tcp._dialled]  # type: ignore[misc]


async def test_a_request_that_is_given_up_half_written_leaves_the_connection_whole(
    new: Callable[[str], Libp2pTransport],
) -> None:
    async with new("asker") as asker, new("server") as server:
        server.serve(ECHO, echo, max_concurrent=64, per_peer_rate=Rate(1000, 1000))
        link = Link(int(server.addresses[0].split("/")[4]))
        async with link.open() as port:
            peer = await asker.connect(f"/ip4/127.0.0.1/tcp/{port}/p2p/{server.peer_id}")
            events = asker.events()
            assert await asker.request(peer, ECHO, b"before") == b"before"
            for sock in sockets_of(asker):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SMALL_BYTES)
            for _ in range(3):
                link.stop_after(50_000)
                with pytest.raises(PeerUnreachable):
                    await asker.request(peer, ECHO, b"x" * 500_000, timeout_s=0.5)
                link.flowing.set()
                with anyio.fail_after(60):
                    assert await asker.request(peer, ECHO, b"after", timeout_s=30) == b"after"
            with anyio.move_on_after(0.1):
                assert not isinstance(await anext(events), PeerDown)


async def test_streams_whose_opening_was_given_up_are_not_left_behind(
    new: Callable[[str], Libp2pTransport], eventually: Callable[[Callable[[], bool]], Awaitable[None]]
) -> None:
    async with new("asker") as asker, new("server") as server:
        server.serve(ECHO, echo, max_concurrent=64, per_peer_rate=Rate(1000, 1000))
        link = Link(int(server.addresses[0].split("/")[4]))
        async with link.open() as port:
            peer = await asker.connect(f"/ip4/127.0.0.1/tcp/{port}/p2p/{server.peer_id}")
            assert await asker.request(peer, ECHO, b"before") == b"before"
            for sock in sockets_of(asker):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SMALL_BYTES)
            link.stop_after(50_000)
            with pytest.raises(PeerUnreachable):
                await asker.request(peer, ECHO, b"x" * 500_000, timeout_s=0.5)
            for _ in range(12):  # nothing can be written now, not even that a stream begins
                with pytest.raises(PeerUnreachable):
                    await asker.request(peer, ECHO, b"x", timeout_s=0.1)
            link.flowing.set()
            assert await asker.request(peer, ECHO, b"after", timeout_s=30) == b"after"
            await eventually(lambda: streams_of(asker) <= 6)


def streams_of(transport: Libp2pTransport) -> int:
    assert transport._engine is not None
    held = transport._engine._swarm.connections.values()
    return sum(len(conn.muxed_conn.streams) for conns in held for conn in conns)  # type: ignore[attr-defined]
