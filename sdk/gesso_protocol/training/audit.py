"""Judging a re-run segment: how far the node's end is from ours, measured by how far the segment moved.

`r = |ours - theirs| / |ours - start|` over all trained weights. Honest fp32 differs by kernels and threads only and
stays below a third of the limit; the weakest known cheat is seventy times above it. Both moments of the optimiser are
held to a limit as well (`moments`): the next segment is re-run from the node's own. bf16 cannot be told from a base
in int8, so bf16 runs are only loosely checked and are labelled so.

What an auditor seals before it sees the node's ends is a fingerprint of its own updates, 16 numbers as for pictures.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gesso_protocol.audit.compare import Tensor
from gesso_protocol.audit.projection import project
from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.trace import LeafKind, Slot
from gesso_protocol.training.moments import End, moments_error
from gesso_protocol.training.spec import TrainLora
from gesso_protocol.training.trace import Segment, segments

Weights = Mapping[str, NDArray[np.float32]]

LIMIT_FP32 = 1e-3
LIMIT_BF16 = 0.5
LOSS_LIMIT_FP32 = 1e-4
"""Mean relative difference of the losses of a segment; a nearly free second look."""
MAX_SEGMENTS = 2
FOLD = 1 << 20
"""An update of more numbers is folded before it is projected: number i is added to place i mod 2^20."""
LOOSE_UNITS = 64
"""Fingerprints of loosely checked runs are so many times coarser: honest bf16 machines must agree on them."""
GATE_DRAWS = 8
"""Draws that the outcome is measured on: those of the updates that would follow, which nobody learnt from."""
GRAINS = 2
"""Distances of so many units in the last place of our own weight count as none: an update of half such a unit, which
a requester may order, is rounded one way here and the other way there."""
_TINY = 1e-12


class TrainingVerdict(enum.StrEnum):
    """What a re-run says. `LOOSE`: nothing found, but this dtype hides small cheats."""

    PASS = "pass"  # noqa: S105 - not a password
    LOOSE = "loose"
    FLAG = "flag"


@dataclass(frozen=True, slots=True)
class SegmentReport:
    """One re-run segment. `error` is relative to the update; `loss_error` the mean relative difference of losses;
    `moments_error` that of `moments`, under the same limit."""

    segment: int
    error: float
    loss_error: float
    limit: float
    verdict: TrainingVerdict
    moments_error: float = 0.0

    @property
    def of_limit(self) -> float:
        """The larger error as a share of the limit; above 1 is a flag."""
        return max(self.error, self.moments_error) / self.limit


def segments_to_check(challenge: bytes, spec: TrainLora, done: int) -> tuple[Segment, ...]:
    """The segments that an audit re-runs, drawn from the 32-byte challenge, in the run's order: at most two.

    Never neighbours, because the start of the one would give away the end of the other; the last counts as neighbour
    of the first, so that all are drawn alike. A run of up to three segments has one of them checked.
    """
    if len(challenge) != 32:
        raise EncodingInvalid("a challenge has 32 bytes")
    every = segments(spec, done)
    keys = {one: hashlib.sha256(challenge + one.number.to_bytes(4, "big")).digest() for one in every}
    chosen: list[Segment] = []
    for one in sorted(every, key=keys.__getitem__):
        if len(chosen) < MAX_SEGMENTS and not any(_neighbours(one, other, len(every)) for other in chosen):
            chosen.append(one)
    return tuple(sorted(chosen, key=lambda one: one.number))


def _neighbours(one: Segment, other: Segment, count: int) -> bool:
    return (one.number - other.number) % count in (1, count - 1)


def input_slots(checks: tuple[Segment, ...]) -> tuple[Slot, ...]:
    """The leaves that phase `inputs` opens: what was trained on which data, and what the drawn segments start from."""
    starts = tuple(Slot(LeafKind.CHECKPOINT, step=one.number) for one in checks)
    return (Slot(LeafKind.MANIFEST), Slot(LeafKind.DATASET), *starts)


def compared_slots(checks: tuple[Segment, ...], count: int) -> tuple[Slot, ...]:
    """The checkpoints that an audit of a trace with `count` segments looks into: first, last, and the checked ones."""
    numbers = {0, count, *(one.number for one in checks), *(one.number + 1 for one in checks)}
    return tuple(Slot(LeafKind.CHECKPOINT, step=number) for number in sorted(numbers))


def gate_draws(spec: TrainLora) -> tuple[int, ...]:
    """Updates whose draws the outcome is measured on."""
    return tuple(range(spec.steps, spec.steps + GATE_DRAWS))


def fingerprint(challenge: bytes, spec: TrainLora, updates: Sequence[tuple[Weights, Weights]]) -> tuple[int, ...]:
    """16 int16 of what the checked segments learnt: (start, end) of each, in order. Raises `EncodingInvalid` for none.

    An update is end - start of every parameter, sorted by name and joined; then as in `projection.project`.
    """
    numbers = project(challenge, [_update(start, end) for start, end in updates])
    return numbers if spec.audited else tuple(round(number / LOOSE_UNITS) for number in numbers)


def _update(start: Weights, end: Weights) -> Tensor:
    if set(start) != set(end) or any(start[name].shape != end[name].shape for name in start):
        raise EncodingInvalid("a segment starts and ends with the same parameters")
    with np.errstate(invalid="ignore", over="ignore"):
        parts = [(end[name].astype(np.float64) - start[name]).ravel() for name in sorted(start)]
    joined = np.concatenate(parts) if parts else np.zeros(1)
    if joined.size <= FOLD:
        return joined
    padded = np.pad(joined, (0, -joined.size % FOLD))
    folded: Tensor = padded.reshape(-1, FOLD).sum(axis=0)
    return folded


def update_error(start: Weights, theirs: Weights, ours: Weights) -> float:
    """Relative error of a segment's end. Infinite when names or shapes differ or something is not a number."""
    if not set(start) == set(theirs) == set(ours):
        return float("inf")
    apart = moved = 0.0
    for name, own in ours.items():
        if own.shape != theirs[name].shape or own.shape != start[name].shape:
            return float("inf")
        wide = own.astype(np.float64)
        with np.errstate(invalid="ignore"):
            beyond = np.abs(wide - theirs[name]) - GRAINS * np.spacing(np.abs(own)).astype(np.float64)
        apart += float((np.maximum(beyond, 0) ** 2).sum())
        moved += float(((wide - start[name]) ** 2).sum())
    ratio = (apart / max(moved, _TINY**2)) ** 0.5
    return ratio if np.isfinite(ratio) else float("inf")


def loss_error(theirs: tuple[float, ...], ours: tuple[float, ...]) -> float:
    """Mean relative difference of two logs of losses; infinite when their lengths differ."""
    if len(theirs) != len(ours) or not ours:
        return float("inf")
    differences = [abs(a - b) / max(abs(b), _TINY) for a, b in zip(theirs, ours, strict=True)]
    mean = sum(differences) / len(differences)
    return mean if np.isfinite(mean) else float("inf")


def judge_segment(
    spec: TrainLora, segment: Segment, start: Weights, theirs: End, ours: End,
    their_losses: tuple[float, ...], our_losses: tuple[float, ...],
) -> SegmentReport:  # fmt: skip
    """The verdict on one segment that was re-run from the node's own start state."""
    limit = LIMIT_FP32 if spec.dtype == "fp32" else LIMIT_BF16
    error, losses = update_error(start, theirs.weights, ours.weights), loss_error(their_losses, our_losses)
    moments = moments_error(theirs, ours)
    fine = max(error, moments) <= limit and (spec.dtype != "fp32" or losses <= LOSS_LIMIT_FP32)
    verdict = TrainingVerdict.FLAG if not fine else TrainingVerdict.PASS if spec.audited else TrainingVerdict.LOOSE
    return SegmentReport(segment.number, error, losses, limit, verdict, moments)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Held-out loss of the base and of the trained adapter on the same draws."""

    base_loss: float
    trained_loss: float

    @property
    def useful(self) -> bool:
        """Whether training helped at all: correct work can still be worthless work."""
        return self.trained_loss < self.base_loss
