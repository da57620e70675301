"""Segments, the trace's layout and the metric of a re-run: exact places, honest rounding passes, cheats do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso_protocol import merkle
from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.ids import Address, BlobRef, TaskId
from gesso_protocol.trace import Binding, LeafKind, Slot, opened, trace_leaves, trace_root
from gesso_protocol.training.audit import (
    LIMIT_FP32,
    Outcome,
    TrainingVerdict,
    judge_segment,
    loss_error,
    segments_to_check,
    update_error,
)
from gesso_protocol.training.presets import make_training
from gesso_protocol.training.spec import TrainLora
from gesso_protocol.training.trace import TrainingLayout, segments

RUN = Binding(1, Address("0x" + "11" * 20), TaskId(bytes(32)), Address("0x" + "22" * 20), bytes(32))
RNG = np.random.default_rng(3)
START = {"a": RNG.normal(size=(4, 8)).astype(np.float32), "b": RNG.normal(size=(8, 4)).astype(np.float32)}
MOVE = {name: RNG.normal(size=array.shape).astype(np.float32) * 1e-2 for name, array in START.items()}
END = {name: array + MOVE[name] for name, array in START.items()}


def spec(**changes: object) -> TrainLora:
    return make_training("gesso-tiny@1", dataset=BlobRef(bytes(32)), **{"steps": 50, "checkpoint_every": 20, **changes})


def test_segments_cover_the_run() -> None:
    assert [(one.first, one.last) for one in segments(spec())] == [(0, 20), (20, 40), (40, 50)]
    assert [(one.first, one.last) for one in segments(spec(), 33)] == [(0, 20), (20, 33)]
    assert segments(spec(), 0) == ()


@given(steps=st.integers(1, 300), every=st.integers(1, 40), share=st.floats(0, 1))
def test_every_leaf_has_one_place(steps: int, every: int, share: float) -> None:
    layout = TrainingLayout.for_run(spec(steps=steps, checkpoint_every=every), int(steps * share))
    slots = list(layout.slots())
    assert len(set(slots)) == layout.count == len(slots)
    assert [layout.position(slot) for slot in slots] == list(range(layout.count))
    assert slots[0].kind is LeafKind.MANIFEST
    assert slots[-1].kind is LeafKind.FILE
    assert sum(slot.kind is LeafKind.CHECKPOINT for slot in slots) == layout.steps + 1
    for wrong in (Slot(LeafKind.LATENT), Slot(LeafKind.CHECKPOINT, step=layout.steps + 1), Slot(LeafKind.LOSSES, 1)):
        with pytest.raises(EncodingInvalid):
            layout.position(wrong)


def test_a_checkpoint_is_opened_against_the_root() -> None:
    layout = TrainingLayout.for_run(spec())
    digests = {slot: bytes([at]) * 32 for at, slot in enumerate(layout.slots())}
    leaves = trace_leaves(RUN, layout, digests)
    root, slot = trace_root(leaves), Slot(LeafKind.CHECKPOINT, step=2)
    at = layout.position(slot)
    proof = merkle.proof(leaves, at)
    assert opened(root, RUN, layout, at, digests[slot], RUN.salt(slot), proof)
    assert not opened(root, RUN, layout, at, bytes(32), RUN.salt(slot), proof)
    assert not opened(root, RUN, layout, at - 2, digests[slot], RUN.salt(slot), proof)


@given(challenge=st.binary(min_size=32, max_size=32), steps=st.integers(1, 400))
def test_an_audit_checks_distinct_segments(challenge: bytes, steps: int) -> None:
    chosen = segments_to_check(challenge, spec(steps=steps), steps)
    assert len(chosen) == len(set(chosen)) == min(2, -(-steps // 20))
    assert list(chosen) == sorted(chosen, key=lambda one: one.number)
    assert chosen == segments_to_check(challenge, spec(steps=steps), steps)


def test_every_segment_is_drawn_alike() -> None:
    seen = [one.number for at in range(2000) for one in segments_to_check(at.to_bytes(32, "big"), spec(steps=100), 100)]
    assert all(700 < seen.count(number) < 900 for number in range(5))
    with pytest.raises(EncodingInvalid):
        segments_to_check(b"", spec(), 50)


def judged(theirs: dict[str, np.ndarray], losses: tuple[float, ...] = (0.1, 0.2), **changes: object) -> TrainingVerdict:  # type: ignore[type-arg]
    one = segments(spec())[0]
    return judge_segment(spec(**changes), one, START, theirs, END, losses, (0.1, 0.2)).verdict


def test_honest_rounding_passes_and_cheats_do_not() -> None:
    rounded = {name: array * np.float32(1 + 1e-7) for name, array in END.items()}
    assert update_error(START, rounded, END) < LIMIT_FP32 / 3
    assert judged(rounded) is TrainingVerdict.PASS
    for share in (0.0, 0.9, 0.99, 1.05):
        cheat = {name: START[name] + np.float32(share) * MOVE[name] for name in START}
        assert update_error(START, cheat, END) == pytest.approx(abs(1 - share), rel=1e-2)
        assert judged(cheat) is TrainingVerdict.FLAG


def test_other_losses_are_a_flag_of_their_own() -> None:
    assert judged(END, (0.1, 0.2001)) is TrainingVerdict.FLAG
    assert judged(END, (0.1,)) is TrainingVerdict.FLAG
    assert judged(END, (0.1, float("nan"))) is TrainingVerdict.FLAG
    assert loss_error((), ()) == float("inf")


def test_bf16_and_long_segments_are_loosely_checked_only() -> None:
    assert judged(END, dtype="bf16") is TrainingVerdict.LOOSE
    assert judged(END, checkpoint_every=25) is TrainingVerdict.LOOSE
    half = {name: START[name] + np.float32(0.3) * MOVE[name] for name in START}
    assert judged(half, dtype="bf16") is TrainingVerdict.FLAG


@pytest.mark.parametrize(
    "theirs",
    [{}, {"a": END["a"]}, {**END, "c": END["a"]}, {**END, "a": END["a"].T}, {**END, "a": END["a"] * np.float32("nan")},
     {**END, "a": END["a"] * np.float32("inf")}],
)  # fmt: skip
def test_malformed_weights_are_infinitely_wrong(theirs: dict[str, np.ndarray]) -> None:  # type: ignore[type-arg]
    assert update_error(START, theirs, END) == float("inf")
    assert judged(theirs) is TrainingVerdict.FLAG


def test_the_outcome_gate() -> None:
    assert Outcome(0.2, 0.1).useful
    assert not Outcome(0.1, 0.1).useful
    assert not Outcome(0.1, float("nan")).useful
