"""A model of the arbiter in a page of Python: what it allows, second by second. The rules are driven through it.

It knows no money: it is the state machine of audits and disputes with its windows, and refuses what the contract would.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gesso_protocol.audit.challenge import challenge, jury_entropy, picked, seat_at
from gesso_protocol.audit.disputes import DisputePhase, DisputeView
from gesso_protocol.audit.lifecycle import AuditPhase, AuditView
from gesso_protocol.audit.outcomes import AuditVerdict, Ballot, DisputeOutcome, Vote, first_outcome, second_outcome
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import Address, BlobRef, Root, TaskId
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.money import Wei
from gesso_protocol.terms import AuditMode, Terms

START = 1_000_000
PERIOD = 10
CHALLENGE_WINDOW = 60
RULES = AuditRules(
    audit_step_s=4, audit_commit_window_s=80, audit_reveal_window_s=20, jurors=3, quorum=2, appeal_jurors=5,
    appeal_quorum=3, jury_step_s=4, vote_commit_window_s=40, vote_reveal_window_s=20, appeal_window_s=15,
)  # fmt: skip


def wallet(number: int) -> Address:
    return Address.from_bytes(keccak256(b"wallet %d" % number)[:20])


NODE, REQUESTER = wallet(1000), wallet(1001)


class Reverted(Exception):  # noqa: N818 - the word that contracts use
    """The arbiter refused."""


def require(holds: bool) -> None:
    if not holds:
        raise Reverted


@dataclass
class Dispute:
    level: int
    opened_at: int
    phase: DisputePhase = DisputePhase.VOTING
    outcome: DisputeOutcome = DisputeOutcome.NONE
    jurors: list[Address] = field(default_factory=list)
    before: tuple[Address, ...] = ()
    votes: dict[Address, int] = field(default_factory=dict)
    appeal_by: int = 0
    filled_at: int | None = None


@dataclass
class Court:
    """One committed task, its audit and its dispute. `now` is moved by the test."""

    seed_number: int = 0
    mode: AuditMode = AuditMode.ALWAYS
    now: int = START
    state: TaskState = TaskState.COMMITTED
    weights: dict[Address, int] = field(default_factory=dict)
    poked: set[int] = field(default_factory=set)
    phase: AuditPhase = AuditPhase.NONE
    auditors: list[Address] = field(default_factory=list)
    verdicts: dict[Address, int] = field(default_factory=dict)
    filled_at: int | None = None
    dispute: Dispute | None = None
    task: TaskId = TaskId(keccak256(b"task"))  # noqa: RUF009 - immutable

    def __post_init__(self) -> None:
        self.terms = Terms(requester=REQUESTER, fee=Wei(1), spec=BlobRef(bytes(32)), claim_window_s=60,
                           commit_window_s=60, nonce=self.seed_number, audit=self.mode)  # fmt: skip

    # beacon
    def round_of(self, since: int) -> int:
        return since // PERIOD + 1

    def seed(self, round_: int) -> bytes | None:
        return keccak256(b"seed %d %d" % (self.seed_number, round_)) if round_ in self.poked else None

    def poke(self, round_: int) -> None:
        require(self.now >= round_ * PERIOD)
        self.poked.add(round_)

    # audits
    def view(self) -> AuditView:
        round_ = self.round_of(START)
        return AuditView(
            task_id=self.task, terms=self.terms, node=NODE, result_root=Root(bytes(32)), trace_root=Root(bytes(32)),
            state=self.state, committed_at=START, challenge_window_s=CHALLENGE_WINDOW, rules=RULES, round=round_,
            round_starts=round_ * PERIOD, seed=self.seed(round_), phase=self.phase, auditors=tuple(self.auditors),
            verdicts=tuple(self.verdicts.get(one, 0) for one in self.auditors),
            commit_by=self.commit_by, reveal_by=self.reveal_by,
        )  # fmt: skip

    @property
    def unopened(self) -> bool:
        """Nobody opened an audit in time: the task is the board's alone again."""
        return self.phase is AuditPhase.NONE and self.now >= START + CHALLENGE_WINDOW

    @property
    def commit_by(self) -> int:
        return self.round_of(START) * PERIOD + RULES.audit_commit_window_s

    @property
    def reveal_by(self) -> int:
        return self.commit_by + RULES.audit_reveal_window_s

    def commit_audit(self, who: Address) -> None:
        view = self.view()
        require(view.seed is not None and self.state in (TaskState.COMMITTED, TaskState.HELD))
        assert view.seed is not None
        drawn = challenge(view.seed, self.task, Root(bytes(32)), Root(bytes(32)))
        if self.phase is AuditPhase.NONE:
            require(self.now < START + CHALLENGE_WINDOW and picked(drawn, self.mode, 1, 0, RULES))
        else:
            require(self.phase is AuditPhase.OPEN and self.now <= self.commit_by)
        require(who not in (NODE, REQUESTER, *self.auditors) and len(self.auditors) < RULES.auditor_seats)
        since = seat_at(drawn, self.task, who, self.weights[who], sum(self.weights.values()), RULES.auditor_seats,
                        RULES.audit_step_s)  # fmt: skip
        require(since is not None and self.now >= view.round_starts + since)
        if self.phase is AuditPhase.NONE:
            self.phase, self.state = AuditPhase.OPEN, TaskState.HELD
        self.auditors.append(who)
        if len(self.auditors) == RULES.auditor_seats:
            self.filled_at = self.now

    def reveal_audit(self, who: Address, verdict: AuditVerdict) -> None:
        require(self.phase is AuditPhase.OPEN and who in self.auditors and who not in self.verdicts)
        require(self.filled_at is not None or self.now > self.commit_by)
        self.verdicts[who] = int(verdict)
        if len(self.verdicts) == len(self.auditors) and not self.contested:
            self._finish()

    def close_audit(self) -> None:
        require(self.phase is AuditPhase.OPEN)
        require(self.now > self.reveal_by or len(self.verdicts) == len(self.auditors))
        self._finish()

    @property
    def contested(self) -> bool:
        return any(verdict != AuditVerdict.PASS for verdict in self.verdicts.values())

    def _finish(self) -> None:
        if self.contested:
            self.phase, self.dispute = AuditPhase.DISPUTED, Dispute(0, self.now)
        else:
            self.phase, self.state = AuditPhase.CLOSED, TaskState.SETTLED

    # disputes
    def trial(self) -> DisputeView:
        dispute = self.dispute
        assert dispute is not None
        round_ = self.round_of(dispute.opened_at)
        return DisputeView(
            task_id=self.task, terms=self.terms, node=NODE, rules=RULES, phase=dispute.phase, level=dispute.level,
            round=round_, round_starts=round_ * PERIOD, seed=self.seed(round_), outcome=dispute.outcome,
            auditors=tuple(self.auditors), jurors=tuple(dispute.jurors), revealed=tuple(dispute.votes),
            before=dispute.before, commit_by=self.vote_by, reveal_by=self.votes_revealed_by,
            appeal_by=dispute.appeal_by,
        )  # fmt: skip

    @property
    def vote_by(self) -> int:
        assert self.dispute is not None
        return self.round_of(self.dispute.opened_at) * PERIOD + RULES.vote_commit_window_s

    @property
    def votes_revealed_by(self) -> int:
        assert self.dispute is not None
        filled = self.dispute.filled_at
        return (self.vote_by if filled is None else filled) + RULES.vote_reveal_window_s

    def commit_vote(self, who: Address) -> None:
        view = self.trial()
        require(view.phase is DisputePhase.VOTING and view.seed is not None and self.now <= self.vote_by)
        require(who not in (NODE, REQUESTER, *self.auditors, *view.jurors) and not view.full)
        assert view.seed is not None
        entropy, total = jury_entropy(view.seed, self.task, view.level), sum(self.weights.values())
        since = seat_at(entropy, self.task, who, self.weights[who], total, RULES.seats(view.level), RULES.jury_step_s)
        require(since is not None and self.now >= view.round_starts + since)
        require(who not in view.before or self.now > self.vote_by - RULES.vote_commit_window_s // 2)
        assert self.dispute is not None
        self.dispute.jurors.append(who)
        if len(self.dispute.jurors) == RULES.seats(view.level):
            self.dispute.filled_at = self.now

    def reveal_vote(self, who: Address, vote: Vote) -> None:
        view = self.trial()
        require(view.phase is DisputePhase.VOTING and who in view.jurors and who not in view.revealed)
        require(view.committed(self.now) and self.now <= self.votes_revealed_by)
        assert self.dispute is not None
        self.dispute.votes[who] = vote.code

    def tally(self) -> None:
        require(self.trial().phase is DisputePhase.VOTING and self.trial().countable(self.now))
        assert self.dispute is not None
        ballots = [Vote.of(code).ballot for code in self.dispute.votes.values()]
        quorum = RULES.appeal_quorum if self.dispute.level else RULES.quorum
        accusers = sum(verdict != AuditVerdict.PASS for verdict in self.verdicts.values())
        good, bad = ballots.count(Ballot.GOOD), ballots.count(Ballot.BAD)
        if self.dispute.level:
            outcome = second_outcome(self.dispute.outcome, good=good, bad=bad, quorum=quorum)
        else:
            outcome = first_outcome(good=good, bad=bad, revealed=len(ballots), quorum=quorum, accusers=accusers)
        self.dispute.outcome = outcome
        self.dispute.phase = DisputePhase.TALLIED
        final = self.dispute.level or outcome is DisputeOutcome.UNHEARD
        self.dispute.appeal_by = 0 if final else self.now + RULES.appeal_window_s

    def appeal(self) -> None:
        assert self.dispute is not None
        require(self.dispute.phase is DisputePhase.TALLIED and self.dispute.level == 0)
        require(self.now <= self.dispute.appeal_by)
        before, outcome = tuple(self.dispute.jurors), self.dispute.outcome
        self.dispute = Dispute(1, self.now, before=before, outcome=outcome)

    def execute(self) -> None:
        assert self.dispute is not None
        require(self.dispute.phase is DisputePhase.TALLIED and self.now > self.dispute.appeal_by)
        self.dispute.phase, self.phase = DisputePhase.EXECUTED, AuditPhase.CLOSED
        self.state = TaskState.SETTLED if self.dispute.outcome.pays_node else TaskState.EXPIRED
