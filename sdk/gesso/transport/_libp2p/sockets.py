"""TCP as we want it: a port belongs to one process, and a slow network does not break a frame.

py-libp2p 0.8.1 listens with SO_REUSEPORT, so that a second process on the same port silently takes half of the
connections; it gives up on a frame that arrives in more than 100 pieces; and a writer that is cancelled (any deadline
does it) leaves half a frame on the wire. The last two kill the connection of everybody who shares it.
"""

from __future__ import annotations

import os
import socket as stdlib_socket
import weakref
from typing import cast

import trio
from libp2p.abc import IListener, IRawConnection
from libp2p.custom_types import THandler
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.transport.exceptions import OpenConnectionError
from libp2p.transport.tcp.tcp import TCP, TCPListener
from libp2p.utils.multiaddr_utils import extract_ip_from_multiaddr, multiaddr_from_socket

from gesso.transport._libp2p.addresses import Multiaddr

_READ_BYTES = 64 * 1024
_WRITE_BYTES = 256 * 1024
_MAX_READ = 1024 * 1024
_MAX_UNSENT = 4 * 1024 * 1024
_BACKLOG = 128


class PatientStream(TrioTCPStream):
    """Reads exactly what is asked for, however many pieces it comes in, and writes whole frames. Both are bounded."""

    def __init__(self, stream: trio.SocketStream) -> None:
        super().__init__(stream)
        self._ahead = bytearray()
        self._unsent = bytearray()

    def get_remote_address(self) -> tuple[str, int] | None:
        """Of IPv6 too, whose names have more parts than the library knows of: all such peers were one to it."""
        if self._cached_remote_address is None:
            try:
                host, port, *_ = self.stream.socket.getpeername()
            except (OSError, ValueError):
                return None
            self._cached_remote_address = (str(host), int(port))
        return self._cached_remote_address

    async def read(self, n: int | None = None) -> bytes:
        if n == 0:
            return b""
        if n is not None and n > _MAX_READ:
            raise ConnectionClosedError(f"the peer announced a frame of {n} bytes")
        async with self.read_lock:
            while len(self._ahead) < (1 if n is None else n):
                chunk = await self._receive()
                if not chunk:
                    break
                self._ahead += chunk
            taken = bytes(self._ahead[:n])
            del self._ahead[:n]
            return taken

    async def write(self, data: bytes) -> None:
        """Takes `data` whole at once, then waits for the network. When cancelled, the next write sends the rest.

        No step between the cipher and `_unsent` may wait: a frame whose counter is spent must not be lost.
        """
        self._unsent += data
        if len(self._unsent) > _MAX_UNSENT:
            raise ConnectionClosedError("the peer takes nothing and too much waits for it")
        if self._flush():
            return
        async with self.write_lock:
            while not self._flush():
                try:
                    await trio.lowlevel.wait_writable(self.stream.socket.fileno())
                except trio.ClosedResourceError:
                    return

    def _flush(self) -> bool:
        """Hands the kernel what it takes now; whether that was all. Writes to a socket that we closed vanish."""
        descriptor = self.stream.socket.fileno()
        try:
            while self._unsent and descriptor >= 0:
                sent = os.write(descriptor, bytes(self._unsent[:_WRITE_BYTES]))
                del self._unsent[:sent]
        except BlockingIOError:
            return False
        except OSError as error:
            raise ConnectionClosedError(f"the connection broke: {error.strerror}", transport="tcp") from error
        return True

    async def _receive(self) -> bytes:
        try:
            return bytes(await self.stream.receive_some(_READ_BYTES))
        except trio.BrokenResourceError as error:
            raise ConnectionClosedError(f"the connection broke: {error}", transport="tcp") from error
        except trio.ClosedResourceError:
            return b""


class ExclusiveListener(IListener):
    """Listens without SO_REUSEPORT: the second process on a port is told so. Runs in the swarm's own nursery."""

    background_nursery: trio.Nursery

    def __init__(self, handler: THandler) -> None:
        self._handler = handler
        self._listeners: list[trio.SocketListener] = []
        self._scope = trio.CancelScope()

    async def listen(self, maddr: Multiaddr) -> None:
        host = extract_ip_from_multiaddr(maddr)
        port = maddr.value_for_protocol("tcp")
        if host is None or port is None:
            raise OpenConnectionError(f"{maddr} is nothing to listen on")
        family = trio.socket.AF_INET6 if ":" in host else trio.socket.AF_INET
        sock = trio.socket.socket(family, trio.socket.SOCK_STREAM)
        try:
            # Reuse of lingering connections only; a port that is listened on stays taken.
            sock.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_REUSEADDR, 1)
            await sock.bind((host, int(port)))
            sock.listen(_BACKLOG)
        except OSError as error:
            sock.close()
            raise OpenConnectionError(f"{host}:{port}: {error.strerror}") from error
        listener = trio.SocketListener(sock)
        self._listeners.append(listener)
        self.background_nursery.start_soon(self._serve, listener)

    def get_addrs(self) -> tuple[Multiaddr, ...]:
        return tuple(multiaddr_from_socket(listener.socket) for listener in self._listeners)

    async def close(self) -> None:
        self._scope.cancel()
        for listener in self._listeners:
            await listener.aclose()
        self._listeners.clear()

    async def _serve(self, listener: trio.SocketListener) -> None:
        with self._scope:
            await trio.serve_listeners(self._accepted, [listener])

    async def _accepted(self, stream: trio.SocketStream) -> None:
        await self._handler(PatientStream(stream))


class ExclusiveTCP(TCP):
    """Remembers what it dialled, so that `close_all` can end it: cancelled tasks of the library leave sockets open."""

    def __init__(self) -> None:
        super().__init__()
        self._dialled: weakref.WeakSet[PatientStream] = weakref.WeakSet()

    def close_all(self) -> None:
        for stream in self._dialled:
            stream.stream.socket.close()

    def create_listener(self, handler_function: THandler) -> TCPListener:
        # The library types this as its own listener class but uses the interface only.
        return cast(TCPListener, ExclusiveListener(handler_function))

    async def dial(self, maddr: Multiaddr) -> IRawConnection:
        raw = cast(RawConnection, await super().dial(maddr))
        patient = PatientStream(cast(TrioTCPStream, raw.stream).stream)
        self._dialled.add(patient)
        raw.stream = cast(ReadWriteCloser, patient)
        return raw
