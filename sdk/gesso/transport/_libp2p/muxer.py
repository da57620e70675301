"""Yamux that holds its bounds and survives a cancelled writer.

py-libp2p 0.8.1 only warns when a peer writes past its receive window: a peer that ignores flow control fills our memory
through any handler that does not read. Here such a connection ends once its buffers reach the bound.

It also writes frames from the task of whoever sends: when that task is cancelled (any deadline does it) half a frame is
out, its cipher counter is spent, and everybody's connection is lost. Here one task a connection writes whole frames.
"""

from __future__ import annotations

import logging

import trio
from libp2p.abc import IMuxedConn, ISecureConn
from libp2p.custom_types import TProtocol
from libp2p.network.connection.exceptions import RawConnError
from libp2p.peer.id import ID
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID, Yamux

_log = logging.getLogger(__name__)


_OUTBOX_FRAMES = 16
_CHECK_S = 1.0
"""How often a writer looks whether its connection still exists."""


class _Frame:
    """Bytes on their way out; `done` is set when they are written or `error` says why not."""

    __slots__ = ("data", "done", "error")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.done = trio.Event()
        self.error: Exception | None = None


class BoundedYamux(Yamux):
    def __init__(self, conn: ISecureConn, peer_id: ID, *, max_buffered: int) -> None:
        super().__init__(conn, peer_id, is_initiator=conn.is_initiator)
        self.max_buffered = max_buffered
        self._outbox, self._frames = trio.open_memory_channel[_Frame](_OUTBOX_FRAMES)

    async def start(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write_all)
            await super().start()
            nursery.cancel_scope.cancel()

    async def _write_all(self) -> None:
        with self._frames:
            async for frame in self._frames:
                try:
                    await super()._write_frame(frame.data)
                except Exception as error:
                    frame.error = error
                frame.done.set()

    async def _write_frame(self, data: bytes) -> None:
        """Cancelling the caller leaves the frame whole: either nobody took it yet, or it will be written to its end."""
        frame = _Frame(data)
        try:
            await self._outbox.send(frame)
        except trio.BrokenResourceError:
            raise RawConnError("the connection has ended") from None
        while not frame.done.is_set():
            with trio.move_on_after(_CHECK_S):
                await frame.done.wait()
            if self.event_closed.is_set() and not frame.done.is_set():
                raise RawConnError("the connection has ended")
        if frame.error is not None:
            raise frame.error

    async def _read_data_body(self, length: int) -> bytes:
        held = sum(len(buffer) for buffer in self.stream_buffers.values())
        if held + length > self.max_buffered:
            _log.warning("peer %s ignores flow control: %d bytes unread, dropped", self.peer_id, held)
            # The one exception that makes the read loop end the connection instead of losing its place in it.
            raise trio.TooSlowError
        return await super()._read_data_body(length)

    async def abort(self) -> None:
        """Ends the connection without writing: a write to a silent peer could wait for ever."""
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
