"""A model of a few hundred numbers in numpy: the right answer to a toy question, with a trace of the usual shape.

It denoises towards a smooth pattern that the prompt's embedding draws, as an ideal denoiser of a Gaussian would, with
a small nonlinear part so that no two steps have the same output. Same spec and manifest, same tensors, everywhere.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from blake3 import blake3
from PIL import Image, ImageDraw

from gesso_node.executors.walk import F32, array
from gesso_protocol.audit.schedules import Schedule
from gesso_protocol.errors import ModelInvalid
from gesso_protocol.ids import BlobRef
from gesso_protocol.spec import TextToImage

SCHEDULER_CONFIG: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "timestep_spacing": "trailing",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": True,
}
CHANNELS = 4
FACTOR = 8
WORDS = 32
EMBEDDING_SHAPE = (1, WORDS)
WAVES = 6
SPREAD = 0.25
"""Variance of what the model believes of a picture before it has seen anything of it."""


@dataclass(frozen=True)
class Weights:
    """The model: how words become waves, how channels mix, how a latent becomes colours."""

    words: F32
    mix: F32
    colours: F32

    @classmethod
    def of(cls, manifest: BlobRef) -> Weights:
        """Every manifest names another model."""
        seed = int.from_bytes(blake3(b"gesso/fake/weights" + manifest.value).digest(length=16), "little")
        draw = np.random.Generator(np.random.PCG64(seed)).standard_normal
        return cls(
            words=(draw((CHANNELS, WAVES, WORDS), dtype=np.float32) / np.float32(math.sqrt(WORDS / 3))),
            mix=draw((CHANNELS, CHANNELS), dtype=np.float32) * np.float32(0.5),
            colours=draw((3, CHANNELS), dtype=np.float32) * np.float32(0.5),
        )

    @classmethod
    def for_task(cls, manifest: BlobRef, spec: TextToImage) -> Weights:
        """The model with the task's LoRAs, each by its strength."""
        weights = cls.of(manifest)
        for lora in spec.loras:
            change = cls.of(lora.manifest)
            mix = weights.mix + np.float32(0.2 * lora.strength) * change.mix
            weights = replace(weights, mix=mix.astype(np.float32))
        return weights

    def rounded(self, bits: int) -> Weights:
        """Each row rounded to so many bits, as quantised weights are."""
        return replace(self, words=_rounded(self.words, bits), mix=_rounded(self.mix, bits))


def _rounded(weights: F32, bits: int) -> F32:
    steps = np.float32(2 ** (bits - 1) - 1)
    scale = np.abs(weights).max(axis=-1, keepdims=True) / steps
    rounded: F32 = (np.round(weights / scale) * scale).astype(np.float32)
    return rounded


class FakeSteps:
    """The fake model's parts for one spec, as replays and walks call them."""

    def __init__(self, spec: TextToImage, weights: Weights, *, prompt: str | None = None) -> None:
        self._spec = spec
        self._weights = weights
        self.schedule = Schedule.of(SCHEDULER_CONFIG, spec.scheduler, spec.steps)
        self.shape = (1, CHANNELS, spec.height // FACTOR, spec.width // FACTOR)
        words = (spec.prompt if prompt is None else prompt, spec.negative_prompt)
        cond, uncond = (self._pattern(_embedding(text)) for text in words)
        self._patterns = (cond, uncond if spec.guidance > 1 else None)

    def embed(self) -> tuple[bytes, bytes]:
        return _embedding(self._spec.prompt).tobytes(), _embedding(self._spec.negative_prompt).tobytes()

    @property
    def embedding_parts(self) -> tuple[int, ...]:
        return ()

    def noise(self, image: int) -> bytes:
        return next(self._draws(image))

    def step_noises(self, image: int) -> Iterator[bytes]:
        if self.schedule.ancestral:
            draws = self._draws(image)
            next(draws)
            for _ in range(self._spec.steps):
                yield next(draws)

    def predict(self, step: int, latent: bytes) -> tuple[bytes, bytes | None]:
        x = np.asarray(self.schedule.scale_input(self._tensor(latent), step), np.float32)
        kept = np.float32(_kept(self.schedule.timesteps[step]))
        cond, uncond = self._patterns
        return self._noise_in(x, cond, kept), None if uncond is None else self._noise_in(x, uncond, kept)

    def rgb(self, latent: bytes) -> bytes:
        colours = np.einsum("kc,chw->hwk", self._weights.colours, self._tensor(latent)[0]) + np.float32(0.5)
        small = (np.clip(colours, 0, 1) * 255).round().astype(np.uint8)
        return _stamped(small.repeat(FACTOR, 0).repeat(FACTOR, 1)[: self._spec.height, : self._spec.width])

    def _noise_in(self, x: F32, pattern: F32, kept: np.float32) -> bytes:
        """The noise that x holds if it shows `pattern`; `kept` is the share of the picture's variance left in x."""
        signal, rest = np.sqrt(kept), 1 - kept
        gain = signal * np.float32(SPREAD) / (kept * np.float32(SPREAD) + rest)
        bend = np.tanh(np.einsum("kc,bchw->bkhw", self._weights.mix, x))
        picture = pattern + gain * (x - signal * pattern) + np.float32(0.1) * bend
        noise: F32 = ((x - signal * picture) / np.sqrt(rest)).astype("<f4")
        return noise.tobytes()

    def _pattern(self, embedding: F32) -> F32:
        _, _, height, width = self.shape
        waves = np.einsum("kvw,w->kv", self._weights.words, embedding)
        down, across = np.linspace(0, np.pi, height, dtype=np.float32), np.linspace(0, np.pi, width, dtype=np.float32)
        bases = [np.outer(np.cos(a * down), np.cos(b * across)) for a, b in _waves()]
        pattern: F32 = np.einsum("kv,vhw->khw", waves, np.stack(bases)).astype(np.float32)[None] * np.float32(0.7)
        return pattern

    def _draws(self, image: int) -> Iterator[bytes]:
        draw = np.random.Generator(np.random.PCG64(self._spec.image_seed(image))).standard_normal
        while True:
            yield draw(self.shape, dtype=np.float32).astype("<f4").tobytes()

    def _tensor(self, raw: bytes) -> npt.NDArray[np.float32]:
        size = 4 * math.prod(self.shape)
        if len(raw) != size:
            raise ModelInvalid(f"a latent of this task has {size} bytes, this one has {len(raw)}")
        return array(raw).reshape(self.shape)


def _embedding(text: str) -> F32:
    words = np.frombuffer(blake3(text.encode()).digest(length=4 * WORDS), "<u4")
    embedding: F32 = (words / np.float64(2**31) - 1).astype("<f4")
    return embedding


def _waves() -> list[tuple[int, int]]:
    return [(0, 0), (0, 1), (1, 0), (1, 1), (2, 1), (1, 2)]


@functools.cache
def _levels() -> npt.NDArray[np.float64]:
    config = SCHEDULER_CONFIG
    ends = math.sqrt(config["beta_start"]), math.sqrt(config["beta_end"])
    betas = np.linspace(*ends, config["num_train_timesteps"], dtype=np.float64) ** 2
    return np.cumprod(1 - betas, dtype=np.float64)


def _kept(timestep: float) -> float:
    return float(np.interp(timestep, np.arange(len(_levels())), _levels()))


def _stamped(pixels: npt.NDArray[np.uint8]) -> bytes:
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    ImageDraw.Draw(picture).text((2, 2), "fake", fill=(255, 255, 255), stroke_width=1, stroke_fill=(0, 0, 0))
    return picture.tobytes()
