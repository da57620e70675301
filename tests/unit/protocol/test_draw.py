"""The whole draw of a task: who may claim when, and who lets whom go first."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor, inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso_protocol.draw import BLOCKS_A_TURN, MOST_STEPS, STEPS_A_TURN, Draw, turn_of
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import Address, TaskId
from gesso_protocol.sortition import may_claim_at, score

SEED = bytes(range(16))
STEP_S = 4
NODES = [Address("0x" + f"{number:02x}" * 20) for number in range(1, 9)]


def a_task(number: int) -> TaskId:
    return TaskId(keccak256(number.to_bytes(8, "big")))


def drawn(task: TaskId, weights: Mapping[Address, int]) -> Draw:
    return Draw.of(SEED, task, weights, sum(weights.values()), STEP_S)


weights_of = st.dictionaries(st.sampled_from(NODES), st.integers(0, 1000), min_size=1)
tasks = st.integers(0, 10**6).map(a_task)


@given(tasks, weights_of)
def test_places_are_the_contracts_answers_in_order(task: TaskId, weights: dict[Address, int]) -> None:
    draw = drawn(task, weights)
    total = sum(weights.values())
    told = {place.node: place.after_s for place in draw.places}
    for node, weight in weights.items():
        assert told.get(node) == may_claim_at(score(SEED, task, node), total, weight, STEP_S)
    assert list(told.values()) == sorted(told.values())


@given(tasks, weights_of, st.sampled_from(NODES))
def test_nobody_else_may_claim_before_others_from(task: TaskId, weights: dict[Address, int], me: Address) -> None:
    rest = [place.after_s for place in drawn(task, weights).places if place.node != me]
    assert drawn(task, weights).others_from(me) == (min(rest) if rest else None)


@given(tasks, weights_of, st.sets(st.sampled_from(NODES)))
def test_politeness_is_bounded_and_nobody_is_polite_to_who_is_not_at_work(
    task: TaskId, weights: dict[Address, int], lively: set[Address]
) -> None:
    draw = drawn(task, weights)
    for place in draw.places:
        polite_s = draw.polite_from(place.node, lively)
        assert polite_s is not None
        assert place.after_s <= polite_s <= place.after_s + MOST_STEPS * STEP_S
        assert draw.polite_from(place.node, ()) == place.after_s
    assert draw.polite_from(Address("0x" + "ee" * 20), lively) is None


@given(tasks, weights_of)
def test_the_first_three_at_work_never_meet_in_a_step(task: TaskId, weights: dict[Address, int]) -> None:
    draw = drawn(task, weights)
    turns = [draw.polite_from(place.node, set(weights)) or 0 for place in draw.places[: MOST_STEPS + 1]]
    assert [turn // STEP_S for turn in turns] == sorted({turn // STEP_S for turn in turns})


def test_who_comes_before_us_in_an_earlier_step_has_had_its_turn() -> None:
    weights = dict.fromkeys(NODES, 1)
    for number in range(200):
        draw = drawn(a_task(number), weights)
        first, second = draw.places[:2]
        if first.after_s < second.after_s:
            assert draw.polite_from(second.node, {first.node}) == second.after_s
            return
    raise AssertionError("no such draw among these")


@pytest.mark.parametrize(("block_s", "turn_s"), [(0.0, 4), (2.0, 4), (2.1, 5), (4.0, 8), (1e6, 8), (inf, 4)])
def test_a_turn_has_two_blocks_but_a_chain_without_blocks_holds_nobody_up(block_s: float, turn_s: int) -> None:
    assert turn_of(STEP_S, block_s) == turn_s
    assert turn_s >= BLOCKS_A_TURN * block_s or turn_s in (STEP_S, STEPS_A_TURN * STEP_S)


some_nodes = st.sets(st.sampled_from(NODES))
turns = st.integers(STEP_S, STEPS_A_TURN * STEP_S)


@given(tasks, weights_of, st.sampled_from(NODES), some_nodes, some_nodes, turns)
def test_those_who_let_others_go_first_come_no_sooner_than_the_first_counts_on(
    task: TaskId, weights: dict[Address, int], me: Address, lively: set[Address], rude: set[Address], turn_s: int
) -> None:
    draw = drawn(task, weights)
    came = [
        place.after_s if place.node in rude else draw.polite_from(place.node, lively, turn_s) or 0
        for place in draw.places
        if place.node != me
    ]
    counted = draw.others_come(me, lively, rude, turn_s)
    assert (counted is None) == (not came)
    assert counted is None or counted <= min(came)
    assert counted == draw.others_from(me) or me in lively


measures = st.floats(0.25, 20.0)


@given(tasks, weights_of, st.sampled_from(NODES), measures, st.floats(0.95, 1.05))
def test_nobody_at_work_is_jumped_by_who_leaves_it_its_turn(
    task: TaskId, weights: dict[Address, int], node: Address, block_s: float, other_measure: float
) -> None:
    """Though it measures blocks a little otherwise than who judges it."""
    draw = drawn(task, weights)
    polite_s = draw.polite_from(node, set(weights), turn_of(STEP_S, block_s * other_measure))
    if polite_s is None:
        return
    mined_s = polite_s + floor(block_s)
    for known in (set(weights), set(list(weights)[1:]), set[Address]()):
        assert not draw.jumps(node, known, mined_s, block_s)


@pytest.mark.parametrize(("theirs_s", "ours_s"), [(2.0, 2.05), (3.0, 3.02), (2.98, 3.01), (2.0, 2.1)])
def test_measures_that_differ_make_nobody_rude(theirs_s: float, ours_s: float) -> None:
    draw = drawn(a_task(1), dict.fromkeys(NODES, 1))
    first, second = draw.places[:2]
    polite_s = draw.polite_from(second.node, {first.node}, turn_of(STEP_S, theirs_s))
    assert polite_s is not None
    assert turn_of(STEP_S, theirs_s) < turn_of(STEP_S, ours_s)
    assert not draw.jumps(second.node, {first.node}, polite_s, ours_s)
    assert draw.jumps(second.node, {first.node}, first.after_s + floor(ours_s), ours_s)


def test_who_claims_in_the_turn_of_the_first_jumps_it() -> None:
    draw = drawn(a_task(1), dict.fromkeys(NODES, 1))
    first, second = draw.places[:2]
    assert draw.jumps(second.node, {first.node}, first.after_s + 2, 2.0)
    assert not draw.jumps(second.node, {first.node}, first.after_s + STEP_S, 2.0)
    assert not draw.jumps(second.node, {second.node}, first.after_s, 2.0)
    assert not draw.jumps(first.node, set(NODES), 0, 2.0)
    assert not draw.jumps(second.node, {first.node}, first.after_s, inf)
