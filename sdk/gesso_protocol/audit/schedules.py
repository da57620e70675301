"""Four samplers in numpy, float64: what a step does to a latent, without torch and without diffusers.

Held to diffusers by `tests/unit/protocol/audit/test_schedules.py`. A sampler's arithmetic must be known exactly,
because an auditor who only has the opened tensors proves with it that one latent follows from another.

Two ways to write a latent: with `alpha`² + `sigma`² = 1 (ddim, dpmpp_2m), or divided by alpha, so that the noise in it
has the level sigma / alpha (euler, euler_a). The levels below are of the first kind for all four.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gesso_protocol.audit import noise_levels
from gesso_protocol.audit.compare import Tensor
from gesso_protocol.audit.noise_levels import Level, Levels
from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.spec import Scheduler

F64 = npt.NDArray[np.float64]
Previous = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Schedule:
    """One sampler for one number of steps. Steps count from 0; `timesteps` are the numbers that the model is given.

    `before` and `after` are (alpha, sigma) at both ends of each step.
    """

    name: Scheduler
    prediction: str
    timesteps: tuple[float, ...]
    before: tuple[Level, ...]
    after: tuple[Level, ...]
    init_noise_sigma: float
    clip: float | None = None
    """ddim only: the predicted picture is cut to ± this."""
    lower_order_final: bool = True
    """dpmpp_2m only: the last step is of first order."""

    @classmethod
    def of(cls, config: Mapping[str, Any], name: Scheduler, steps: int) -> Schedule:
        """From a model's scheduler_config.json. Raises `EncodingInvalid` for options that it does not know."""
        levels = noise_levels.levels(config, name, steps)
        return cls(
            name=name,
            prediction=levels.prediction,
            timesteps=levels.timesteps,
            before=levels.before,
            after=levels.after,
            init_noise_sigma=_initial(levels, name),
            clip=levels.clip,
            lower_order_final=levels.lower_order_final,
        )

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return len(self.timesteps)

    @property
    def ancestral(self) -> bool:
        """Whether a step adds fresh noise."""
        return self.name == "euler_a"

    def scale_input(self, x: Tensor, i: int) -> F64:
        """What the model is given at step `i` instead of `x`."""
        return self._unit(i, x) if self._is_divided else np.asarray(x, np.float64)

    def step(
        self, i: int, x: Tensor, model_output: Tensor, previous: Previous | None = None, noise: Tensor | None = None
    ) -> F64:
        """x after step `i`. `previous` is (x, guided output) of step i-1, which dpmpp_2m needs beyond step 0; `noise`
        is what euler_a adds. Raises `EncodingInvalid` where one of them is missing or a shape differs."""
        _same_shape(x, model_output)
        match self.name:
            case "ddim":
                return self._ddim(i, x, model_output)
            case "euler":
                return self._euler(i, x, model_output)
            case "euler_a":
                return self._euler_a(i, x, model_output, noise)
            case "dpmpp_2m":
                return self._dpmpp_2m(i, x, model_output, previous)

    def epsilon(self, i: int, x: Tensor, model_output: Tensor) -> F64:
        """The noise that this output implies at step `i`, of norm about sqrt(values) for an honest model."""
        _same_shape(x, model_output)
        output, sample = np.asarray(model_output, np.float64), self._unit(i, x)
        alpha, sigma = self.before[i]
        match self.prediction:
            case "epsilon":
                return output
            case "v_prediction":
                return alpha * output + sigma * sample
            case _:
                return (sample - alpha * output) / sigma

    def picture(self, i: int, x: Tensor, model_output: Tensor) -> F64:
        """The finished latent that this output predicts at step `i`."""
        _same_shape(x, model_output)
        output, sample = np.asarray(model_output, np.float64), self._unit(i, x)
        alpha, sigma = self.before[i]
        match self.prediction:
            case "epsilon":
                return (sample - sigma * output) / alpha
            case "v_prediction":
                return alpha * sample - sigma * output
            case _:
                return output

    @property
    def _is_divided(self) -> bool:
        return self.name in ("euler", "euler_a")

    def _unit(self, i: int, x: Tensor) -> F64:
        """x with alpha² + sigma² = 1."""
        sample = np.asarray(x, np.float64)
        return sample * self.before[i][0] if self._is_divided else sample

    def _ddim(self, i: int, x: Tensor, output: Tensor) -> F64:
        picture = self.picture(i, x, output)
        if self.clip is not None:
            picture = np.clip(picture, -self.clip, self.clip)
        alpha, sigma = self.after[i]
        moved: F64 = alpha * picture + sigma * self.epsilon(i, x, output)
        return moved

    def _euler(self, i: int, x: Tensor, output: Tensor) -> F64:
        level, after = _divided(self.before[i]), _divided(self.after[i])
        sample, picture = np.asarray(x, np.float64), self.picture(i, x, output)
        moved: F64 = sample + (sample - picture) / level * (after - level)
        return moved

    def _euler_a(self, i: int, x: Tensor, output: Tensor, noise: Tensor | None) -> F64:
        level, after = _divided(self.before[i]), _divided(self.after[i])
        up = after * math.sqrt(max(level**2 - after**2, 0.0)) / level
        down = math.sqrt(max(after**2 - up**2, 0.0))
        sample, picture = np.asarray(x, np.float64), self.picture(i, x, output)
        moved: F64 = sample + (sample - picture) / level * (down - level)
        if up == 0:
            return moved
        if noise is None:
            raise EncodingInvalid("a step of an ancestral sampler needs its noise")
        _same_shape(x, noise)
        moved += up * np.asarray(noise, np.float64)
        return moved

    def _dpmpp_2m(self, i: int, x: Tensor, output: Tensor, previous: Previous | None) -> F64:
        alpha, sigma = self.after[i]
        now = self.picture(i, x, output)
        grow = _log_ratio(self.after[i]) - _log_ratio(self.before[i]) if sigma > 0 else math.inf
        weight = alpha * -math.expm1(-grow)
        moved: F64 = sigma / self.before[i][1] * np.asarray(x, np.float64) + weight * now
        if i == 0 or (i == self.steps - 1 and self.lower_order_final):
            return moved
        if previous is None:
            raise EncodingInvalid("a multistep sampler needs the step before")
        _same_shape(x, previous[0])
        ratio = (_log_ratio(self.before[i]) - _log_ratio(self.before[i - 1])) / grow
        moved += 0.5 * weight / ratio * (now - self.picture(i - 1, *previous))
        return moved


def _initial(levels: Levels, name: Scheduler) -> float:
    if name not in ("euler", "euler_a"):
        return 1.0
    highest = max(_divided(level) for level in levels.before)
    return highest if levels.spacing in ("linspace", "trailing") else math.sqrt(highest**2 + 1)


def _divided(level: Level) -> float:
    alpha, sigma = level
    return sigma / alpha


def _log_ratio(level: Level) -> float:
    alpha, sigma = level
    return math.log(alpha) - math.log(sigma)


def _same_shape(one: Tensor, other: Tensor) -> None:
    if one.shape != other.shape:
        raise EncodingInvalid("tensors of one step have one shape")
