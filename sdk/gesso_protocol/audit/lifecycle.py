"""What to do next about an audit, for auditors, for the node that is audited, and for whoever keeps things moving.

Pure and total like `gesso_protocol.lifecycle`: `now` is the chain's time in seconds, asking twice is harmless, and the
journal is written before anything is sent. Disputes have their own function in `disputes.py`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from gesso_protocol.audit.challenge import challenge, picked, seat_at
from gesso_protocol.audit.outcomes import AuditVerdict
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.ids import Address, Root, TaskId
from gesso_protocol.lifecycle import Patience, TaskState, Wait
from gesso_protocol.terms import Terms


class AuditPhase(enum.IntEnum):
    """Where an audit stands; the arbiter's numbers."""

    NONE = 0
    OPEN = 1
    DISPUTED = 2
    CLOSED = 3


@dataclass(frozen=True)
class AuditView:
    """What the chain says about a committed task and its audit. `verdicts` stand beside `auditors`, 0 for none yet.

    `round` is beacon.roundAt(committed_at) + 1, `round_starts` its first second, `seed` what it yielded if it has.
    `commit_by` and `reveal_by` are the last seconds of their windows and have a meaning while the audit is open.
    """

    task_id: TaskId
    terms: Terms
    node: Address
    result_root: Root
    trace_root: Root
    state: TaskState
    committed_at: int
    challenge_window_s: int
    rules: AuditRules
    round: int
    round_starts: int
    seed: bytes | None = None
    passed: int = 0
    phase: AuditPhase = AuditPhase.NONE
    auditors: tuple[Address, ...] = ()
    verdicts: tuple[int, ...] = ()
    commit_by: int = 0
    reveal_by: int = 0

    @property
    def challenge(self) -> bytes | None:
        """The 32 bytes from which all is drawn; None until the beacon has spoken."""
        if self.seed is None:
            return None
        return challenge(self.seed, self.task_id, self.result_root, self.trace_root)

    @property
    def picked(self) -> bool | None:
        """Whether the beacon picked the task; None until it has spoken."""
        drawn = self.challenge
        return None if drawn is None else picked(drawn, self.terms.audit, self.terms.fee, self.passed, self.rules)

    @property
    def seats_by(self) -> int:
        """Last second in which a seat can be taken."""
        if self.phase is AuditPhase.OPEN:
            return self.commit_by
        return self.committed_at + self.challenge_window_s - 1

    @property
    def full(self) -> bool:
        """Whether every seat is taken."""
        return len(self.auditors) >= self.rules.auditor_seats

    @property
    def told(self) -> bool:
        """Whether every auditor has revealed. Open all the same, an audit is contested and waits to be closed."""
        return bool(self.auditors) and all(self.verdicts)

    def revealed(self, auditor: Address) -> bool:
        """Whether this auditor has revealed."""
        return any(who == auditor and verdict for who, verdict in zip(self.auditors, self.verdicts, strict=False))


@dataclass(frozen=True)
class AuditMemory:
    """What a node's journal says about one audit. Times are chain seconds; each is written before what it stands for.

    `sealed`: projection and salt are in the journal (without them a seat is lost). `verdict`: what will be revealed.
    `keeper`: moves the audit on after its windows even without a seat; the task's node and requester should.
    """

    me: Address
    heard_at: int
    weight: int = 0
    total_weight: int = 0
    keeper: bool = False
    unable: bool = False
    """This machine cannot run the model."""
    working: bool = False
    """The inputs are being fetched or the steps run, or the outputs fetched and compared."""
    failures: int = 0
    sealed: bool = False
    verdict: AuditVerdict | None = None
    poke_sent_at: int | None = None
    commit_sent_at: int | None = None
    reveal_sent_at: int | None = None
    close_sent_at: int | None = None
    patience: Patience = field(default_factory=Patience)


class LeaveWhy(enum.StrEnum):
    """Why a node has nothing more to do with an audit or a dispute."""

    NOT_ON_CHAIN = "not-on-chain"
    NOT_PICKED = "not-picked"
    PARTY = "party"
    NO_WEIGHT = "no-weight"
    NOT_MY_TURN = "not-my-turn"
    SEATS_TAKEN = "seats-taken"
    TOO_LATE = "too-late"
    UNABLE = "unable"
    DISPUTED = "disputed"
    OVER = "over"


@dataclass(frozen=True)
class Poke:
    """Make the beacon yield this round (block-hash beacons), or prove it (drand); harmless when it is known already."""

    round: int


@dataclass(frozen=True)
class Inspect:
    """Open the inputs, run the checked steps, write projection and salt down (`sealed`)."""


@dataclass(frozen=True)
class CommitAudit:
    """Send the commitment to what was sealed."""


@dataclass(frozen=True)
class Judge:
    """Open the outputs, compare, write the verdict down."""


@dataclass(frozen=True)
class RevealAudit:
    """Send verdict, projection and salt."""

    verdict: AuditVerdict


@dataclass(frozen=True)
class CloseAudit:
    """End an audit that is contested, or whose windows are over."""


@dataclass(frozen=True)
class Leave:
    """Nothing more to do here."""

    why: LeaveWhy


AuditAction: TypeAlias = Wait | Poke | Inspect | CommitAudit | Judge | RevealAudit | CloseAudit | Leave
_Action = TypeVar("_Action")


def next_audit_action(view: AuditView, memory: AuditMemory, now: int) -> AuditAction:
    """The one thing to do next about this audit. A `Wait` always ends after `now`."""
    if view.state.terminal or view.phase is AuditPhase.CLOSED:
        return Leave(LeaveWhy.OVER)
    if view.phase is AuditPhase.DISPUTED:
        return Leave(LeaveWhy.DISPUTED)
    if view.state not in (TaskState.COMMITTED, TaskState.HELD):
        return _not_committed(memory, now)
    if memory.me in view.auditors:
        return _seated(view, memory, now)
    seat = _seat(view, memory, now)
    if seat is None:
        return _work(view, memory, now)
    if isinstance(seat, Leave) and memory.keeper and view.phase is AuditPhase.OPEN:
        return _close(view, memory, now)
    return seat


def audit_seat_at(view: AuditView, memory: AuditMemory) -> int | None:
    """Chain second from which this node may take a seat; None if it never may or the beacon has not spoken."""
    drawn = view.challenge
    if drawn is None or memory.me in (view.node, view.terms.requester):
        return None
    rules = view.rules
    after_s = seat_at(
        drawn, view.task_id, memory.me, memory.weight, memory.total_weight, rules.auditor_seats, rules.audit_step_s
    )
    return None if after_s is None else view.round_starts + after_s


def once(action: _Action, sent_at: int | None, patience: Patience, now: int) -> _Action | Wait:
    """The action, unless it was sent so recently that it may still be on its way."""
    if sent_at is None or now >= sent_at + patience.resend_after_s:
        return action
    return Wait(sent_at + patience.resend_after_s)


def _not_committed(memory: AuditMemory, now: int) -> AuditAction:
    # a reorganisation took the commit back, or an event ran ahead of the state
    if now < memory.heard_at + memory.patience.unseen_for_s:
        return Wait(now + memory.patience.poll_s)
    return Leave(LeaveWhy.NOT_ON_CHAIN)


def _seat(view: AuditView, memory: AuditMemory, now: int) -> Wait | Poke | Leave | None:
    """Why a seat cannot be taken now; None when it can."""
    if memory.me in (view.node, view.terms.requester):
        return Leave(LeaveWhy.PARTY)
    if now > view.seats_by:
        return Leave(LeaveWhy.TOO_LATE)
    if view.full:
        return Leave(LeaveWhy.SEATS_TAKEN)
    if view.seed is None:
        return await_seed(view.round, view.round_starts, memory.poke_sent_at, memory.patience, now)
    if not view.picked and view.phase is AuditPhase.NONE:
        return Leave(LeaveWhy.NOT_PICKED)
    if memory.unable:
        return Leave(LeaveWhy.UNABLE)
    mine_from = audit_seat_at(view, memory)
    if mine_from is None:
        return Leave(LeaveWhy.NO_WEIGHT)
    if mine_from > view.seats_by:
        return Leave(LeaveWhy.NOT_MY_TURN)
    return Wait(mine_from) if now < mine_from else None


def await_seed(round_: int, starts: int, sent_at: int | None, patience: Patience, now: int) -> Wait | Poke:
    """Wait for a beacon round to begin, then make it yield."""
    if now < starts:
        return Wait(starts)
    return once(Poke(round_), sent_at, patience, now)


def _work(view: AuditView, memory: AuditMemory, now: int) -> AuditAction:
    if memory.sealed:
        sent = once(CommitAudit(), memory.commit_sent_at, memory.patience, now)
        return Wait(min(sent.until, view.seats_by + 1)) if isinstance(sent, Wait) else sent
    if memory.working:
        return Wait(view.seats_by + 1)
    if memory.failures >= memory.patience.attempts:
        return Leave(LeaveWhy.UNABLE)
    return Inspect()


def _seated(view: AuditView, memory: AuditMemory, now: int) -> AuditAction:
    if view.revealed(memory.me) or not memory.sealed:
        # a journal that lost its seal cannot reveal; it can still end the audit
        return _close(view, memory, now)
    if memory.verdict is None:
        if memory.working:
            return Wait(now + memory.patience.poll_s)
        # However often that failed: a seal that is not revealed costs its penalty, so judging ends in a verdict.
        return Judge()
    if not view.full and now <= view.commit_by:
        return Wait(view.commit_by + 1)
    return once(RevealAudit(memory.verdict), memory.reveal_sent_at, memory.patience, now)


def _close(view: AuditView, memory: AuditMemory, now: int) -> AuditAction:
    if not view.told and now <= view.reveal_by:
        return Wait(view.reveal_by + 1)
    return once(CloseAudit(), memory.close_sent_at, memory.patience, now)
