"""Auditors, jurors and keepers, driven through a model of the arbiter: legal, total, and always bound for an end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gesso_protocol.audit import disputes, lifecycle
from gesso_protocol.audit.disputes import DisputePhase, DisputeView, JurorMemory, may_appeal, next_juror_action
from gesso_protocol.audit.lifecycle import (
    AuditMemory,
    AuditPhase,
    AuditView,
    CloseAudit,
    CommitAudit,
    Inspect,
    Judge,
    Leave,
    LeaveWhy,
    Poke,
    RevealAudit,
    audit_seat_at,
    next_audit_action,
)
from gesso_protocol.audit.outcomes import AuditVerdict, Ballot, DisputeOutcome, Vote
from gesso_protocol.ids import Address
from gesso_protocol.lifecycle import Patience, TaskState, Wait
from gesso_protocol.terms import AuditMode

from .court import CHALLENGE_WINDOW, NODE, PERIOD, REQUESTER, RULES, START, Court, Dispute, wallet

QUICK = Patience(resend_after_s=3, unseen_for_s=30, poll_s=1, attempts=2)


@dataclass
class Actor:
    """One wallet that follows the rules until `dies_at`; `slow` seconds pass for each piece of work."""

    me: Address
    weight: int
    verdict: AuditVerdict = AuditVerdict.PASS
    ballot: Ballot = Ballot.GOOD
    dies_at: int = 10**9
    slow: int = 0
    keeper: bool = False
    appeal: bool = False
    forgets: bool = False
    """Its journal is lost after it committed."""

    def __post_init__(self) -> None:
        self.audit = AuditMemory(self.me, START, self.weight, keeper=self.keeper, patience=QUICK)
        self.jury: dict[int, JurorMemory] = {}
        self.busy_until = 0
        self.next_at = 0

    def act(self, court: Court, total: int) -> None:
        """One observation and at most one deed; a call that the court refuses fails the test."""
        if court.now < max(self.busy_until, self.next_at) or court.now >= self.dies_at:
            return
        if court.dispute is not None:
            self._judge(court, total)
        else:
            self._audit(court, total)

    def _wait(self, court: Court, action: object) -> bool:
        if isinstance(action, Wait):
            assert action.until > court.now
            self.next_at = min(action.until, court.now + 2)  # events wake a node up
        if isinstance(action, Leave):
            self.next_at = court.now + 2
        return isinstance(action, Wait | Leave)

    def _audit(self, court: Court, total: int) -> None:
        self.audit = replace(self.audit, total_weight=total)
        action, now = next_audit_action(court.view(), self.audit, court.now), court.now
        if self._wait(court, action):
            return
        match action:
            case Poke(round_):
                court.poke(round_)
                self.audit = replace(self.audit, poke_sent_at=now)
            case Inspect():
                self.audit, self.busy_until = replace(self.audit, sealed=True), now + self.slow
            case CommitAudit():
                court.commit_audit(self.me)
                self.audit = replace(self.audit, commit_sent_at=now, sealed=not self.forgets)
            case Judge():
                self.audit, self.busy_until = replace(self.audit, verdict=self.verdict), now + self.slow
            case RevealAudit(verdict):
                court.reveal_audit(self.me, verdict)
                self.audit = replace(self.audit, reveal_sent_at=now)
            case CloseAudit():
                court.close_audit()
                self.audit = replace(self.audit, close_sent_at=now)

    def _judge(self, court: Court, total: int) -> None:
        view, now = court.trial(), court.now
        empty = JurorMemory(self.me, self.weight, keeper=self.keeper, appeal=self.appeal, patience=QUICK)
        memory = replace(self.jury.get(view.level, empty), total_weight=total)
        action = next_juror_action(view, memory, now)
        if self._wait(court, action):
            return
        match action:
            case Poke(round_):
                court.poke(round_)
                memory = replace(memory, poke_sent_at=now)
            case disputes.Review():
                memory, self.busy_until = replace(memory, vote=Vote(self.ballot)), now + self.slow
            case disputes.CommitVote():
                court.commit_vote(self.me)
                memory = replace(memory, commit_sent_at=now, vote=None if self.forgets else memory.vote)
            case disputes.RevealVote(vote):
                court.reveal_vote(self.me, vote)
                memory = replace(memory, reveal_sent_at=now)
            case disputes.Tally():
                court.tally()
                memory = replace(memory, tally_sent_at=now)
            case disputes.Appeal():
                court.appeal()
                memory = replace(memory, appeal_sent_at=now)
            case disputes.ExecuteDispute():
                court.execute()
                memory = replace(memory, execute_sent_at=now)
        self.jury[view.level] = memory


def run(court: Court, actors: list[Actor], limit_s: int = 600) -> None:
    """Let everybody act, second by second, until the task is over or time is up."""
    court.weights = {actor.me: actor.weight for actor in actors}
    total = sum(court.weights.values())
    while court.now < START + limit_s and not court.state.terminal and not court.unopened:
        for actor in actors:
            actor.act(court, total)
        court.now += 1


def crowd(count: int, **changes: Any) -> list[Actor]:
    return [Actor(wallet(number), 1 + number % 3, **changes) for number in range(count)]


def keeper() -> Actor:
    return Actor(REQUESTER, 0, keeper=True)


@pytest.mark.parametrize("seed", range(12))
def test_an_honest_network_pays_the_node_and_needs_no_keeper(seed: int) -> None:
    court = Court(seed)
    run(court, crowd(6))
    assert court.state is TaskState.SETTLED
    assert len(court.auditors) == 2
    assert court.now < START + CHALLENGE_WINDOW


@pytest.mark.parametrize("seed", range(12))
def test_a_flag_that_all_see_ends_guilty(seed: int) -> None:
    court = Court(seed)
    run(court, crowd(8, verdict=AuditVerdict.FLAG, ballot=Ballot.BAD))
    assert court.dispute is not None
    assert court.dispute.outcome is DisputeOutcome.GUILTY
    assert court.state is TaskState.EXPIRED


@pytest.mark.parametrize("seed", range(6))
def test_an_appeal_seats_a_second_jury(seed: int) -> None:
    court = Court(seed)
    flagging = crowd(9, verdict=AuditVerdict.FLAG)
    run(court, [*flagging, Actor(REQUESTER, 0, keeper=True, appeal=True)])
    assert court.dispute is not None
    assert court.dispute.level == 1
    assert court.dispute.outcome is DisputeOutcome.INNOCENT
    assert court.state is TaskState.SETTLED


fates = st.builds(
    Actor,
    me=st.just(NODE),
    weight=st.integers(0, 5),
    verdict=st.sampled_from(AuditVerdict),
    ballot=st.sampled_from(Ballot),
    dies_at=st.one_of(st.just(10**9), st.integers(START, START + 200)),
    slow=st.integers(0, 70),
    appeal=st.booleans(),
    forgets=st.booleans(),
)


@given(seed=st.integers(0, 10**6), cast=st.lists(fates, max_size=7))
@settings(max_examples=150)
def test_one_honest_keeper_ends_everything(seed: int, cast: list[Actor]) -> None:
    court = Court(seed)
    actors = []
    for number, fate in enumerate(cast):
        fate.me = wallet(number)
        fate.__post_init__()
        actors.append(fate)
    run(court, [*actors, keeper()])
    longest = PERIOD + 80 + 20 + 2 * (PERIOD + 40 + 20 + 15) + 30
    assert court.now <= START + longest
    assert court.state.terminal or court.unopened


views = st.builds(
    replace,
    st.just(Court(3).view()),
    state=st.sampled_from(TaskState),
    phase=st.sampled_from(AuditPhase),
    seed=st.none() | st.just(b"\x07" * 32),
    auditors=st.lists(st.sampled_from([wallet(0), wallet(1), wallet(2)]), max_size=2, unique=True).map(tuple),
    verdicts=st.lists(st.integers(0, 3), max_size=2).map(tuple),
    commit_by=st.integers(START, START + 100),
    reveal_by=st.integers(START, START + 100),
)
moments = st.none() | st.integers(START, START + 150)
memories = st.builds(
    AuditMemory,
    me=st.sampled_from([wallet(0), wallet(1), NODE, REQUESTER]),
    heard_at=st.just(START),
    weight=st.integers(0, 9),
    total_weight=st.integers(0, 9),
    keeper=st.booleans(),
    unable=st.booleans(),
    working=st.booleans(),
    failures=st.integers(0, 3),
    sealed=st.booleans(),
    verdict=st.none() | st.sampled_from(AuditVerdict),
    poke_sent_at=moments,
    commit_sent_at=moments,
    reveal_sent_at=moments,
    close_sent_at=moments,
)


@given(view=views, memory=memories, now=st.integers(START, START + 200))
@settings(max_examples=500)
def test_auditors_always_know_what_to_do(view: AuditView, memory: AuditMemory, now: int) -> None:
    action = next_audit_action(view, memory, now)
    assert not isinstance(action, Wait) or action.until > now
    if isinstance(action, Inspect | CommitAudit):
        since = audit_seat_at(view, memory)
        assert since is not None
        assert since <= now <= view.seats_by
        assert memory.me not in (view.node, view.terms.requester)
    if isinstance(action, RevealAudit):
        assert memory.me in view.auditors
        assert view.full or now > view.commit_by
    if isinstance(action, CloseAudit):
        assert now > view.reveal_by or view.told


trials = st.builds(
    DisputeView,
    task_id=st.just(Court().task),
    terms=st.just(Court().terms),
    node=st.just(NODE),
    rules=st.just(RULES),
    phase=st.sampled_from(DisputePhase),
    level=st.integers(0, 1),
    round=st.just(START // PERIOD),
    round_starts=st.just(START),
    seed=st.none() | st.just(b"\x07" * 32),
    outcome=st.sampled_from(DisputeOutcome),
    auditors=st.just((wallet(5),)),
    jurors=st.lists(st.sampled_from([wallet(0), wallet(1), wallet(2)]), max_size=3, unique=True).map(tuple),
    revealed=st.lists(st.sampled_from([wallet(0), wallet(1)]), max_size=2, unique=True).map(tuple),
    before=st.just((wallet(3),)),
    commit_by=st.integers(START, START + 100),
    reveal_by=st.integers(START + 100, START + 150),
    appeal_by=st.just(0) | st.integers(START, START + 200),
)
juries = st.builds(
    JurorMemory,
    me=st.sampled_from([wallet(0), wallet(1), wallet(3), wallet(5), NODE, REQUESTER]),
    weight=st.integers(0, 9),
    total_weight=st.integers(0, 9),
    keeper=st.booleans(),
    unable=st.booleans(),
    appeal=st.booleans(),
    working=st.booleans(),
    failures=st.integers(0, 3),
    vote=st.none() | st.just(Vote(Ballot.BAD, (True, False))),
    commit_sent_at=moments,
    reveal_sent_at=moments,
    tally_sent_at=moments,
    appeal_sent_at=moments,
    execute_sent_at=moments,
)


@given(view=trials, memory=juries, now=st.integers(START, START + 250))
@settings(max_examples=500)
def test_jurors_always_know_what_to_do(view: DisputeView, memory: JurorMemory, now: int) -> None:
    action = next_juror_action(view, memory, now)
    assert not isinstance(action, Wait) or action.until > now
    if isinstance(action, disputes.CommitVote | disputes.Review):
        since = disputes.jury_seat_at(view, memory)
        assert since is not None
        assert since <= now <= view.commit_by
        assert memory.me not in view.auditors
    if isinstance(action, disputes.RevealVote):
        assert view.committed(now)
        assert memory.me in view.jurors
    if isinstance(action, disputes.Tally):
        assert view.countable(now)
    if isinstance(action, disputes.ExecuteDispute):
        assert now > view.appeal_by
    if isinstance(action, disputes.Appeal):
        assert now <= view.appeal_by


def seated(**changes: Any) -> tuple[AuditView, AuditMemory]:
    view = replace(Court(1).view(), state=TaskState.HELD, phase=AuditPhase.OPEN, auditors=(wallet(0),),
                   verdicts=(0,), seed=b"\x01" * 32, commit_by=START + 30, reveal_by=START + 50)  # fmt: skip
    memory = AuditMemory(wallet(0), START, 1, 3, sealed=True, verdict=AuditVerdict.PASS, patience=QUICK)
    return view, replace(memory, **changes)


def test_a_seat_waits_for_the_other_and_then_reveals() -> None:
    view, memory = seated()
    assert next_audit_action(view, memory, START + 5) == Wait(START + 31)
    assert next_audit_action(view, memory, START + 31) == RevealAudit(AuditVerdict.PASS)
    full = replace(view, auditors=(wallet(0), wallet(1)), verdicts=(0, 0))
    assert next_audit_action(full, memory, START + 5) == RevealAudit(AuditVerdict.PASS)
    sent = replace(memory, reveal_sent_at=START + 5)
    assert next_audit_action(full, sent, START + 6) == Wait(START + 8)
    assert next_audit_action(full, sent, START + 8) == RevealAudit(AuditVerdict.PASS)
    assert next_audit_action(full, memory, START + 80) == RevealAudit(AuditVerdict.PASS), "late counts until closed"


def test_outputs_are_judged_only_after_the_seat_is_taken() -> None:
    view, memory = seated(verdict=None)
    assert next_audit_action(view, memory, START + 5) == Judge()
    assert next_audit_action(view, replace(memory, working=True), START + 5) == Wait(START + 6)
    failed = replace(memory, failures=2)
    assert next_audit_action(view, failed, START + 60) == Judge(), "a seal that nobody reveals costs its penalty"


def test_a_contested_audit_is_closed_at_once() -> None:
    view, memory = seated()
    full = replace(view, auditors=(wallet(0), wallet(1)), verdicts=(2, 0))
    assert next_audit_action(full, memory, START + 5) == Wait(START + 51), "the other may still reveal"
    assert next_audit_action(replace(full, verdicts=(2, 1)), memory, START + 5) == CloseAudit()
    watching = replace(memory, me=wallet(7), keeper=True)
    assert next_audit_action(replace(full, verdicts=(2, 1)), watching, START + 5) == CloseAudit()


def test_a_lost_seal_can_still_close() -> None:
    view, memory = seated(sealed=False)
    assert next_audit_action(view, memory, START + 5) == Wait(START + 51)
    assert next_audit_action(view, memory, START + 51) == CloseAudit()


@pytest.mark.parametrize(
    ("changes", "who", "why"),
    [
        ({"state": TaskState.SETTLED}, wallet(0), LeaveWhy.OVER),
        ({"phase": AuditPhase.CLOSED}, wallet(0), LeaveWhy.OVER),
        ({"phase": AuditPhase.DISPUTED}, wallet(0), LeaveWhy.DISPUTED),
        ({}, NODE, LeaveWhy.PARTY),
        ({}, REQUESTER, LeaveWhy.PARTY),
        ({"committed_at": START - 100}, wallet(0), LeaveWhy.TOO_LATE),
        ({"terms": Court(mode=AuditMode.NONE).terms}, wallet(0), LeaveWhy.NOT_PICKED),
        ({"phase": AuditPhase.OPEN, "commit_by": START + 30, "auditors": (wallet(7), wallet(8))}, wallet(0),
         LeaveWhy.SEATS_TAKEN),
        ({"state": TaskState.UNKNOWN}, wallet(0), LeaveWhy.NOT_ON_CHAIN),
    ],
)  # fmt: skip
def test_reasons_to_leave(changes: dict[str, Any], who: Address, why: LeaveWhy) -> None:
    view = replace(Court(1).view(), seed=b"\x01" * 32, **changes)
    memory = AuditMemory(who, START - 200, 1, 1, patience=QUICK)
    assert next_audit_action(view, memory, START + 12) == Leave(why)


def test_machines_that_cannot_and_wallets_without_weight_leave() -> None:
    view = replace(Court(1).view(), seed=b"\x01" * 32)
    now = START + 12
    assert next_audit_action(view, AuditMemory(wallet(0), START, 1, 1, unable=True), now) == Leave(LeaveWhy.UNABLE)
    assert next_audit_action(view, AuditMemory(wallet(0), START, 0, 1), now) == Leave(LeaveWhy.NO_WEIGHT)
    assert next_audit_action(view, AuditMemory(wallet(0), START, 1, 1, failures=2), now) == Leave(LeaveWhy.UNABLE)
    late = AuditMemory(wallet(0), START, 1, 2**40)
    assert next_audit_action(view, late, now) == Leave(LeaveWhy.NOT_MY_TURN)


def test_the_beacon_is_poked_when_its_round_has_begun() -> None:
    view, memory = Court(1).view(), AuditMemory(wallet(0), START, 1, 1, patience=QUICK)
    assert next_audit_action(view, memory, START + 1) == Wait(view.round_starts)
    assert next_audit_action(view, memory, view.round_starts) == Poke(view.round)
    poked = replace(memory, poke_sent_at=view.round_starts)
    assert next_audit_action(view, poked, view.round_starts + 1) == Wait(view.round_starts + 3)


def test_a_reorganisation_is_waited_for() -> None:
    view = replace(Court(1).view(), state=TaskState.CLAIMED)
    memory = AuditMemory(wallet(0), START, 1, 1, patience=QUICK)
    assert next_audit_action(view, memory, START + 5) == Wait(START + 6)
    assert next_audit_action(view, memory, START + 30) == Leave(LeaveWhy.NOT_ON_CHAIN)


def tallied(outcome: DisputeOutcome, level: int = 0) -> DisputeView:
    court = Court(1)
    court.auditors = [wallet(0), wallet(1)]
    court.dispute = Dispute(level, START, phase=DisputePhase.TALLIED, outcome=outcome, appeal_by=START + 50)
    return court.trial()


@pytest.mark.parametrize(
    ("outcome", "who"),
    [
        (DisputeOutcome.GUILTY, {"node", "passer"}),
        (DisputeOutcome.INNOCENT, {"requester", "flagger"}),
        (DisputeOutcome.UNDECIDED, {"node", "passer", "requester", "flagger"}),
        (DisputeOutcome.UPHELD, {"requester", "flagger"}),
        (DisputeOutcome.UNHEARD, set()),
    ],
)
def test_only_losers_appeal(outcome: DisputeOutcome, who: set[str]) -> None:
    people = {"node": (NODE, False), "requester": (REQUESTER, False), "passer": (wallet(0), False),
              "flagger": (wallet(1), True), "stranger": (wallet(9), False)}  # fmt: skip
    view = tallied(outcome)
    assert {name for name, (one, flagged) in people.items() if may_appeal(view, one, flagged, START)} == who
    assert not any(may_appeal(view, one, flagged, START + 51) for one, flagged in people.values())
    assert not may_appeal(tallied(outcome, level=1), NODE, False, START)


def test_jurors_of_the_first_level_come_late_to_the_second() -> None:
    court = Court(1)
    court.dispute = Dispute(1, START, before=(wallet(0),))
    court.poked.add(court.round_of(START))
    view = court.trial()
    fresh, again = JurorMemory(wallet(4), 1, 1), JurorMemory(wallet(0), 1, 1)
    assert disputes.jury_seat_at(view, fresh) == view.round_starts
    assert disputes.jury_seat_at(view, again) == view.commit_by - RULES.vote_commit_window_s // 2 + 1


def test_both_modules_agree_on_sending_once() -> None:
    assert lifecycle.once("x", None, QUICK, 5) == "x"
    assert lifecycle.once("x", 5, QUICK, 7) == Wait(8)
    assert lifecycle.once("x", 5, QUICK, 8) == "x"
