"""Real trajectories of the shipped model, for calibrating and for testing what audits look at.

A plain denoising loop on one CPU thread: start noise from a CPU generator, every latent and both branches kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch

import gesso_devnet
from gesso_protocol.audit.compare import Branches
from gesso_protocol.audit.schedules import Schedule
from gesso_protocol.audit.transitions import OpenedPicture
from gesso_protocol.spec import Scheduler

_diffusers: Any = diffusers
MODEL = Path(gesso_devnet.__file__).parent / "model" / "gesso-tiny"
CLASSES: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddim": (_diffusers.DDIMScheduler, {}),
    "euler": (_diffusers.EulerDiscreteScheduler, {}),
    "euler_a": (_diffusers.EulerAncestralDiscreteScheduler, {}),
    "dpmpp_2m": (_diffusers.DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
}
SHAPE = (1, 4, 16, 16)


@dataclass(frozen=True)
class Trajectory:
    """One picture as an auditor sees it, with what it was asked for."""

    prompt: str
    scheduler: Scheduler
    guidance: float
    seed: int
    schedule: Schedule
    opened: OpenedPicture


class Painter:
    """The shipped model, loaded once."""

    def __init__(self, model: Path = MODEL) -> None:
        torch.set_num_threads(1)
        _diffusers.utils.logging.disable_progress_bar()
        self._pipe = _diffusers.StableDiffusionPipeline.from_pretrained(
            str(model), use_safetensors=True, local_files_only=True, safety_checker=None, feature_extractor=None,
            image_encoder=None, requires_safety_checker=False,
        )  # fmt: skip
        self._config = dict(self._pipe.scheduler.config)

    @torch.inference_mode()
    def paint(self, prompt: str, scheduler: Scheduler, steps: int, guidance: float, seed: int) -> Trajectory:
        """One picture's trajectory."""
        kind, changes = CLASSES[scheduler]
        stepper = kind.from_config(self._config, **changes)
        stepper.set_timesteps(steps)
        cond, uncond = self._pipe.encode_prompt(prompt, "cpu", 1, True, None)
        generator = torch.Generator("cpu").manual_seed(seed)
        noise = torch.randn(SHAPE, generator=generator)
        drawn = torch.Generator("cpu").manual_seed(seed)
        torch.randn(SHAPE, generator=drawn)
        x, latents, outputs, noises = noise * stepper.init_noise_sigma, [], [], {}
        for i, t in enumerate(stepper.timesteps):
            both = self._outputs(stepper.scale_model_input(x, t), t, cond, uncond, guidance)
            outputs.append(both)
            output = torch.from_numpy(both.guided(guidance).astype(np.float32))
            extra = {"generator": generator} if scheduler == "euler_a" else {}
            x = stepper.step(output, t, x, **extra).prev_sample
            if scheduler == "euler_a":
                noises[i] = torch.randn(SHAPE, generator=drawn).numpy()
            latents.append(x.numpy().copy())
        opened = OpenedPicture(0, noise.numpy(), tuple(latents), tuple(outputs), noises)
        return Trajectory(prompt, scheduler, guidance, seed, Schedule.of(self._config, scheduler, steps), opened)

    def _outputs(self, x: torch.Tensor, t: Any, cond: torch.Tensor, uncond: torch.Tensor, guidance: float) -> Branches:
        def run(embedding: torch.Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
            output: torch.Tensor = self._pipe.unet(x, t, encoder_hidden_states=embedding, return_dict=False)[0]
            return output.numpy().copy()

        return Branches(run(cond), run(uncond) if guidance > 1 else None)


def prompts(count: int, seed: int) -> Iterator[str]:
    """Prompts of the model's own grammar, the same ones for a seed."""
    rng = np.random.default_rng(seed)
    words = [
        ["small", "large"], ["red", "green", "blue", "yellow", "white", "black"],
        ["circle", "square", "triangle", "cross"], ["at the top", "on the left", "in the centre", ""],
        ["red", "green", "blue", "yellow", "white", "grey"],
    ]  # fmt: skip
    for _ in range(count):
        size, colour, shape, place, ground = (str(rng.choice(some)) for some in words)
        yield " ".join(f"a {size} {colour} {shape} {place} on a {ground} background".split())
