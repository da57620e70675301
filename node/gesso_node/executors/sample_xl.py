"""A Stable Diffusion XL folder with random weights, small: two text encoders and all, drawing noise.

Its scheduler is the published XL base's. For tests, and for trying out a machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from gesso_node.executors.sample import TEXT_LENGTH, Sizes, make_autoencoder, write_tokenizer

_diffusers: Any = diffusers  # its classes carry no usable types
WIDTHS = (16, 24)
"""Of the two text encoders."""
POOLED = 20
TIME_WIDTH = 8
SIZES = Sizes(unet=(16, 32), unet_layers=2, vae=(8, 8, 8))


def write_xl_pipeline(folder: Path, *, seed: int = 0, zeros_for_none: bool = True) -> Path:
    """Write the folder and return it. `zeros_for_none`: no negative prompt is zeros, as the published base has it."""
    torch.manual_seed(seed)
    tokenizer = write_tokenizer(folder / "tokenizer")
    second = write_tokenizer(folder / "tokenizer_2", pad="!")
    pipeline = _diffusers.StableDiffusionXLPipeline(
        text_encoder=CLIPTextModel(_text_config(tokenizer, WIDTHS[0])),
        text_encoder_2=CLIPTextModelWithProjection(_text_config(second, WIDTHS[1])),
        vae=make_autoencoder(SIZES),
        tokenizer=tokenizer,
        tokenizer_2=second,
        unet=_unet(),
        scheduler=_scheduler(),
        force_zeros_for_empty_prompt=zeros_for_none,
        add_watermarker=False,
    )
    pipeline.save_pretrained(str(folder), safe_serialization=True)
    return folder


def _text_config(tokenizer: CLIPTokenizer, width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=POOLED,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TEXT_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _unet() -> Any:
    return _diffusers.UNet2DConditionModel(
        sample_size=16,
        block_out_channels=SIZES.unet,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=SIZES.unet_layers,
        transformer_layers_per_block=(1, 2),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        cross_attention_dim=sum(WIDTHS),
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_WIDTH,
        projection_class_embeddings_input_dim=POOLED + 6 * TIME_WIDTH,
        norm_num_groups=SIZES.groups,
    )


def _scheduler() -> Any:
    scheduler = _diffusers.EulerDiscreteScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        interpolation_type="linear",
        prediction_type="epsilon",
        timestep_spacing="leading",
        steps_offset=1,
        use_karras_sigmas=False,
    )
    # Not this scheduler's own: the published file has them for the others.
    scheduler.register_to_config(clip_sample=False, sample_max_value=1.0, set_alpha_to_one=False, skip_prk_steps=True)
    return scheduler
