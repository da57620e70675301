"""What to do next about a dispute, for jurors and for whoever keeps things moving. Pure and total."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TypeAlias

from gesso_protocol.audit.challenge import jury_entropy, seat_at
from gesso_protocol.audit.lifecycle import Leave, LeaveWhy, Poke, await_seed, once
from gesso_protocol.audit.outcomes import DisputeOutcome, Vote
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.ids import Address, TaskId
from gesso_protocol.lifecycle import Patience, Wait
from gesso_protocol.terms import Terms


class DisputePhase(enum.IntEnum):
    """Where a dispute stands; the arbiter's numbers. Voting covers committing and revealing of one level."""

    NONE = 0
    VOTING = 1
    TALLIED = 2
    EXECUTED = 3


@dataclass(frozen=True)
class DisputeView:
    """What the chain says about a dispute. `commit_by`, `reveal_by`, `appeal_by` are the last seconds of their windows
    (`appeal_by` 0: no appeal is possible). `before` are the jurors of level 0 while level 1 votes."""

    task_id: TaskId
    terms: Terms
    node: Address
    rules: AuditRules
    phase: DisputePhase
    level: int
    round: int
    round_starts: int
    seed: bytes | None = None
    outcome: DisputeOutcome = DisputeOutcome.NONE
    auditors: tuple[Address, ...] = ()
    jurors: tuple[Address, ...] = ()
    revealed: tuple[Address, ...] = ()
    before: tuple[Address, ...] = ()
    commit_by: int = 0
    reveal_by: int = 0
    appeal_by: int = 0

    @property
    def full(self) -> bool:
        """Whether every seat is taken."""
        return len(self.jurors) >= self.rules.seats(self.level)

    def committed(self, now: int) -> bool:
        """Whether nobody can take a seat any more, so that votes may be revealed."""
        return self.full or now > self.commit_by

    def countable(self, now: int) -> bool:
        """Whether the votes may be counted."""
        all_in = bool(self.jurors) and set(self.jurors) <= set(self.revealed)
        return now > self.reveal_by or (self.committed(now) and all_in)


@dataclass(frozen=True)
class JurorMemory:
    """What a node's journal says about one level of a dispute. A new level starts with a new memory.

    `vote` and its salt are written down before the commitment is sent. `keeper`: counts and executes even without a
    seat; parties should. `appeal`: this wallet lost and its operator wants a second jury.
    """

    me: Address
    weight: int = 0
    total_weight: int = 0
    keeper: bool = False
    unable: bool = False
    appeal: bool = False
    working: bool = False
    failures: int = 0
    vote: Vote | None = None
    poke_sent_at: int | None = None
    commit_sent_at: int | None = None
    reveal_sent_at: int | None = None
    tally_sent_at: int | None = None
    appeal_sent_at: int | None = None
    execute_sent_at: int | None = None
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True)
class Review:
    """Open everything, run the disputed steps in strict fp32, write the vote down."""


@dataclass(frozen=True)
class CommitVote:
    """Send the commitment to the vote."""


@dataclass(frozen=True)
class RevealVote:
    """Send vote and salt."""

    vote: Vote


@dataclass(frozen=True)
class Tally:
    """Count the votes of this level."""


@dataclass(frozen=True)
class Appeal:
    """Ask for the larger jury."""


@dataclass(frozen=True)
class ExecuteDispute:
    """Carry out the outcome: ruling, penalties, pay."""


JurorAction: TypeAlias = Wait | Poke | Review | CommitVote | RevealVote | Tally | Appeal | ExecuteDispute | Leave


def next_juror_action(view: DisputeView, memory: JurorMemory, now: int) -> JurorAction:
    """The one thing to do next about this dispute. A `Wait` always ends after `now`."""
    match view.phase:
        case DisputePhase.VOTING:
            return _seated(view, memory, now) if memory.me in view.jurors else _outside(view, memory, now)
        case DisputePhase.TALLIED:
            return _after(view, memory, now)
        case _:
            return Leave(LeaveWhy.OVER)


def jury_seat_at(view: DisputeView, memory: JurorMemory) -> int | None:
    """Chain second from which this node may take a juror's seat; None: never, or the beacon has not spoken.

    A juror of the first level may sit in the appeal only in the second half of the commit window.
    """
    if view.seed is None or memory.me in (view.node, view.terms.requester, *view.auditors):
        return None
    rules, entropy = view.rules, jury_entropy(view.seed, view.task_id, view.level)
    seats, step_s = rules.seats(view.level), rules.jury_step_s
    after_s = seat_at(entropy, view.task_id, memory.me, memory.weight, memory.total_weight, seats, step_s)
    if after_s is None:
        return None
    half = view.commit_by - rules.vote_commit_window_s // 2
    return max(view.round_starts + after_s, half + 1 if memory.me in view.before else 0)


def may_appeal(view: DisputeView, me: Address, flagged: bool, now: int) -> bool:
    """Whether this wallet lost the first level and may still appeal. `flagged`: it is an auditor that flagged."""
    if view.phase is not DisputePhase.TALLIED or view.level != 0 or now > view.appeal_by:
        return False
    if view.outcome is DisputeOutcome.UNHEARD:
        return False
    auditor = me in view.auditors
    against = me == view.node or (auditor and not flagged)
    towards = me == view.terms.requester or (auditor and flagged)
    if view.outcome is DisputeOutcome.GUILTY:
        return against
    return towards if view.outcome.pays_node else against or towards


def _seated(view: DisputeView, memory: JurorMemory, now: int) -> JurorAction:
    if memory.me in view.revealed or memory.vote is None or now > view.reveal_by:
        return _count(view, memory, now)
    if not view.committed(now):
        return Wait(view.commit_by + 1)
    sent = once(RevealVote(memory.vote), memory.reveal_sent_at, memory.patience, now)
    return Wait(min(sent.until, view.reveal_by + 1)) if isinstance(sent, Wait) else sent


def _outside(view: DisputeView, memory: JurorMemory, now: int) -> JurorAction:
    seat = _seat(view, memory, now)
    if seat is None:
        return _work(view, memory, now)
    if isinstance(seat, Leave) and memory.keeper:
        return _count(view, memory, now)
    return seat


def _seat(view: DisputeView, memory: JurorMemory, now: int) -> Wait | Poke | Leave | None:
    if memory.me in (view.node, view.terms.requester, *view.auditors):
        if memory.keeper and view.seed is None and now <= view.commit_by:
            return await_seed(view.round, view.round_starts, memory.poke_sent_at, memory.patience, now)
        return Leave(LeaveWhy.PARTY)
    if now > view.commit_by:
        return Leave(LeaveWhy.TOO_LATE)
    if view.full:
        return Leave(LeaveWhy.SEATS_TAKEN)
    if memory.unable or memory.failures >= memory.patience.attempts:
        return Leave(LeaveWhy.UNABLE)
    if view.seed is None:
        return await_seed(view.round, view.round_starts, memory.poke_sent_at, memory.patience, now)
    mine_from = jury_seat_at(view, memory)
    if mine_from is None:
        return Leave(LeaveWhy.NO_WEIGHT)
    if mine_from > view.commit_by:
        return Leave(LeaveWhy.NOT_MY_TURN)
    return Wait(mine_from) if now < mine_from else None


def _work(view: DisputeView, memory: JurorMemory, now: int) -> JurorAction:
    if memory.vote is None:
        return Wait(view.commit_by + 1) if memory.working else Review()
    sent = once(CommitVote(), memory.commit_sent_at, memory.patience, now)
    return Wait(min(sent.until, view.commit_by + 1)) if isinstance(sent, Wait) else sent


def _count(view: DisputeView, memory: JurorMemory, now: int) -> JurorAction:
    if view.countable(now):
        return once(Tally(), memory.tally_sent_at, memory.patience, now)
    return Wait(view.reveal_by + 1 if view.committed(now) else view.commit_by + 1)


def _after(view: DisputeView, memory: JurorMemory, now: int) -> JurorAction:
    if now > view.appeal_by:
        concerned = memory.keeper or memory.me in view.jurors or memory.me in view.auditors
        if not concerned:
            return Leave(LeaveWhy.OVER)
        return once(ExecuteDispute(), memory.execute_sent_at, memory.patience, now)
    if memory.appeal and view.level == 0:
        sent = once(Appeal(), memory.appeal_sent_at, memory.patience, now)
        return Wait(min(sent.until, view.appeal_by + 1)) if isinstance(sent, Wait) else sent
    return Wait(view.appeal_by + 1)
