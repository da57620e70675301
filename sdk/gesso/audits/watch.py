"""Following the audit of one task: what its events amount to so far, and when nothing more can come."""

from __future__ import annotations

import time
from collections.abc import Iterable

from gesso.audits.closeness import with_closeness
from gesso.audits.draw import checked_steps, checked_updates, read_draw
from gesso.audits.facts import AUDIT_EVENTS, ENDINGS, MAX_EVENTS, AuditFacts, Draw, audit_facts
from gesso.blobs.port import BlobStore
from gesso.chain.arbiter import Arbiter, Filing
from gesso.quote import AuditChoice
from gesso_protocol.errors import GessoError, NoEligibleNode, TaskFailed, WorkRejected
from gesso_protocol.events import AuditOpened, Cancelled, Committed, DisputeOpened, Event, Expired, PartCommitted
from gesso_protocol.ids import Address, TaskId
from gesso_protocol.money import BPS
from gesso_protocol.spec import Spec
from gesso_protocol.terms import BoardParams, Terms
from gesso_protocol.trace import Run

STRAGGLER_S = 5.0
"""How long after a task's end the audit's own last word may take; both stand in one block."""
_ASKED: dict[int, AuditChoice] = {0: "sampled", 1: "always", 2: "none"}


class AuditWatch:
    """Feed it a task's events in their order. `arbiter` None: a network without audits."""

    def __init__(self, arbiter: Arbiter | None, task: TaskId, terms: Terms, params: BoardParams) -> None:
        self._arbiter = arbiter
        self._task = task
        self._terms = terms
        self._window_s = params.challenge_window_s
        self._events: list[Event] = []
        self._opened: AuditOpened | None = None
        self._looked_at = False
        self._committed: Committed | None = None
        self._part_bps = self._share_bps = BPS
        self._ended: Event | None = None
        self._ended_s = 0.0

    @property
    def asked(self) -> AuditChoice:
        """What the terms ask for."""
        return _ASKED[int(self._terms.audit)]

    def take(self, happened: Iterable[Event]) -> None:
        """Note several events, oldest first."""
        for event in happened:
            self.note(event)

    def note(self, event: Event) -> None:
        """Note one event; those that say nothing about audits are passed over."""
        if isinstance(event, PartCommitted):
            self._part_bps = event.done_bps
        if isinstance(event, Committed):
            self._committed = event
            self._share_bps, self._part_bps = self._part_bps, BPS
        if isinstance(event, AuditOpened):
            self._opened = event
        # A requester may bring a task before jurors that no auditor came to.
        self._looked_at = self._looked_at or isinstance(event, AuditOpened | DisputeOpened)
        if isinstance(event, ENDINGS) and self._ended is None:
            self._ended, self._ended_s = event, time.monotonic()
        if isinstance(event, (*AUDIT_EVENTS, *ENDINGS)) and len(self._events) < MAX_EVENTS:
            self._events.append(event)

    def over(self) -> bool:
        """The task has ended, and its audit too: where one was opened, its last word may come after the task's."""
        if self._ended is None or not self._looked_at:
            return self._ended is not None
        return self.standing().over or time.monotonic() - self._ended_s > STRAGGLER_S

    def standing(self) -> AuditFacts:
        """What the events alone say."""
        return audit_facts(self.asked, self._events)

    async def facts(self, spec: Spec) -> AuditFacts:
        """What events and beacon say. Raises Unreachable, ChainError."""
        return audit_facts(self.asked, self._events, draw=await self._draw(spec))

    async def measured(self, spec: Spec, chain_id: int, board: Address, blobs: BlobStore) -> AuditFacts:
        """The same with how close the node came, where its openings are to be had. Raises Unreachable, ChainError."""
        facts, done = await self.facts(spec), self._committed
        if self._arbiter is None or done is None:
            return facts
        run = Run(chain_id, board, self._task, done.node)
        return await with_closeness(facts, [done, *self._events], run, spec, await self._arbiter.rules(), blobs)

    def problem(self) -> GessoError | None:
        """Why the task has ended without a result that is paid for; None as long as it has not."""
        if isinstance(self._ended, Cancelled):
            return TaskFailed("the task was cancelled", hint="the fee is back in the deposit")
        if not isinstance(self._ended, Expired) or not self.over():
            return None
        if self._ended.node is None:
            return NoEligibleNode(
                "no node claimed the task in time; the fee is back in the deposit",
                hint="offer more with --fee, or see what nodes can do: gesso task ls --all",
            )
        facts = self.standing()
        if facts.status in ("guilty", "undecided"):
            doubt = facts.status == "undecided"
            hint = "order again; jurors could not tell, so neither side has the fee" if doubt else None
            return WorkRejected(
                f"the work of node {self._ended.node.short} was not accepted: {facts.line()}", hint=hint
            )
        late = "did not deliver in time" if not self._looked_at else "was never cleared by its audit"
        return TaskFailed(f"node {self._ended.node.short} {late}; the fee is back in the deposit")

    async def _draw(self, spec: Spec) -> Draw | None:
        done = self._committed
        if self._arbiter is None or done is None:
            return None
        filing = Filing(self._terms, done.node, done.result_root, done.trace_root)
        if self._opened is None:
            committed_at = done.settle_after - self._window_s
            return await read_draw(self._arbiter, filing, self._task, committed_at, spec, self._share_bps)
        drawn = bytes.fromhex(self._opened.challenge[2:])
        large = self._terms.fee >= (await self._arbiter.rules()).large_fee
        rate_bps = await self._arbiter.rate_bps_of(done.node)
        updates = checked_updates(drawn, spec, self._share_bps)
        return Draw(rate_bps=rate_bps, picked=True, steps=checked_steps(drawn, spec, large=large), updates=updates)
