"""Whether and when a node claims, and what may go ahead of its claim."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, floor, inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso_protocol.fields import TaskKind
from gesso_protocol.lifecycle import (
    Cancel,
    Claim,
    Commit,
    Execute,
    Expire,
    Forget,
    NodeMemory,
    TaskState,
    Wait,
    Why,
    ahead_until,
    claimable_from,
    comes_first,
    next_action,
    next_requester_action,
    sure_until,
)
from gesso_protocol.policy import Refusal

from .lifecycle_board import (
    ME,
    OTHER,
    ROOTS,
    START,
    Board,
    fresh,
    some_terms,
)


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
        pytest.param(START, 6, {"others_from": START, "others_come": START + 1}, id="our turn is over in a block"),
    ],
)
def test_what_may_be_lost_is_not_handed_over(now: int, delay_s: int, changes: dict[str, Any]) -> None:
    view = replace(Board().view(), cancel_delay_s=delay_s)
    assert next_action(view, about_to_claim(**changes), now) == Wait(START + 7)


def test_a_picture_may_go_ahead_where_all_others_leave_us_two_blocks() -> None:
    view = replace(Board().view(), cancel_delay_s=6)
    first = about_to_claim(others_from=START, others_come=START + 2)
    assert next_action(view, first, START) == Commit(*ROOTS)
    assert next_action(view, first, START + 1) == Wait(START + 7)


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({"others_from": START + 2}, True),
        ({"others_from": START + 1}, False),
        ({"others_from": START, "others_come": START + 2}, True),
        ({"others_from": START, "leads": True}, True),
        ({"others_from": START + 100, "block_s": inf}, False),
        ({"others_from": 0}, False),
    ],
)
def test_a_claim_that_comes_first_is_two_blocks_ahead_of_all_others(changes: dict[str, Any], first: bool) -> None:
    assert comes_first(about_to_claim(**changes), START) is first


def test_no_training_goes_ahead_of_its_claim() -> None:
    view = replace(Board(terms=some_terms(kind=TaskKind.TRAIN_LORA)).view(), cancel_delay_s=6)
    assert next_action(view, about_to_claim(), START) == Wait(START + 7)


@given(
    delay_s=st.integers(0, 60),
    claim_s=st.integers(1, 60),
    others_s=st.integers(0, 60),
    come_s=st.integers(0, 60),
    now_s=st.integers(0, 60),
    block_s=st.floats(0, 30),
)
def test_whoever_hands_over_early_has_half_the_delay_and_two_blocks_left(
    delay_s: int, claim_s: int, others_s: int, come_s: int, now_s: int, block_s: float
) -> None:
    view = replace(Board(terms=some_terms(claim_s)).view(), cancel_delay_s=delay_s)
    come_s = max(others_s, come_s)
    memory = about_to_claim(others_from=START + others_s, others_come=START + come_s, block_s=block_s)
    until = sure_until(view, memory)
    assert until is None or until <= (ahead_until(view, block_s) or 0)
    if until is not None and START + now_s <= until:
        for later in range(now_s, now_s + max((delay_s + 1) // 2, floor(2 * block_s)) + 1):
            assert not isinstance(next_requester_action(view, START + later, cancel=True), Cancel | Expire)
            assert START + later < memory.others_from or now_s + ceil(2 * block_s) <= come_s


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
