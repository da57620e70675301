"""The whole draw of a task: who may claim when, and who lets whom go first."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from gesso_protocol.draw import MOST_STEPS, Draw
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
