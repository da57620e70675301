"""The lifecycle rules against a model of the board: legal, total, and always bound for an end.

`Board` is the Solidity contract's state machine in a few lines. Everything here is driven through it: an action that
the board would refuse is a failure of the rules.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import floor, inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.fields import TaskKind
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import Address, BlobRef, Root, TaskId
from gesso_protocol.lifecycle import (
    Cancel,
    Claim,
    Commit,
    Done,
    Execute,
    Expire,
    Fetch,
    Forget,
    GoOn,
    NodeAction,
    NodeMemory,
    Patience,
    RequesterAction,
    RequestStop,
    Settle,
    Stop,
    TaskRecord,
    TaskState,
    TaskView,
    Wait,
    Why,
    ahead_until,
    claimable_from,
    next_action,
    next_requester_action,
    sure_until,
)
from gesso_protocol.money import BPS, Wei
from gesso_protocol.policy import Refusal
from gesso_protocol.sortition import may_claim, score, seed_bytes
from gesso_protocol.terms import BoardParams, Terms

ME = Address("0x" + "aa" * 20)
OTHER = Address("0x" + "bb" * 20)
ROOTS = (Root(b"\x01" * 32), Root(b"\x02" * 32))
PARAMS = BoardParams(challenge_window_s=20, sortition_step_s=5, hold_window_s=40)
START = 1_000_000


def some_terms(claim_s: int = 60, commit_s: int = 100, kind: int = TaskKind.TEXT_TO_IMAGE) -> Terms:
    return Terms(
        requester=Address("0x" + "cc" * 20), fee=Wei(10), spec=BlobRef(bytes(32)), claim_window_s=claim_s,
        commit_window_s=commit_s, nonce=1, kind=int(kind),
    )  # fmt: skip


class Reverted(Exception):  # noqa: N818 - the word that contracts use
    """The board refused."""


@dataclass
class Board:
    """One task on a board, with the contract's rules to the second."""

    now: int = START
    state: TaskState = TaskState.SUBMITTED
    since: int = START
    node: Address | None = None
    seed: int = 12345
    terms: Terms = field(default_factory=some_terms)
    weights: dict[Address, int] = field(default_factory=lambda: {ME: 1, OTHER: 1})
    total_weight: int = 4
    stop_requested: bool = False
    task: TaskId = TaskId(keccak256(b"task"))  # noqa: RUF009 - immutable

    def view(self) -> TaskView:
        seed = self.seed if self.state is TaskState.SUBMITTED else None
        asked = self.stop_requested and self.state is TaskState.CLAIMED
        return TaskRecord(self.task, self.state, self.node, self.since, seed, asked).view(self.terms, PARAMS)

    def enter(self, state: TaskState, node: Address | None) -> None:
        self.state, self.since, self.node = state, self.now, node

    def require(self, holds: bool) -> None:
        if not holds:
            raise Reverted

    def claim(self, node: Address) -> None:
        self.require(self.state is TaskState.SUBMITTED and self.now <= self.since + self.terms.claim_window_s)
        mine = score(seed_bytes(self.seed), self.task, node)
        elapsed = self.now - self.since
        self.require(may_claim(mine, self.total_weight, self.weights[node], elapsed, PARAMS.sortition_step_s))
        self.enter(TaskState.CLAIMED, node)

    def request_stop(self) -> None:
        self.require(self.terms.kind == TaskKind.TRAIN_LORA and self.state is TaskState.CLAIMED)
        self.require(self.now <= self.since + self.terms.commit_window_s)
        self.stop_requested = True

    def commit(self, node: Address, done_bps: int = BPS) -> None:
        self.require(done_bps == BPS or (self.terms.kind == TaskKind.TRAIN_LORA and 0 <= done_bps < BPS))
        self.require(self.state is TaskState.CLAIMED and self.node == node)
        self.require(self.now <= self.since + self.terms.commit_window_s)
        self.enter(TaskState.COMMITTED, node)

    def settle(self) -> None:
        self.require(self.state is TaskState.COMMITTED and self.now >= self.since + PARAMS.challenge_window_s)
        self.enter(TaskState.SETTLED, self.node)

    def hold(self) -> None:
        self.require(self.state is TaskState.COMMITTED and self.now < self.since + PARAMS.challenge_window_s)
        self.enter(TaskState.HELD, self.node)

    def cancel(self) -> None:
        self.require(self.state is TaskState.SUBMITTED)
        self.enter(TaskState.CANCELLED, None)

    def expire(self) -> None:
        windows = {
            TaskState.SUBMITTED: self.terms.claim_window_s,
            TaskState.CLAIMED: self.terms.commit_window_s,
            TaskState.HELD: PARAMS.hold_window_s,
        }
        self.require(self.state in windows and self.now > self.since + windows[self.state])
        self.enter(TaskState.EXPIRED, self.node)


STRANGERS = ["claim", "request_stop", "commit", "hold", "settle", "expire", "cancel"]


def let_others(board: Board, deeds: list[tuple[int, str]]) -> None:
    """Strangers (and the arbiter) do what the board lets them, at their own times."""
    for pause_s, deed in deeds:
        board.now += pause_s
        try:
            if deed in ("claim", "commit"):
                getattr(board, deed)(OTHER)
            else:
                getattr(board, deed)()
        except Reverted:
            pass


histories = st.lists(st.tuples(st.integers(0, 80), st.sampled_from(STRANGERS)), max_size=6)
windows = st.builds(some_terms, st.integers(1, 200), st.integers(1, 200), st.sampled_from(TaskKind))


# ---------------------------------------------------------------- requester


def as_requester(board: Board, action: RequesterAction) -> None:
    match action:
        case Wait(until):
            assert until > board.now
            board.now = until
        case Settle():
            board.settle()
        case Cancel():
            board.cancel()
        case RequestStop():
            board.request_stop()
        case Expire():
            board.expire()
        case Fetch():
            board.now += 1
        case Done():
            raise AssertionError("done too early")


@given(history=histories, terms=windows, cancel=st.booleans(), fetch_tries=st.integers(0, 3))
def test_a_requester_alone_ends_every_task_in_known_time(
    history: list[tuple[int, str]], terms: Terms, cancel: bool, fetch_tries: int
) -> None:
    board = Board(terms=terms)
    let_others(board, history)
    begun, tries = board.now, 0
    bound = terms.claim_window_s + terms.commit_window_s + PARAMS.challenge_window_s + PARAMS.hold_window_s + 10
    for _ in range(12):
        fetched = tries >= fetch_tries
        action = next_requester_action(board.view(), board.now, fetched=fetched, cancel=cancel)
        if isinstance(action, Done):
            break
        tries += isinstance(action, Fetch)
        as_requester(board, action)
    assert board.state.terminal
    assert board.now - begun <= bound


def test_a_requester_step_by_step() -> None:
    board = Board()
    assert next_requester_action(board.view(), START) == Wait(START + 61)
    assert next_requester_action(board.view(), START, cancel=True) == Cancel()
    assert next_requester_action(board.view(), START + 61) == Expire()
    assert next_requester_action(board.view(), START + 61, cancel=True) == Expire()
    board.now = START + 50
    board.claim(ME)
    assert next_requester_action(board.view(), board.now, cancel=True) == Wait(board.now + 101)
    board.commit(ME)
    assert next_requester_action(board.view(), board.now) == Fetch()
    assert next_requester_action(board.view(), board.now, fetched=True) == Wait(board.now + 20)
    assert next_requester_action(board.view(), board.now + 20, fetched=True) == Settle()
    board.now += 20
    board.settle()
    assert next_requester_action(board.view(), board.now) == Fetch()
    assert next_requester_action(board.view(), board.now, fetched=True) == Done(TaskState.SETTLED)


def test_a_requester_cannot_cancel_in_the_first_seconds_and_is_told_when() -> None:
    view = replace(Board().view(), cancel_delay_s=4)
    assert view.cancellable_from == START + 4
    assert next_requester_action(view, START, cancel=True) == Wait(START + 4)
    assert next_requester_action(view, START + 3, cancel=True) == Wait(START + 4)
    assert next_requester_action(view, START + 4, cancel=True) == Cancel()
    assert next_requester_action(replace(view, cancel_delay_s=90), START + 61, cancel=True) == Expire()
    assert replace(view, state=TaskState.CLAIMED, node=ME).cancellable_from is None


def test_a_requester_that_wants_its_money_back_asks_a_node_at_work_to_stop_once() -> None:
    board = Board(terms=some_terms(kind=TaskKind.TRAIN_LORA), now=START + 50)
    assert next_requester_action(board.view(), board.now, cancel=True) == Cancel()
    board.claim(ME)
    assert next_requester_action(board.view(), board.now) == Wait(board.now + 101)
    assert next_requester_action(board.view(), board.now, cancel=True) == RequestStop()
    assert next_requester_action(board.view(), board.now + 101, cancel=True) == Expire()
    board.request_stop()
    assert next_requester_action(board.view(), board.now, cancel=True) == Wait(board.now + 101)
    board.commit(ME, 2500)
    assert next_requester_action(board.view(), board.now, cancel=True) == Fetch()


def test_a_task_the_chain_has_not_seen_is_waited_for() -> None:
    view = replace(Board().view(), state=TaskState.UNKNOWN)
    assert next_requester_action(view, START) == Wait(START + 1)


# ---------------------------------------------------------------- node


@dataclass
class Faults:
    """What goes wrong for a node: these attempts to send or to run are lost without a trace."""

    sends_lost: set[int]
    runs_crash: set[int]
    run_s: int = 10
    sends: int = 0
    runs: int = 0

    def sent(self) -> bool:
        self.sends += 1
        return self.sends not in self.sends_lost

    def ran(self) -> bool:
        self.runs += 1
        return self.runs not in self.runs_crash


def as_node(board: Board, memory: NodeMemory, action: NodeAction, faults: Faults) -> NodeMemory:
    """Do what a node's shell does: write down, then send; a lost send leaves only the note."""
    match action:
        case Wait(until):
            assert until > board.now
            board.now = until
        case Claim():
            memory = replace(memory, claim_sent_at=board.now)
            if faults.sent():
                board.claim(ME)
        case Execute():
            board.now += faults.run_s
            good = faults.ran()
            memory = replace(memory, outcome=ROOTS) if good else replace(memory, failures=memory.failures + 1)
        case Commit(done_bps=done_bps):
            memory = replace(memory, commit_sent_at=board.now)
            if faults.sent():
                board.commit(ME, done_bps)
        case Settle():
            memory = replace(memory, settle_sent_at=board.now)
            if faults.sent():
                board.settle()
        case Expire():
            memory = replace(memory, expire_sent_at=board.now)
            if faults.sent():
                board.expire()
        case Forget():
            raise AssertionError("forgotten too early")
    return memory


def drive(board: Board, faults: Faults, memory: NodeMemory) -> Forget:
    for _ in range(60):
        action = next_action(board.view(), memory, board.now)
        if isinstance(action, Forget):
            return action
        memory = as_node(board, memory, action, faults)
    raise AssertionError("the node never came to an end")


def fresh(**changes: object) -> NodeMemory:
    memory = NodeMemory(me=ME, heard_at=START, weight=1, total_weight=4, patience=Patience(resend_after_s=7))
    return replace(memory, **changes)  # type: ignore[arg-type]


@given(
    terms=windows,
    seed=st.integers(0, 2**128 - 1),
    lost=st.sets(st.integers(1, 12), max_size=8),
    crashes=st.sets(st.integers(1, 4)),
    run_s=st.integers(0, 150),
    hold_back=st.integers(0, 5),
)
def test_a_node_alone_ends_what_it_claimed_in_known_time(
    terms: Terms, seed: int, lost: set[int], crashes: set[int], run_s: int, hold_back: int
) -> None:
    board = Board(terms=terms, seed=seed)
    end = drive(board, Faults(lost, crashes, run_s), fresh(hold_back_steps=hold_back))
    if board.state is TaskState.SUBMITTED:
        assert end.why in (Why.CLAIM_WINDOW_OVER, Why.NOT_MY_TURN)
    else:
        assert board.state.terminal
        assert end.why == {TaskState.SETTLED: Why.SETTLED, TaskState.EXPIRED: Why.EXPIRED}[board.state]
    resends = 7 * (len(lost) + 1)
    assert board.now - START <= terms.claim_window_s + terms.commit_window_s + 20 + 4 * run_s + resends + 3


@given(seed=st.integers(0, 2**128 - 1))
def test_without_faults_a_node_with_time_is_paid(seed: int) -> None:
    board = Board(terms=some_terms(claim_s=5 * 256, commit_s=100), seed=seed)
    faults = Faults(set(), set())
    assert drive(board, faults, fresh()) == Forget(Why.SETTLED)
    assert (faults.sends, faults.runs) == (3, 1)  # claim, commit, settle: each once


def test_one_crash_is_retried_and_two_are_the_end() -> None:
    long = some_terms(claim_s=5 * 256)
    assert drive(Board(terms=long), Faults(set(), {1}), fresh()) == Forget(Why.SETTLED)
    board, faults = Board(terms=long), Faults(set(), {1, 2, 3})
    assert drive(board, faults, fresh()) == Forget(Why.EXPIRED)
    assert faults.runs == 2
    assert board.state is TaskState.EXPIRED


moments = st.integers(START, START + 500)
maybe_moment = st.none() | moments


@st.composite
def memories(draw: st.DrawFn) -> NodeMemory:
    total = draw(st.integers(0, 10))
    return NodeMemory(
        me=draw(st.sampled_from([ME, OTHER])),
        heard_at=draw(moments),
        weight=draw(st.integers(0, total)),
        total_weight=total,
        hold_back_steps=draw(st.integers(-1, 4)),
        refusal=draw(st.none() | st.sampled_from(Refusal)),
        claim_sent_at=draw(maybe_moment),
        executing=draw(st.booleans()),
        stopping=draw(st.booleans()),
        failures=draw(st.integers(0, 3)),
        outcome=draw(st.none() | st.just(ROOTS)),
        done_bps=draw(st.integers(0, BPS)),
        commit_sent_at=draw(maybe_moment),
        settle_sent_at=draw(maybe_moment),
        expire_sent_at=draw(maybe_moment),
        patience=Patience(resend_after_s=draw(st.integers(1, 60))),
    )


@given(
    memory=memories(), state=st.sampled_from(TaskState), node=st.none() | st.sampled_from([ME, OTHER]),
    since=moments, now=moments, terms=windows, seed=st.none() | st.integers(0, 2**128 - 1),
)  # fmt: skip
def test_there_is_always_an_answer_and_no_wait_in_the_past(
    memory: NodeMemory, state: TaskState, node: Address | None, since: int, now: int, terms: Terms, seed: int | None
) -> None:
    view = TaskRecord(Board().task, state, node, since, seed).view(terms, PARAMS)
    for action in (next_action(view, memory, now), next_requester_action(view, now)):
        if isinstance(action, Wait):
            assert action.until > now
    if state.terminal:
        assert isinstance(next_action(view, memory, now), Forget)


@given(memory=memories(), history=histories, terms=windows, later=st.integers(0, 300))
def test_whatever_the_journal_says_the_board_never_refuses_the_action(
    memory: NodeMemory, history: list[tuple[int, str]], terms: Terms, later: int
) -> None:
    board = Board(terms=terms, weights={ME: memory.weight, OTHER: memory.weight}, total_weight=memory.total_weight)
    let_others(board, history)
    board.now += later
    if terms.kind != TaskKind.TRAIN_LORA:
        memory = replace(memory, done_bps=BPS)
    # a claim that was sent once is sent again even if it is not this node's turn: it must have been when it was sent
    memory = replace(memory, claim_sent_at=None)
    match next_action(board.view(), memory, board.now):
        case Claim():
            board.claim(memory.me)
        case Stop():
            assert board.state is TaskState.CLAIMED
            assert board.stop_requested
            assert memory.outcome is None
        case GoOn():
            assert memory.stopping
            assert not board.stop_requested
        case Commit(result_root, trace_root, done_bps):
            assert ((result_root, trace_root), done_bps) == (memory.outcome, memory.done_bps)
            board.commit(memory.me, done_bps)
        case Settle():
            board.settle()
        case Expire():
            board.expire()
        case Execute():
            assert board.state in (TaskState.SUBMITTED, TaskState.CLAIMED)


def test_a_node_stops_when_it_is_asked_and_commits_what_it_has() -> None:
    board = Board(terms=some_terms(kind=TaskKind.TRAIN_LORA), now=START + 50)
    board.claim(ME)
    at_work = fresh(claim_sent_at=board.now, executing=True)
    assert next_action(board.view(), at_work, board.now) == Wait(board.now + 90)
    board.request_stop()
    assert next_action(board.view(), at_work, board.now) == Stop()
    assert next_action(board.view(), replace(at_work, stopping=True), board.now) == Wait(board.now + 90)
    # what a run that died has left is committed by the run that goes on from there
    assert next_action(board.view(), replace(at_work, executing=False), board.now) == Execute()
    ended = replace(at_work, executing=False, stopping=True, outcome=ROOTS, done_bps=2500)
    assert next_action(board.view(), ended, board.now) == Commit(*ROOTS, 2500)
    board.commit(ME, 2500)
    assert next_action(board.view(), ended, board.now) == Wait(board.now + 20)


def test_a_wish_that_the_chain_takes_back_is_no_wish_any_more() -> None:
    board = Board(terms=some_terms(kind=TaskKind.TRAIN_LORA), now=START + 50)
    board.claim(ME)
    told = fresh(claim_sent_at=board.now, executing=True, stopping=True)
    assert next_action(board.view(), told, board.now) == GoOn()
    assert next_action(board.view(), replace(told, stopping=False), board.now) == Wait(board.now + 90)


def test_a_training_whose_time_is_nearly_over_ends_with_what_it_has() -> None:
    board = Board(terms=some_terms(kind=TaskKind.TRAIN_LORA), now=START + 50)
    board.claim(ME)
    claimed, spent = board.now, fresh(claim_sent_at=board.now, failures=2)
    assert next_action(board.view(), spent, claimed + 89) == Wait(claimed + 90)
    assert next_action(board.view(), spent, claimed + 90) == Execute(), "once more, for the last checkpoint"
    assert next_action(board.view(), replace(spent, failures=3), claimed + 90) == Wait(claimed + 101)
    assert next_action(board.view(), replace(spent, executing=True), claimed + 90) == Stop()
    assert next_action(board.view(), replace(spent, executing=True, stopping=True), claimed + 90) == Wait(claimed + 101)


def test_a_training_waits_for_its_claim_which_its_seed_hangs_on() -> None:
    view = Board(terms=some_terms(kind=TaskKind.TRAIN_LORA)).view()
    assert next_action(view, fresh(claim_sent_at=START), START + 1) == Wait(START + 7)


def test_a_killed_node_sends_no_second_claim_while_the_first_may_be_on_its_way() -> None:
    view = Board().view()
    sent = fresh(claim_sent_at=START, executing=True)
    assert next_action(view, sent, START + 6) == Wait(START + 7)
    assert next_action(view, sent, START + 7) == Claim()
    claimed = replace(view, state=TaskState.CLAIMED, node=ME, state_since=START)
    assert next_action(claimed, sent, START + 7) == Wait(START + 101)


def test_work_starts_while_the_claim_is_on_its_way() -> None:
    assert next_action(Board().view(), fresh(claim_sent_at=START), START + 1) == Execute()


def about_to_claim(**changes: Any) -> NodeMemory:
    """Drawn alone, drawn the picture, the claim waits for its block."""
    told: dict[str, Any] = {"claim_sent_at": START, "outcome": ROOTS, "claim_on_its_way": True}
    return fresh(**told | {"others_from": START + 100, "block_s": 1.0} | changes)


def test_a_picture_may_go_ahead_of_a_claim_that_nothing_can_keep_from_its_block() -> None:
    view = replace(Board().view(), cancel_delay_s=6)
    for now in (START, START + 1, START + 2):
        assert next_action(view, about_to_claim(), now) == Commit(*ROOTS)
    assert next_action(view, about_to_claim(commit_sent_at=START), START + 1) == Wait(START + 7)


@pytest.mark.parametrize(
    ("now", "delay_s", "changes"),
    [
        pytest.param(START + 3, 6, {}, id="its requester may cancel before the claim must be mined"),
        pytest.param(START, 0, {}, id="a board without a delay"),
        pytest.param(START, 6, {"block_s": 1.6}, id="blocks that are too slow for the delay"),
        pytest.param(START, 6, {"block_s": inf}, id="blocks of which nobody knows how slow they are"),
        pytest.param(START, 6, {"claim_on_its_way": False}, id="the claim was not taken in by the endpoint"),
        pytest.param(START, 6, {"others_from": 0}, id="not all nodes are known"),
        pytest.param(START + 2, 6, {"others_from": START + 5}, id="somebody else may claim by then"),
    ],
)
def test_what_may_be_lost_is_not_handed_over(now: int, delay_s: int, changes: dict[str, Any]) -> None:
    view = replace(Board().view(), cancel_delay_s=delay_s)
    assert next_action(view, about_to_claim(**changes), now) == Wait(START + 7)


def test_no_training_goes_ahead_of_its_claim() -> None:
    view = replace(Board(terms=some_terms(kind=TaskKind.TRAIN_LORA)).view(), cancel_delay_s=6)
    assert next_action(view, about_to_claim(), START) == Wait(START + 7)


@given(
    delay_s=st.integers(0, 60),
    claim_s=st.integers(1, 60),
    others_s=st.integers(0, 60),
    now_s=st.integers(0, 60),
    block_s=st.floats(0, 30),
)
def test_whoever_hands_over_early_has_half_the_delay_and_two_blocks_left(
    delay_s: int, claim_s: int, others_s: int, now_s: int, block_s: float
) -> None:
    view = replace(Board(terms=some_terms(claim_s)).view(), cancel_delay_s=delay_s)
    memory = about_to_claim(others_from=START + others_s, block_s=block_s)
    until = sure_until(view, memory)
    assert until is None or until <= (ahead_until(view, block_s) or 0)
    if until is not None and START + now_s <= until:
        for later in range(now_s, now_s + max((delay_s + 1) // 2, floor(2 * block_s)) + 1):
            assert not isinstance(next_requester_action(view, START + later, cancel=True), Cancel | Expire)
            assert START + later < memory.others_from


def test_who_was_drawn_after_somebody_at_work_lets_it_go_first_but_forgets_no_task_over_it() -> None:
    view = Board().view()
    at = claimable_from(view, fresh())
    assert at is not None
    assert next_action(view, fresh(polite_from=at + 5), at) == Wait(at + 5)
    assert next_action(view, fresh(polite_from=at + 5), at + 5) == Claim()
    assert next_action(view, fresh(polite_from=START + 500), at) == Claim()


def test_a_lost_race_is_let_go() -> None:
    board = Board()
    board.now += 55
    board.claim(OTHER)
    assert next_action(board.view(), fresh(claim_sent_at=START), board.now) == Forget(Why.LOST_RACE)


def test_a_refusal_holds_until_the_claim_is_sent() -> None:
    refused = fresh(refusal=Refusal.PRICE_TOO_LOW)
    assert next_action(Board().view(), refused, START) == Forget(Why.REFUSED)
    assert next_action(Board().view(), replace(refused, claim_sent_at=START), START) == Execute()


def test_holding_back_leaves_the_task_to_nodes_with_the_model() -> None:
    view = Board().view()
    at = claimable_from(view, fresh())
    assert at is not None
    assert next_action(view, fresh(hold_back_steps=2), at) == Wait(at + 10)
    assert next_action(view, fresh(hold_back_steps=2), at + 10) == Claim()
    assert next_action(view, fresh(hold_back_steps=50), at) == Forget(Why.NOT_MY_TURN)


def test_no_weight_no_claim() -> None:
    assert next_action(Board().view(), fresh(weight=0), START) == Forget(Why.NO_WEIGHT)
    assert next_action(replace(Board().view(), seed=None), fresh(), START) == Forget(Why.NO_WEIGHT)


def test_gossip_may_be_ahead_of_the_chain_for_a_while() -> None:
    view = replace(Board().view(), state=TaskState.UNKNOWN, state_since=0)
    assert next_action(view, fresh(), START + 119) == Wait(START + 120)
    assert next_action(view, fresh(), START + 120) == Forget(Why.NOT_ON_CHAIN)


def test_a_hold_without_a_ruling_is_ended() -> None:
    board = Board()
    board.now += 55
    board.claim(ME)
    board.commit(ME)
    board.hold()
    assert next_action(board.view(), fresh(), board.now) == Wait(board.now + 41)
    assert next_requester_action(board.view(), board.now, fetched=True) == Wait(board.now + 41)
    assert next_action(board.view(), fresh(), board.now + 41) == Expire()


def test_the_states_have_the_contracts_numbers() -> None:
    names = ["UNKNOWN", "SUBMITTED", "CLAIMED", "COMMITTED", "SETTLED", "CANCELLED", "EXPIRED", "HELD"]
    assert [TaskState(number).name for number in range(8)] == names
    assert {state for state in TaskState if state.terminal} == {
        TaskState.SETTLED, TaskState.CANCELLED, TaskState.EXPIRED
    }  # fmt: skip


def test_a_board_without_steps_is_no_board() -> None:
    with pytest.raises(EncodingInvalid):
        replace(Board().view(), sortition_step_s=0)
