"""A pipeline folder with random weights: it draws noise, but it is a real `StableDiffusionPipeline` in every part.

For `doctor` (can this machine run diffusers at all?), for benches that need a pipeline of a given cost, and for tests.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

_diffusers: Any = diffusers  # its classes carry no usable types
TEXT_WIDTH = 32
TEXT_LENGTH = 32


@dataclass(frozen=True, slots=True)
class Sizes:
    """Channels a level of UNet and autoencoder, and how wide and deep the rest is."""

    unet: Sequence[int] = (32, 64)
    unet_layers: int = 1
    head_width: int = 8
    vae: Sequence[int] = (8, 16, 32)
    text_width: int = TEXT_WIDTH
    text_layers: int = 2
    text_heads: int = 2
    groups: int = 8


HALF = Sizes(
    unet=(160, 320, 640, 640),
    unet_layers=2,
    head_width=8,
    vae=(64, 128, 256, 256),
    text_width=384,
    text_layers=12,
    text_heads=6,
    groups=32,
)
"""Stable Diffusion 1.5 with every width halved: 220 million parameters in the UNet."""


def write_sample_pipeline(
    folder: Path, *, widths: Sequence[int] | None = None, sizes: Sizes | None = None, seed: int = 0
) -> Path:
    """Write the folder and return it. `widths` are the UNet's channels a level; cost grows with their square."""
    torch.manual_seed(seed)
    sizes = sizes or (Sizes(unet=widths) if widths else Sizes())
    tokenizer = write_tokenizer(folder / "tokenizer")
    pipeline = _diffusers.StableDiffusionPipeline(
        text_encoder=_text_encoder(tokenizer, sizes),
        vae=make_autoencoder(sizes),
        tokenizer=tokenizer,
        unet=_unet(sizes),
        scheduler=_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(str(folder), safe_serialization=True)
    return folder


def _text_encoder(tokenizer: CLIPTokenizer, sizes: Sizes) -> Any:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=sizes.text_width,
            intermediate_size=2 * sizes.text_width,
            num_hidden_layers=sizes.text_layers,
            num_attention_heads=sizes.text_heads,
            max_position_embeddings=TEXT_LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def make_autoencoder(sizes: Sizes) -> Any:
    """An autoencoder with random weights."""
    return _diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(sizes.vae),
        up_block_types=("UpDecoderBlock2D",) * len(sizes.vae),
        block_out_channels=tuple(sizes.vae),
        norm_num_groups=4,
        latent_channels=4,
        sample_size=64,
        mid_block_add_attention=False,
    )


def _unet(sizes: Sizes) -> Any:
    deeper = len(sizes.unet) - 1
    return _diffusers.UNet2DConditionModel(
        sample_size=16,
        block_out_channels=tuple(sizes.unet),
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * deeper,
        up_block_types=("CrossAttnUpBlock2D",) * deeper + ("UpBlock2D",),
        layers_per_block=sizes.unet_layers,
        cross_attention_dim=sizes.text_width,
        attention_head_dim=sizes.head_width,
        norm_num_groups=sizes.groups,
    )


def _scheduler() -> Any:
    return _diffusers.DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,
    )


def write_tokenizer(folder: Path, pad: str = "<|endoftext|>") -> CLIPTokenizer:
    """Every byte is a token, so any prompt can be written; no merges are needed for that. `pad` fills up."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(
        vocab=str(folder / "vocab.json"),
        merges=str(folder / "merges.txt"),
        model_max_length=TEXT_LENGTH,
        pad_token=pad,
    )
