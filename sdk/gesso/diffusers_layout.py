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
    if index.get("_class_name") != PIPELINE:
        raise ModelInvalid(f"model_index.json names pipeline {str(index.get('_class_name'))[:80]!r}, not {PIPELINE}")
    for part in REQUIRED:
        _check_part(part, index.get(part))


def _check_part(part: str, entry: object) -> None:
    if not isinstance(entry, list) or len(entry) != 2 or not all(isinstance(word, str) for word in entry):
        raise ModelInvalid(f"model_index.json has no {part}")
    library, name = entry
    if part == "scheduler":
        if library != "diffusers" or not name.endswith("Scheduler"):
            raise ModelInvalid(f"scheduler {library}.{name} is not one of diffusers")
    elif (library, name) not in ALLOWED_CLASSES[part]:
        raise ModelInvalid(f"{part} {library}.{name} is not allowed")
