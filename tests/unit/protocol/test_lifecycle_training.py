"""A node that trains: asked to stop, late, cut off; it commits what it has."""

from __future__ import annotations

from dataclasses import replace

from gesso_protocol.fields import TaskKind
from gesso_protocol.lifecycle import (
    Commit,
    Execute,
    GoOn,
    Stop,
    Wait,
    next_action,
)

from .lifecycle_board import (
    ME,
    ROOTS,
    START,
    Board,
    fresh,
    some_terms,
)


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
