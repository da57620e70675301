"""Tells when a connection comes or goes; the library's interface has four more events that we do not need."""

from __future__ import annotations

from collections.abc import Callable

from libp2p.abc import INetConn, INetStream, INetwork, INotifee

from gesso.transport._libp2p.addresses import Multiaddr


class ConnectionWatch(INotifee):
    def __init__(self, *, up: Callable[[INetConn], None], down: Callable[[INetConn], None]) -> None:
        self._up = up
        self._down = down

    async def connected(self, _network: INetwork, conn: INetConn) -> None:
        self._up(conn)

    async def disconnected(self, _network: INetwork, conn: INetConn) -> None:
        self._down(conn)

    async def opened_stream(self, _network: INetwork, _stream: INetStream) -> None:
        return None

    async def closed_stream(self, _network: INetwork, _stream: INetStream) -> None:
        return None

    async def listen(self, _network: INetwork, _multiaddr: Multiaddr) -> None:
        return None

    async def listen_close(self, _network: INetwork, _multiaddr: Multiaddr) -> None:
        return None
