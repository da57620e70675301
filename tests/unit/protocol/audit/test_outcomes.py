"""What a jury's votes come to, and that nobody brings a fee back alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso_protocol.audit.outcomes import DisputeOutcome, appeal_won, first_outcome, second_outcome

GUILTY, INNOCENT, UNDECIDED, UPHELD, UNHEARD = (
    DisputeOutcome.GUILTY, DisputeOutcome.INNOCENT, DisputeOutcome.UNDECIDED, DisputeOutcome.UPHELD,
    DisputeOutcome.UNHEARD,
)  # fmt: skip
PRODUCTION = 14


@pytest.mark.parametrize(
    ("good", "bad", "neither", "accusers", "outcome"),
    [
        (0, 14, 7, 0, GUILTY),
        (14, 7, 0, 2, INNOCENT),
        (0, 7, 14, 0, UNDECIDED),
        (13, 6, 2, 0, UPHELD),
        (0, 6, 15, 1, UPHELD),
        (0, 0, 21, 2, UNDECIDED),
        (0, 0, 0, 2, UNDECIDED),
        (13, 0, 0, 0, UNHEARD),
        (0, 6, 7, 1, UNHEARD),
        (0, 7, 0, 0, UNDECIDED),
        (0, 0, 0, 0, UNHEARD),
    ],
)
def test_the_table(good: int, bad: int, neither: int, accusers: int, outcome: DisputeOutcome) -> None:
    revealed = good + bad + neither
    assert first_outcome(good=good, bad=bad, revealed=revealed, quorum=PRODUCTION, accusers=accusers) is outcome


@pytest.mark.parametrize("quorum", range(2, 41))
def test_one_vote_is_never_enough(quorum: int) -> None:
    for accusers in (0, 1):
        assert first_outcome(good=0, bad=1, revealed=quorum, quorum=quorum, accusers=accusers) is UPHELD
    if quorum > 2:
        half = (quorum + 1) // 2
        assert first_outcome(good=0, bad=half, revealed=half, quorum=quorum, accusers=0) is UNDECIDED


@given(st.integers(2, 40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 2))
def test_more_doubt_never_helps_the_node(quorum: int, good: int, bad: int, neither: int, accusers: int) -> None:
    """One more vote of bad instead of none, or one more accuser, and a node that was not paid is not paid still."""
    now = first_outcome(good=good, bad=bad, revealed=good + bad + neither, quorum=quorum, accusers=accusers)
    more = first_outcome(good=good, bad=bad + 1, revealed=good + bad + 1 + neither, quorum=quorum, accusers=accusers)
    doubted = first_outcome(good=good, bad=bad, revealed=good + bad + neither, quorum=quorum, accusers=accusers + 1)
    assert now.pays_node or not more.pays_node
    assert now.pays_node or not doubted.pays_node
    assert now.by_quorum == (max(good, bad) >= quorum)


@pytest.mark.parametrize(
    ("first", "good", "bad", "outcome"),
    [
        (GUILTY, 0, 20, GUILTY),
        (GUILTY, 20, 15, INNOCENT),
        (GUILTY, 0, 19, UNDECIDED),
        (GUILTY, 19, 0, UNDECIDED),
        (GUILTY, 0, 0, UNDECIDED),
        (INNOCENT, 0, 19, INNOCENT),
        (INNOCENT, 0, 20, GUILTY),
        (UNDECIDED, 0, 0, UNDECIDED),
        (UNDECIDED, 20, 0, INNOCENT),
        (UPHELD, 0, 19, UPHELD),
    ],
)
def test_a_conviction_takes_both_quorums(first: DisputeOutcome, good: int, bad: int, outcome: DisputeOutcome) -> None:
    assert second_outcome(first, good=good, bad=bad, quorum=20) is outcome


@given(
    st.sampled_from([GUILTY, INNOCENT, UNDECIDED, UPHELD]), st.integers(2, 40), st.integers(0, 40), st.integers(0, 40)
)
def test_no_appeal_without_a_quorum_pays_anybody(first: DisputeOutcome, quorum: int, good: int, bad: int) -> None:
    """Neither a guilty node, which would appeal to every jury that is too small, nor who accused a good one."""
    found = second_outcome(first, good=good, bad=bad, quorum=quorum)
    assert (found is GUILTY) == (bad >= quorum)
    if max(good, bad) < quorum:
        assert found is (UNDECIDED if first is GUILTY else first)
        assert not appeal_won(found, accused=first is GUILTY), "and its bond is lost"


def test_who_is_paid() -> None:
    assert {outcome for outcome in DisputeOutcome if outcome.pays_node} == {INNOCENT, UPHELD, UNHEARD}
    assert {outcome for outcome in DisputeOutcome if outcome.by_quorum} == {GUILTY, INNOCENT}
