"""The swarm with limits that hold.

py-libp2p 0.8.1 keeps the slot (and task) of every inbound connection until the process ends, so that after 250
connections, however short, nobody gets in any more; idle sockets take the same slots; one peer's streams can use up
everyone's; and an exception in any stream handler ends the whole host.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio
from libp2p.abc import IMuxedConn, INetStream
from libp2p.io.abc import ReadWriteCloser
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.transport.upgrader import TransportUpgrader

from gesso.transport._libp2p.addresses import Multiaddr
from gesso.transport._libp2p.guests import Guests, origin_of
from gesso.transport._libp2p.limits import Limits
from gesso.transport._libp2p.muxer import BoundedYamux
from gesso.transport._libp2p.sockets import ExclusiveTCP
from gesso.transport.rates import Strikes

_log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Handshake:
    ip: str
    scope: trio.CancelScope


class GuardedSwarm(Swarm):
    def __init__(self, peer_id: ID, peerstore: PeerStore, upgrader: TransportUpgrader, limits: Limits) -> None:
        self.tcp = ExclusiveTCP()
        super().__init__(
            peer_id,
            peerstore,
            upgrader,
            [self.tcp],
            retry_config=RetryConfig(max_retries=0),
            connection_config=_connection_config(limits),
        )
        self.auto_connector = _NoAutoConnector(self)
        self.limits = limits
        self.strikes = Strikes(limits.patience, ban_s=limits.ban_s)
        self._handshakes: list[_Handshake] = []
        # Whoever comes by itself leaves some places to those that we dial.
        most = limits.max_connections - min(limits.kept_for_dials, limits.max_connections // 8)
        self._guests: Guests[BoundedYamux] = Guests(
            most, limits.max_connections_per_ip, lambda muxed: bool(muxed.streams)
        )
        self._streams: Counter[ID] = Counter()

    async def _handle_inbound_connection(self, read_write_closer: ReadWriteCloser, maddr: Multiaddr) -> None:
        """One accepted socket, from handshake to end; whatever happens, its places are free again afterwards."""
        ip = _ip(read_write_closer.get_remote_address())
        if self._guests.may_come(ip):
            muxed = await self._shake_hands(RawConnection(read_write_closer, False), ip, maddr)
            if muxed is not None:
                assert isinstance(muxed, BoundedYamux)
                await muxed.event_closed.wait()
        await read_write_closer.close()

    async def _shake_hands(self, raw: RawConnection, ip: str, maddr: Multiaddr) -> IMuxedConn | None:
        shake = _Handshake(origin_of(ip).client, trio.CancelScope())
        self._make_room()
        self._handshakes.append(shake)
        try:
            with shake.scope:
                return await self.upgrade_inbound_raw_conn(raw, maddr)
        except Exception as error:
            _log.debug("inbound from %s refused: %s", ip, error)
        finally:
            self._handshakes.remove(shake)
        return None

    def _make_room(self) -> None:
        """Idle sockets lose their place to newcomers: the oldest of the address that holds most places goes."""
        # Who has lost its place already is still on its way out; in a burst it must not be sent away twice.
        held = [shake for shake in self._handshakes if not shake.scope.cancel_called]
        if len(held) < self.limits.max_handshakes:
            return
        busiest, _ = Counter(shake.ip for shake in held).most_common(1)[0]
        oldest = next(shake for shake in held if shake.ip == busiest)
        oldest.scope.cancel()

    async def add_conn(self, muxed_conn: IMuxedConn, direction: str = "unknown") -> SwarmConn:
        assert isinstance(muxed_conn, BoundedYamux)
        await self._refuse_banned(muxed_conn)
        if direction == "inbound":
            conn = await self._add_inbound(muxed_conn)
        else:
            await self._refuse_beyond(self.limits.max_connections, muxed_conn)
            conn = await super().add_conn(muxed_conn, direction)
        # Asked a second time: a ban ends the connections that are known by then, and this one was not yet.
        await self._refuse_banned(muxed_conn)
        return conn

    async def _refuse_banned(self, muxed_conn: BoundedYamux) -> None:
        if self.is_banned(muxed_conn.peer_id):
            await muxed_conn.abort()
            raise SwarmException("this peer is banned for now")

    async def _refuse_beyond(self, most: int, muxed_conn: BoundedYamux) -> None:
        if self.get_total_connections() >= most:
            await muxed_conn.abort()
            raise SwarmException("there are connections enough")

    async def _add_inbound(self, muxed_conn: BoundedYamux) -> SwarmConn:
        try:
            # Asked a second time: when it came, others of its address may still have been shaking hands.
            gone = self._guests.enter(muxed_conn, _ip(muxed_conn.get_remote_address()))
        except ValueError as error:
            await muxed_conn.abort()
            raise SwarmException(str(error)) from None
        if gone is not None:
            self.manager.run_task(gone.abort)
        try:
            conn = await super().add_conn(muxed_conn, "inbound")
        except BaseException:
            self._guests.leave(muxed_conn)
            raise
        self.manager.run_task(self._while_open, muxed_conn)
        return conn

    async def _while_open(self, muxed: BoundedYamux) -> None:
        try:
            await muxed.event_closed.wait()
        finally:
            self._guests.leave(muxed)

    def is_banned(self, peer: ID) -> bool:
        return self.strikes.is_banned(str(peer), trio.current_time())

    def strike(self, peer: ID, reason: str) -> None:
        """One misdeed; the peer is dropped and banned when its patience is used up."""
        if self.strikes.strike(str(peer), trio.current_time()) and peer in self.connections:
            _log.warning("peer %s is banned for %g s: %s", peer, self.limits.ban_s, reason)
            self.manager.run_task(self.drop, peer)

    async def drop(self, peer: ID) -> None:
        """Ends every connection to `peer` now, without waiting for it."""
        for conn in tuple(self.connections.get(peer, ())):
            muxed = conn.muxed_conn
            assert isinstance(muxed, BoundedYamux)
            await muxed.abort()

    def guard_streams(self, handler: Callable[[INetStream], Awaitable[None]]) -> None:
        """Installs the handler of all inbound streams, bounded a peer and safe against its own errors."""

        async def guarded(stream: INetStream) -> None:
            peer = stream.muxed_conn.peer_id
            if self._streams[peer] >= self.limits.max_streams_per_peer:
                self.strike(peer, "too many streams")
                await stream.reset()
                return
            self._streams[peer] += 1
            try:
                await handler(stream)
            except Exception as error:
                _log.debug("stream of %s ended: %r", peer, error)
                self.strike(peer, "a stream that breaks its protocol")
                await stream.reset()
            finally:
                self._streams[peer] -= 1
                if not self._streams[peer]:
                    del self._streams[peer]

        self.set_stream_handler(guarded)


class _NoAutoConnector(AutoConnector):
    """We alone decide whom to dial. The library's dials every address that any peer ever told it."""

    async def run_background_task(self, _nursery: trio.Nursery) -> None:
        return None

    async def maybe_connect(self) -> None:
        return None


def _ip(remote: tuple[str, int] | None) -> str:
    return remote[0] if remote else "unknown"


def _connection_config(limits: Limits) -> ConnectionConfig:
    # The library shakes no more hands when all are here; ours may make room for whoever comes.
    most = limits.max_connections + limits.max_handshakes
    return ConnectionConfig(
        max_connections=most,
        high_watermark=most,
        min_connections=0,
        low_watermark=0,
        inbound_upgrade_timeout=limits.handshake_timeout_s,
        outbound_upgrade_timeout=limits.handshake_timeout_s,
        inbound_stream_protocol_negotiation_timeout=limits.handshake_timeout_s,
        outbound_stream_protocol_negotiation_timeout=limits.handshake_timeout_s,
    )
