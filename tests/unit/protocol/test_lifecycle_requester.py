"""A requester and the board: it gets its picture or its money back, whatever the others do."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gesso_protocol.fields import TaskKind
from gesso_protocol.lifecycle import (
    Cancel,
    Done,
    Expire,
    Fetch,
    RequesterAction,
    RequestStop,
    Settle,
    TaskState,
    Wait,
    next_requester_action,
)
from gesso_protocol.terms import Terms

from .lifecycle_board import (
    ME,
    PARAMS,
    START,
    Board,
    histories,
    let_others,
    some_terms,
    windows,
)


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
