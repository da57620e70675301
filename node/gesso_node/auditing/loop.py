"""The loop of audits and disputes: watch, decide with pure rules, do at most one thing a case, write it down first.

It is a loop of its own beside that of tasks, so that neither can hold the other up; `once(now)` is its whole body.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from anyio.abc import TaskGroup

from gesso.chain import Chain
from gesso.chain.arbiter import Arbiter
from gesso.chain.rpc import Header
from gesso_node.auditing.ask import NotOpenedError
from gesso_node.auditing.auditor import Auditor
from gesso_node.auditing.case import LOOKING, UNABLE, Case
from gesso_node.auditing.juror import Juror
from gesso_node.auditing.kept import Kept
from gesso_node.auditing.nothing import NothingWork
from gesso_node.auditing.record import AuditRecords
from gesso_node.auditing.rests import RESTING
from gesso_node.auditing.reveals import spare_s
from gesso_node.auditing.sending import Sending
from gesso_node.auditing.silence import fair_s
from gesso_node.auditing.watch import Watch
from gesso_node.auditing.work import Work
from gesso_node.auditing.works import SpecAwayError, TooManyCasesError, Works
from gesso_node.state.passes import Passes
from gesso_protocol.audit import disputes, lifecycle
from gesso_protocol.audit.disputes import DisputeView, may_appeal
from gesso_protocol.audit.lifecycle import AuditView, LeaveWhy
from gesso_protocol.audit.outcomes import AuditVerdict, Ballot, DisputeOutcome
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.errors import GessoError
from gesso_protocol.hashing import keccak256, word
from gesso_protocol.ids import Address
from gesso_protocol.lifecycle import Patience, TaskState, Wait
from gesso_protocol.money import Wei
from gesso_protocol.spec import Spec

log = structlog.get_logger("gesso.node.auditing")

MAX_POKE_SPREAD_S = 10
"""Watchers make the beacon speak one after the other within half a round, or so many seconds."""
LATE_S = 10
"""Longer than any window that nobody closed: then whoever watches closes it."""
LATE_SPREAD_S = 8
WITHDRAW_EVERY_S = 60
CROWDED_S = 15
"""When a case that found no room is looked at again."""
BEGIN_S = 600
"""What a training may take before its first update: base and data set fetched, loaded, and its pictures read."""
_LOOKING = LOOKING | {"read"}


class Auditing:
    """Owns all cases while the node runs. `tasks` is where its background work lives."""

    def __init__(
        self,
        *,
        chain: Chain,
        arbiter: Arbiter,
        records: AuditRecords,
        watch: Watch,
        auditor: Auditor,
        juror: Juror,
        works: Works,
        sending: Callable[[Callable[[Case, str, Callable[[], Awaitable[None]]], None]], Sending],
        tasks: TaskGroup,
        me: Address,
        patience: Patience,
        seats: bool,
        appeal: bool,
        withdraw_at: Wei,
        occupied: Callable[[Spec, int, int], bool] = lambda *_: False,
    ) -> None:
        """`occupied`: a training of ours has no time to make way for a seat in the case of a task of this spec, at a
        chain second, beside so many other seats: then none is taken."""
        self._chain = chain
        self._arbiter = arbiter
        self._watch = watch
        self._auditor = auditor
        self._juror = juror
        self._sending = sending(self._start)
        self._works = works
        self._tasks = tasks
        self._me = me
        self._patience = patience
        self._seats = seats
        self._appeal = appeal
        self._withdraw_at = withdraw_at
        self._occupied = occupied
        self._withdrawn_at = 0
        self._passes = Passes("auditing")
        self._kept = Kept(records)

    def engaged(self, now: int) -> bool:
        """Whether an audit of ours needs the executor before a training that is begun now could make way for it."""
        return any(case.busy & LOOKING or case.judge_by < now + BEGIN_S for case in self._engaging())

    def _engaging(self) -> list[Case]:
        return [case for case in self._watch.cases.values() if case.engages(self._me)]

    def _is_occupied(self, case: Case, work: Work[Any, Any], now: int) -> bool:
        seats = sum(other is not case for other in self._engaging())
        return self._occupied(work.spec, now, seats)

    # The loop

    async def restore(self) -> None:
        """After a start: where reading goes on. What we had sealed comes with its case. Raises Unreachable."""
        await self._watch.restore()

    async def forever(self, tick_s: float) -> None:
        """Until cancelled. An endpoint that is away, or a full disk, only slows it down."""

        async def one_pass() -> int:
            head = await self._chain.head()
            await self.once(head.timestamp, head)
            return self._watch.block

        await self._passes.forever(one_pass, tick_s)

    async def once(self, now: int, head: Header | None = None) -> None:
        """One pass at chain second `now`, which is that of `head`. Raises Unreachable, ChainError; a pass that failed
        is simply done again."""
        await self._watch.pull(now, head)
        for case in list(self._watch.cases.values()):
            if case.not_before <= now and not case.left:
                await self._step(case, now)
        await self._withdraw(now)

    async def quiesce(self) -> None:
        """Wait until nothing is being done in the background. For tests."""
        while any(case.busy for case in self._watch.cases.values()):
            self._passes.rearm()
            await self._passes.wait()

    # Deciding

    async def _step(self, case: Case, now: int) -> None:
        await self._watch.refresh(case, now)
        rules = await self._arbiter.rules()
        window = (await self._chain.params()).challenge_window_s
        view = case.audit_view(rules, window, await self._watch.passed(case.filing.node))
        await self._kept.attach(case, view.challenge)
        if case.drawn is None and self._me in view.auditors:
            case.not_before = now + 1  # a seat without a seed: the endpoint is behind itself; our seal comes with it
            return
        case.judge_by = _judge_by(view)
        keeper = self._is_keeper(case, rules, now)
        if case.disputed and not case.record.state.terminal:
            await self._dispute(case, view, keeper, now)
            return
        memory = case.audit_memory(self._me, self._weights(), self._patience, keeper=keeper)
        action = lifecycle.next_audit_action(view, memory, now)
        if not isinstance(action, lifecycle.Leave):
            await self._kept.reopen(case)
        match action:
            case Wait(until):
                case.not_before = until
            case lifecycle.Poke(round_):
                case.poked_at = await self._poke(case, round_, case.round_starts, case.poked_at, now)
            case lifecycle.Inspect():
                await self._inspect(case, view, now)
            case lifecycle.CommitAudit():
                await self._sending.commit_audit(case, now)
            case lifecycle.Judge():
                await self._judge(case, view, now)
            case lifecycle.RevealAudit(verdict):
                spare = spare_s(view.rules.audit_reveal_window_s, view.reveal_by - now)
                await self._sending.reveal_audit(case, verdict, now, spare=spare)
            case lifecycle.CloseAudit():
                await self._sending.close_audit(case, now)
            case lifecycle.Leave(why):
                await self._leave(case, why, rules, now)

    async def _dispute(self, case: Case, view: AuditView, keeper: bool, now: int) -> None:
        dispute = case.dispute_view(view.rules)
        if case.seed is None and now >= case.round_starts:
            # The requester was quicker than the beacon; jurors need the audit's own draw too.
            case.poked_at = await self._poke(case, case.round, case.round_starts, case.poked_at, now)
            return
        wants = await self._wants_appeal(case, dispute, view, now)
        memory = case.juror_memory(self._me, self._weights(), self._patience, keeper=keeper, appeal=wants)
        action = disputes.next_juror_action(dispute, memory, now)
        if not isinstance(action, lifecycle.Leave):
            await self._kept.reopen(case)
        match action:
            case Wait(until):
                case.not_before = until
            case lifecycle.Poke(round_):
                case.jury_poked_at = await self._poke(case, round_, case.jury_starts, case.jury_poked_at, now)
            case disputes.Review():
                await self._review(case, view, dispute.commit_by, now)
            case disputes.CommitVote():
                await self._sending.commit_vote(case, now)
            case disputes.RevealVote():
                await self._sending.reveal_vote(case, now)
            case disputes.Tally():
                await self._sending.tally(case, await self._kept.vote(case, now), now)
            case disputes.Appeal():
                await self._sending.appeal(case, await self._kept.vote(case, now), now)
            case disputes.ExecuteDispute():
                await self._sending.execute(case, await self._kept.vote(case, now), now)
            case lifecycle.Leave(why):
                await self._leave(case, why, view.rules, now)

    def _weights(self) -> tuple[int, int]:
        """A node that does not audit draws with no weight; it still moves its own tasks on."""
        mine, total = self._watch.weights
        return (mine if self._seats else 0, total)

    def _is_keeper(self, case: Case, rules: AuditRules, now: int) -> bool:
        """Parties move things on; others only when nobody did for a while."""
        if case.filing.node == self._me or (case.entry is not None and case.entry.commit_sent_at is not None):
            return True
        if case.record.state is not TaskState.HELD:
            return False
        return now >= self._late(case, rules)

    def _late(self, case: Case, rules: AuditRules) -> int:
        over = case.round_starts + rules.audit_commit_window_s + rules.audit_reveal_window_s
        if case.dispute is not None:
            over = max(case.dispute.reveal_by, case.dispute.appeal_by)
        spread = int.from_bytes(keccak256(case.task.value + word(int(self._me, 16)))[-2:], "big") % LATE_SPREAD_S
        return over + LATE_S + spread

    async def _leave(self, case: Case, why: LeaveWhy, rules: AuditRules, now: int) -> None:
        over = why is LeaveWhy.OVER and case.record.state.terminal
        if over or why is LeaveWhy.NOT_ON_CHAIN:
            await self._end(case, str(why), now)
            self._watch.drop(case)
            return
        if case.record.state is TaskState.HELD and now < self._late(case, rules):
            case.not_before = self._late(case, rules)
            return
        case.left = str(why)
        await self._kept.left(case, str(why), now)

    async def _end(self, case: Case, why: str, now: int) -> None:
        await self._kept.over(case, why, now)
        self._auditor.forget(case.task)
        await self._works.over(case.task)

    # Doing

    async def _inspect(self, case: Case, view: AuditView, now: int) -> None:
        work = await self._work(case, view)
        if work is None or isinstance(work, NothingWork):
            case.left = UNABLE if not case.not_before > now else ""
            return
        if self._is_occupied(case, work, now):
            case.not_before = now + 1  # what we cannot run in time we must not seal; until the seats are closed, we may
            return
        if not await self._auditor.takes(work):
            case.left = RESTING
            return
        await self._kept.audit(case, work.challenge, now)
        window = view.seats_by - view.round_starts
        by, fair = view.seats_by - max(2, window // 4), fair_s(window)
        self._start(case, "inspect", lambda: self._auditor.prepare(case, work, by=by, fair=fair))

    async def _judge(self, case: Case, view: AuditView, now: int) -> None:
        if not view.full and now <= view.commit_by:
            case.not_before = min(view.commit_by + 1, now + 2)
            return
        by, until, fair = _judge_by(view), _judge_until(view), fair_s(view.rules.audit_reveal_window_s)
        work = await self._work(case, view)
        if work is not None:
            self._start(case, "judge", lambda: self._auditor.judge(case, work, by=by, until=until, fair=fair))
        elif now >= until:
            await self._auditor.abstain(case, "its spec or its model cannot be had any more")

    async def _review(self, case: Case, view: AuditView, commit_by: int, now: int) -> None:
        work = await self._work(case, view)
        if work is None:
            if not self._works.known(case):
                await self._abstain(case, now)
            return
        if case.level not in case.votes and self._is_occupied(case, work, now):
            case.not_before = now + 1  # another juror can look; a seat of ours would hold nothing but "cannot tell"
            return
        await self._kept.vote(case, now)
        window = view.rules.vote_commit_window_s
        by, fair = commit_by - max(3, window // 3), fair_s(window)
        self._start(case, "review", lambda: self._juror.review(case, work, by=by, fair=fair))

    async def _abstain(self, case: Case, now: int) -> None:
        """Work that no juror can run again. Leaving the seat would leave it to whoever lies."""
        await self._juror.abstain(case, await self._kept.vote(case, now), "jurors cannot run this kind of task again")

    async def _wants_appeal(self, case: Case, dispute: DisputeView, view: AuditView, now: int) -> bool:
        """Whether we lost, and our own strict re-run says that the jury was wrong."""
        said = case.revealed.get(self._me)
        flagged = said is not None and said.verdict is not AuditVerdict.PASS
        # A jury that could not tell will hardly be followed by one that can, and it costs three bonds to ask.
        if not self._appeal or not dispute.outcome.by_quorum:
            return False
        if not may_appeal(dispute, self._me, flagged, now):
            return False
        entry, ours = case.votes.get(0), case.filing.node == self._me
        if entry is None or entry.vote is None:
            if entry is not None and (entry.closed == UNABLE or entry.failures >= self._patience.attempts):
                return ours
            work = await self._work(case, view)
            if work is not None:
                await self._kept.vote(case, now)
                by, fair = dispute.appeal_by, fair_s(view.rules.appeal_window_s)
                self._start(case, "review", lambda: self._juror.review(case, work, by=by, fair=fair))
            return False
        if ours:
            # We ran it. Where strict arithmetic of ours cannot tell, a jury that says it could is somebody's own.
            return entry.vote.ballot is not Ballot.BAD
        right = Ballot.GOOD if dispute.outcome is DisputeOutcome.GUILTY else Ballot.BAD
        return entry.vote.ballot is right

    async def _poke(self, case: Case, round_: int, starts: int, sent_at: int | None, now: int) -> int | None:
        mark = keccak256(word(round_) + word(int(self._me, 16)))[-1]
        clock = await self._arbiter.clock()
        spread_s = min(clock.period_s // 2, MAX_POKE_SPREAD_S)
        turn = starts + clock.lag_s + mark % (spread_s + 1)
        if now < turn:
            case.not_before = turn
            return sent_at
        if await self._arbiter.is_drand():
            self._sending.listen(case, round_, now)
            return None
        self._sending.resolve(case, round_, now)
        return now

    async def _work(self, case: Case, view: AuditView) -> Work[Any, Any] | None:
        """What we look at; None for a task that cannot be re-run here, or whose spec cannot be read yet."""
        try:
            return await self._works.of(case, view)
        except SpecAwayError:
            case.not_before = await self._chain.now() + 1
            self._start(case, "read", lambda: self._works.bring_spec(case))
            return None
        except TooManyCasesError:
            case.not_before = await self._chain.now() + CROWDED_S
            return None

    async def _withdraw(self, now: int) -> None:
        if not self._withdraw_at or now < self._withdrawn_at + WITHDRAW_EVERY_S:
            return
        self._withdrawn_at = now
        credit = await self._arbiter.credit_of(self._me)
        if credit >= self._withdraw_at:
            try:
                await self._arbiter.withdraw()
                log.info("auditing.withdrawn", amount=str(credit))
            except GessoError as error:
                log.warning("auditing.withdraw-failed", code=error.code, reason=error.message)

    # Background

    def _start(self, case: Case, verb: str, step: Callable[[], Awaitable[None]]) -> None:
        if verb in case.busy:
            return
        case.busy.add(verb)
        self._tasks.start_soon(self._background, case, verb, step)

    async def _background(self, case: Case, verb: str, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
            if verb in _LOOKING:
                case.not_before = 0
        except NotOpenedError as error:
            log.info("auditing.not-opened", task=case.task.short, verb=verb, reason=error.message)
            case.not_before = await self._later()
        except GessoError as error:
            log.warning("auditing.step-failed", task=case.task.short, verb=verb, code=error.code, reason=error.message)
            case.not_before = await self._later()
        except Exception as error:
            # What is looked at was made by a stranger: a comparison that none of us foresaw must not end the node.
            log.exception("auditing.step-broke", task=case.task.short, verb=verb, kind=type(error).__name__)
            case.not_before = await self._later()
        finally:
            case.busy.discard(verb)
            self._passes.wake()

    async def _later(self) -> int:
        try:
            return await self._chain.now() + 1
        except GessoError:
            return 0


def _judge_by(view: AuditView) -> int:
    return view.reveal_by - max(3, view.rules.audit_reveal_window_s // 3)


def _judge_until(view: AuditView) -> int:
    """The rest of the window is the reveal's own. A node that opens at the last moment leaves us as much as that."""
    return view.reveal_by - max(2, view.rules.audit_reveal_window_s // 6)
