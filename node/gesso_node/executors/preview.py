"""Small pictures of unfinished latents, cheap enough not to be noticed: they may cost one hundredth of the run.

Models whose decoder takes milliseconds are decoded; the two latent spaces that most models share have a published
linear map to colours; others get no preview rather than a wrong one.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any, Self

import torch
from PIL import Image

from gesso_node.executors.vae import decoder_input

SIDE_PX = 64
MAX_BYTES = 12 * 1024
BUDGET = 0.01
SMALL_DECODER_PARAMETERS = 3_000_000

# Least-squares maps from four latent channels to RGB in -1..1, as published for these two VAEs.
_SD15 = ((0.298, 0.207, 0.208), (0.187, 0.286, 0.173), (-0.158, 0.189, 0.264), (-0.184, -0.271, -0.473))
_SDXL = ((0.3920, 0.4054, 0.4549), (-0.2634, -0.0196, 0.0653), (0.0568, 0.1687, -0.0755), (-0.3112, -0.2359, -0.2076))
_MAPS = {0.18215: _SD15, 0.13025: _SDXL}


class Previewer:
    """Decides when a preview is affordable and makes it."""

    def __init__(self, pipeline: Any, factors: torch.Tensor | None, decode: bool) -> None:
        self._pipeline = pipeline
        self._factors = factors
        self._decode = decode
        self._begun = 0.0
        self._spent = 0.0
        self._last = 0.0
        self._made = 0.0
        self._coming: tuple[torch.Tensor, Callable[[], bool]] | None = None

    @classmethod
    def of(cls, pipeline: Any) -> Self:
        """The cheapest way for this pipeline's VAE."""
        vae = pipeline.vae
        if sum(parameter.numel() for parameter in vae.parameters()) <= SMALL_DECODER_PARAMETERS:
            return cls(pipeline, None, True)
        factors = _MAPS.get(round(float(vae.config.scaling_factor), 5))
        if factors is None or vae.config.latent_channels != 4:
            return cls(pipeline, None, False)
        return cls(pipeline, torch.tensor(factors), False)

    def begin(self) -> None:
        """A new picture starts: its time budget too."""
        self._begun = time.perf_counter()
        self._spent = 0.0
        self._coming = None

    def take(self, latents: torch.Tensor) -> bytes | None:
        """A JPEG of at most 64 pixels a side and 12 KiB, or None when it is not affordable yet. On a GPU it shows an
        earlier step: a run that waited for its own latents would leave the GPU without work meanwhile."""
        if self._factors is None and not self._decode:
            return None
        begun = time.perf_counter()
        if self._coming is None:
            if self._spent + self._last > BUDGET * (begun - self._begun):
                return None
            self._coming, self._made = _on_its_way(self._pixels(latents)), 0.0
        pixels, arrived = self._coming
        picture = _jpeg(pixels) if arrived() else None
        spent = time.perf_counter() - begun
        self._spent += spent
        self._made += spent
        if picture is None:
            return None
        self._last, self._coming = self._made, None
        return picture if len(picture) <= MAX_BYTES else None

    def _pixels(self, latents: torch.Tensor) -> torch.Tensor:
        if self._decode:
            scaled = decoder_input(self._pipeline, latents)
            colours = self._pipeline.vae.decode(scaled, return_dict=False)[0][0].permute(1, 2, 0)
        else:
            assert self._factors is not None
            self._factors = self._factors.to(latents.device)
            colours = latents[0].float().permute(1, 2, 0) @ self._factors
        pixels: torch.Tensor = ((colours / 2 + 0.5).clamp(0, 1) * 255).to(torch.uint8).contiguous()
        return pixels


def _on_its_way(pixels: torch.Tensor) -> tuple[torch.Tensor, Callable[[], bool]]:
    """Pixels in memory of the CPU, and whether they are there already. Nobody waits."""
    if pixels.device.type == "cpu":
        return pixels, lambda: True
    here = torch.empty(pixels.shape, dtype=pixels.dtype, pin_memory=True)
    here.copy_(pixels, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()
    return here, copied.query


def _jpeg(pixels: torch.Tensor) -> bytes:
    picture = Image.frombytes("RGB", (pixels.shape[1], pixels.shape[0]), pixels.numpy().tobytes())
    picture.thumbnail((SIDE_PX, SIDE_PX))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
