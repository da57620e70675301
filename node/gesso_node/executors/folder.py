"""What a model folder may hold before any library opens it: safetensors, nothing that runs.

The files' hashes were checked against a manifest by then; this is about what a well-hashed but hostile publisher
could put there: pickles, code, components of other libraries, links out of the folder.
"""

from __future__ import annotations

from pathlib import Path

from pydantic_core import from_json

from gesso_protocol.errors import ModelInvalid

MAX_INDEX_BYTES = 64 * 1024
MAX_FILES = 256
ALLOWED_SUFFIXES = (".safetensors", ".json", ".txt")
ALLOWED_CLASSES = {
    "vae": {("diffusers", "AutoencoderKL")},
    "unet": {("diffusers", "UNet2DConditionModel")},
    "text_encoder": {("transformers", "CLIPTextModel")},
    "tokenizer": {("transformers", "CLIPTokenizer"), ("transformers", "CLIPTokenizerFast")},
}
REQUIRED = ("vae", "unet", "text_encoder", "tokenizer", "scheduler")


def check_model_folder(folder: Path) -> None:
    """Raises ModelInvalid with a sentence that names the file and what is wrong with it."""
    index = _read_index(folder / "model_index.json")
    if index.get("_class_name") != "StableDiffusionPipeline":
        raise ModelInvalid(f"model_index.json names pipeline {index.get('_class_name')!r}, not StableDiffusionPipeline")
    for part in REQUIRED:
        _check_part(part, index.get(part))
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    if len(files) > MAX_FILES:
        raise ModelInvalid(f"the model folder holds {len(files)} files, at most {MAX_FILES} are allowed")
    for path in files:
        name = path.relative_to(folder)
        if path.is_symlink() or not path.is_file():
            raise ModelInvalid(f"{name} is not a plain file")
        if path.suffix not in ALLOWED_SUFFIXES:
            raise ModelInvalid(f"{name}: only safetensors, json and txt files are loaded")


def _read_index(path: Path) -> dict[str, object]:
    try:
        if path.stat().st_size > MAX_INDEX_BYTES:
            raise ModelInvalid("model_index.json is too large")
        value = from_json(path.read_bytes())  # bounds its depth by itself
    except (OSError, ValueError) as error:
        raise ModelInvalid(f"model_index.json cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise ModelInvalid("model_index.json is not an object")
    return value


def _check_part(part: str, entry: object) -> None:
    if not isinstance(entry, list) or len(entry) != 2 or not all(isinstance(word, str) for word in entry):
        raise ModelInvalid(f"model_index.json has no {part}")
    library, name = entry
    if part == "scheduler":
        if library != "diffusers" or not name.endswith("Scheduler"):
            raise ModelInvalid(f"scheduler {library}.{name} is not one of diffusers")
    elif (library, name) not in ALLOWED_CLASSES[part]:
        raise ModelInvalid(f"{part} {library}.{name} is not allowed")
