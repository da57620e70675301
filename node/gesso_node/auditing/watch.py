"""Which committed tasks there are, and what the chain says of their audits: read from events, asked when one says so.

Its cursor is its own, and is kept behind the submit of the oldest task that is not over, so that a restart finds the
terms of every task that can still be audited.
"""

from __future__ import annotations

import structlog
from pydantic import ValidationError

from gesso.chain import Chain, Cursor, Page
from gesso.chain import audit_events as told
from gesso.chain import events as on_chain
from gesso.chain.arbiter import Arbiter, Filing
from gesso.chain.rpc import Header
from gesso_node.auditing.case import Case, Revealed
from gesso_node.auditing.record import AuditRecords
from gesso_node.state.journal import Journal
from gesso_protocol.audit.disputes import DisputePhase
from gesso_protocol.audit.lifecycle import AuditPhase
from gesso_protocol.audit.outcomes import AuditOutcome
from gesso_protocol.ids import Address, TaskId
from gesso_protocol.lifecycle import TaskRecord, TaskState
from gesso_protocol.terms import Terms

log = structlog.get_logger("gesso.node.auditing")

LOOKBACK_BLOCKS = 200
MAX_TRAIL_BLOCKS = 50_000
"""A task that is not over after so many blocks is not read again after a restart."""
SAVE_EVERY_BLOCKS = 10
MAX_PAGES = 50
MAX_TASKS = 20_000
WEIGHTS_EVERY_S = 15
ASK_EVERY_S = 5
"""A case that we have a part in is asked about at least so often, in case an event was missed."""
NOTE = "audit-cursor"
_OURS = {1: "auditor-fee", 2: "juror-fee", 3: "bond-back", 4: "compensation", 6: "surplus"}
_ENDINGS = (on_chain.TaskSettled, on_chain.TaskCancelled, on_chain.TaskExpired)


class Watch:
    """Keeps every open case true."""

    def __init__(self, chain: Chain, arbiter: Arbiter, journal: Journal, records: AuditRecords, me: Address) -> None:
        self.cases: dict[TaskId, Case] = {}
        self.weights = (0, 0)
        """Sortition weight of this node, and of all active nodes together."""
        self._chain = chain
        self._arbiter = arbiter
        self._journal = journal
        self._records = records
        self._me = me
        self._terms: dict[TaskId, tuple[Terms, int]] = {}
        self._claimed: dict[TaskId, int] = {}
        self._uncommitted: dict[TaskId, Case] = {}
        self._over: dict[TaskId, tuple[Case, int]] = {}
        self._passed: dict[Address, int] = {}
        self._seeds: dict[int, bytes] = {}
        self._cursor = Cursor.before(0)
        self._saved = -1
        self._weights_at: int | None = None

    @property
    def block(self) -> int:
        """The last block that was read."""
        return self._cursor.block

    async def restore(self) -> None:
        """Where reading goes on after a start. Raises Unreachable."""
        stored = await self._journal.note(NOTE)
        try:
            self._cursor = Cursor.model_validate_json(stored or "")
        except ValidationError:
            self._cursor = Cursor.before(max(0, await self._chain.block_number() - LOOKBACK_BLOCKS))
        self._saved = self._cursor.block
        await self._records.undo_money(self._cursor.block)  # it is read again, perhaps from another fork

    async def pull(self, now: int, head: Header | None = None) -> None:
        """Take in all new events, as far as `head` where it is known. Raises Unreachable, ChainError."""
        for _ in range(MAX_PAGES):
            page = await self._chain.read_page(self._cursor, head)
            if page is None:
                break
            await self._take(page, now)
            if head is not None and self._cursor.block >= head.number:
                break
        if self._weights_at is None or now >= self._weights_at + WEIGHTS_EVERY_S:
            self.weights = (await self._chain.weight_of(self._me), await self._chain.total_weight())
            self._weights_at = now
        self._forget_over()
        await self._save()

    async def refresh(self, case: Case, now: int) -> None:
        """Ask the chain about one case, if anything may have changed. Raises Unreachable, ChainError."""
        if case.stale or (self._is_ours(case) and now >= case.asked_at + ASK_EVERY_S):
            case.stale, case.asked_at = False, now
            await self._ask(case)
        if case.seed is None and now >= case.round_starts:
            case.seed = await self.seed(case.round)
        if case.disputed and case.jury_seed is None and now >= case.jury_starts:
            assert case.dispute is not None
            case.jury_seed = await self.seed(case.dispute.round)

    async def passed(self, node: Address) -> int:
        """Audits that a node has passed since its last setback."""
        if node not in self._passed:
            if len(self._passed) > MAX_TASKS:
                self._passed.clear()
            self._passed[node] = await self._arbiter.passed_of(node)
        return self._passed[node]

    async def seed(self, round_: int) -> bytes | None:
        """What a beacon round yielded; remembered once it is known."""
        if round_ not in self._seeds:
            seed = await self._arbiter.seed_of(round_)
            if seed is None:
                return None
            if len(self._seeds) > MAX_TASKS:
                self._seeds.clear()
            self._seeds[round_] = seed
        return self._seeds[round_]

    def drop(self, case: Case) -> None:
        """The task is over, and so is our part in it, unless the blocks that ended it are taken back."""
        self.cases.pop(case.task, None)
        self._over[case.task] = (case, self.block)

    def _forget_over(self) -> None:
        """What has been over for long enough comes back no more."""
        for task, (_, block) in list(self._over.items()):
            if block + LOOKBACK_BLOCKS < self.block or len(self._over) > MAX_TASKS:
                del self._over[task]
                self._forget(task)

    def _forget(self, task: TaskId) -> None:
        self._terms.pop(task, None)
        self._claimed.pop(task, None)

    async def _ask(self, case: Case) -> None:
        case.record = await self._chain.task(case.task)
        if case.record.state is not TaskState.HELD and case.audit is None:
            return
        case.audit = await self._arbiter.audit(case.task)
        if case.audit.phase is AuditPhase.NONE:
            case.audit = None
            return
        if case.audit.phase is AuditPhase.DISPUTED:
            await self._ask_dispute(case)

    async def _ask_dispute(self, case: Case) -> None:
        known = case.dispute
        case.dispute = found = await self._arbiter.dispute(case.task)
        if known is None or known.round != found.round:
            case.jury_starts = (await self._arbiter.clock()).start_of(found.round)
            case.jury_seed, case.jury_poked_at, case.ballots = None, None, ()
        if found.phase is not DisputePhase.VOTING and known is not None and known.phase is found.phase:
            return
        case.jurors = await self._arbiter.jurors(case.task, found.level)
        if found.level:
            case.before = await self._arbiter.jurors(case.task, 0)
        if self._me in case.jurors and (await self._arbiter.ballot(case.task, found.level, self._me))[1]:
            case.ballots = (self._me,)

    def _is_ours(self, case: Case) -> bool:
        return case.entry is not None or bool(case.votes) or case.filing.node == self._me

    async def _take(self, page: Page, now: int) -> None:
        if page.reorged_to is not None:
            log.warning("auditing.reorg", to_block=page.reorged_to)
            await self._undo(page.reorged_to)
        for event in page.events:
            await self._apply(event, now)
        self._cursor = page.cursor

    async def _undo(self, to_block: int) -> None:
        """Blocks were taken back: seeds, seats and verdicts from them did not happen."""
        await self._records.undo_money(to_block)
        self._seeds.clear()
        self._passed.clear()
        self._weights_at = None
        for case, ended in list(self._over.values()):
            if ended > to_block:
                self.cases[case.task] = self._over.pop(case.task)[0]
        for case in list(self.cases.values()):
            case.undo()
            if case.block > to_block:
                self._uncommitted[case.task] = self.cases.pop(case.task)  # until its commit is back, perhaps another
        while len(self._uncommitted) > MAX_TASKS:
            self._uncommitted.pop(next(iter(self._uncommitted)))

    async def _apply(self, event: on_chain.ContractEvent, now: int) -> None:
        if isinstance(event, on_chain.TaskSubmitted):
            if len(self._terms) < MAX_TASKS:
                self._terms[event.task] = (event.terms, event.block)
        elif isinstance(event, on_chain.TaskClaimed):
            known = self._terms.get(event.task)
            if known is not None:
                self._claimed[event.task] = event.commit_by - known[0].commit_window_s
        elif isinstance(event, on_chain.TaskCommitted):
            await self._committed(event, now)
        elif isinstance(event, on_chain.WEIGHT_EVENTS):
            self._weights_at = None
        elif isinstance(event, told.Credited | told.AuditorPenalised | told.JurorPenalised):
            await self._money(event)
        if isinstance(event, _ENDINGS) and event.task not in self.cases and event.task not in self._over:
            self._forget(event.task)
        if isinstance(event, told.AuditClosed | told.DisputeExecuted):
            self._passed.clear()
        task = getattr(event, "task", None)
        case = self.cases.get(task) if isinstance(task, TaskId) else None
        if case is not None:
            if isinstance(event, told.AuditClosed):
                case.closed = event.outcome is not AuditOutcome.DISPUTED
            if isinstance(event, told.AuditRevealed):
                case.revealed[event.auditor] = Revealed(event.verdict, event.evidence, event.projection)
            case.touch()

    async def _committed(self, event: on_chain.TaskCommitted, now: int) -> None:
        known = self._terms.get(event.task)
        if known is None or event.task in self.cases or event.task in self._over or len(self.cases) >= MAX_TASKS:
            return
        at = event.settle_after - (await self._chain.params()).challenge_window_s
        clock = await self._arbiter.clock()
        round_ = clock.round_at(at) + 1
        case = Case(
            task=event.task,
            filing=Filing(known[0], event.node, event.result_root, event.trace_root),
            committed_at=at,
            block=event.block,
            heard_at=now,
            round=round_,
            round_starts=clock.start_of(round_),
            record=TaskRecord(event.task, TaskState.COMMITTED, event.node, at),
            claimed_at=self._claimed.get(event.task),
        )
        known_case = self._uncommitted.pop(event.task, None)
        if known_case is not None:
            known_case.committed_again(case)
        self.cases[event.task] = known_case or case

    async def _money(self, event: told.Credited | told.AuditorPenalised | told.JurorPenalised) -> None:
        place = (event.block_hash, event.log_index, event.block)
        if isinstance(event, told.Credited):
            if event.account == self._me and event.reason in _OURS:
                await self._records.money(place, _OURS[event.reason], event.amount)
        elif isinstance(event, told.AuditorPenalised):
            if event.auditor == self._me:
                await self._records.money(place, "auditor-penalty", event.amount)
        elif event.juror == self._me:
            await self._records.money(place, "juror-penalty", event.amount)

    async def _save(self) -> None:
        if self._cursor.block < self._saved + SAVE_EVERY_BLOCKS:
            return
        oldest = min((block for _, block in self._terms.values()), default=self._cursor.block + 1)
        behind = max(min(self._cursor.block, oldest - 1), self._cursor.block - MAX_TRAIL_BLOCKS)
        trail = tuple(known for known in self._cursor.trail if known.block <= behind)
        kept = Cursor(block=behind, trail=trail)
        await self._journal.set_note(NOTE, kept.model_dump_json())
        self._saved = self._cursor.block
