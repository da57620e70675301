"""What one task's follower reads: the chain's events, and between them what nodes say of their progress."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

import anyio

from gesso_protocol import events
from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.handover import Handover
from gesso_protocol.ids import Address, BlobRef, TaskId
from gesso_protocol.messages import ProgressEvent
from gesso_protocol.training.checkpoint import KeptCheckpoint

QUEUE = 1024
MAX_HINTS = 4
MAX_HANDOVERS = 4
Verify = Callable[[ProgressEvent], bool]
_PASSING = (events.Step, events.TrainingStep)
"""Of use only while they are new."""
_WORDS = (*_PASSING, events.Checkpoint, events.TrainingPaused, events.Failed)
_OVER = (events.Settled, events.Cancelled, events.Expired)
_PAUSES = {"paused": False, "continued": True}


class TaskStream:
    """The events of one task. The chain's are never dropped: they are few. Words are anybody's before the claim, and a
    relay's after it: when nobody reads, they go."""

    def __init__(self, task: TaskId, on_close: Callable[[TaskStream], None], verify: Verify) -> None:
        self.task = task
        self.handovers: dict[Address, Handover] = {}
        """Results that nodes delivered ahead of their commit, each signed by the node it stands under. Bounded."""
        self.result_hints: dict[BlobRef, None] = {}
        """Where the result manifest is said to be; checked against the chain before use. Bounded, oldest first."""
        self._node: Address | None = None
        self._committed = False
        self._on_close = on_close
        self._verify = verify
        self._queue: deque[events.Event] = deque()
        self._wake = anyio.Event()
        self._read = False
        self.closed = False
        self.scope = anyio.CancelScope()

    def push(self, event: events.Event) -> None:
        """Queue one event of the chain."""
        if isinstance(event, events.Claimed):
            self._node = event.node
        self._committed = self._committed or isinstance(event, events.Committed)
        self._append(event)
        if isinstance(event, _OVER) and not self._read:
            self.close()  # an order that nobody follows keeps neither queue nor connection; the chain tells it again

    async def next(self, timeout_s: float) -> events.Event | None:
        """The next event, or None after `timeout_s` seconds without one or when a hint arrives."""
        self._read = True
        if not self._queue:
            self._wake = anyio.Event()
            with anyio.move_on_after(timeout_s):
                await self._wake.wait()
        return self._queue.popleft() if self._queue else None

    def on_progress(self, progress: ProgressEvent) -> None:
        """Take a node's word for how far it is; once a node has claimed the task, only its word."""
        if self._node not in (None, progress.node):
            return
        if progress.stage == "committed":
            self._take_hint(progress.note)
        if progress.handover is not None and self._verify(progress):
            self._take_handover(progress.node, progress.handover)
        if progress.checkpoint is not None:
            if self._verify(progress):
                self._hear(_checkpoint(progress, progress.checkpoint))
            return
        event = _from_progress(progress)
        if event is not None:
            self._hear(event)

    def close(self) -> None:
        """Stop following."""
        self.closed = True
        self.scope.cancel()
        self._on_close(self)

    def _hear(self, word: events.Event) -> None:
        if isinstance(word, _PASSING) and self._committed:
            return  # a straggler from the relay; the line must not run backwards
        if isinstance(word, events.Checkpoint):  # only the newest is of use
            self._queue = deque(queued for queued in self._queue if not isinstance(queued, events.Checkpoint))
        if len(self._queue) >= QUEUE:
            self._queue = deque(queued for queued in self._queue if not isinstance(queued, _WORDS))
        self._append(word)

    def _append(self, event: events.Event) -> None:
        self._queue.append(event)
        self._wake.set()

    def _take_handover(self, node: Address, handover: Handover) -> None:
        if self.handovers.get(node) == handover:
            return
        while len(self.handovers) >= MAX_HANDOVERS and node not in self.handovers:
            del self.handovers[next(iter(self.handovers))]
        self.handovers[node] = handover
        self._wake.set()

    def _take_hint(self, note: str) -> None:
        try:
            self.result_hints[BlobRef.parse(note)] = None
        except EncodingInvalid:
            return
        while len(self.result_hints) > MAX_HINTS:
            del self.result_hints[next(iter(self.result_hints))]
        self._wake.set()


def _checkpoint(progress: ProgressEvent, kept: KeptCheckpoint) -> events.Event:
    return events.Checkpoint(
        task=progress.task,
        at_ms=time.time_ns() // 1_000_000,
        node=progress.node,
        index=kept.step,
        total=max(progress.total, kept.step),
        state=kept.state,
        size=kept.size,
        seed=kept.seed,
    )


def _training_step(progress: ProgressEvent, at_ms: int) -> events.Event | None:
    loss, _, rest = progress.note.removeprefix("loss=").partition(" ")
    try:
        value = float(loss)
    except ValueError:
        return None
    return events.TrainingStep(
        task=progress.task,
        at_ms=at_ms,
        index=progress.step,
        total=max(1, progress.total),
        loss=value if math.isfinite(value) else None,
        checkpoint=rest == "checkpoint",
        prompt=progress.image,
        node=progress.node,
        sample=None if progress.preview is None else progress.preview.image,
    )


def _from_progress(progress: ProgressEvent) -> events.Event | None:
    at_ms = time.time_ns() // 1_000_000
    if progress.stage == "executing" and progress.note.startswith("loss="):
        return _training_step(progress, at_ms)
    if progress.stage == "executing" and progress.note in _PAUSES:
        return events.TrainingPaused(
            task=progress.task,
            at_ms=at_ms,
            index=progress.step,
            total=max(1, progress.total),
            node=progress.node,
            over=_PAUSES[progress.note],
        )
    if progress.stage == "executing" and progress.total > 0:
        preview = None if progress.preview is None else progress.preview.image
        return events.Step(
            task=progress.task,
            at_ms=at_ms,
            index=progress.step,
            total=progress.total,
            image=progress.image,
            node=progress.node,
            preview=preview,
        )
    if progress.stage == "failed":
        words = "".join(letter for letter in progress.note if letter.isprintable()) or "the node failed"
        return events.Failed(task=progress.task, at_ms=at_ms, code="task-failed", message=words, final=False)
    return None
