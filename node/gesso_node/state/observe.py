"""Reading the chain: its events keep the book true. Gossip may add a task sooner, but never changes what is known.

The cursor is kept in the journal and trails behind whatever was not written down yet, so a restart reads again
rather than misses; taking an event twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import structlog
from pydantic import ValidationError

from gesso.chain import Chain, Cursor, Page
from gesso.chain import events as on_chain
from gesso.chain.rpc import Header
from gesso_node.models.catalogue import Catalogue
from gesso_node.models.demand import Demand
from gesso_node.state.book import Book, Known, write_down
from gesso_node.state.journal import Entry, Journal
from gesso_protocol.ids import TaskId
from gesso_protocol.lifecycle import TaskRecord, TaskState, Why
from gesso_protocol.terms import Terms

log = structlog.get_logger("gesso.node.observe")

LOOKBACK_BLOCKS = 200
"""How far back a node that has never run looks for tasks that are still open."""
WEIGHTS_EVERY_S = 15
SAVE_EVERY_BLOCKS = 20
FORCED_SAVE_BLOCKS = 2_000
MAX_PAGES = 50
REOPEN_WITHIN_S = 3_600
MAX_CANDIDATES = 10_000


class Observer:
    """Brings the book up to date with the chain."""

    def __init__(
        self,
        chain: Chain,
        journal: Journal,
        book: Book,
        catalogue: Catalogue,
        *,
        on_payment: Callable[[Known], None],
        demand: Demand | None = None,
    ) -> None:
        self._chain = chain
        self._journal = journal
        self._book = book
        self._catalogue = catalogue
        self._on_payment = on_payment
        self._demand = demand
        self._cursor = Cursor.before(0)
        self._saved_block = -1
        self._weights_stale = True
        self._weights_at = 0

    @property
    def block(self) -> int:
        """The last block that was read."""
        return self._cursor.block

    async def restore(self, now: int) -> None:
        """After a start: open journal entries, the cursor, and what the chain says today. Raises Unreachable."""
        self._cursor = await self._read_cursor()
        self._saved_block = self._cursor.block
        for entry in await self._journal.open_entries():
            record = await self._chain.task(entry.task, kind=entry.terms.kind)
            self._book.add(Known(entry.task, entry.terms, entry.heard_at, record, entry))
        await self._catalogue.load()
        await self._refresh_weights(now)
        log.info("observe.restored", tasks=len(self._book), block=self._cursor.block, now=now)

    async def pull(self, now: int, head: Header | None = None) -> bool:
        """Take in all new events, as far as `head` where it is known; true when there were any. Raises Unreachable,
        ChainError."""
        took = False
        for _ in range(MAX_PAGES):
            page = await self._chain.read_page(self._cursor, head)
            if page is None:
                break
            took = took or bool(page.events) or page.reorged_to is not None
            await self._take(page, now)
            if head is not None and self._cursor.block >= head.number:
                break
        # A new node's weight starts counting after a delay, which no event announces.
        if self._weights_stale or now >= self._weights_at + WEIGHTS_EVERY_S:
            await self._refresh_weights(now)
        await self._save_cursor()
        return took

    async def refresh(self, known: Known) -> None:
        """Ask the chain about one task: after our own transaction, or when something did not fit."""
        record = await self._chain.task(known.task, kind=known.terms.kind)
        if record.state is not TaskState.UNKNOWN or known.record.state is TaskState.UNKNOWN:
            known.record = record

    def hear(self, task: TaskId, terms: Terms, now: int) -> Known | None:
        """A task from gossip, perhaps ahead of its block. None when we have enough to think about."""
        if len(self._book) >= MAX_CANDIDATES and self._book.get(task) is None:
            return None
        if self._book.get(task) is None:
            log.info("task.heard", task=str(task), over="gossip")
        return self._book.add(Known(task, terms, now, TaskRecord(task, TaskState.UNKNOWN)))

    async def adopt(self, entry: Entry) -> None:
        """A task of ours that a lost disk had made us forget."""
        known = self._book.add(Known(entry.task, entry.terms, entry.heard_at, await self._chain.task(entry.task)))
        known.entry = known.entry or entry

    async def _take(self, page: Page, now: int) -> None:
        if page.reorged_to is not None:
            log.warning("observe.reorg", to_block=page.reorged_to)
            await self._undo(now)
        for event in page.events:
            await self._apply(event, now)
        self._cursor = page.cursor

    async def _apply(self, event: on_chain.ContractEvent, now: int) -> None:
        if isinstance(event, on_chain.TaskSubmitted):
            await self._catalogue.knows(event.terms.model)
            self._submitted(event, now)
        elif isinstance(event, on_chain.ListingPublished | on_chain.ListingYanked):
            await self._catalogue.learn(event.listing)
        elif isinstance(event, on_chain.WEIGHT_EVENTS):
            self._weights_stale = True
            if self._book.rivals is not None:
                self._book.rivals.changed(event.node)
        elif (known := await self._of(event)) is not None:
            if isinstance(event, on_chain.TaskClaimed):
                self._book.claimed(known, event.node, event.commit_by - known.terms.commit_window_s)
            await self._changed(known, event)

    def _submitted(self, event: on_chain.TaskSubmitted, now: int) -> None:
        if self._demand is not None:
            for listing in self._catalogue.members(event.terms.model):
                self._demand.note(listing, event.at)
        record = TaskRecord(event.task, TaskState.SUBMITTED, None, event.at, event.seed)
        known = self._book.get(event.task)
        if known is None:
            if len(self._book) < MAX_CANDIDATES:
                log.info("task.heard", task=str(event.task), over="chain")
                self._book.add(Known(event.task, event.terms, now, record))
        elif known.record.state is TaskState.UNKNOWN:
            known.record = record

    async def _changed(self, known: Known, event: on_chain.ContractEvent) -> None:
        record = known.record
        if isinstance(event, on_chain.TaskClaimed):
            if record.state <= TaskState.SUBMITTED:
                since = event.commit_by - known.terms.commit_window_s
                known.record = replace(record, state=TaskState.CLAIMED, node=event.node, state_since=since, seed=None)
        elif isinstance(event, on_chain.TaskStopRequested):
            known.record = replace(record, stop_requested=record.state is TaskState.CLAIMED)
        elif isinstance(event, on_chain.TaskCommitted):
            if record.state <= TaskState.CLAIMED:
                since = event.settle_after - self._book.params.challenge_window_s
                known.record = replace(record, state=TaskState.COMMITTED, node=event.node, state_since=since, seed=None)
        elif isinstance(event, on_chain.TaskSettled):
            await self._settled(known, event)
        elif isinstance(event, on_chain.TaskCancelled):
            known.record = replace(record, state=TaskState.CANCELLED)
        elif isinstance(event, on_chain.TaskExpired):
            known.record = replace(record, state=TaskState.EXPIRED)
        elif isinstance(event, on_chain.TaskHeld | on_chain.TaskRuled | on_chain.TaskSettleSkipped):
            await self.refresh(known)

    async def _settled(self, known: Known, event: on_chain.TaskSettled) -> None:
        # The payment is written down before the cursor may pass this event.
        if known.entry is not None and event.node == self._book.me and known.entry.paid is None:
            await write_down(self._journal, known, "paid", paid=event.paid)
            self._on_payment(known)
        known.record = replace(known.record, state=TaskState.SETTLED, node=event.node)

    async def _undo(self, now: int) -> None:
        """Blocks were taken back: nothing that came from events can be trusted, the board is asked anew."""
        for known in self._book:
            known.record = await self._chain.task(known.task, kind=known.terms.kind)
        for entry in await self._journal.closed_since(now - REOPEN_WITHIN_S):
            await self._reopened(entry)
        self._weights_stale = True

    async def _reopened(self, entry: Entry) -> Known | None:
        """A task that we had let go of is in our hands again, if the board says so: a claim that had lost is the first
        on another fork, or its end was taken back."""
        record = await self._chain.task(entry.task, kind=entry.terms.kind)
        if record.state.terminal or (entry.closed is not Why.SETTLED and record.node != self._book.me):
            return None
        log.warning("observe.reopened", task=entry.task.short, closed=str(entry.closed))
        known = Known(entry.task, entry.terms, entry.heard_at, record, await self._journal.reopen(entry))
        return self._book.add(known)

    async def _refresh_weights(self, now: int) -> None:
        self._weights_at = now
        self._book.weights.mine = await self._chain.weight_of(self._book.me)
        self._book.weights.total = await self._chain.total_weight()
        self._book.block_s = await self._chain.block_interval_s()
        if self._book.rivals is not None:
            await self._book.rivals.refresh(self._book.weights.total)
        self._weights_stale = False

    async def _of(self, event: on_chain.ContractEvent) -> Known | None:
        task = getattr(event, "task", None)
        known = self._book.get(task) if isinstance(task, TaskId) else None
        if known is None and isinstance(event, on_chain.TaskClaimed) and event.node == self._book.me:
            entry = await self._journal.entry(event.task)
            if entry is not None and entry.closed is not None:
                return await self._reopened(entry)
        return known

    async def _read_cursor(self) -> Cursor:
        stored = await self._journal.note("cursor")
        if stored is not None:
            try:
                return Cursor.model_validate_json(stored)
            except ValidationError:
                log.warning("observe.cursor-unreadable")
        return Cursor.before(max(0, await self._chain.block_number() - LOOKBACK_BLOCKS))

    async def _save_cursor(self) -> None:
        behind = self._cursor.block - self._saved_block
        undecided = any(known.entry is None for known in self._book)
        if behind < SAVE_EVERY_BLOCKS or (undecided and behind < FORCED_SAVE_BLOCKS):
            return
        await self._journal.set_note("cursor", self._cursor.model_dump_json())
        self._saved_block = self._cursor.block
