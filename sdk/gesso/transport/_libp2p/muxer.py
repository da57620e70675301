"""Yamux with an enforced memory bound.

py-libp2p 0.8.1 only warns when a peer writes past its receive window: a peer that ignores flow control fills our memory
through any handler that does not read. Here such a connection ends once its buffers reach the bound.
"""

from __future__ import annotations

import logging
import struct

import trio
from libp2p.abc import IMuxedConn, ISecureConn
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.stream_muxer.yamux.yamux import (
    FLAG_SYN,
    PROTOCOL_ID,
    TYPE_GO_AWAY,
    TYPE_PING,
    YAMUX_HEADER_FORMAT,
    Yamux,
)

_log = logging.getLogger(__name__)

_FAREWELL_S = 1.0


class BoundedYamux(Yamux):
    def __init__(self, conn: ISecureConn, peer_id: ID, *, max_buffered: int) -> None:
        super().__init__(conn, peer_id, is_initiator=conn.is_initiator)
        self.max_buffered = max_buffered

    async def _read_data_body(self, length: int) -> bytes:
        held = sum(len(buffer) for buffer in self.stream_buffers.values())
        if held + length > self.max_buffered:
            _log.warning("peer %s ignores flow control: %d bytes unread, dropped", self.peer_id, held)
            # The one exception that makes the read loop end the connection instead of losing its place in it.
            raise trio.TooSlowError
        return await super()._read_data_body(length)

    async def _write_frame(self, data: bytes) -> None:
        """A farewell waits for nobody: who reads nothing would keep the connection, and its place, for ever."""
        if data[1] != TYPE_GO_AWAY:
            await super()._write_frame(data)
            return
        with trio.move_on_after(_FAREWELL_S):
            await super()._write_frame(data)

    async def _measure_rtt_loop(self) -> None:
        """Nothing: `ping` is the one heartbeat, and measures as well."""

    async def ping(self, timeout_s: float) -> bool:
        """Whether the peer's muxer answers in time. One small frame; the library's ping opens a stream for it."""
        self._ping_id = (self._ping_id + 1) % 2**32
        self._ping_event = answered = trio.Event()
        self._ping_sent_time = trio.current_time()
        with trio.move_on_after(timeout_s):
            await self._write_frame(struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_PING, FLAG_SYN, 0, self._ping_id))
            await answered.wait()
        return answered.is_set()

    async def abort(self) -> None:
        """Ends the connection without writing: a write to a silent peer could wait for ever."""
        # Whoever gives up waiting meanwhile must not leave it half ended: it would be known as a connection for ever.
        with trio.CancelScope(shield=True):
            # The socket first: a write that is stuck in it may hold the lock that the cleaning needs.
            await self.secured_conn.close()
            await self._cleanup_on_error()


class BoundedMuxer(MuxerMultistream):
    """Offers yamux only; the library would otherwise build its own class whatever is registered."""

    def __init__(self, *, max_buffered: int, timeout_s: float) -> None:
        super().__init__({TProtocol(PROTOCOL_ID): BoundedYamux}, negotiate_timeout=max(1, int(timeout_s)))
        self._max_buffered = max_buffered

    async def new_conn(self, conn: ISecureConn, peer_id: ID) -> IMuxedConn:
        protocol, _ = await self._selector.select(conn, conn.is_initiator, self.negotiate_timeout)
        muxed = BoundedYamux(conn, peer_id, max_buffered=self._max_buffered)
        return self._annotate_connection(muxed, conn, protocol)
