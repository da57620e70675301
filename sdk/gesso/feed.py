"""One task's story as a stream: the chain's events decide, the node's progress decorates.

All tasks of a client share one reader of the chain; each task has its own queue.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Container

import anyio
from anyio.abc import TaskGroup

from gesso.audits.story import told
from gesso.chain import events as on_chain
from gesso.chain.chain import Chain
from gesso.chain.cursor import Cursor
from gesso.chain.wallet import signer_of
from gesso.progress import ProgressSource
from gesso_protocol import events
from gesso_protocol.errors import ChainError, EncodingInvalid, Unreachable
from gesso_protocol.handover import Handover
from gesso_protocol.ids import ZERO_ADDRESS, Address, BlobRef, TaskId
from gesso_protocol.messages import ProgressEvent
from gesso_protocol.training.checkpoint import KeptCheckpoint

QUEUE = 1024
RETRY_S = 1.0
MAX_HINTS = 4
MAX_HANDOVERS = 4
Verify = Callable[[ProgressEvent], bool]
_PASSING = (events.Step, events.TrainingStep)
"""Of use only while they are new."""
_PAUSES = {"paused": False, "continued": True}
WithGas = events.Submitted | events.Claimed | events.Committed | events.Settled


class TaskStream:
    """The events of one task. Chain events are never dropped; the oldest progress is, when nobody reads."""

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
        self.scope = anyio.CancelScope()

    def push(self, event: events.Event) -> None:
        """Queue one event."""
        if isinstance(event, events.Checkpoint):  # only the newest is of use
            self._queue = deque(queued for queued in self._queue if not isinstance(queued, events.Checkpoint))
        if len(self._queue) >= QUEUE:
            kept = [queued for queued in self._queue if not isinstance(queued, _PASSING)]
            self._queue = deque(kept)
        if isinstance(event, _PASSING) and self._committed:
            return  # a straggler from the relay; the line must not run backwards
        if isinstance(event, events.Claimed):
            self._node = event.node
        self._committed = self._committed or isinstance(event, events.Committed)
        self._queue.append(event)
        self._wake.set()

    async def next(self, timeout_s: float) -> events.Event | None:
        """The next event, or None after `timeout_s` seconds without one or when a hint arrives."""
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
                self.push(_checkpoint(progress, progress.checkpoint))
            return
        event = _from_progress(progress)
        if event is not None:
            self.push(event)

    def close(self) -> None:
        """Stop following."""
        self.scope.cancel()
        self._on_close(self)

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


class TaskFeed:
    """Reads the chain once for all tasks of a client. Runs in the client's task group."""

    def __init__(self, chain: Chain, progress: ProgressSource, group: TaskGroup, *, poll_s: float) -> None:
        self._chain = chain
        self._progress = progress
        self._group = group
        self._poll_s = poll_s
        self._board = chain.settings.contracts.task_board
        self._streams: dict[TaskId, list[TaskStream]] = {}
        self._reader: anyio.CancelScope | None = None

    async def open_new(self, task: TaskId) -> TaskStream:
        """Follow a task that is about to be submitted: nothing can be missed."""
        if self._reader is None:
            self._reader = anyio.CancelScope()
            start = await self._chain.block_number()
            self._group.start_soon(self._read_shared, self._reader, start)
        return self._add(task)

    def open_past(self, task: TaskId, from_block: int) -> TaskStream:
        """Follow a task from the block that it was submitted in, with a reader of its own."""
        stream = TaskStream(task, lambda _stream: None, self._signed)
        self._group.start_soon(self._read_one, stream, from_block)
        self._group.start_soon(self._follow_progress, stream)
        return stream

    async def past(self, task: TaskId, from_block: int) -> list[events.Event]:
        """What the chain has said of a task up to now. Raises Unreachable, ChainError."""
        cursor, found = Cursor.before(from_block), list[events.Event]()
        while (page := await self._chain.read_page(cursor)) is not None:
            cursor = page.cursor
            if page.reorged_to is not None:
                cursor, found = Cursor.before(from_block), []
                continue
            of_task = [event for event in page.events if getattr(event, "task", None) == task]
            found += [event for event in map(translate, of_task) if event is not None]
        return found

    def _add(self, task: TaskId) -> TaskStream:
        stream = TaskStream(task, self._remove, self._signed)
        self._streams.setdefault(task, []).append(stream)
        self._group.start_soon(self._follow_progress, stream)
        return stream

    def _signed(self, progress: ProgressEvent) -> bool:
        """Whether a handover or checkpoint is signed by the wallet of the node in whose name it comes."""
        word = progress.handover or progress.checkpoint
        if word is None:
            return False
        digest = word.digest(self._chain.chain_id, self._board, progress.task)
        return signer_of(digest, bytes.fromhex(word.signature)) == progress.node

    def _remove(self, stream: TaskStream) -> None:
        left = [other for other in self._streams.get(stream.task, ()) if other is not stream]
        if left:
            self._streams[stream.task] = left
        else:
            self._streams.pop(stream.task, None)

    async def _follow_progress(self, stream: TaskStream) -> None:
        with stream.scope:
            await self._progress.follow(stream.task, stream.on_progress)

    async def _read_shared(self, scope: anyio.CancelScope, from_block: int) -> None:
        with scope:
            async for event in self._events(from_block, self._streams):
                for stream in self._streams.get(event.task, ()):
                    stream.push(event)

    async def _read_one(self, stream: TaskStream, from_block: int) -> None:
        with anyio.CancelScope() as scope:
            stream._on_close = lambda _stream: scope.cancel()
            async for event in self._events(from_block, (stream.task,)):
                stream.push(event)

    async def _events(self, from_block: int, wanted: Container[TaskId]) -> AsyncIterator[events.Event]:
        """Events of wanted tasks. A chain that does not answer is asked again for as long as anyone listens."""
        cursor = Cursor.before(from_block)
        while True:
            try:
                async for page in self._chain.pages(cursor, poll_s=self._poll_s):
                    for found in page.events:
                        event = await self._translate(found, wanted)
                        if event is not None:
                            yield event
                    cursor = page.cursor
            except (Unreachable, ChainError):
                await anyio.sleep(max(self._poll_s, RETRY_S))

    async def _translate(self, found: on_chain.ContractEvent, wanted: Container[TaskId]) -> events.Event | None:
        task = getattr(found, "task", None)
        if task not in wanted:
            return None
        event = translate(found)
        if event is None or not isinstance(event, WithGas):
            return event
        gas_used = await self._chain.gas_used(found.tx_hash)
        return event.model_copy(update={"tx": found.tx_hash, "gas_used": gas_used})


def translate(found: on_chain.ContractEvent) -> events.Event | None:
    """A contract's event as the requester's; None for those that are not about one task's course."""
    at_ms = time.time_ns() // 1_000_000
    match found:
        case on_chain.TaskSubmitted(task=task, terms=terms):
            return events.Submitted(task=task, at_ms=at_ms, fee=terms.fee)
        case on_chain.TaskClaimed(task=task, node=node, commit_by=commit_by):
            return events.Claimed(task=task, at_ms=at_ms, node=node, commit_by=commit_by)
        case on_chain.TaskStopRequested(task=task, node=node):
            return events.StopRequested(task=task, at_ms=at_ms, node=node)
        case on_chain.TaskPartCommitted(task=task, node=node, done_bps=done_bps, stop_requested=asked):
            return events.PartCommitted(task=task, at_ms=at_ms, node=node, done_bps=done_bps, stop_requested=asked)
        case on_chain.TaskRestReturned(task=task, refund=refund):
            return events.RestReturned(task=task, at_ms=at_ms, refund=refund)
        case on_chain.TaskCommitted():
            return events.Committed(
                task=found.task,
                at_ms=at_ms,
                node=found.node,
                result_root=found.result_root,
                trace_root=found.trace_root,
                settle_after=found.settle_after,
            )
        case on_chain.TaskSettled():
            return events.Settled(
                task=found.task,
                at_ms=at_ms,
                node=found.node,
                paid=found.paid,
                royalty=found.royalty,
                royalty_to=None if found.royalty_to == ZERO_ADDRESS else found.royalty_to,
                protocol_fee=found.protocol_fee,
            )
        case on_chain.TaskCancelled(task=task, refund=refund):
            return events.Cancelled(task=task, at_ms=at_ms, refund=refund)
        case on_chain.TaskExpired(task=task, node=node, refund=refund):
            return events.Expired(task=task, at_ms=at_ms, refund=refund, node=None if node == ZERO_ADDRESS else node)
        case _:
            return told(found, at_ms)


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
