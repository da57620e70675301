"""Segments, the trace's layout and the metric of a re-run: exact places, honest rounding passes, cheats do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso_protocol import merkle
from gesso_protocol.audit.outcomes import Ballot
from gesso_protocol.audit.projection import differ, project
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.audit.verdict import Decision, vote
from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.ids import Address, BlobRef, TaskId
from gesso_protocol.trace import Binding, LeafKind, Slot, opened, trace_leaves, trace_root
from gesso_protocol.training.audit import (
    FOLD,
    LIMIT_FP32,
    Outcome,
    SegmentReport,
    TrainingVerdict,
    compared_slots,
    fingerprint,
    input_slots,
    judge_segment,
    loss_error,
    segments_to_check,
    update_error,
)
from gesso_protocol.training.moments import moments_error
from gesso_protocol.training.presets import make_training
from gesso_protocol.training.spec import TrainLora
from gesso_protocol.training.trace import TrainingLayout, segments
from gesso_protocol.training.verdict import RunInspection, judge_run

RUN = Binding(1, Address("0x" + "11" * 20), TaskId(bytes(32)), Address("0x" + "22" * 20), bytes(32))
RNG = np.random.default_rng(3)
START = {"a": RNG.normal(size=(4, 8)).astype(np.float32), "b": RNG.normal(size=(8, 4)).astype(np.float32)}
MOVE = {name: RNG.normal(size=array.shape).astype(np.float32) * 1e-2 for name, array in START.items()}
END = {name: array + MOVE[name] for name, array in START.items()}

FIRST = {name: (array * np.float32(1e-3)).astype(np.float32) for name, array in MOVE.items()}
SECOND = {name: (array**2).astype(np.float32) for name, array in MOVE.items()}


@dataclass(frozen=True)
class Ended:
    """A segment's end; moments as they are unless a test says otherwise."""

    weights: dict[str, np.ndarray]  # type: ignore[type-arg]
    first: dict[str, np.ndarray]  # type: ignore[type-arg]
    second: dict[str, np.ndarray]  # type: ignore[type-arg]


OURS = Ended(END, FIRST, SECOND)


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
    chosen, count = segments_to_check(challenge, spec(steps=steps), steps), -(-steps // 20)
    assert len(chosen) == len(set(chosen)) == (2 if count > 3 else 1)
    assert list(chosen) == sorted(chosen, key=lambda one: one.number)
    assert chosen == segments_to_check(challenge, spec(steps=steps), steps)
    opened = {slot.step for slot in input_slots(chosen) if slot.kind is LeafKind.CHECKPOINT}
    assert opened.isdisjoint({one.number + 1 for one in chosen}), "no start gives away a checked end"
    assert {slot.step for slot in compared_slots(chosen, count)} >= {0, count, *opened}


def test_every_segment_is_drawn_alike() -> None:
    for steps, least, most in ((100, 700, 900), (60, 590, 745), (40, 900, 1100)):
        challenges = (at.to_bytes(32, "big") for at in range(2000))
        seen = [one.number for drawn in challenges for one in segments_to_check(drawn, spec(steps=steps), steps)]
        assert all(least < seen.count(number) < most for number in range(steps // 20))
    assert segments_to_check(bytes(32), spec(), 0) == ()
    with pytest.raises(EncodingInvalid):
        segments_to_check(b"", spec(), 50)


def judged(theirs: dict[str, np.ndarray], losses: tuple[float, ...] = (0.1, 0.2), **changes: object) -> TrainingVerdict:  # type: ignore[type-arg]
    one = segments(spec())[0]
    return judge_segment(spec(**changes), one, START, replace(OURS, weights=theirs), OURS, losses, (0.1, 0.2)).verdict


def test_honest_rounding_passes_and_cheats_do_not() -> None:
    rounded = {name: array * np.float32(1 + 1e-7) for name, array in END.items()}
    assert update_error(START, rounded, END) < LIMIT_FP32 / 3
    assert judged(rounded) is TrainingVerdict.PASS
    for share in (0.0, 0.9, 0.99, 1.05):
        cheat = {name: START[name] + np.float32(share) * MOVE[name] for name in START}
        assert update_error(START, cheat, END) == pytest.approx(abs(1 - share), rel=1e-2)
        assert judged(cheat) is TrainingVerdict.FLAG


def scaled(arrays: dict[str, np.ndarray], factor: float) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    return {name: (array * np.float32(factor)).astype(np.float32) for name, array in arrays.items()}


def verdict_of(theirs: Ended, ours: Ended = OURS, **changes: object) -> TrainingVerdict:
    losses = (0.1, 0.2)
    return judge_segment(spec(**changes), segments(spec())[0], START, theirs, ours, losses, losses).verdict


def test_moments_that_steer_what_follows_are_a_flag() -> None:
    rounded = replace(OURS, first=scaled(FIRST, 1 + 1e-6), second=scaled(SECOND, 1 + 1e-6))
    assert 0 < moments_error(rounded, OURS) < LIMIT_FP32 / 3
    assert verdict_of(rounded) is TrainingVerdict.PASS
    forged = (
        replace(OURS, second=scaled(SECOND, 1e30)),
        replace(OURS, second=scaled(SECOND, 1.05)),
        replace(OURS, second=scaled(SECOND, 0)),
        replace(OURS, first=scaled(FIRST, 0)),
        replace(OURS, first=scaled(FIRST, -1)),
        replace(OURS, first=scaled(FIRST, 100), second=scaled(SECOND, 1e4)),
    )
    for cheat in forged:
        assert moments_error(cheat, OURS) > 3 * LIMIT_FP32
        assert verdict_of(cheat) is TrainingVerdict.FLAG
    assert verdict_of(forged[0], dtype="bf16") is TrainingVerdict.FLAG


def test_parameters_with_small_gradients_are_no_hiding_place() -> None:
    ours = Ended(END, {**FIRST, "b": FIRST["b"] * np.float32(1e-5)}, {**SECOND, "b": SECOND["b"] * np.float32(1e-10)})
    for cheat in (
        replace(ours, first={**ours.first, "b": -ours.first["b"]}),
        replace(ours, second={**ours.second, "b": ours.second["b"] * np.float32(1e6)}),
    ):
        assert verdict_of(cheat, ours) is TrainingVerdict.FLAG


def test_moments_of_nothing_are_like_each_other_only() -> None:
    nothing = replace(OURS, first=scaled(FIRST, 0), second=scaled(SECOND, 0))
    assert moments_error(nothing, nothing) == 0
    assert moments_error(OURS, nothing) > 1
    assert moments_error(Ended({}, {}, {}), Ended({}, {}, {})) == 0


@pytest.mark.parametrize("part", ["first", "second"])
@pytest.mark.parametrize(
    "change",
    [lambda a: {}, lambda a: {"a": a["a"]}, lambda a: {**a, "c": a["a"]}, lambda a: {**a, "a": a["a"].T},
     lambda a: {**a, "a": a["a"] * np.float32("nan")}, lambda a: {**a, "a": a["a"] * np.float32("inf")}],
)  # fmt: skip
def test_malformed_moments_are_infinitely_wrong(part: str, change: Callable[[Any], Any]) -> None:
    theirs = replace(OURS, **{part: change(getattr(OURS, part))})
    assert moments_error(theirs, OURS) == float("inf")
    below = replace(OURS, second=scaled(SECOND, -1))
    assert moments_error(below, OURS) == float("inf")


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


def test_updates_of_half_an_ulp_are_not_held_to_more_than_fp32_can_say() -> None:
    grain = {name: np.spacing(np.abs(array)) for name, array in START.items()}
    ours = {name: START[name] + grain[name] * (RNG.random(array.shape) < 0.5) for name, array in START.items()}
    for grains in (-1, 1, 2):
        honest = {name: array + np.float32(grains) * grain[name] for name, array in ours.items()}
        assert update_error(START, honest, ours) <= LIMIT_FP32
    beyond = {name: array + np.float32(4) * grain[name] for name, array in ours.items()}
    assert update_error(START, beyond, ours) > 3 * LIMIT_FP32
    idle = replace(OURS, weights=START, first=scaled(FIRST, 0.9))
    assert verdict_of(idle, replace(OURS, weights=ours)) is TrainingVerdict.FLAG, (
        "moments tell work that weights cannot"
    )


@pytest.mark.parametrize(
    "theirs",
    [{}, {"a": END["a"]}, {**END, "c": END["a"]}, {**END, "a": END["a"].T}, {**END, "a": END["a"] * np.float32("nan")},
     {**END, "a": END["a"] * np.float32("inf")}],
)  # fmt: skip
def test_malformed_weights_are_infinitely_wrong(theirs: dict[str, np.ndarray]) -> None:  # type: ignore[type-arg]
    assert update_error(START, theirs, END) == float("inf")
    assert judged(theirs) is TrainingVerdict.FLAG


def drifted(error: float, seed: int) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    """Another honest machine's end: off by this share of the update."""
    noise = {name: np.random.default_rng(seed).normal(size=array.shape) for name, array in MOVE.items()}
    size = np.sqrt(sum(float((part**2).sum()) for part in noise.values()))
    moved = np.sqrt(sum(float((part.astype(np.float64) ** 2).sum()) for part in MOVE.values()))
    return {name: (END[name] + error * moved / size * noise[name]).astype(np.float32) for name in END}


def test_honest_machines_agree_on_the_fingerprint_and_guessers_do_not() -> None:
    mine = fingerprint(b"\1" * 32, spec(), [(START, END), (END, START)])
    for seed in range(20):
        theirs = drifted(LIMIT_FP32, seed)
        assert differ(mine, fingerprint(b"\1" * 32, spec(), [(START, theirs), (END, START)])) < 32
    tolerance = AuditRules().projection_tolerance
    assert differ(mine, fingerprint(b"\2" * 32, spec(), [(START, END), (END, START)])) > tolerance
    assert differ(mine, fingerprint(b"\1" * 32, spec(), [(START, END), (END, END)])) > tolerance
    coarse = spec(dtype="bf16")
    own = fingerprint(b"\1" * 32, coarse, [(START, END)])
    assert differ(own, fingerprint(b"\1" * 32, coarse, [(START, drifted(0.4, 1))])) < tolerance


def test_a_large_update_is_folded_and_what_cannot_be_joined_is_refused() -> None:
    rng = np.random.default_rng(1)
    start = {"a": np.zeros(FOLD + 5, np.float32)}
    end = {"a": rng.normal(size=FOLD + 5).astype(np.float32)}
    folded = end["a"][:FOLD].astype(np.float64)
    folded[:5] += end["a"][FOLD:]
    assert fingerprint(bytes(32), spec(), [(start, end)]) == project(bytes(32), [folded])
    with pytest.raises(EncodingInvalid):
        fingerprint(bytes(32), spec(), [(START, {"a": END["a"]})])
    with pytest.raises(EncodingInvalid):
        fingerprint(bytes(32), spec(), [])


def report(error: float, losses: float = 0.0) -> SegmentReport:
    return SegmentReport(1, error, losses, LIMIT_FP32, TrainingVerdict.PASS)


def test_a_verdict_slashes_for_proof_and_for_calibrated_measures_only() -> None:
    fine = judge_run(RunInspection(spec(), calibrated=True, checks=1, reports=(report(2e-4),)))
    assert (fine.decision, fine.reasons, fine.max_error_of_limit) == (Decision.PASS, (), pytest.approx(0.2))
    for bad in (report(2e-3), report(0.0, 2e-4), report(float("inf")), report(float("nan")), report(0.0, float("nan"))):
        assert judge_run(RunInspection(spec(), calibrated=True, checks=1, reports=(bad,))).slashable
        loose = (RunInspection(spec(dtype="bf16"), calibrated=True, checks=1, reports=(replace(bad, error=9.0),)),
                 RunInspection(spec(), calibrated=False, checks=1, reports=(bad,)))  # fmt: skip
        assert all((judge_run(one).decision, judge_run(one).slashable) == (Decision.FLAG, False) for one in loose)
    steered = replace(report(0.0), moments_error=2e-3)
    assert judge_run(RunInspection(spec(), calibrated=True, checks=1, reports=(steered,))).slashable
    assert steered.of_limit == 2
    for fault in ("opening_wrong", "manifest_wrong", "start_wrong", "adapter_wrong", "share_wrong"):
        exact = RunInspection(spec(dtype="bf16"), calibrated=False, **{fault: "it is"})  # type: ignore[arg-type]
        assert judge_run(exact).slashable
    unseen = judge_run(RunInspection(spec(), calibrated=True, checks=2, reports=(report(0.0),)))
    assert unseen.decision is Decision.CANNOT_TELL


def test_correct_work_that_helps_nobody_is_noted_and_paid() -> None:
    useless = RunInspection(spec(), calibrated=True, checks=1, reports=(report(0.0),), outcome=Outcome(0.1, 0.2))
    verdict = judge_run(useless)
    assert (verdict.decision, vote(verdict)) == (Decision.PASS, Ballot.GOOD)
    assert "of no use" in str(verdict.reasons[0])


def test_the_outcome_gate() -> None:
    assert Outcome(0.2, 0.1).useful
    assert not Outcome(0.1, 0.1).useful
    assert not Outcome(0.1, float("nan")).useful
