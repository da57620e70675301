"""One task's story as a stream: the chain's events decide, the node's progress decorates.

All tasks of a client share one reader of the chain; each task has its own queue.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Container

import anyio
from anyio.abc import TaskGroup

from gesso.audits.story import told
from gesso.chain import events as on_chain
from gesso.chain.chain import Chain
from gesso.chain.cursor import Cursor
from gesso.chain.wallet import signer_of
from gesso.progress import ProgressSource
from gesso.stream import TaskStream
from gesso_protocol import events
from gesso_protocol.errors import ChainError, Unreachable
from gesso_protocol.ids import ZERO_ADDRESS, TaskId
from gesso_protocol.messages import ProgressEvent

RETRY_S = 1.0
WithGas = events.Submitted | events.Claimed | events.Committed | events.Settled


class TaskFeed:
    """Reads the chain once for all tasks of a client. Runs in the client's task group."""

    def __init__(self, chain: Chain, progress: ProgressSource, group: TaskGroup, *, poll_s: float) -> None:
        self._chain = chain
        self._progress = progress
        self._group = group
        self._poll_s = poll_s
        self._board = chain.settings.contracts.task_board
        self._streams: dict[TaskId, list[TaskStream]] = {}
        self._starting = anyio.Lock()
        self._reading = False

    async def open_new(self, task: TaskId) -> TaskStream:
        """Follow a task that is about to be submitted: nothing can be missed. Raises Unreachable, ChainError."""
        async with self._starting:  # whoever comes meanwhile waits for the first block, which must be before its own
            if not self._reading:
                start = await self._chain.block_number()
                self._group.start_soon(self._read_shared, start)
                self._reading = True
        return self._add(task)

    def open_past(self, task: TaskId, from_block: int) -> TaskStream:
        """Follow a task from the block that it was submitted in, with a reader of its own."""
        reader = anyio.CancelScope()
        stream = TaskStream(task, lambda _: reader.cancel(), self._signed)
        self._group.start_soon(self._read_one, stream, from_block, reader)
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

    async def _read_shared(self, from_block: int) -> None:
        async for event in self._events(from_block, self._streams):
            for stream in self._streams.get(event.task, ()):
                stream.push(event)

    async def _read_one(self, stream: TaskStream, from_block: int, scope: anyio.CancelScope) -> None:
        with scope:
            async for event in self._events(from_block, (stream.task,)):
                stream.push(event)

    async def _events(self, from_block: int, wanted: Container[TaskId]) -> AsyncIterator[events.Event]:
        """Events of wanted tasks. A chain that does not answer is asked again for as long as anyone listens."""
        cursor = Cursor.before(from_block)
        while True:
            try:
                async for page in self._chain.pages(cursor, poll_s=self._poll_s):
                    # All of a page before any: what asks the chain once more must not tell a half of it twice.
                    read = [await self._translate(found, wanted) for found in page.events]
                    for event in read:
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
