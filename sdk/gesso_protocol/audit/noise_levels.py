"""Where a sampler's steps stand on the model's noise schedule, from a scheduler_config.json.

The training schedule is computed as the pinned diffusers release does it, rounded to fp32 at the same places: near the
end of a run the noise level is the small difference of numbers close to 1, and fp32 rounding is visible in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.spec import MAX_STEPS, Scheduler

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
MAX_TRAIN_STEPS = 100_000
PREDICTIONS = ("epsilon", "v_prediction", "sample")
SPACINGS = ("leading", "linspace", "trailing")
_DEFAULT_SPACING = {"ddim": "leading"}
_UNKNOWN = (
    "thresholding", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas",
    "use_flow_sigmas", "trained_betas", "variance_type", "use_dynamic_shifting",
)  # fmt: skip
_FIXED = {"interpolation_type": "linear", "timestep_type": "discrete", "solver_type": "midpoint"}
Level = tuple[float, float]


@dataclass(frozen=True)
class Levels:
    """Step by step: the model's timestep, and (alpha, sigma) with alpha² + sigma² = 1 before and after the step.

    ddim counts back from a step's own timestep, so where it ends need not be where the next one begins.
    """

    prediction: str
    spacing: str
    timesteps: tuple[float, ...]
    before: tuple[Level, ...]
    after: tuple[Level, ...]
    clip: float | None
    lower_order_final: bool


def levels(config: Mapping[str, Any], name: Scheduler, steps: int) -> Levels:
    """Raises `EncodingInvalid` for a config that asks for what no sampler here does, or for too many steps."""
    options = _Options(config, name)
    options.check()
    if not 1 <= steps <= min(MAX_STEPS, options.train_steps):
        raise EncodingInvalid(f"this schedule has 1 to {min(MAX_STEPS, options.train_steps)} steps")
    kept = _kept(options)
    at = _timesteps(options, kept, steps)
    before, after = _ddim_levels(options, kept, at, steps) if name == "ddim" else _sigma_levels(options, kept, at)
    return Levels(
        prediction=options.text("prediction_type", "epsilon", PREDICTIONS),
        spacing=options.spacing,
        timesteps=tuple(float(t) for t in at),
        before=before,
        after=after,
        clip=options.number("clip_sample_range", 1.0) if options.flag("clip_sample", False) else None,
        lower_order_final=_lower_order_final(options, steps),
    )


class _Options:
    """A scheduler config as its class would take it: what the publisher set, else the class's own default."""

    def __init__(self, config: Mapping[str, Any], name: Scheduler) -> None:
        defaulted = config.get("_use_default_values", ())
        self._set = {key: value for key, value in config.items() if key not in tuple(defaulted)}
        self.name = name

    def check(self) -> None:
        for key in _UNKNOWN:
            if self._set.get(key):
                raise EncodingInvalid(f"the scheduler option {key} is not supported")
        if self.name == "euler_a" and self._set.get("prediction_type") == "sample":
            raise EncodingInvalid("euler_a does not run models that predict the picture")
        for key, only in _FIXED.items():
            if self._set.get(key, only) != only:
                raise EncodingInvalid(f"the scheduler option {key} must be {only}")

    def number(self, key: str, default: float) -> float:
        value = self._set.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            raise EncodingInvalid(f"the scheduler option {key} is a number")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self._set.get(key, default)
        if not isinstance(value, bool):
            raise EncodingInvalid(f"the scheduler option {key} is true or false")
        return value

    def text(self, key: str, default: str, allowed: tuple[str, ...]) -> str:
        value = self._set.get(key, default)
        if value not in allowed:
            raise EncodingInvalid(f"the scheduler option {key} is one of {', '.join(allowed)}")
        return str(value)

    @property
    def spacing(self) -> str:
        return self.text("timestep_spacing", _DEFAULT_SPACING.get(self.name, "linspace"), SPACINGS)

    @property
    def offset(self) -> int:
        return int(self.number("steps_offset", 0))

    @property
    def train_steps(self) -> int:
        count = self.number("num_train_timesteps", 1000)
        if not 1 <= count <= MAX_TRAIN_STEPS or count != int(count):
            raise EncodingInvalid("a schedule is trained on 1 to 100000 timesteps")
        return int(count)


def _kept(options: _Options) -> F32:
    """How much of the picture is left at each training step: the running product of 1 - beta."""
    betas = _betas(options)
    if not (np.all(betas > 0) and np.all(betas < 1)):
        raise EncodingInvalid("betas lie between 0 and 1")
    zero_snr = options.flag("rescale_betas_zero_snr", False)
    if zero_snr:
        betas = _without_signal_at_the_end(betas)
    kept = _running_product(np.float32(1) - betas)
    if zero_snr and options.name != "ddim":
        kept[-1] = 2**-24
    return kept


def _betas(options: _Options) -> F32:
    count, start, end = options.train_steps, options.number("beta_start", 0.0001), options.number("beta_end", 0.02)
    kind = options.text("beta_schedule", "linear", ("linear", "scaled_linear", "squaredcos_cap_v2"))
    if not 0 < start < 1 or not 0 < end < 1:
        raise EncodingInvalid("betas lie between 0 and 1")
    if kind == "linear":
        return _line(start, end, count)
    if kind == "scaled_linear":
        roots = _line(start**0.5, end**0.5, count)
        return roots * roots
    at = [math.cos((i / count + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(count + 1)]
    return np.array([min(1 - at[i + 1] / at[i], 0.999) for i in range(count)], np.float32)


def _line(start: float, end: float, count: int) -> F32:
    """fp32 points, counted from both ends so that both are exact."""
    first, last = np.float32(start), np.float32(end)
    if count == 1:
        return np.array([first], np.float32)
    step = np.float32((last - first) / np.float32(count - 1))
    up = np.arange(count, dtype=np.float32)
    # one rounding for multiply and add, as fused arithmetic does it
    rising = (np.float64(first) + np.float64(step) * up).astype(np.float32)
    falling = (np.float64(last) - np.float64(step) * up[::-1]).astype(np.float32)
    return np.where(up < count // 2, rising, falling).astype(np.float32)


def _running_product(alphas: F32) -> F32:
    return np.cumprod(alphas.astype(np.float64)).astype(np.float32)


def _without_signal_at_the_end(betas: F32) -> F32:
    roots = np.sqrt(_running_product(np.float32(1) - betas))
    first, last = roots[0], roots[-1]
    kept = ((roots - last) * (first / (first - last))) ** 2
    alphas = np.concatenate([kept[:1], kept[1:] / kept[:-1]])
    return (np.float32(1) - alphas).astype(np.float32)


def _timesteps(options: _Options, kept: F32, steps: int) -> F64:
    train, spacing = options.train_steps, options.spacing
    last = train - _clipped(options, kept) if options.name == "dpmpp_2m" else train
    if spacing == "linspace":
        return _linspace(options.name, last, steps)
    if spacing == "leading":
        # dpmpp_2m divides the line into one part more and leaves the first out
        extra = options.name == "dpmpp_2m"
        ratio = last // (steps + extra)
        at = (np.arange(0, steps + extra) * ratio)[::-1][:steps].astype(np.float64) + options.offset
    else:
        at = np.round(np.arange(last, 0, -(train / steps))) - 1
    if at.size != steps or at.min() < 0 or at.max() >= train:
        raise EncodingInvalid("the schedule's timesteps lie outside the model's training")
    return at


def _linspace(name: Scheduler, last: int, steps: int) -> F64:
    if name == "ddim":
        return np.round(np.linspace(0, last - 1, steps))[::-1]
    if name == "dpmpp_2m":
        return np.round(np.linspace(0, last - 1, steps + 1))[::-1][:-1]
    return np.linspace(0, last - 1, steps, dtype=np.float32)[::-1].astype(np.float64)


def _clipped(options: _Options, kept: F32) -> int:
    lowest = options.number("lambda_min_clipped", -math.inf)
    if lowest == -math.inf:
        return 0
    ratios = np.log(np.sqrt(kept)) - np.log(np.sqrt(np.float32(1) - kept))
    return int(np.searchsorted(ratios[::-1], np.float32(lowest)))


def _ddim_levels(options: _Options, kept: F32, at: F64, steps: int) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
    last = 1.0 if options.flag("set_alpha_to_one", True) else float(kept[0])
    back = options.train_steps // steps
    before = tuple(_level(float(kept[int(t)])) for t in at)
    return before, tuple(_level(float(kept[int(t) - back]) if t >= back else last) for t in at)


def _level(kept: float) -> Level:
    return math.sqrt(kept), math.sqrt(1 - kept)


def _sigma_levels(options: _Options, kept: F32, at: F64) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
    table = ((np.float32(1) - kept) / kept) ** np.float32(0.5)
    found = np.interp(at, np.arange(len(table)), table)
    ends = options.text("final_sigmas_type", "zero", ("zero", "sigma_min")) if options.name != "euler_a" else "zero"
    wide = np.append(found, table[0] if ends == "sigma_min" else 0.0).astype(np.float32).astype(np.float64)
    alphas = 1 / np.sqrt(wide**2 + 1)
    joined = tuple((float(alpha), float(level * alpha)) for alpha, level in zip(alphas, wide, strict=True))
    return joined[:-1], joined[1:]


def _lower_order_final(options: _Options, steps: int) -> bool:
    ends_at_zero = options.text("final_sigmas_type", "zero", ("zero", "sigma_min")) == "zero"
    short = options.flag("lower_order_final", True) and steps < 15
    return ends_at_zero or short or options.flag("euler_at_final", False)
