"""Which parts a Stable Diffusion folder in diffusers' layout must have, and which classes they may name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gesso_protocol.errors import ModelInvalid
from gesso_protocol.manifest import Pipeline

MAX_INDEX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Layout:
    """One kind of folder: what manifests call it, the class that draws with it, and its parts."""

    pipeline: Pipeline
    loader: str
    """The diffusers class that `model_index.json` names."""
    weighted: tuple[str, ...]
    """Parts that have weights beside a configuration."""
    plain: tuple[str, ...]

    @property
    def parts(self) -> tuple[str, ...]:
        """All that must be there."""
        return (*self.weighted, *self.plain)


SD = Layout("stable-diffusion", "StableDiffusionPipeline", ("vae", "unet", "text_encoder"), ("tokenizer", "scheduler"))
SDXL = Layout(
    "stable-diffusion-xl",
    "StableDiffusionXLPipeline",
    (*SD.weighted, "text_encoder_2"),
    ("tokenizer", "tokenizer_2", "scheduler"),
)
LAYOUTS = (SD, SDXL)
PARTS = frozenset(part for layout in LAYOUTS for part in layout.parts)
"""Every part of any layout."""
_TOKENIZERS = {("transformers", "CLIPTokenizer"), ("transformers", "CLIPTokenizerFast")}
ALLOWED_CLASSES = {
    "vae": {("diffusers", "AutoencoderKL")},
    "unet": {("diffusers", "UNet2DConditionModel")},
    "text_encoder": {("transformers", "CLIPTextModel")},
    "text_encoder_2": {("transformers", "CLIPTextModelWithProjection")},
    "tokenizer": _TOKENIZERS,
    "tokenizer_2": _TOKENIZERS,
}


def check_index(index: Mapping[str, object]) -> Layout:
    """Raises ModelInvalid unless `model_index.json` names a known pipeline and parts that are known to be harmless."""
    layout = check_pipeline(index)
    for part in layout.parts:
        _check_part(part, index.get(part))
    return layout


def check_pipeline(index: Mapping[str, object]) -> Layout:
    """Raises ModelInvalid unless `model_index.json` names a pipeline that nodes run."""
    name = str(index.get("_class_name"))
    for layout in LAYOUTS:
        if layout.loader == name:
            return layout
    if name.startswith("StableDiffusion"):
        raise ModelInvalid(
            f"model_index.json names {name[:80]!r}, which does more or other than draw from words",
            hint=f"bases are folders for {SD.loader} or {SDXL.loader}",
        )
    raise ModelInvalid(f"model_index.json names pipeline {name[:80]!r}, not {SD.loader} or {SDXL.loader}")


def _check_part(part: str, entry: object) -> None:
    if not isinstance(entry, list) or len(entry) != 2 or not all(isinstance(word, str) for word in entry):
        raise ModelInvalid(f"model_index.json has no {part}")
    library, name = entry
    if part == "scheduler":
        if library != "diffusers" or not name.endswith("Scheduler"):
            raise ModelInvalid(f"scheduler {library}.{name} is not one of diffusers")
    elif (library, name) not in ALLOWED_CLASSES[part]:
        raise ModelInvalid(f"{part} {library}.{name} is not allowed")
