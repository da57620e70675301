"""The share of a training: never more than was done, and never less than all without a reason."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso_protocol.money import BPS, done_bps
from gesso_protocol.training.share import late_from, share_fault


@given(ordered=st.integers(1, 20_000), data=st.data(), asked=st.booleans(), broke=st.none() | st.booleans())
def test_an_honest_node_is_never_at_fault(ordered: int, data: st.DataObject, asked: bool, broke: bool | None) -> None:
    done = data.draw(st.integers(0, ordered))
    claimed = data.draw(st.integers(0, done_bps(done, ordered)))
    fault = share_fault(claimed, done=done, ordered=ordered, stop_requested=asked, broke=broke)
    assert bool(fault) == (done < ordered and not asked and broke is False)


@given(ordered=st.integers(1, 20_000), data=st.data(), asked=st.booleans(), broke=st.none() | st.booleans())
def test_more_than_was_done_is_a_fault(ordered: int, data: st.DataObject, asked: bool, broke: bool | None) -> None:
    done = data.draw(st.integers(0, ordered - 1))
    claimed = data.draw(st.integers(done_bps(done, ordered) + 1, BPS))
    fault = share_fault(claimed, done=done, ordered=ordered, stop_requested=asked, broke=broke)
    assert f"{done} of {ordered}" in fault


def test_a_part_at_the_end_of_its_window_needs_no_other_reason() -> None:
    part: dict[str, Any] = {"done": 100, "ordered": 400, "stop_requested": False, "broke": False}
    assert share_fault(2500, **part)
    assert not share_fault(2500, **part, late=True)
    assert share_fault(2501, **part, late=True)
    assert [late_from(1000, window) for window in (1, 9, 10, 600)] == [1001, 1009, 1009, 1540]


@pytest.mark.parametrize(
    ("claimed", "done", "asked", "broke", "says"),
    [
        (BPS, 400, False, False, ""),
        (BPS, 399, True, None, "100 % were claimed"),
        (2500, 100, True, False, ""),
        (2501, 100, True, False, "25.01 % were claimed"),
        (2500, 100, False, True, ""),
        (2500, 100, False, None, ""),
        (2500, 100, False, False, "nobody had asked"),
        (0, 0, False, True, ""),
        (0, 0, False, False, "nobody had asked"),
    ],
)
def test_shares_of_400_updates(claimed: int, done: int, asked: bool, broke: bool | None, says: str) -> None:
    fault = share_fault(claimed, done=done, ordered=400, stop_requested=asked, broke=broke)
    assert says in fault
    assert bool(fault) == bool(says)
