"""What a model folder may hold before any library opens it: safetensors, nothing that runs.

The files' hashes were checked against a manifest by then; this is about what a well-hashed but hostile publisher
could put there: pickles, code, components of other libraries, links out of the folder.
"""

from __future__ import annotations

from pathlib import Path

from pydantic_core import from_json

from gesso.diffusers_layout import MAX_INDEX_BYTES, Layout, check_index
from gesso_protocol.errors import ModelInvalid

MAX_FILES = 256
ALLOWED_SUFFIXES = (".safetensors", ".json", ".txt")


def check_model_folder(folder: Path) -> Layout:
    """What kind of folder it is. Raises ModelInvalid with a sentence that names the file and what is wrong with it."""
    layout = check_index(read_json(folder / "model_index.json"))
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    if len(files) > MAX_FILES:
        raise ModelInvalid(f"the model folder holds {len(files)} files, at most {MAX_FILES} are allowed")
    for path in files:
        name = path.relative_to(folder)
        if path.is_symlink() or not path.is_file():
            raise ModelInvalid(f"{name} is not a plain file")
        if path.suffix not in ALLOWED_SUFFIXES:
            raise ModelInvalid(f"{name}: only safetensors, json and txt files are loaded")
    return layout


def read_json(path: Path) -> dict[str, object]:
    """A small JSON object of a model. Raises ModelInvalid."""
    try:
        if path.stat().st_size > MAX_INDEX_BYTES:
            raise ModelInvalid(f"{path.name} is too large")
        value = from_json(path.read_bytes())  # bounds its depth by itself
    except (OSError, ValueError) as error:
        raise ModelInvalid(f"{path.name} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise ModelInvalid(f"{path.name} is not an object")
    return value
