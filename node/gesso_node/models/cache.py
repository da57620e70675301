"""Models on this machine: by hash, verified file by file, within a disk budget.

A model is whole or absent: files land in a folder of their own that is renamed when the last one is verified, and a
note beside it says last of all that it is here. What a killed node left without its note is nothing: it counts, and
goes when its room or its name is wanted. When the budget is reached, downloads that were given up leave first, then the
models that were not used for longest; a model in use, or one that its operator pinned, never does.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import anyio
import anyio.to_thread

from gesso.blobs import BlobStore
from gesso_protocol.errors import BlobCorrupt, BlobMissing, EncodingInvalid, ModelInvalid
from gesso_protocol.ids import BlobRef
from gesso_protocol.manifest import LISTING_KINDS, ModelKind, ModelManifest

MAX_SIZES = 1024
"""Models whose sizes are remembered; a manifest that is asked for again is read again."""


class ModelSource(Protocol):
    """Where a model may come from; every blob store is one."""

    async def get(self, ref: BlobRef, *, max_bytes: int) -> bytes:
        """See `BlobStore.get`."""
        ...

    async def fetch(self, ref: BlobRef, dest: Path, *, max_bytes: int) -> None:
        """See `BlobStore.fetch`."""
        ...


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A whole model on disk. `last_used` is unix seconds, `size` bytes."""

    manifest: BlobRef
    label: str
    size: int
    last_used: float
    kind: ModelKind = "base"


class ModelCache:
    """One folder of models, each under the hash of its manifest, with a small note of what it is beside it."""

    def __init__(
        self,
        folder: Path,
        blobs: BlobStore,
        *,
        budget_bytes: int,
        clock: Callable[[], float] = time.time,
        fetched: Callable[[int, float], Awaitable[None]] | None = None,
    ) -> None:
        """`fetched` hears of each download: its bytes and the seconds that they took."""
        self._folder = folder
        self._blobs = blobs
        self._budget = budget_bytes
        self._clock = clock
        self._room = anyio.Lock()
        self._turns: dict[BlobRef, anyio.Lock] = {}
        self._coming: dict[BlobRef, int] = {}
        self._in_use: dict[BlobRef, int] = {}
        self._pinned: frozenset[BlobRef] = frozenset()
        self._fetched = fetched
        self._sizes: dict[BlobRef, int] = {}
        folder.mkdir(parents=True, exist_ok=True)

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

    def pin(self, manifests: Iterable[BlobRef]) -> None:
        """These, and no others, stay whatever is needed."""
        self._pinned = frozenset(manifests)

    @contextmanager
    def using(self, manifest: BlobRef) -> Iterator[Path]:
        """The model's folder, safe from eviction inside the block. Raises ModelInvalid when it is not here."""
        if not self.has(manifest):
            raise ModelInvalid(f"model {manifest.short} is not in the cache")
        with self._kept(manifest):
            self._touch(manifest)
            yield self.path(manifest)

    @asynccontextmanager
    async def held(self, manifest: BlobRef, *, source: ModelSource | None = None) -> AsyncIterator[Path]:
        """`ensure` and `using` in one: nothing that is fetched beside it makes it leave before it is used. Raises what
        `ensure` raises."""
        with self._kept(manifest):
            path = await self.ensure(manifest, source=source)
            self._touch(manifest)
            yield path

    @contextmanager
    def _kept(self, manifest: BlobRef) -> Iterator[None]:
        self._in_use[manifest] = self._in_use.get(manifest, 0) + 1
        try:
            yield
        finally:
            self._in_use[manifest] -= 1

    async def ensure(
        self, manifest: BlobRef, *, idle_since: float | None = None, source: ModelSource | None = None
    ) -> Path:
        """Have the whole model here. Raises ModelInvalid, BlobMissing, BlobCorrupt, BlobTooLarge, Unreachable.

        Several come at once, so that a small one need not wait for a large one. `idle_since` spares models that were
        used after this second: for what is fetched on the chance that it may be wanted. `source`: in our stores' place.
        """
        async with self._turns.setdefault(manifest, anyio.Lock()):
            if not self.has(manifest):
                document = await self.read_manifest(manifest, source)
                try:
                    async with self._room:
                        await self._make_room(manifest, document.size, idle_since)
                        self._coming[manifest] = document.size
                    await self._fetch(manifest, document, source or self._blobs)
                finally:
                    self._coming.pop(manifest, None)
            return self.path(manifest)

    async def read_manifest(self, manifest: BlobRef, source: ModelSource | None = None) -> ModelManifest:
        """The manifest itself. Raises ModelInvalid when the blob is not one."""
        data = await (source or self._blobs).get(manifest, max_bytes=ModelManifest.MAX_BYTES)
        try:
            document = ModelManifest.decode(data)
        except EncodingInvalid as error:
            raise ModelInvalid(f"{manifest.short} is not a model manifest: {error.message}") from error
        self._sizes[manifest] = document.size
        while len(self._sizes) > MAX_SIZES:
            self._sizes.pop(next(iter(self._sizes)))
        return document

    def missing_bytes(self, manifest: BlobRef) -> int:
        """What would have to be fetched of a model whose manifest was read; 0 where it is here, or not known yet."""
        return 0 if self.has(manifest) else self._sizes.get(manifest, 0)

    async def obtainable(self, manifest: BlobRef, *kinds: ModelKind) -> bool:
        """Whether the model is here, or could be: somebody serves it, its kind is right, and it fits the disk.

        Raises ModelInvalid where waiting would not help, Unreachable where nobody could be asked.
        """
        if self.has(manifest):
            return True
        try:
            document = await self.read_manifest(manifest)
        except BlobMissing:
            return False
        if document.kind not in kinds:
            raise ModelInvalid(f"{manifest.short} is a {document.kind}, not a {' or '.join(kinds)}")
        self._check_size(document.size)
        largest = max(document.files, key=lambda entry: entry.size)
        return await self._blobs.has(largest.blob)

    def parts(self, manifest: BlobRef) -> dict[BlobRef, Path]:
        """Where each blob of a whole model is, its manifest among them; none of one that is not here. Blocks."""
        kept = self._manifest_path(manifest)
        try:
            data = kept.read_bytes()
            files = ModelManifest.decode(data).files if BlobRef.of(data) == manifest and self.has(manifest) else ()
        except (OSError, EncodingInvalid):
            return {}
        return {manifest: kept, **{one.blob: self.path(manifest) / one.path for one in files}} if files else {}

    async def _fetch(self, manifest: BlobRef, document: ModelManifest, source: ModelSource) -> None:
        partial, begun = self._partial(manifest), time.monotonic()
        whole = not partial.exists()
        for entry in document.files:
            target = partial / entry.path
            if target.is_file():
                continue  # fetched by an earlier attempt: it only got this name after it was verified
            target.parent.mkdir(parents=True, exist_ok=True)
            await source.fetch(entry.blob, target, max_bytes=entry.size)
            if target.stat().st_size != entry.size:
                target.unlink()
                raise BlobCorrupt(f"{entry.path} has another size than its manifest says")
        self._manifest_path(manifest).write_bytes(document.encode())
        await _remove(self.path(manifest))  # without its note it is what a killed node left
        partial.rename(self.path(manifest))
        self._write_note(CachedModel(manifest, document.label, document.size, self._clock(), document.kind))
        if self._fetched is not None and whole:  # of a download that went on nobody knows how much came now
            await self._fetched(document.size, time.monotonic() - begun)

    async def _make_room(self, manifest: BlobRef, size: int, idle_since: float | None) -> None:
        self._check_size(size)
        models = list(self.cached())
        for leftover in self._given_up(manifest):
            if self._taken(models) + size <= self._budget:
                break
            await _remove(leftover)
        while models and self._taken(models) + size > self._budget:
            idle = [model for model in models if self._may_leave(model, idle_since)]
            if not idle:
                raise ModelInvalid("the model cache is full of models in use", hint="raise models.disk_budget_bytes")
            models.remove(idle[-1])
            await self.evict(idle[-1].manifest)
        if self._taken(models) + size > self._budget:
            raise ModelInvalid("the model cache is full of downloads", hint="raise models.disk_budget_bytes")

    def _may_leave(self, model: CachedModel, idle_since: float | None) -> bool:
        spared = idle_since is not None and model.last_used > idle_since
        return not spared and not self._in_use.get(model.manifest) and model.manifest not in self._pinned

    def _taken(self, models: Iterable[CachedModel]) -> int:
        """Bytes of whole models, of those that are on their way, and of downloads that were given up."""
        stale = sum(_size(path) for path in self._given_up(None))
        return sum(model.size for model in models) + sum(self._coming.values()) + stale

    def _given_up(self, wanted: BlobRef | None) -> list[Path]:
        """Folders of downloads that nobody is at, and of models without a note, the oldest first; not that of the
        download that is wanted now."""
        busy = {self._partial(ref) for ref in self._coming} | ({self._partial(wanted)} if wanted else set())
        noted = {path.stem for path in self._folder.glob("*.json")}
        found = [path for path in self._folder.iterdir() if path.is_dir() and path not in busy]
        found = [path for path in found if path.name not in noted]
        return sorted(found, key=lambda path: path.stat().st_mtime)

    def _partial(self, manifest: BlobRef) -> Path:
        return self._folder / f"{manifest.hex()}.partial"

    def _check_size(self, size: int) -> None:
        if size > self._budget:
            raise ModelInvalid(
                f"the model has {size} bytes, the cache {self._budget}", hint="raise models.disk_budget_bytes"
            )

    async def evict(self, manifest: BlobRef) -> None:
        """Remove one model. The note goes first, so a crash in between leaves nothing that looks whole."""
        self._note_path(manifest).unlink(missing_ok=True)
        self._manifest_path(manifest).unlink(missing_ok=True)
        await _remove(self.path(manifest))

    def _note_path(self, manifest: BlobRef) -> Path:
        return self._folder / f"{manifest.hex()}.json"

    def _manifest_path(self, manifest: BlobRef) -> Path:
        return self._folder / f"{manifest.hex()}.manifest"

    def _touch(self, manifest: BlobRef) -> None:
        model = self._read_note(self._note_path(manifest))
        if model:
            self._write_note(replace(model, last_used=self._clock()))

    def _write_note(self, model: CachedModel) -> None:
        path = self._note_path(model.manifest)
        fresh = path.with_suffix(".fresh")
        note = {"label": model.label, "size": model.size, "last_used": model.last_used, "kind": model.kind}
        fresh.write_text(json.dumps(note))
        fresh.replace(path)

    def _read_note(self, path: Path) -> CachedModel | None:
        try:
            note: dict[str, Any] = json.loads(path.read_bytes())
            manifest = BlobRef(bytes.fromhex(path.stem))
            kind = LISTING_KINDS[LISTING_KINDS.index(note.get("kind", "base"))]
            return CachedModel(manifest, str(note["label"]), int(note["size"]), float(note["last_used"]), kind)
        except (OSError, ValueError, KeyError, TypeError, EncodingInvalid):
            return None


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


async def _remove(folder: Path) -> None:
    await anyio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))
