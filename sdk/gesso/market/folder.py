"""A base model in a diffusers folder, looked through before it is listed: safetensors only, whole, and nothing outside.

Nothing is loaded. Headers and JSON are read with bounds; links may not lead out of the folder (those of a hub's cache
lead into the same repository's files, which is inside).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from gesso.diffusers_layout import MAX_INDEX_BYTES, PARTS, Layout, check_index
from gesso.tensorfile import open_tensors
from gesso_protocol.errors import EncodingInvalid, ModelInvalid, UsageError
from gesso_protocol.manifest import MAX_BLOB_BYTES, MAX_FILES, MAX_MODEL_BYTES, Pipeline, check_path

INDEX = "model_index.json"
MAX_SEEN = 20_000
MAX_DEPTH = 8
MAX_JSON_BYTES = 32 * 1024 * 1024
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle", ".msgpack", ".h5", ".onnx")
_FAMILIES = {
    "stable-diffusion 768": "sd-1",
    "stable-diffusion 1024": "sd-2",
    "stable-diffusion-xl 2048": "sdxl",
}


@dataclass(frozen=True, slots=True)
class BaseFolder:
    """What of a folder makes the model: files by their place in it, and what was left behind."""

    files: dict[str, Path]
    left_out: tuple[str, ...]
    pipeline: Pipeline
    family: str
    """By the width of its text conditioning; empty when no known family has it."""


def read_folder(folder: Path, *, variant: str | None = None) -> BaseFolder:
    """Raises UsageError when there is no such folder, ModelInvalid with a sentence that names what is wrong with it.

    `variant` "fp16" takes the weights named so; other variants are left out.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder", hint="a diffusers folder, with model_index.json in it")
    seen = dict(_walk(folder))
    if INDEX not in seen:
        raise ModelInvalid(
            f"{folder.name} has no {INDEX}",
            hint="only the folder layout of diffusers can be imported, not single files",
        )
    layout = check_index(_json(folder, seen[INDEX], INDEX, MAX_INDEX_BYTES))
    files = {INDEX: seen[INDEX]}
    for part in layout.parts:
        files |= _part(layout, part, seen, variant)
    _check_sizes(files)
    for place, path in files.items():
        if place.endswith(".safetensors"):
            if not open_tensors(path, max_bytes=MAX_BLOB_BYTES).tensors:
                raise ModelInvalid(f"{place} holds no tensors")
        elif place.endswith(".json"):
            _json(folder, path, place, MAX_JSON_BYTES)
    used = set(files.values())
    unet = _json(folder, files["unet/config.json"], "unet/config.json", MAX_INDEX_BYTES)
    return BaseFolder(
        files=dict(sorted(files.items())),
        left_out=tuple(sorted(place for place, path in seen.items() if path not in used)),
        pipeline=layout.pipeline,
        family=_FAMILIES.get(f"{layout.pipeline} {unet.get('cross_attention_dim')}", ""),
    )


def chosen(names: list[str], variant: str | None = None) -> list[str]:
    """Which files of a repository are worth fetching: those that `read_folder` could use."""
    kept = [name for name in names if name == INDEX or name.split("/")[0] in PARTS]
    return sorted(name for name in kept if name.endswith((".json", ".txt")) or _plain(name, variant) is not None)


def _part(layout: Layout, part: str, seen: dict[str, Path], variant: str | None) -> dict[str, Path]:
    mine = {place: path for place, path in seen.items() if place.startswith(f"{part}/")}
    files = {place: path for place, path in mine.items() if place.endswith((".json", ".txt"))}
    if not mine:
        raise ModelInvalid(f"the part {part} is missing")
    if part not in layout.weighted:
        return files
    if f"{part}/config.json" not in files:
        raise ModelInvalid(f"{part}/config.json is missing")
    weights = {plain: path for place, path in mine.items() if (plain := _plain(place, variant)) is not None}
    if not weights:
        raise _no_weights(part, list(mine), variant)
    return files | weights


def _no_weights(part: str, places: list[str], variant: str | None) -> ModelInvalid:
    pickles = [place for place in places if place.endswith(PICKLES)]
    others = [place for place in places if place.endswith(".safetensors")]
    if others:
        return ModelInvalid(
            f"{part} has no weights{f' of variant {variant}' if variant else ''}, only {others[0]}",
            hint="name the variant, as in --variant fp16" if variant is None else "leave --variant out",
        )
    if pickles:
        return ModelInvalid(
            f"{part} has its weights only as {pickles[0]}, which can run code when it is loaded",
            hint="only safetensors are taken; convert it with a tool that you trust",
        )
    return ModelInvalid(f"{part} has no weights")


def _plain(place: str, variant: str | None) -> str | None:
    """The name that a loader looks for, for weights of this variant; None for other files."""
    stem, dot, suffix = place.rpartition(".")
    if not dot or suffix != "safetensors":
        return None
    name = stem.rpartition("/")[2]
    if variant is None:
        return place if "." not in name else None
    return f"{stem.removesuffix(f'.{variant}')}.safetensors" if name.endswith(f".{variant}") else None


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every file under a folder; hidden ones are passed over."""
    inside = _inside(folder)
    waiting, count = [(folder, 0)], 0
    while waiting:
        here, depth = waiting.pop()
        with os.scandir(here) as found:
            entries = list(islice(found, MAX_SEEN + 1))
        for entry in entries:
            count += 1
            if count > MAX_SEEN:
                raise ModelInvalid(f"{folder.name} holds more than {MAX_SEEN} files; this is no model folder")
            path = Path(entry.path)
            place = path.relative_to(folder).as_posix()
            if entry.name.startswith("."):
                continue
            if entry.is_symlink() and not path.resolve().is_relative_to(inside):
                raise ModelInvalid(f"{place} is a link that leads out of the folder", hint="copy the file itself there")
            if entry.is_dir(follow_symlinks=False):
                if depth < MAX_DEPTH:
                    waiting.append((path, depth + 1))
            elif path.is_file():
                yield place, path


def _inside(folder: Path) -> Path:
    """What links may lead to: the folder, or all of a hub cache's repository when this is one of its snapshots."""
    real = folder.resolve()
    is_snapshot = real.parent.name == "snapshots" and (real.parent.parent / "blobs").is_dir()
    return real.parent.parent if is_snapshot else real


def _check_sizes(files: dict[str, Path]) -> None:
    if len(files) > MAX_FILES:
        raise ModelInvalid(f"the model has {len(files)} files; at most {MAX_FILES} are taken")
    for place, path in files.items():
        try:
            check_path(place)
        except EncodingInvalid as error:
            raise ModelInvalid(f"{place[:100]!r} cannot be a file of a model: {error.message}") from None
        size = path.stat().st_size
        limit = MAX_BLOB_BYTES if place.endswith(".safetensors") else MAX_JSON_BYTES
        if size > limit:
            raise ModelInvalid(f"{place} has {size} bytes; at most {limit} are taken")
    if (total := sum(path.stat().st_size for path in files.values())) > MAX_MODEL_BYTES:
        raise ModelInvalid(f"the model has {total} bytes; at most {MAX_MODEL_BYTES} are taken")


def _json(folder: Path, path: Path, place: str, limit: int) -> dict[str, Any]:
    try:
        if path.stat().st_size > limit:
            raise ModelInvalid(f"{place} is larger than {limit} bytes")
        value = from_json(path.read_bytes())  # bounds its depth by itself
    except (OSError, ValueError) as error:
        raise ModelInvalid(f"{place} of {folder.name} is not JSON") from error
    if not isinstance(value, dict):
        raise ModelInvalid(f"{place} of {folder.name} is not an object")
    return value
