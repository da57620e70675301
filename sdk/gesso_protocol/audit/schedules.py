"""Four samplers in numpy, float64: what a step does to a latent, without torch and without diffusers.

Held to diffusers by `tests/unit/protocol/audit/test_schedules.py`. A sampler's arithmetic must be known exactly,
because an auditor who only has the opened tensors proves with it that one latent follows from another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gesso_protocol.audit.compare import Tensor
from gesso_protocol.spec import Scheduler

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Schedule:
    """One sampler for one number of steps. Steps count from 0; `timesteps` are the numbers that the model is given."""

    name: Scheduler
    prediction: str
    timesteps: tuple[float, ...]
    sigmas: tuple[float, ...]
    """Noise level before each step and after the last, in the sampler's own parametrisation (steps + 1 values)."""
    init_noise_sigma: float

    @classmethod
    def of(cls, config: Mapping[str, Any], name: Scheduler, steps: int) -> Schedule:
        """From a model's scheduler_config.json. Raises `EncodingInvalid` for options that it does not know."""
        raise NotImplementedError

    def scale_input(self, x: Tensor, i: int) -> F64:
        """What the model is given at step `i` instead of `x`."""
        raise NotImplementedError

    def step(
        self, i: int, x: Tensor, model_output: Tensor, previous: tuple[Tensor, Tensor] | None = None,
        noise: Tensor | None = None,
    ) -> F64:  # fmt: skip
        """x after step `i`. `previous` is (x, guided output) of step i-1, needed by dpmpp_2m beyond step 0; `noise` is
        what euler_a adds. Raises `EncodingInvalid` where one of them is missing or a shape differs."""
        raise NotImplementedError

    def epsilon(self, i: int, x: Tensor, model_output: Tensor) -> F64:
        """The noise that this output implies at step `i`, of norm about sqrt(values) for an honest model."""
        raise NotImplementedError

    @property
    def ancestral(self) -> bool:
        """Whether a step adds fresh noise."""
        return self.name == "euler_a"
