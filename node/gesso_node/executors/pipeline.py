"""Opening a model folder as a pipeline of its kind that stays where it is put. In the child process only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch

from gesso.diffusers_layout import SD, SDXL, Layout
from gesso_node.executors.conditioning import TIME_IDS, is_xl
from gesso_node.executors.memory import says_no_memory
from gesso_protocol.errors import ModelInvalid

_diffusers: Any = diffusers  # its classes carry no usable types


class _Placed:
    """Knows where it is. The library finds out by walking over every module, several times a picture: with a small
    model that costs as much as the picture."""

    placed: torch.device | None = None

    @property
    def device(self) -> torch.device:
        found: torch.device = self.placed or super().device  # type: ignore[misc]  # of the pipeline beside it
        return found

    @property
    def _execution_device(self) -> torch.device:
        return self.device


class PlacedPipeline(_Placed, _diffusers.StableDiffusionPipeline):  # type: ignore[misc]  # untyped
    """Stable Diffusion 1 and 2."""


class PlacedXLPipeline(_Placed, _diffusers.StableDiffusionXLPipeline):  # type: ignore[misc]  # untyped
    """Stable Diffusion XL: two text encoders, and the picture's sizes told to the UNet."""


_NO_CHECKER = {"safety_checker": None, "requires_safety_checker": False}
_LOADERS: dict[str, tuple[Any, dict[str, Any]]] = {
    SD.pipeline: (PlacedPipeline, _NO_CHECKER),
    SDXL.pipeline: (PlacedXLPipeline, {"add_watermarker": False}),
}


def open_pipeline(model_dir: Path, layout: Layout, dtype: torch.dtype, device: torch.device) -> Any:
    """The pipeline of a folder, on `device`. Raises ModelInvalid for a model that cannot be loaded, and torch's own
    error where there is no memory."""
    loader, options = _LOADERS[layout.pipeline]
    try:
        pipeline = loader.from_pretrained(
            str(model_dir),
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            feature_extractor=None,
            image_encoder=None,
            low_cpu_mem_usage=True,
            **options,
        )
    except Exception as error:
        if says_no_memory(error):
            raise
        raise ModelInvalid(f"the model cannot be loaded: {type(error).__name__}: {str(error)[:500]}") from error
    _check_parts(pipeline)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(device)
    # The decode is checked by auditors to one grey level, which fp16 cannot promise.
    if dtype != torch.float32:
        pipeline.vae.to(torch.float32)
    pipeline.placed = pipeline.device
    return pipeline


def _check_parts(pipeline: Any) -> None:
    """Raises ModelInvalid when the UNet does not take what the text encoders give."""
    config, encoder = pipeline.unet.config, pipeline.text_encoder.config
    width, told = encoder.hidden_size, 0
    if is_xl(pipeline):
        second = pipeline.text_encoder_2.config
        width += second.hidden_size
        told = second.projection_dim + TIME_IDS * (config.addition_time_embed_dim or 0)
        if pipeline.tokenizer.model_max_length != pipeline.tokenizer_2.model_max_length:
            raise ModelInvalid("the model's two tokenizers are of different lengths")
    if config.addition_embed_type != ("text_time" if told else None):
        raise ModelInvalid(f"the model's UNet wants {config.addition_embed_type} beside the words")
    if told and pipeline.unet.add_embedding.linear_1.in_features != told:
        raise ModelInvalid("the model's UNet does not fit its second text encoder and the picture's sizes")
    if config.cross_attention_dim != width:
        raise ModelInvalid(
            f"the model's UNet takes words {config.cross_attention_dim} wide, its text encoders give {width}"
        )
