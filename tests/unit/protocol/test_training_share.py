"""The share of a training: never more than was done, and never less than all without a reason."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso_protocol.errors import UsageError
from gesso_protocol.ids import BlobRef, TaskId
from gesso_protocol.money import BPS
from gesso_protocol.spec import TrainLora
from gesso_protocol.training.checkpoint import Resume
from gesso_protocol.training.share import late_from, share_fault, share_of, updates_of

SPEC = TrainLora(model="m@1", dataset=BlobRef(bytes(32)), steps=400, resolution=64, bucket_step_px=8)


def rest_of(spec: TrainLora, step: int) -> TrainLora:
    return spec.rest(Resume(task=TaskId(bytes(32)), seed="00" * 32, step=step, state=BlobRef(bytes(32)), size=9))


@st.composite
def trainings(draw: st.DrawFn) -> TrainLora:
    steps = draw(st.integers(1, 300))
    fields: dict[str, Any] = {
        "steps": steps,
        "batch": draw(st.integers(1, 4)),
        "checkpoint_every": draw(st.integers(1, 40)),
        "sample_prompts": ("a", "b")[: draw(st.integers(0, 2))],
        "sample_every": draw(st.sampled_from((0, 7, 20))),
        "sample_steps": draw(st.integers(1, 100)),
    }
    spec = SPEC.changed(**fields)
    starts = range(0, steps, spec.checkpoint_every)
    start = draw(st.sampled_from(starts))
    return rest_of(spec, start) if start else spec


@given(spec=trainings(), data=st.data(), asked=st.booleans(), broke=st.none() | st.booleans())
def test_an_honest_node_is_never_at_fault(
    spec: TrainLora, data: st.DataObject, asked: bool, broke: bool | None
) -> None:
    done = data.draw(st.integers(spec.first_step, spec.steps))
    claimed = data.draw(st.integers(0, share_of(spec, done)))
    fault = share_fault(claimed, spec, done, stop_requested=asked, broke=broke)
    assert bool(fault) == (done < spec.steps and not asked and broke is False)


@given(spec=trainings(), data=st.data(), asked=st.booleans(), broke=st.none() | st.booleans())
def test_more_than_was_done_is_a_fault(spec: TrainLora, data: st.DataObject, asked: bool, broke: bool | None) -> None:
    done = data.draw(st.integers(spec.first_step, spec.steps - 1))
    claimed = data.draw(st.integers(share_of(spec, done) + 1, BPS))
    fault = share_fault(claimed, spec, done, stop_requested=asked, broke=broke)
    assert f"{done - spec.first_step} of {spec.steps - spec.first_step} updates" in fault


@given(spec=trainings())
def test_a_share_grows_with_the_work_and_says_where_the_run_ended(spec: TrainLora) -> None:
    ends = list(range(spec.first_step, spec.steps, spec.checkpoint_every))
    shares = [share_of(spec, end) for end in ends]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert share_of(spec, spec.steps) == BPS
    assert [share_of(spec, updates_of(spec, share)) for share in shares] == shares
    assert -(-spec.passes(spec.steps) // 2) * spec.resolution**2 == spec.pixel_steps


def test_what_is_drawn_counts_like_what_is_trained() -> None:
    spec = SPEC.changed(steps=20, checkpoint_every=1, sample_prompts=("a",) * 4, sample_steps=100)
    assert share_of(spec, 1) == (3 + 800) * BPS // (60 + 800), "last samples are drawn in any case"
    often = spec.changed(sample_every=10)
    assert [share_of(often, done) for done in (9, 10, 19, 20)] == [
        827 * BPS // 1660, 1630 * BPS // 1660, 1657 * BPS // 1660, BPS
    ]  # fmt: skip
    for done in (-1, 21):
        with pytest.raises(UsageError):
            share_of(spec, done)


def test_a_part_at_the_end_of_its_window_needs_no_other_reason() -> None:
    part: dict[str, Any] = {"stop_requested": False, "broke": False}
    assert share_fault(2500, SPEC, 100, **part)
    assert not share_fault(2500, SPEC, 100, **part, late=True)
    assert share_fault(2501, SPEC, 100, **part, late=True)
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
    fault = share_fault(claimed, SPEC, done, stop_requested=asked, broke=broke)
    assert says in fault
    assert bool(fault) == bool(says)
