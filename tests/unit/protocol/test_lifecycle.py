"""The lifecycle rules against a model of the board: legal, total, and always bound for an end.

Everything here is driven through the board: an action that it would refuse is a failure of the rules.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.fields import TaskKind
from gesso_protocol.ids import Address
from gesso_protocol.lifecycle import (
    Claim,
    Commit,
    Execute,
    Expire,
    Forget,
    GoOn,
    NodeAction,
    NodeMemory,
    Patience,
    Settle,
    Stop,
    TaskRecord,
    TaskState,
    Wait,
    Why,
    next_action,
    next_requester_action,
)
from gesso_protocol.money import BPS
from gesso_protocol.policy import Refusal
from gesso_protocol.terms import Terms

from .lifecycle_board import (
    ME,
    OTHER,
    PARAMS,
    ROOTS,
    START,
    Board,
    fresh,
    histories,
    let_others,
    some_terms,
    windows,
)


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
