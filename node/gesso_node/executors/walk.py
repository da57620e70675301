"""One picture's way from noise to its last latent in numpy, on whatever model an engine has: fp32 tensors, flat.

The fake engine draws with it; forgeries change single parts of it. The diffusers engine's honest way is the pipeline's
own loop, which this one follows to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gesso_node.executors.replay import Steps
from gesso_protocol.audit.schedules import Schedule
from gesso_protocol.spec import TextToImage

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Stepped:
    """What one step leaves in the trace: the latent after it, and the model's outputs before it."""

    latent: F32
    cond: F32
    uncond: F32 | None


def array(raw: bytes) -> F32:
    """A flat fp32 array of little-endian bytes; read-only."""
    return np.frombuffer(raw, "<f4")


def guided(cond: F32, uncond: F32 | None, guidance: float) -> F32:
    """The output that the sampler is given."""
    if uncond is None:
        return cond
    return (uncond + np.float32(guidance) * (cond - uncond)).astype(np.float32)


class Walk:
    """The honest way. Subclasses that forge something override one of these methods."""

    def __init__(self, spec: TextToImage, steps: Steps, schedule: Schedule) -> None:
        self.spec = spec
        self.steps = steps
        self.schedule = schedule

    def embed(self) -> tuple[bytes, bytes]:
        """What is committed as the text embeddings."""
        return self.steps.embed()

    def noise(self, image: int) -> F32:
        """What is committed as the start noise."""
        return array(self.steps.noise(image))

    def predict(self, image: int, step: int, latent: F32) -> tuple[F32, F32 | None]:  # noqa: ARG002 - as the port has it
        """The model's outputs, or what passes for them."""
        cond, uncond = self.steps.predict(step, latent.tobytes())
        return array(cond), None if uncond is None else array(uncond)

    def latents(self, image: int) -> Iterator[Stepped]:
        """Every step of one picture, in order."""
        latent = self.start(image)
        noises = self.step_noises(image)
        previous: tuple[F32, F32] | None = None
        for step in range(self.spec.steps):
            cond, uncond = self.predict(image, step, latent)
            output = guided(cond, uncond, self.spec.guidance)
            after = self.advance(step, latent, output, previous, noises[step] if noises else None)
            previous = (latent, output)
            latent = after
            yield Stepped(latent, cond, uncond)

    def rgb(self, image: int, last: F32) -> bytes:  # noqa: ARG002 - as the port has it
        """What is committed as the picture."""
        return self.steps.rgb(last.tobytes())

    def start(self, image: int) -> F32:
        """x before step 0."""
        return (self.noise(image) * np.float64(self.schedule.init_noise_sigma)).astype(np.float32)

    def step_noises(self, image: int) -> list[F32]:
        """What an ancestral sampler adds, one a step; empty for others."""
        return [array(noise) for noise in self.steps.step_noises(image)]

    def advance(self, step: int, latent: F32, output: F32, previous: tuple[F32, F32] | None, noise: F32 | None) -> F32:
        """x after `step`, rounded to the fp32 in which it is committed."""
        return self.schedule.step(step, latent, output, previous, noise).astype(np.float32)
