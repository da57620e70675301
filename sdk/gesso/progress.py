"""How far nodes are, as they tell it: hints that make waiting bearable and decide nothing.

Two ways in: a peer gets progress sent straight to it, an HTTP-only user follows the relay's stream.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Protocol

import anyio
import httpx

from gesso.sse import TIMEOUT, data_lines
from gesso.transport.binding import PeerBinding
from gesso.transport.port import PeerId, Transport
from gesso_protocol.errors import EncodingInvalid, UsageError
from gesso_protocol.ids import TaskId
from gesso_protocol.messages import MAX_PROGRESS_BYTES, PROTOCOL_PROGRESS, ProgressEvent

OnProgress = Callable[[ProgressEvent], None]

FIRST_RETRY_S = 0.2
LAST_RETRY_S = 5.0


class ProgressSource(Protocol):
    """Calls back with the progress of one task until it is cancelled. Never raises for a bad network."""

    async def follow(self, task: TaskId, on_progress: OnProgress) -> None: ...


class PeerProgress:
    """Progress that nodes send to this peer over the transport. Only the peer bound to a wallet speaks for it."""

    def __init__(self, transport: Transport, binding: PeerBinding) -> None:
        self._binding = binding
        self._listeners: dict[TaskId, list[OnProgress]] = {}
        transport.serve(PROTOCOL_PROGRESS, self._receive, max_request=MAX_PROGRESS_BYTES)

    async def follow(self, task: TaskId, on_progress: OnProgress) -> None:
        """Until cancelled."""
        self._listeners.setdefault(task, []).append(on_progress)
        try:
            await anyio.sleep_forever()
        finally:
            left = [listener for listener in self._listeners[task] if listener is not on_progress]
            if left:
                self._listeners[task] = left
            else:
                del self._listeners[task]

    async def _receive(self, peer: PeerId, data: bytes) -> bytes:
        event = ProgressEvent.decode(data)
        if event.task not in self._listeners or not await self._binding.speaks_for(peer, event.node):
            raise UsageError("no progress of this task is expected from this peer")
        for listener in self._listeners.get(event.task, ()):
            listener(event)
        return b""


class RelayProgress:
    """Progress from a relay's server-sent events; reconnects for as long as anyone follows."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def follow(self, task: TaskId, on_progress: OnProgress) -> None:
        """Until cancelled; a relay that is away is tried again, ever more slowly."""
        pause_s = FIRST_RETRY_S
        while True:
            try:
                async with self._client.stream("GET", f"/v1/progress/{task}", timeout=TIMEOUT) as reply:
                    if reply.status_code == 200:
                        pause_s = FIRST_RETRY_S
                        await _read_events(reply, task, on_progress)
            except (httpx.HTTPError, EncodingInvalid):
                pass  # a relay is a convenience; the chain still tells how the task goes
            await anyio.sleep(pause_s)
            pause_s = min(pause_s * 2, LAST_RETRY_S)


async def _read_events(reply: httpx.Response, task: TaskId, on_progress: OnProgress) -> None:
    async for line in data_lines(reply, max_bytes=2 * MAX_PROGRESS_BYTES):
        with contextlib.suppress(EncodingInvalid):  # one bad event does not end the stream
            event = ProgressEvent.decode(line)
            if event.task == task:
                on_progress(event)
