"""The numpy samplers do what the pinned diffusers release does, for every config that a model may carry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

import gesso_devnet
from gesso_protocol.audit.schedules import Schedule
from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.spec import Scheduler

_diffusers: Any = diffusers
SHIPPED = Path(gesso_devnet.__file__).parent / "model" / "gesso-tiny" / "scheduler" / "scheduler_config.json"
SD15 = {
    "_class_name": "PNDMScheduler", "beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085,
    "num_train_timesteps": 1000, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1,
    "trained_betas": None, "clip_sample": False, "prediction_type": "epsilon", "timestep_spacing": "leading",
}  # fmt: skip
LINSPACE = {"beta_schedule": "linear", "prediction_type": "epsilon", "timestep_spacing": "linspace"}
CONFIGS: dict[str, dict[str, Any]] = {
    "gesso-tiny": json.loads(SHIPPED.read_text()),
    "sd15": SD15,
    "linspace": LINSPACE,
    "v-leading": SD15 | {"prediction_type": "v_prediction"},
    "sample-trailing": SD15 | {"prediction_type": "sample", "timestep_spacing": "trailing"},
    "cosine": LINSPACE | {"beta_schedule": "squaredcos_cap_v2", "lambda_min_clipped": -5.1},
    "sigma-min": LINSPACE | {"beta_schedule": "scaled_linear", "final_sigmas_type": "sigma_min"},
    "sparse": {"beta_start": 0.00085, "beta_end": 0.012},
    "half-trained": SD15 | {"num_train_timesteps": 500, "timestep_spacing": "trailing"},
    "zero-snr": SD15 | {"prediction_type": "v_prediction", "timestep_spacing": "trailing",
                        "rescale_betas_zero_snr": True},
}  # fmt: skip
CLASSES: dict[Scheduler, tuple[Any, dict[str, Any]]] = {
    "ddim": (_diffusers.DDIMScheduler, {}),
    "euler": (_diffusers.EulerDiscreteScheduler, {}),
    "euler_a": (_diffusers.EulerAncestralDiscreteScheduler, {}),
    "dpmpp_2m": (
        _diffusers.DPMSolverMultistepScheduler,
        {"algorithm_type": "dpmsolver++", "solver_order": 2},
    ),
}
SHAPE = (1, 4, 8, 8)


def theirs(name: Scheduler, config: dict[str, Any], steps: int) -> Any:
    kind, changes = CLASSES[name]
    scheduler = kind.from_config(config, clip_sample=config.get("clip_sample", False), **changes)
    scheduler.set_timesteps(steps)
    return scheduler


def apart(mine: np.ndarray[Any, Any], other: torch.Tensor) -> float:
    wide = other.double().numpy()
    return float(np.linalg.norm(mine - wide) / np.linalg.norm(wide))


def outputs_for(steps: int) -> list[torch.Tensor]:
    """Outputs that lean on their neighbours, as a model's do, so that multistep terms matter."""
    generator = torch.Generator().manual_seed(5)
    first, last = torch.randn(2, *SHAPE, generator=generator)
    return [torch.lerp(first, last, i / max(steps - 1, 1)) for i in range(steps)]


@pytest.mark.parametrize("steps", [1, 2, 7, 20, 50])
@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("name", CLASSES)
def test_every_step_is_that_of_diffusers(name: Scheduler, config: str, steps: int) -> None:
    if name == "euler_a" and config == "sample-trailing":
        with pytest.raises(EncodingInvalid, match="euler_a"):
            Schedule.of(CONFIGS[config], name, steps)
        return
    scheduler, mine = theirs(name, CONFIGS[config], steps), Schedule.of(CONFIGS[config], name, steps)
    assert np.allclose(mine.timesteps, scheduler.timesteps.double().numpy(), rtol=1e-6, atol=1e-4)
    assert mine.init_noise_sigma == pytest.approx(float(scheduler.init_noise_sigma), rel=1e-6)
    torch.manual_seed(1)
    sample = torch.randn(SHAPE) * float(scheduler.init_noise_sigma)
    previous = None
    for i, output in enumerate(outputs_for(steps)):
        t = scheduler.timesteps[i]
        assert apart(mine.scale_input(sample.numpy(), i), scheduler.scale_model_input(sample, t)) < 1e-6
        generator, again = torch.Generator().manual_seed(i), torch.Generator().manual_seed(i)
        noise = torch.randn(SHAPE, generator=again).numpy()
        extra = {"generator": generator} if name in ("euler_a", "euler") else {}
        after = scheduler.step(output, t, sample, **extra).prev_sample
        found = mine.step(i, sample.numpy(), output.numpy(), previous, noise)
        # fp32 itself loses digits where a step cancels most of what it starts from
        room = max(1.0, float(sample.norm() / after.norm()))
        assert apart(found, after) < 1e-6 * room, (i, float(t))
        previous = (sample.numpy(), output.numpy())
        sample = after


def test_clipped_pictures() -> None:
    config = SD15 | {"clip_sample": True, "clip_sample_range": 0.5}
    scheduler, mine = theirs("ddim", config, 10), Schedule.of(config, "ddim", 10)
    sample, output = torch.randn(2, *SHAPE)
    after = scheduler.step(output, scheduler.timesteps[8], sample).prev_sample
    assert apart(mine.step(8, sample.numpy(), output.numpy()), after) < 1e-6
    assert apart(Schedule.of(SD15, "ddim", 10).step(8, sample.numpy(), output.numpy()), after) > 1e-3


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_the_implied_noise_of_a_perfect_model_is_the_noise(name: Scheduler, prediction: str) -> None:
    if (name, prediction) == ("euler_a", "sample"):
        pytest.skip("there is no such sampler")
    mine = Schedule.of(SD15 | {"prediction_type": prediction}, name, 20)
    rng = np.random.default_rng(3)
    picture, noise = rng.normal(size=SHAPE), rng.normal(size=SHAPE)
    for i in (0, 9, 19):
        alpha, sigma = mine.before[i]
        x = (alpha * picture + sigma * noise) / (alpha if name.startswith("euler") else 1)
        output = {"epsilon": noise, "v_prediction": alpha * noise - sigma * picture, "sample": picture}[prediction]
        assert np.allclose(mine.epsilon(i, x, output), noise)
        assert np.allclose(mine.picture(i, x, output), picture)


@pytest.mark.parametrize(
    "change",
    [
        {"thresholding": True},
        {"use_karras_sigmas": True},
        {"trained_betas": [0.1]},
        {"beta_schedule": "sigmoid"},
        {"prediction_type": "flow_prediction"},
        {"timestep_spacing": "odd"},
        {"num_train_timesteps": 10**9},
        {"num_train_timesteps": 10.5},
        {"num_train_timesteps": True},
        {"beta_start": 0},
        {"beta_end": 2},
        {"beta_end": float("nan")},
        {"beta_start": "0.1"},
        {"clip_sample": 1},
        {"steps_offset": 5000},
        {"steps_offset": -60},
        {"timestep_type": "continuous"},
    ],
)
def test_configs_that_no_sampler_here_runs(change: dict[str, Any]) -> None:
    for name in CLASSES:
        if name != "ddim" and "clip_sample" in change:
            continue
        with pytest.raises(EncodingInvalid):
            Schedule.of(SD15 | change, name, 20)


@pytest.mark.parametrize("steps", [0, -1, 201])
def test_impossible_numbers_of_steps(steps: int) -> None:
    with pytest.raises(EncodingInvalid):
        Schedule.of(SD15, "ddim", steps)


def test_what_a_step_needs() -> None:
    x = np.zeros(SHAPE)
    with pytest.raises(EncodingInvalid, match="noise"):
        Schedule.of(SD15, "euler_a", 5).step(0, x, x)
    with pytest.raises(EncodingInvalid, match="before"):
        Schedule.of(SD15, "dpmpp_2m", 5).step(1, x, x)
    with pytest.raises(EncodingInvalid, match="shape"):
        Schedule.of(SD15, "ddim", 5).step(0, x, np.zeros((1, 4)))
