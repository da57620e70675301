"""Which parts a Stable Diffusion folder in diffusers' layout must have, and which classes they may name."""

from __future__ import annotations

from collections.abc import Mapping

from gesso_protocol.errors import ModelInvalid

MAX_INDEX_BYTES = 64 * 1024
PIPELINE = "StableDiffusionPipeline"
REQUIRED = ("vae", "unet", "text_encoder", "tokenizer", "scheduler")
WEIGHTED = ("vae", "unet", "text_encoder")
"""Parts that have weights beside a configuration."""
ALLOWED_CLASSES = {
    "vae": {("diffusers", "AutoencoderKL")},
    "unet": {("diffusers", "UNet2DConditionModel")},
    "text_encoder": {("transformers", "CLIPTextModel")},
    "tokenizer": {("transformers", "CLIPTokenizer"), ("transformers", "CLIPTokenizerFast")},
}


def check_index(index: Mapping[str, object]) -> None:
    """Raises ModelInvalid unless `model_index.json` names this pipeline and parts that are known to be harmless."""
    check_pipeline(index)
    for part in REQUIRED:
        _check_part(part, index.get(part))


def check_pipeline(index: Mapping[str, object]) -> None:
    """Raises ModelInvalid unless `model_index.json` names the pipeline that nodes run."""
    if str(index.get("_class_name")).startswith("StableDiffusionXL"):
        raise ModelInvalid(
            "this is a Stable Diffusion XL model: its second text encoder and pooled embeddings are not supported yet, "
            "neither for drawing nor for training",
            hint="use a model of the Stable Diffusion 1 or 2 layout",
        )
    if index.get("_class_name") != PIPELINE:
        raise ModelInvalid(f"model_index.json names pipeline {str(index.get('_class_name'))[:80]!r}, not {PIPELINE}")


def _check_part(part: str, entry: object) -> None:
    if not isinstance(entry, list) or len(entry) != 2 or not all(isinstance(word, str) for word in entry):
        raise ModelInvalid(f"model_index.json has no {part}")
    library, name = entry
    if part == "scheduler":
        if library != "diffusers" or not name.endswith("Scheduler"):
            raise ModelInvalid(f"scheduler {library}.{name} is not one of diffusers")
    elif (library, name) not in ALLOWED_CLASSES[part]:
        raise ModelInvalid(f"{part} {library}.{name} is not allowed")
