"""Manifests and small files of models, read by hash and remembered, because what a hash names never changes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, TypeVar

from pydantic_core import from_json

from gesso.blobs.port import BlobStore
from gesso.diffusers_layout import check_pipeline
from gesso_protocol.errors import BlobCorrupt, BlobMissing, EncodingInvalid, ModelInvalid, Unreachable
from gesso_protocol.ids import BlobRef
from gesso_protocol.manifest import ModelManifest

INDEX = "model_index.json"
MAX_CONFIG_BYTES = 256 * 1024
_REMEMBERED = 128
T = TypeVar("T")


class Manifests:
    """Reads through a blob store; a hash has one content, so nothing here goes stale."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._known: OrderedDict[BlobRef, ModelManifest] = OrderedDict()
        self._configs: OrderedDict[BlobRef, dict[str, Any]] = OrderedDict()

    async def read(self, ref: BlobRef, what: str) -> ModelManifest:
        """The manifest of `what`. Raises BlobMissing when nobody serves it, ModelInvalid when it is none."""
        if (known := self._known.get(ref)) is not None:
            return known
        try:
            manifest = ModelManifest.decode(await self._blobs.get(ref, max_bytes=ModelManifest.MAX_BYTES))
        except EncodingInvalid as error:
            raise ModelInvalid(f"what {what} names by hash is no model manifest: {error.message}") from error
        except BlobMissing:
            raise BlobMissing(
                f"nobody serves the manifest of {what}", hint="nothing was paid; its publisher must put its files again"
            ) from None
        return _keep(self._known, ref, manifest)

    async def weight(self, ref: BlobRef, what: str) -> int:
        """What the files of a model weigh; nothing where its manifest cannot be had: a node may have it all the same.
        Raises ModelInvalid, BlobCorrupt."""
        try:
            return (await self.read(ref, what)).size
        except (BlobMissing, Unreachable):
            return 0

    async def check_base(self, ref: BlobRef, what: str) -> None:
        """Raises ModelInvalid when a base is made for another pipeline than nodes run, or than its manifest says,
        BlobMissing as `read` does."""
        manifest = await self.read(ref, what)
        index = await self.config(manifest, INDEX)
        if "_class_name" in index and (found := check_pipeline(index).pipeline) != manifest.pipeline:
            raise ModelInvalid(f"the manifest of {what} says {manifest.pipeline}, and its files are {found}")

    async def config(self, manifest: ModelManifest, path: str) -> dict[str, Any]:
        """A small JSON file of a model; empty when it has none, or it is not an object. Raises BlobMissing, …"""
        entry = next((entry for entry in manifest.files if entry.path == path), None)
        if entry is None or entry.size > MAX_CONFIG_BYTES:
            return {}
        if (known := self._configs.get(entry.blob)) is not None:
            return known
        raw = await self._blobs.get(entry.blob, max_bytes=MAX_CONFIG_BYTES)
        if len(raw) != entry.size:
            raise BlobCorrupt(f"{path} has another size than its manifest says")
        return _keep(self._configs, entry.blob, _object(raw))


def _object(raw: bytes) -> dict[str, Any]:
    try:
        value = from_json(raw)  # bounds its depth by itself
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _keep(known: OrderedDict[BlobRef, T], ref: BlobRef, value: T) -> T:
    known[ref] = value
    if len(known) > _REMEMBERED:
        known.popitem(last=False)
    return value
