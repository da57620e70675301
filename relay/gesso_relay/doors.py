"""Where connections come in: counted before anything of them is read, and cut when their peers take nothing, or when
others have none because of them.

aiohttp cuts what sends no whole request head in time (`keepalive_timeout`). It counts no connections and waits for ever
for a peer that does not read, so a few addresses could have every socket and file that the relay may open.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import cast

from aiohttp import web

from gesso_protocol.errors import ConfigError
from gesso_relay.gate import network_of
from gesso_relay.limits import CUSTOMER_PREFIX
from gesso_relay.settings import Limits

try:
    import resource
except ImportError:  # not everywhere; there the setting alone counts
    resource = None  # type: ignore[assignment]  # asked for before each use

_STOP_S = 1.0
_BACKLOG = 128
KEPT_FILES = 128
"""Files and sockets beside connections: database, listeners, peers."""
FILES_A_CONNECTION = 2
"""The socket, and the blob that goes through it."""


class Doors:
    """Counts the connections of one server. `apart` is False behind a proxy, through which everybody comes."""

    def __init__(self, limits: Limits, *, apart: bool) -> None:
        self._most = most_connections(limits.connections)
        self._most_a_client = limits.connections_a_client if apart else self._most
        self._idle_s, self._stalled_s = limits.idle_s, limits.stalled_s
        self._open: dict[_Guarded, _Origin] = {}
        self._clients: Counter[str] = Counter()
        self._customers: Counter[str] = Counter()

    @property
    def open(self) -> int:
        """Connections that are served now."""
        return len(self._open)

    @asynccontextmanager
    async def serving(self, app: web.Application, host: str, port: int) -> AsyncIterator[str]:
        """Serve until left; gives the base URL. Raises ConfigError when the place is taken."""
        # Bodies are taken as they come: a few packed kilobytes cost seconds to unpack, even where nobody reads them.
        runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=_STOP_S, keepalive_timeout=self._idle_s, auto_decompress=False
        )
        await runner.setup()
        try:
            assert runner.server is not None
            lead = self._lead_to(runner.server)
            try:
                listener = await asyncio.get_running_loop().create_server(lead, host, port, backlog=_BACKLOG)
            except OSError as error:
                raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}") from error
            try:
                where, number = listener.sockets[0].getsockname()[:2]
                yield f"http://{f'[{where}]' if ':' in where else where}:{number}"
            finally:
                listener.close()
        finally:
            await runner.cleanup()

    def enter(self, connection: _Guarded, address: str) -> bool:
        """Whether one more connection from there may come in; then `leave` must follow."""
        origin = _Origin(network_of(address), network_of(address, CUSTOMER_PREFIX))
        if self._clients[origin.client] >= self._most_a_client:
            return False
        if self.open >= self._most and not self._make_room(origin.customer):
            return False
        self._open[connection] = origin
        self._clients[origin.client] += 1
        self._customers[origin.customer] += 1
        return True

    def leave(self, connection: _Guarded) -> None:
        """It counts no longer; a second time changes nothing."""
        origin = self._open.pop(connection, None)
        if origin is not None:
            for counter, name in ((self._clients, origin.client), (self._customers, origin.customer)):
                counter[name] -= 1
                if counter[name] <= 0:
                    del counter[name]

    def _make_room(self, newcomer: str) -> bool:
        """Who has most gives up the connection that has asked nothing for longest, to whoever has less even then."""
        largest, most = self._customers.most_common(1)[0]
        if most <= self._customers[newcomer] + 1:
            return False
        theirs = (one for one, origin in self._open.items() if origin.customer == largest and not one.busy)
        idle = min(theirs, key=lambda one: one.asked_at, default=None)
        if idle is None:
            return False
        self.leave(idle)
        idle.end()
        return True

    def _lead_to(self, server: web.Server) -> Callable[[], asyncio.Protocol]:
        return lambda: _Guarded(self, server(), self._stalled_s)


@dataclass(frozen=True, slots=True)
class _Origin:
    """Whose a connection is."""

    client: str
    customer: str


class _Guarded(asyncio.Protocol):
    """One connection; `served` is what aiohttp makes of it. `asked_at`: when it last said anything."""

    def __init__(self, doors: Doors, served: asyncio.Protocol, stalled_s: float) -> None:
        self._doors = doors
        self._served = served
        self._stalled_s = stalled_s
        self._let_in = False
        self.asked_at = 0.0
        self._transport: asyncio.Transport | None = None
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.asked_at = asyncio.get_running_loop().time()
        if not self._doors.enter(self, peer[0] if peer else "unknown"):
            self._transport.abort()
            return
        self._let_in = True
        _let_the_system_cut(transport.get_extra_info("socket"), self._stalled_s)
        self._served.connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._moves()
        if self._let_in:
            self._doors.leave(self)
            self._served.connection_lost(error)

    @property
    def busy(self) -> bool:
        """Whether a request of it is being answered, streams and downloads too."""
        return bool(getattr(self._served, "_request_in_progress", False))

    def end(self) -> None:
        """Cut it now."""
        assert self._transport is not None
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self.asked_at = asyncio.get_running_loop().time()
        self._served.data_received(data)

    def eof_received(self) -> bool | None:
        return self._served.eof_received()

    def pause_writing(self) -> None:
        """The peer does not read what waits for it."""
        assert self._transport is not None
        self._stalled = asyncio.get_running_loop().call_later(self._stalled_s, self._transport.abort)
        self._served.pause_writing()

    def resume_writing(self) -> None:
        self._moves()
        self._served.resume_writing()

    def _moves(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


def most_connections(wanted: int) -> int:
    """As many as the process can have files for: beyond that it could not even open its database."""
    if resource is None:
        return wanted
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, (files - KEPT_FILES) // FILES_A_CONNECTION))


def raise_file_limit() -> None:
    """As many open files as the system lets this process have without asking."""
    if resource is not None:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        with suppress(ValueError, OSError):  # some systems name a limit that they do not grant; the old one stays
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _let_the_system_cut(sock: socket.socket | None, stalled_s: float) -> None:
    # Files go from disk to socket inside the kernel, past our buffers and their timer.
    if sock is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(stalled_s * 1000))
