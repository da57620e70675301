"""Pipelines of the sizes that people run, with random weights made on the device: they draw noise at the real price."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from gesso_node.executors.sample import write_tokenizer

_diffusers: Any = diffusers  # its classes carry no usable types
LENGTH = 77


def write_sd15(folder: Path, device: str, *, small: bool = False) -> Path:
    """Stable Diffusion 1.5: 860 million parameters in the denoiser. `small` is its shape with a tenth of the widths."""
    widths = (32, 64, 128, 128) if small else (320, 640, 1280, 1280)
    text = 64 if small else 768
    tokenizer = write_tokenizer(folder / "tokenizer")
    with torch.device(device):
        torch.manual_seed(0)
        parts = {
            "text_encoder": CLIPTextModel(_text(tokenizer, text, 12, 4 if small else 12)),
            "vae": _autoencoder(0.18215, small),
            "unet": _diffusers.UNet2DConditionModel(
                sample_size=64, block_out_channels=widths, layers_per_block=2, cross_attention_dim=text,
                attention_head_dim=8,
            ),
        }  # fmt: skip
    pipeline = _diffusers.StableDiffusionPipeline(
        **_half(parts), tokenizer=tokenizer, scheduler=_scheduler(), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(str(folder), safe_serialization=True)
    return folder


def write_sdxl(folder: Path, device: str, *, small: bool = False) -> Path:
    """Stable Diffusion XL: 2.6 thousand million parameters in the denoiser, two text encoders."""
    widths = (32, 64, 128) if small else (320, 640, 1280)
    first, second, pooled = (32, 48, 48) if small else (768, 1280, 1280)
    tokenizer, other = write_tokenizer(folder / "tokenizer"), write_tokenizer(folder / "tokenizer_2", pad="!")
    with torch.device(device):
        torch.manual_seed(0)
        parts = {
            "text_encoder": CLIPTextModel(_text(tokenizer, first, 12, 4 if small else 12)),
            "text_encoder_2": CLIPTextModelWithProjection(
                _text(other, second, 4 if small else 32, 4 if small else 20, pooled)
            ),
            "vae": _autoencoder(0.13025, small),
            "unet": _diffusers.UNet2DConditionModel(
                sample_size=128, block_out_channels=widths, layers_per_block=2,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                transformer_layers_per_block=(1, 1, 2) if small else (1, 2, 10),
                attention_head_dim=(2, 4, 8) if small else (5, 10, 20),
                use_linear_projection=True, cross_attention_dim=first + second, addition_embed_type="text_time",
                addition_time_embed_dim=256, projection_class_embeddings_input_dim=pooled + 6 * 256,
            ),
        }  # fmt: skip
    pipeline = _diffusers.StableDiffusionXLPipeline(
        **_half(parts), tokenizer=tokenizer, tokenizer_2=other, scheduler=_scheduler(), add_watermarker=False
    )
    pipeline.save_pretrained(str(folder), safe_serialization=True)
    return folder


def _text(tokenizer: Any, width: int, layers: int, heads: int, pooled: int = 512) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
        num_attention_heads=heads, max_position_embeddings=LENGTH, projection_dim=pooled,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip


def _autoencoder(scaling: float, small: bool) -> Any:
    widths = (32, 32, 64, 64) if small else (128, 256, 512, 512)
    return _diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=widths, layers_per_block=2, latent_channels=4, sample_size=512, scaling_factor=scaling,
    )  # fmt: skip


def _scheduler() -> Any:
    return _diffusers.EulerDiscreteScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1, timestep_spacing="leading"
    )


def _half(parts: dict[str, Any]) -> dict[str, Any]:
    """In fp16, as published files are: half of the bytes on disk."""
    return {name: part.to(torch.float16).cpu() for name, part in parts.items()}
