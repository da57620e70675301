"""The check without a model: do all latents of a trace follow from the committed outputs, and do these look honest?

*Arithmetic*: x after a step is the scheduler's step on x before it and the guided sum of the committed branches. That
is plain fp32 arithmetic, the same everywhere to a few units in the last place: a mismatch is proof.
*Looks*: the implied noise of an honest run has a norm near sqrt(values) and turns slowly from step to step. Outputs
that were made up to connect foreign latents do not. Looks are never proof: they only say which steps to run again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gesso_protocol.audit.compare import Branches, Tensor
from gesso_protocol.audit.envelope import Envelope, Look, Noises, shipped_envelope
from gesso_protocol.audit.schedules import Schedule

ARITHMETIC_LIMIT = 1e-5
"""Largest honest relative difference between a recorded latent and the same step computed in float64."""
SUSPICIOUS = 0.1
"""How far outside the envelope, in its own widths, a step must lie to be run again: the envelope is of few runs."""
FAR = math.inf


@dataclass(frozen=True)
class Transition:
    """One step. `arithmetic` is relative to the larger of the two latents; `look` is that of the implied noise;
    `strange` is how far it lies outside the envelope (0: inside)."""

    image: int
    step: int
    arithmetic: float
    look: Look
    strange: float = 0.0

    @property
    def place(self) -> tuple[int, int]:
        """(image, step)."""
        return self.image, self.step


@dataclass(frozen=True)
class TransitionReport:
    """Every step of a trace."""

    steps: tuple[Transition, ...]

    @property
    def mismatches(self) -> tuple[tuple[int, int], ...]:
        """(image, step) whose latent does not follow from the committed outputs."""
        return tuple(step.place for step in self.steps if not step.arithmetic <= ARITHMETIC_LIMIT)

    @property
    def suspects(self) -> tuple[tuple[int, int], ...]:
        """(image, step) well outside the envelope, the strangest first."""
        strange = [step for step in self.steps if step.strange > SUSPICIOUS]
        return tuple(step.place for step in sorted(strange, key=lambda step: (-step.strange, step.place)))

    @property
    def worst_arithmetic(self) -> float:
        """The largest arithmetic error, for reports."""
        return max((step.arithmetic for step in self.steps), default=0.0)


@dataclass(frozen=True)
class OpenedPicture:
    """Everything opened of one picture: `latents` is x after each step, `outputs` the branches of each step.

    `noise` is the start noise that the auditor drew itself, `step_noises` what an ancestral scheduler adds after each
    step, drawn by the auditor too; empty for others.
    """

    image: int
    noise: Tensor
    latents: Sequence[Tensor]
    outputs: Sequence[Branches]
    step_noises: Mapping[int, Tensor] = field(default_factory=dict)

    def start(self, schedule: Schedule) -> Tensor:
        """x before the first step."""
        return np.asarray(self.noise, np.float64) * schedule.init_noise_sigma


def check_picture(
    picture: OpenedPicture, schedule: Schedule, guidance: float, envelope: Envelope | None = None
) -> tuple[Transition, ...]:
    """Every transition of one picture. Tensors of other shapes, NaN and missing steps are mismatches, not errors.

    `envelope` is the shipped one if not given.
    """
    if not _fits(picture, schedule):
        return tuple(Transition(picture.image, step, FAR, Look.NONE) for step in range(schedule.steps))
    xs = [picture.start(schedule), *picture.latents]
    guided = [output.guided(guidance) for output in picture.outputs]
    with np.errstate(all="ignore"):
        errors = [_arithmetic(i, xs, guided, picture, schedule) for i in range(schedule.steps)]
        looks = _looks(xs, guided, picture, schedule)
    strange = (envelope or shipped_envelope()).outside(looks, schedule.name, guidance)
    return tuple(
        Transition(picture.image, i, error, look, odd)
        for i, (error, look, odd) in enumerate(zip(errors, looks, strange, strict=True))
    )


def check_transitions(
    pictures: Sequence[OpenedPicture], schedule: Schedule, guidance: float, envelope: Envelope | None = None
) -> TransitionReport:
    """Every transition of a task."""
    return TransitionReport(
        tuple(step for one in pictures for step in check_picture(one, schedule, guidance, envelope))
    )


def _fits(picture: OpenedPicture, schedule: Schedule) -> bool:
    if len(picture.latents) != schedule.steps or len(picture.outputs) != schedule.steps:
        return False
    branches = [branch for output in picture.outputs for branch in (output.cond, output.uncond) if branch is not None]
    tensors = [*picture.latents, *branches, *picture.step_noises.values()]
    return all(tensor.shape == picture.noise.shape for tensor in tensors)


def _arithmetic(
    i: int, xs: Sequence[Tensor], guided: Sequence[Tensor], picture: OpenedPicture, schedule: Schedule
) -> float:
    previous = (xs[i - 1], guided[i - 1]) if i else None
    noise = picture.step_noises.get(i)
    if schedule.ancestral and noise is None:
        noise = np.zeros_like(xs[i])
    expected = schedule.step(i, xs[i], guided[i], previous, noise)
    found = np.asarray(xs[i + 1], np.float64)
    size = max(float(np.linalg.norm(xs[i])), float(np.linalg.norm(found)))
    apart = float(np.linalg.norm(expected - found))
    return apart / size if math.isfinite(apart) and math.isfinite(size) and size > 0 else FAR


def _looks(xs: Sequence[Tensor], guided: Sequence[Tensor], picture: OpenedPicture, schedule: Schedule) -> list[Look]:
    looks: list[Look] = []
    before = None
    for i, output in enumerate(picture.outputs):
        base = output.cond if output.uncond is None else output.uncond
        now = Noises(*(schedule.epsilon(i, xs[i], one).ravel() for one in (guided[i], base, output.cond)))
        looks.append(Look.of(i / schedule.steps, now, before))
        before = now
    return looks
