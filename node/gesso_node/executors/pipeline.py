"""Opening a model folder as a `StableDiffusionPipeline` that stays where it is put. In the child process only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch

from gesso_protocol.errors import ModelInvalid

_diffusers: Any = diffusers  # its classes carry no usable types


class PlacedPipeline(_diffusers.StableDiffusionPipeline):  # type: ignore[misc]  # untyped
    """Knows where it is. The library finds out by walking over every module, several times a picture: with a small
    model that costs as much as the picture."""

    placed: torch.device | None = None

    @property
    def device(self) -> torch.device:
        found: torch.device = self.placed or super().device
        return found

    @property
    def _execution_device(self) -> torch.device:
        return self.device


def open_pipeline(model_dir: Path, dtype: torch.dtype, device: torch.device) -> Any:
    """The pipeline of a folder, on `device`. Raises ModelInvalid for a model that cannot be loaded, and torch's own
    error where there is no memory."""
    try:
        pipeline = PlacedPipeline.from_pretrained(
            str(model_dir),
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            safety_checker=None,
            feature_extractor=None,
            image_encoder=None,
            requires_safety_checker=False,
            low_cpu_mem_usage=True,
        )
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        if says_no_memory(error):
            raise
        raise ModelInvalid(f"the model cannot be loaded: {type(error).__name__}: {str(error)[:500]}") from error
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(device)
    # The decode is checked by auditors to one grey level, which fp16 cannot promise.
    if dtype != torch.float32:
        pipeline.vae.to(torch.float32)
    pipeline.placed = pipeline.device
    return pipeline


def says_no_memory(error: BaseException | None) -> bool:
    """How torch says it on a CPU."""
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)
