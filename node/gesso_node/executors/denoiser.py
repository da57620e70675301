"""One pipeline set up for one spec, as pieces that can be called alone: embed, draw noise, predict one step, decode.

A single step of a finished run is computed again with these; so are the forgeries that audits are tested against. They
do exactly what the pipeline of the model's kind does in its loop (a test holds that to the bit). Imported in the child
only.
"""

from __future__ import annotations

import copy
import functools
import json
import math
from collections.abc import Iterator
from typing import Any

import diffusers
import torch

from gesso_node.executors.conditioning import Conditioning, conditioned, told
from gesso_node.executors.vae import to_rgb
from gesso_protocol.errors import ModelInvalid
from gesso_protocol.spec import TextToImage

_diffusers: Any = diffusers  # its classes carry no usable types
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddim": (_diffusers.DDIMScheduler, {}),
    "euler": (_diffusers.EulerDiscreteScheduler, {}),
    "euler_a": (_diffusers.EulerAncestralDiscreteScheduler, {}),
    "dpmpp_2m": (_diffusers.DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
}
ANCESTRAL = ("euler_a",)
"""Schedulers that draw noise in every step."""


class Denoiser:
    """A pipeline with the scheduler of one spec. Latents go in and come out as fp32 on the pipeline's device."""

    def __init__(self, pipe: Any, scheduler_config: dict[str, Any], spec: TextToImage, dtype: torch.dtype) -> None:
        self.pipe = pipe
        self.spec = spec
        self.device: torch.device = next(pipe.unet.parameters()).device
        self.scheduler = make_scheduler(scheduler_config, spec.scheduler, dtype)
        self.scheduler.set_timesteps(spec.steps, device=self.device)
        self._told: dict[str, Any] | None = None

    @property
    def guided(self) -> bool:
        """Whether the model is asked for both branches."""
        return self.spec.guidance > 1

    @torch.inference_mode()
    def embed(self, prompt: str | None = None) -> tuple[Conditioning, Conditioning]:
        """What the spec's (or another) prompt and its negative prompt tell the model."""
        words = self.spec.prompt if prompt is None else prompt
        return conditioned(self.pipe, words, self.spec.negative_prompt, (self.spec.height, self.spec.width))

    def condition(self, prompt: str | None = None) -> tuple[Conditioning, Conditioning]:
        """Embed, and predict with these embeddings from now on."""
        cond, uncond = self.embed(prompt)
        self._told = told([uncond, cond] if self.guided else [cond])
        return cond, uncond

    def noise(self, image: int) -> torch.Tensor:
        """Start noise of a picture, before the scheduler scales it."""
        return next(self._draws(image))

    def step_noises(self, image: int) -> Iterator[torch.Tensor]:
        """What an ancestral scheduler adds after each step, in order; nothing for other schedulers."""
        if self.spec.scheduler in ANCESTRAL:
            draws = self._draws(image)
            next(draws)
            for _ in range(self.spec.steps):
                yield next(draws)

    @torch.inference_mode()
    def predict(self, step: int, latent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The model's conditional and unconditional output for x before `step`, fp32. `condition` comes first."""
        assert self._told is not None
        t = self.scheduler.timesteps[step]
        wide = torch.cat([latent] * 2) if self.guided else latent
        self.scheduler._step_index = step
        scaled = self.scheduler.scale_model_input(wide.to(self.device), t)
        output = self.pipe.unet(scaled, t, **self._told, return_dict=False)[0].float()
        if not self.guided:
            return output, None
        uncond, cond = output.chunk(2)
        return cond, uncond

    @torch.inference_mode()
    def rgb(self, latent: torch.Tensor) -> torch.Tensor:
        """Pixels of a last latent: uint8, (height, width, 3), on the CPU."""
        return to_rgb(self.pipe, latent.to(self.device))

    def _draws(self, image: int) -> Iterator[torch.Tensor]:
        generator = torch.Generator("cpu").manual_seed(self.spec.image_seed(image))
        shape = latent_shape(self.pipe, self.spec)
        while True:
            yield torch.randn(shape, generator=generator, dtype=torch.float32)


def make_scheduler(config: dict[str, Any], name: str, dtype: torch.dtype) -> Any:
    """The scheduler of a job, computing in fp32 whatever the weights are. Nobody else has this one."""
    scheduler = copy.deepcopy(_unused_scheduler(json.dumps(config), name))
    return scheduler if dtype == torch.float32 else _in_fp32(scheduler, dtype)


@functools.lru_cache(maxsize=16)
def _unused_scheduler(config: str, name: str) -> Any:
    """Made once: the library looks through the signatures of all related classes, which takes as long as a small
    model's text encoder."""
    kind, changes = SCHEDULERS[name]
    fields = json.loads(config)
    return kind.from_config(fields, clip_sample=fields.get("clip_sample", False), **changes)


def _in_fp32(scheduler: Any, dtype: torch.dtype) -> Any:
    """Latents stay fp32 between steps; only what goes into the UNet is of the weights' type."""
    step, scale = scheduler.step, scheduler.scale_model_input

    @functools.wraps(step)
    def wide_step(model_output: torch.Tensor, t: Any, sample: torch.Tensor, **kwargs: Any) -> Any:
        return step(model_output.float(), t, sample.float(), **kwargs)

    @functools.wraps(scale)
    def narrow_input(sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return scale(sample, *args, **kwargs).to(dtype)

    scheduler.step, scheduler.scale_model_input = wide_step, narrow_input
    return scheduler


def latent_shape(pipe: Any, spec: TextToImage) -> tuple[int, int, int, int]:
    """Shape of one picture's latent."""
    factor = pipe.vae_scale_factor
    return (1, pipe.unet.config.in_channels, spec.height // factor, spec.width // factor)


def raw_bytes(tensor: torch.Tensor) -> bytes:
    """Little-endian fp32, last axis fastest."""
    return tensor.to("cpu", torch.float32).contiguous().numpy().tobytes()


class TensorSteps:
    """A `Denoiser` in raw bytes, as replays and forgeries speak."""

    def __init__(self, denoiser: Denoiser, prompt: str | None = None) -> None:
        self._denoiser = denoiser
        self._shape = latent_shape(denoiser.pipe, denoiser.spec)
        self._parts = denoiser.condition(prompt)[0].parts

    def embed(self) -> tuple[bytes, bytes]:
        cond, uncond = self._denoiser.embed()
        return raw_bytes(cond.recorded), raw_bytes(uncond.recorded)

    @property
    def embedding_parts(self) -> tuple[int, ...]:
        return self._parts

    def noise(self, image: int) -> bytes:
        return raw_bytes(self._denoiser.noise(image))

    def step_noises(self, image: int) -> Iterator[bytes]:
        return (raw_bytes(noise) for noise in self._denoiser.step_noises(image))

    def predict(self, step: int, latent: bytes) -> tuple[bytes, bytes | None]:
        cond, uncond = self._denoiser.predict(step, self._tensor(latent))
        return raw_bytes(cond), None if uncond is None else raw_bytes(uncond)

    def rgb(self, latent: bytes) -> bytes:
        return self._denoiser.rgb(self._tensor(latent)).numpy().tobytes()

    def _tensor(self, raw: bytes) -> torch.Tensor:
        if len(raw) != 4 * math.prod(self._shape):
            raise ModelInvalid(f"a latent of this task has {4 * math.prod(self._shape)} bytes, this one has {len(raw)}")
        return torch.frombuffer(bytearray(raw), dtype=torch.float32).reshape(self._shape)
