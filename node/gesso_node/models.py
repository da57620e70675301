"""Models on this machine: by hash, verified file by file, within a disk budget.

A model is whole or absent: files land in a folder of their own that is renamed when the last one is verified. When
the budget is reached, the models that were not used for longest leave first; a model in use never does.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from gesso.blobs import BlobStore
from gesso_protocol.errors import BlobCorrupt, EncodingInvalid, ModelInvalid
from gesso_protocol.ids import BlobRef
from gesso_protocol.manifest import ModelManifest


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A whole model on disk. `last_used` is unix seconds, `size` bytes."""

    manifest: BlobRef
    label: str
    size: int
    last_used: float


class ModelCache:
    """One folder of models, each under the hash of its manifest, with a small note of what it is beside it."""

    def __init__(
        self, folder: Path, blobs: BlobStore, *, budget_bytes: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._folder = folder
        self._blobs = blobs
        self._budget = budget_bytes
        self._clock = clock
        self._lock = anyio.Lock()
        self._in_use: dict[BlobRef, int] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.partial.gone"):
            shutil.rmtree(leftover, ignore_errors=True)

    def cached(self) -> tuple[CachedModel, ...]:
        """Every whole model, the most recently used first."""
        found = (self._read_note(path) for path in self._folder.glob("*.json"))
        return tuple(sorted((model for model in found if model), key=lambda model: -model.last_used))

    def has(self, manifest: BlobRef) -> bool:
        """Whether the whole model is here."""
        return self._note_path(manifest).is_file()

    def path(self, manifest: BlobRef) -> Path:
        """Where the model's files are, or would be."""
        return self._folder / manifest.hex()

    @contextmanager
    def using(self, manifest: BlobRef) -> Iterator[Path]:
        """The model's folder, safe from eviction inside the block. Raises ModelInvalid when it is not here."""
        if not self.has(manifest):
            raise ModelInvalid(f"model {manifest.short} is not in the cache")
        self._in_use[manifest] = self._in_use.get(manifest, 0) + 1
        try:
            self._touch(manifest)
            yield self.path(manifest)
        finally:
            self._in_use[manifest] -= 1

    async def ensure(self, manifest: BlobRef) -> Path:
        """Have the whole model here. Raises ModelInvalid, BlobMissing, BlobCorrupt, BlobTooLarge, Unreachable."""
        async with self._lock:
            if not self.has(manifest):
                document = await self.read_manifest(manifest)
                await self._make_room(document.size)
                await self._fetch(manifest, document)
            return self.path(manifest)

    async def read_manifest(self, manifest: BlobRef) -> ModelManifest:
        """The manifest itself. Raises ModelInvalid when the blob is not one."""
        data = await self._blobs.get(manifest, max_bytes=ModelManifest.MAX_BYTES)
        try:
            return ModelManifest.decode(data)
        except EncodingInvalid as error:
            raise ModelInvalid(f"{manifest.short} is not a model manifest: {error.message}") from error

    async def _fetch(self, manifest: BlobRef, document: ModelManifest) -> None:
        partial = self._folder / f"{manifest.hex()}.partial"
        for entry in document.files:
            target = partial / entry.path
            if target.is_file():
                continue  # fetched by an earlier attempt: it only got this name after it was verified
            target.parent.mkdir(parents=True, exist_ok=True)
            await self._blobs.fetch(entry.blob, target, max_bytes=entry.size)
            if target.stat().st_size != entry.size:
                target.unlink()
                raise BlobCorrupt(f"{entry.path} has another size than its manifest says")
        partial.rename(self.path(manifest))
        self._write_note(CachedModel(manifest, document.label, document.size, self._clock()))

    async def _make_room(self, size: int) -> None:
        if size > self._budget:
            raise ModelInvalid(
                f"the model has {size} bytes, the cache {self._budget}", hint="raise models.disk_budget_bytes"
            )
        models = list(self.cached())
        while models and sum(model.size for model in models) + size > self._budget:
            idle = [model for model in models if not self._in_use.get(model.manifest)]
            if not idle:
                raise ModelInvalid("the model cache is full of models in use", hint="raise models.disk_budget_bytes")
            models.remove(idle[-1])
            await self.evict(idle[-1].manifest)

    async def evict(self, manifest: BlobRef) -> None:
        """Remove one model. The note goes first, so a crash in between leaves nothing that looks whole."""
        self._note_path(manifest).unlink(missing_ok=True)
        await anyio.to_thread.run_sync(lambda: shutil.rmtree(self.path(manifest), ignore_errors=True))

    def _note_path(self, manifest: BlobRef) -> Path:
        return self._folder / f"{manifest.hex()}.json"

    def _touch(self, manifest: BlobRef) -> None:
        model = self._read_note(self._note_path(manifest))
        if model:
            self._write_note(CachedModel(model.manifest, model.label, model.size, self._clock()))

    def _write_note(self, model: CachedModel) -> None:
        path = self._note_path(model.manifest)
        fresh = path.with_suffix(".fresh")
        note = {"label": model.label, "size": model.size, "last_used": model.last_used}
        fresh.write_text(json.dumps(note))
        fresh.replace(path)

    def _read_note(self, path: Path) -> CachedModel | None:
        try:
            note: dict[str, Any] = json.loads(path.read_bytes())
            manifest = BlobRef(bytes.fromhex(path.stem))
            return CachedModel(manifest, str(note["label"]), int(note["size"]), float(note["last_used"]))
        except (OSError, ValueError, KeyError, TypeError, EncodingInvalid):
            return None
