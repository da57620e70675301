"""Latents to pixels and back, as the pipeline's own kind does it. In the child process only."""

from __future__ import annotations

from typing import Any

import torch

from gesso_node.executors.conditioning import is_xl


def decoder_input(pipe: Any, latents: torch.Tensor) -> torch.Tensor:
    """What the decoder takes, in fp32."""
    scaled: torch.Tensor = latents.float() / pipe.vae.config.scaling_factor
    mean, deviation = _moments(pipe, scaled)
    return scaled if mean is None or deviation is None else scaled * deviation + mean


def encoded(pipe: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Latents of pixels in -1..1: the mode of the posterior, scaled as the UNet knows it."""
    latents: torch.Tensor = pipe.vae.encode(pixels).latent_dist.mode()
    mean, deviation = _moments(pipe, latents)
    if mean is not None and deviation is not None:
        latents = (latents - mean) / deviation
    scaled: torch.Tensor = latents * pipe.vae.config.scaling_factor
    return scaled


def to_rgb(pipe: Any, latents: torch.Tensor) -> torch.Tensor:
    """Decode in fp32: an auditor checks the pixels to a grey level or two."""
    decoded: torch.Tensor = pipe.vae.decode(decoder_input(pipe, latents), return_dict=False)[0][0]
    pixels = ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return pixels.permute(1, 2, 0).contiguous().cpu()


def _moments(pipe: Any, like: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Mean and deviation a channel, which few XL models have; pipelines of other kinds do not look at them."""
    config = pipe.vae.config
    found = (getattr(config, name, None) if is_xl(pipe) else None for name in ("latents_mean", "latents_std"))
    mean, deviation = (None if one is None else torch.tensor(one).view(1, -1, 1, 1).to(like) for one in found)
    return mean, deviation
