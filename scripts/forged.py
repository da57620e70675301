"""Trajectories that were not run: latents of one's own choice, joined by outputs that make the arithmetic right.

A forger knows the sampler, so the committed outputs always follow from the latents; what it cannot do without the model
is make these outputs look like a model's. For the tests and calibration of `gesso_protocol.audit.transitions`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gesso_protocol.audit.compare import Branches, Tensor
from gesso_protocol.audit.schedules import Schedule
from gesso_protocol.audit.transitions import OpenedPicture

F64 = npt.NDArray[np.float64]


def joined(
    base: OpenedPicture, latents: Sequence[F64], schedule: Schedule, guidance: float, *, push: bool = False
) -> OpenedPicture:
    """`latents` after each step, with outputs solved so that every transition is exact.

    `push`: the unconditional branch is the honest one of `base` and the conditional carries the whole lie, which
    guidance divides by its own size; else both branches are the solved output.
    """
    xs: list[F64] = [np.asarray(base.start(schedule), np.float64), *latents]
    guided: list[F64] = []
    outputs = []
    for i in range(schedule.steps):
        previous = (xs[i - 1], guided[i - 1]) if i else None
        guided.append(solve(schedule, i, xs[i], xs[i + 1], previous, base.step_noises.get(i)))
        outputs.append(_branches(guided[i], base.outputs[i], guidance, push))
    floats = tuple(np.asarray(x, np.float32) for x in latents)
    return OpenedPicture(base.image, base.noise, floats, tuple(outputs), base.step_noises)


def solve(
    schedule: Schedule, i: int, x: F64, after: F64, previous: tuple[F64, F64] | None, noise: Tensor | None
) -> F64:
    """The output that takes `x` to `after` at step `i`: a step is affine in its output, value by value."""
    zero = np.zeros_like(x)
    rest = schedule.step(i, x, zero, previous, noise)
    factor = schedule.step(i, x, zero + 1, previous, noise) - rest
    solved: F64 = (after - rest) / factor
    return solved


def single_jump(mine: OpenedPicture, stored: OpenedPicture, at: int) -> list[F64]:
    """Honest until `at`, then another picture's latents."""
    return [np.asarray((mine if i < at else stored).latents[i], np.float64) for i in range(len(mine.latents))]


def spread_jump(mine: OpenedPicture, stored: OpenedPicture, at: int, over: int) -> list[F64]:
    """From one's own latents to another picture's along a straight line over `over` steps."""
    shares = [min(max((i - at + 1) / over, 0.0), 1.0) for i in range(len(mine.latents))]
    return [(1 - share) * np.asarray(a, np.float64) + share * np.asarray(b, np.float64)
            for share, a, b in zip(shares, mine.latents, stored.latents, strict=True)]  # fmt: skip


def bridge(mine: OpenedPicture, stored: OpenedPicture, schedule: Schedule) -> list[F64]:
    """From the mandated noise straight to a stored picture, with that very noise as the implied one at every step."""
    picture = np.asarray(stored.latents[-1], np.float64)
    noise = np.asarray(mine.noise, np.float64)
    divided = schedule.name in ("euler", "euler_a")
    return [
        (alpha * picture + sigma * noise) / (alpha if divided else 1.0) for alpha, sigma in schedule.after
    ]  # fmt: skip


def _branches(guided: F64, honest: Branches, guidance: float, push: bool) -> Branches:
    whole = np.asarray(guided, np.float32)
    if honest.uncond is None:
        return Branches(whole)
    if not push:
        return Branches(whole, whole)
    uncond = np.asarray(honest.uncond, np.float64)
    return Branches(np.asarray(uncond + (guided - uncond) / guidance, np.float32), honest.uncond)
