"""Sortition: the threshold only rises, everybody's turn comes, and the two ways to ask agree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import Address, TaskId
from gesso_protocol.sortition import MAX_SCORE, may_claim, may_claim_at, score, seed_bytes, threshold

totals = st.integers(1, 2**64 - 1)
scores = st.integers(0, MAX_SCORE)
steps = st.integers(1, 600)
times = st.integers(0, 10**6)


@st.composite
def weights(draw: st.DrawFn) -> tuple[int, int]:
    total = draw(totals)
    return total, draw(st.integers(1, total))


@given(pair=weights(), step=steps, early=times, late=times)
def test_the_threshold_never_falls(pair: tuple[int, int], step: int, early: int, late: int) -> None:
    early, late = sorted((early, late))
    assert threshold(*pair, early, step) <= threshold(*pair, late, step) <= MAX_SCORE


@given(total=totals, step=steps, elapsed=times, data=st.data())
def test_more_weight_is_never_worse(total: int, step: int, elapsed: int, data: st.DataObject) -> None:
    light, heavy = sorted(data.draw(st.tuples(st.integers(0, total), st.integers(0, total))))
    assert threshold(total, light, elapsed, step) <= threshold(total, heavy, elapsed, step)


@given(pair=weights(), step=steps, elapsed=st.integers(0, 2000))
def test_it_doubles_every_step_until_it_saturates(pair: tuple[int, int], step: int, elapsed: int) -> None:
    now, then = threshold(*pair, elapsed, step), threshold(*pair, elapsed + step, step)
    assert then == min(MAX_SCORE, 2 * now)


@given(pair=weights(), step=steps, mine=scores)
def test_everybodys_turn_comes_and_is_known_beforehand(pair: tuple[int, int], step: int, mine: int) -> None:
    at = may_claim_at(mine, *pair, step)
    assert at is not None
    assert at <= 256 * step
    assert may_claim(mine, *pair, at, step)
    assert may_claim(mine, *pair, at + step, step)
    if at:
        assert not may_claim(mine, *pair, at - 1, step)


@given(mine=scores, total=st.integers(0, 10), step=steps, elapsed=times)
def test_without_weight_never(mine: int, total: int, step: int, elapsed: int) -> None:
    assert may_claim_at(mine, total, 0, step) is None
    assert not may_claim(0, total, 0, elapsed, step)
    assert threshold(total, 0, elapsed, step) == 0
    assert may_claim_at(mine, 0, 5, step) is None


def test_at_first_one_node_is_expected() -> None:
    # over many tasks, 50 equal nodes have one eligible node a task on average at the first moment
    nodes = [Address.from_bytes(keccak256(bytes([n]))[:20]) for n in range(50)]
    limit = threshold(50, 1, 0, 5)
    tasks = [TaskId(keccak256(n.to_bytes(4, "big"))) for n in range(400)]
    eligible = sum(score(bytes(16), task, node) <= limit for task in tasks for node in nodes)
    assert 0.85 * 400 < eligible < 1.15 * 400


def test_the_score_is_what_the_contract_hashes() -> None:
    task, node = TaskId(bytes(range(32))), Address.from_bytes(bytes(range(20)))
    expected = keccak256((7).to_bytes(16, "big") + bytes(range(32)) + bytes(range(20)))
    assert score(seed_bytes(7), task, node) == int.from_bytes(expected, "big")


def test_malformed() -> None:
    with pytest.raises(EncodingInvalid):
        score(b"short", TaskId(bytes(32)), Address.from_bytes(bytes(20)))
    for seed in (-1, 1 << 128):
        with pytest.raises(EncodingInvalid):
            seed_bytes(seed)
    with pytest.raises(EncodingInvalid):
        threshold(1, 1, 0, 0)
    assert may_claim_at(MAX_SCORE + 1, 1, 1, 1) is None
    assert threshold(1, 2, 0, 1) == MAX_SCORE  # weights that do not add up cannot overflow
