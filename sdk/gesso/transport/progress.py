"""How far a task is, told to its requester. Lossy on purpose: the executor never waits for a picture of itself.

The requester serves `/gesso/progress/1` (`serve_progress`); the node offers events (`ProgressSender.offer`), which are
sent in the background; when they pile up, the newest survive. What must not be lost is on the chain.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Self, TypeAlias

from gesso.transport.inbox import Inbox
from gesso.transport.port import PeerId, Rate, Transport
from gesso_protocol.errors import GessoError, UsageError
from gesso_protocol.messages import MAX_PROGRESS_BYTES, PROTOCOL_PROGRESS, ProgressEvent

__all__ = ["Accept", "ProgressFeed", "ProgressSender", "Send", "serve_progress", "to_peer"]

_log = logging.getLogger(__name__)

Send: TypeAlias = Callable[[bytes], Awaitable[None]]
"""Delivers one encoded event; whatever GessoError it raises costs this event only."""

Accept: TypeAlias = Callable[[PeerId, ProgressEvent], Awaitable[bool]]
"""Whether this peer may report on this task (see `PeerBinding.speaks_for`)."""

_SEND_TIMEOUT_S = 3.0
_GOODBYE_S = 1.0
_REDIAL_S = 10.0
_MAX_STREAMS = 1024
_RATE = Rate(per_s=50, burst=100)


def to_peer(transport: Transport, peer: PeerId, addresses: tuple[str, ...] = ()) -> Send:
    """Sends to `peer`, dialling one of `addresses` first when it is not connected.

    The caller disconnects the peer when the task is over (a connection made here is kept alive like any other).
    """

    not_before_s = 0.0

    async def send(data: bytes) -> None:
        nonlocal not_before_s
        now_s = asyncio.get_running_loop().time()
        if now_s >= not_before_s and all(info.peer != peer for info in transport.peers()):
            # A requester that cannot be dialled must not delay the other ways to reach it, event after event.
            not_before_s = now_s + _REDIAL_S
            for address in addresses[:4]:
                with contextlib.suppress(GessoError):
                    if await transport.connect(address, timeout_s=_SEND_TIMEOUT_S) == peer:
                        break
        await transport.request(peer, PROTOCOL_PROGRESS, data, timeout_s=_SEND_TIMEOUT_S, max_reply=0)

    return send


class ProgressSender:
    """`offer` returns at once, whatever the network does. Several ways to send are tried in turn for each event."""

    def __init__(self, *ways: Send, queue: int = 16) -> None:
        self._ways = ways
        self._queue: deque[ProgressEvent] = deque(maxlen=max(1, queue))
        self._news = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self.sent = 0
        self.lost = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._send_all())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Gives what is queued one more second, then lets go."""
        self._closing = True
        self._news.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_GOODBYE_S)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def offer(self, event: ProgressEvent) -> None:
        """Queues one event; the oldest one makes room. Never blocks, never raises."""
        if len(self._queue) == self._queue.maxlen:
            self.lost += 1
        self._queue.append(event)
        self._news.set()

    async def _send_all(self) -> None:
        while True:
            self._news.clear()
            while self._queue:
                await self._send_one(self._queue.popleft())
            if self._closing:
                return
            await self._news.wait()

    async def _send_one(self, event: ProgressEvent) -> None:
        try:
            data = event.encode()
        except GessoError:
            self.lost += 1
            return
        for send in self._ways:
            try:
                await send(data)
            except GessoError as error:
                _log.debug("progress of %s not delivered: %s", event.task.short, error)
            else:
                self.sent += 1
                return
        self.lost += 1


class ProgressFeed:
    """Events of all tasks, each task's in growing order. Close it by closing the transport."""

    def __init__(self, inbox: Inbox[ProgressEvent]) -> None:
        self._inbox = inbox

    def __aiter__(self) -> AsyncIterator[ProgressEvent]:
        return self

    async def __anext__(self) -> ProgressEvent:
        return await self._inbox.__anext__()

    def close(self) -> None:
        self._inbox.close()

    @property
    def dropped(self) -> int:
        return self._inbox.dropped


def serve_progress(transport: Transport, *, accept: Accept, queue: int = 256) -> ProgressFeed:
    """Listens for progress of our tasks. Old, repeated and foreign events are refused to their sender's face."""
    inbox: Inbox[ProgressEvent] = Inbox(queue)
    latest: OrderedDict[tuple[PeerId, str], int] = OrderedDict()

    async def receive(peer: PeerId, data: bytes) -> bytes:
        event = ProgressEvent.decode(data)
        stream = (peer, str(event.task))
        _require_newer(event, latest.get(stream, -1))
        if not await accept(peer, event):
            raise UsageError("no progress of this task is expected from this peer")
        _require_newer(event, latest.get(stream, -1))  # another one may have been accepted meanwhile
        latest[stream] = event.sequence
        latest.move_to_end(stream)
        if len(latest) > _MAX_STREAMS:
            latest.popitem(last=False)
        inbox.put(event)
        return b""

    transport.serve(PROTOCOL_PROGRESS, receive, max_request=MAX_PROGRESS_BYTES, per_peer_rate=_RATE)
    return ProgressFeed(inbox)


def _require_newer(event: ProgressEvent, last: int) -> None:
    if event.sequence <= last:
        raise UsageError("this event is not newer than the last one")
