"""The check without a model: do all latents of a trace follow from the committed outputs, and do these look honest?

*Arithmetic*: x after a step is the scheduler's step on x before it and the guided sum of the committed branches. That
is plain fp32 arithmetic, the same everywhere to a few units in the last place: a mismatch is proof.
*Looks*: the implied noise of an honest run has a norm near sqrt(values) and turns slowly from step to step. Outputs
that were made up to connect foreign latents do not. Looks are never proof: they only say which steps to run again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gesso_protocol.audit.compare import Branches, Tensor
from gesso_protocol.audit.schedules import Schedule

ARITHMETIC_LIMIT = 1e-5
"""Largest honest relative difference between a recorded latent and the same step computed in float64."""


@dataclass(frozen=True)
class Transition:
    """One step. `arithmetic` is relative to the latent; `norm` is that of the implied noise over sqrt(values);
    `turn` is the cosine between this step's implied noise and the one before (1 at the first step)."""

    image: int
    step: int
    arithmetic: float
    norm: float
    turn: float
    strange: bool = False


@dataclass(frozen=True)
class TransitionReport:
    """Every step of a trace."""

    steps: tuple[Transition, ...]

    @property
    def mismatches(self) -> tuple[tuple[int, int], ...]:
        """(image, step) whose latent does not follow from the committed outputs."""
        return tuple((step.image, step.step) for step in self.steps if not step.arithmetic <= ARITHMETIC_LIMIT)

    @property
    def suspects(self) -> tuple[tuple[int, int], ...]:
        """(image, step) outside the envelope, the strangest first."""
        return tuple((step.image, step.step) for step in self.steps if step.strange)


@dataclass(frozen=True)
class OpenedPicture:
    """Everything opened of one picture: `latents` is x after each step, `outputs` the branches of each step.

    `step_noises` are what an ancestral scheduler adds at each step, drawn again by the auditor; empty for others.
    """

    image: int
    noise: Tensor
    latents: tuple[Tensor, ...]
    outputs: tuple[Branches, ...]
    step_noises: Mapping[int, Tensor]


def check_picture(picture: OpenedPicture, schedule: Schedule, guidance: float) -> tuple[Transition, ...]:
    """Every transition of one picture. A tensor of another shape, or NaN, is an arithmetic mismatch, not an error."""
    raise NotImplementedError


def check_transitions(pictures: tuple[OpenedPicture, ...], schedule: Schedule, guidance: float) -> TransitionReport:
    """Every transition of a task."""
    return TransitionReport(tuple(step for one in pictures for step in check_picture(one, schedule, guidance)))
