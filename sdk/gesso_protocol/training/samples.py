"""The last sample pictures of a training: what is drawn, which of them an audit draws again, and how close it must be.

The weights of the last checkpoint are in the trace, and a sample is a function of them, so whoever has looked at the
run can draw one himself. It is a whole picture, each step from the one before, so machines differ by more than in one
step that is run again; but a picture of other weights, or of another prompt, is further away than that by far.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.result import ImageEntry
from gesso_protocol.training.spec import TrainLora

SAMPLE_LEVELS = 1.0
"""Mean distance of all pixels' colours, of 255 levels."""
PROOF_LEVELS = 8.0
"""Beyond which it slashes: what whole pictures of large bases differ by between machines has been measured nowhere."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One of the last samples: a square of the spec's resolution."""

    number: int
    prompt: str
    seed: int


def last_samples(spec: TrainLora) -> tuple[Sample, ...]:
    """Those that are part of the result; without sample prompts the trigger is drawn, so there is always one."""
    prompts = spec.sample_prompts or (spec.trigger,)
    return tuple(Sample(at, prompt, spec.seed + at) for at, prompt in enumerate(prompts))


def sample_to_check(challenge: bytes, spec: TrainLora) -> Sample:
    """The one that an audit draws again, drawn from the 32-byte challenge: nobody knew it when the result was bound."""
    if len(challenge) != 32:
        raise EncodingInvalid("a challenge has 32 bytes")
    every = last_samples(spec)
    drawn = hashlib.sha256(b"gesso/train/1/sample" + challenge).digest()
    return every[int.from_bytes(drawn, "big") % len(every)]


def samples_fault(spec: TrainLora, images: Sequence[ImageEntry]) -> str:
    """Why pictures of a result are not the ordered samples, as far as their entries say; nothing when they may be."""
    wanted = [(one.number, one.seed, spec.resolution, spec.resolution) for one in last_samples(spec)]
    told = [(one.index, one.seed, one.width, one.height) for one in images]
    return "" if told == wanted else "the result has other samples than were ordered"


def sample_error(theirs: NDArray[np.uint8], ours: NDArray[np.uint8]) -> float:
    """Mean distance in levels; infinite for pictures of other shapes."""
    if theirs.shape != ours.shape or not ours.size:
        return float("inf")
    return float(np.abs(theirs.astype(np.int16) - ours.astype(np.int16)).mean())
