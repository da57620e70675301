"""Putting a model on the network: manifest, blobs, listing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from gesso.blobs.port import BlobStore
from gesso_protocol.ids import BlobRef
from gesso_protocol.manifest import FILE_SUFFIXES, FileEntry, ModelManifest

BASE_MODEL = "gesso-tiny"
LICENCE = "MIT"
_READ_BYTES = 1 << 20
_STAND_IN = {"model_index.json": {"_class_name": "StableDiffusionPipeline", "gesso": "a stand-in without weights"}}


@dataclass(frozen=True, slots=True)
class PackedModel:
    """A folder as the network sees it: the manifest, and where each of its files is on this disk."""

    manifest: ModelManifest
    files: dict[BlobRef, Path]


def base_model_folder() -> Path | None:
    """The tiny base model that ships with the devnet, or None where it was not installed."""
    try:
        from gesso_devnet import model
    except ImportError:
        return None
    folder = Path(model.path())
    return folder if (folder / "model_index.json").is_file() else None


def pack(folder: Path, *, name: str = BASE_MODEL, version: int = 1, licence: str = LICENCE) -> PackedModel:
    """Name every file of a diffusers folder by its hash. Other kinds of file are left out."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name.endswith(FILE_SUFFIXES))
    entries, files = [], {}
    for path in paths:
        ref = _hash(path)
        entries.append(FileEntry(path=path.relative_to(folder).as_posix(), size=path.stat().st_size, blob=ref))
        files[ref] = path
    entries.sort(key=lambda entry: entry.path)
    manifest = ModelManifest(
        name=name, version=version, kind="base", base_family=name, licence=licence, files=tuple(entries)
    )
    return PackedModel(manifest, files)


def stand_in(folder: Path) -> PackedModel:
    """A model without weights for fake executors, written into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, document in _STAND_IN.items():
        (folder / name).write_text(json.dumps(document))
    return pack(folder)


async def upload(model: PackedModel, blobs: BlobStore) -> BlobRef:
    """Put files and manifest into a store; files that it has are skipped. Returns the manifest's name."""
    for ref, path in model.files.items():
        if not await blobs.has(ref):
            await blobs.put(path, expect=ref)
    return await blobs.put(model.manifest.encode(), expect=model.manifest.ref)


def _hash(path: Path) -> BlobRef:
    hasher = blake3()
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            hasher.update(piece)
    return BlobRef(hasher.digest())
