"""Judging a re-run segment: how far the node's end is from ours, measured by how far the segment moved.

`r = |ours - theirs| / |ours - start|` over all trained weights. Honest fp32 differs by kernels and threads only and
stays below a third of the limit; the weakest known cheat is seventy times above it. bf16 cannot be told from a base
in int8, so bf16 runs are only loosely checked and are labelled so.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.training.spec import TrainLora
from gesso_protocol.training.trace import Segment, segments

Weights = Mapping[str, NDArray[np.float32]]

LIMIT_FP32 = 1e-3
LIMIT_BF16 = 0.5
LOSS_LIMIT_FP32 = 1e-4
"""Mean relative difference of the losses of a segment; a nearly free second look."""
_TINY = 1e-12


class TrainingVerdict(enum.StrEnum):
    """What a re-run says. `LOOSE`: nothing found, but this dtype hides small cheats."""

    PASS = "pass"  # noqa: S105
    LOOSE = "loose"
    FLAG = "flag"


@dataclass(frozen=True, slots=True)
class SegmentReport:
    """One re-run segment. `error` is relative to the update; `loss_error` the mean relative difference of losses."""

    segment: int
    error: float
    loss_error: float
    limit: float
    verdict: TrainingVerdict

    @property
    def of_limit(self) -> float:
        """The error as a share of the limit; above 1 is a flag."""
        return self.error / self.limit


def segments_to_check(challenge: bytes, spec: TrainLora, done: int, count: int = 2) -> tuple[Segment, ...]:
    """The segments that an audit re-runs: distinct, drawn from the 32-byte challenge, in the run's order."""
    if len(challenge) != 32:
        raise EncodingInvalid("a challenge has 32 bytes")
    every = segments(spec, done)
    keys = {one: hashlib.sha256(challenge + one.number.to_bytes(4, "big")).digest() for one in every}
    return tuple(sorted(sorted(every, key=keys.__getitem__)[:count], key=lambda one: one.number))


def update_error(start: Weights, theirs: Weights, ours: Weights) -> float:
    """Relative error of a segment's end. Infinite when names or shapes differ or something is not a number."""
    if not set(start) == set(theirs) == set(ours):
        return float("inf")
    apart = moved = 0.0
    for name, own in ours.items():
        if own.shape != theirs[name].shape or own.shape != start[name].shape:
            return float("inf")
        wide = own.astype(np.float64)
        apart += float(((wide - theirs[name]) ** 2).sum())
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
    spec: TrainLora, segment: Segment, start: Weights, theirs: Weights, ours: Weights,
    their_losses: tuple[float, ...], our_losses: tuple[float, ...],
) -> SegmentReport:  # fmt: skip
    """The verdict on one segment that was re-run from the node's own start state."""
    limit = LIMIT_FP32 if spec.dtype == "fp32" else LIMIT_BF16
    error, losses = update_error(start, theirs, ours), loss_error(their_losses, our_losses)
    fine = error <= limit and (spec.dtype != "fp32" or losses <= LOSS_LIMIT_FP32)
    verdict = TrainingVerdict.FLAG if not fine else TrainingVerdict.PASS if spec.audited else TrainingVerdict.LOOSE
    return SegmentReport(segment.number, error, losses, limit, verdict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Held-out loss of the base and of the trained adapter on the same draws."""

    base_loss: float
    trained_loss: float

    @property
    def useful(self) -> bool:
        """Whether training helped at all: correct work can still be worthless work."""
        return self.trained_loss < self.base_loss
