"""Several stores as one: asked in order for content, and all of them given what is put."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from gesso.blobs.port import DEFAULT_MAX_BYTES, BlobSource, BlobStore, OnProgress
from gesso_protocol.errors import BlobMissing, BlobTooLarge, ConfigError, DiskFull, GessoError, Unreachable
from gesso_protocol.ids import BlobRef

T = TypeVar("T")
OnSkip = Callable[[BlobStore, GessoError], None]


class LayeredBlobs:
    """The first store is home: a put must succeed there. The others are tried; `on_skip` hears which failed."""

    def __init__(self, stores: Sequence[BlobStore], *, on_skip: OnSkip | None = None) -> None:
        if not stores:
            raise ConfigError("a layered blob store needs at least one store")
        self._home, self._others = stores[0], tuple(stores[1:])
        self._on_skip = on_skip

    async def put(self, source: BlobSource, *, expect: BlobRef | None = None) -> BlobRef:
        """See `BlobStore.put`. Returns when home has it and every other store was offered it once."""
        ref = await self._home.put(source, expect=expect)
        if isinstance(source, bytes | Path):
            await self._offer(source, ref)
        elif self._others:
            with tempfile.TemporaryDirectory(prefix="gesso-blob-") as folder:
                copy = Path(folder) / "content"
                await self._home.fetch(ref, copy, max_bytes=DEFAULT_MAX_BYTES)
                await self._offer(copy, ref)
        return ref

    async def get(self, ref: BlobRef, *, max_bytes: int) -> bytes:
        """See `BlobStore.get`."""
        return await self._first(ref, lambda store: store.get(ref, max_bytes=max_bytes))

    async def fetch(self, ref: BlobRef, dest: Path, *, max_bytes: int, progress: OnProgress | None = None) -> None:
        """See `BlobStore.fetch`."""
        await self._first(ref, lambda store: store.fetch(ref, dest, max_bytes=max_bytes, progress=progress))

    async def has(self, ref: BlobRef) -> bool:
        """True when any store that answers has it; raises Unreachable only when none answers."""
        silent: GessoError | None = None
        answered = False
        for store in self._stores():
            try:
                if await store.has(ref):
                    return True
                answered = True
            except GessoError as error:
                # One that refuses, or answers nonsense, has not said that it lacks the content.
                silent = error
                self._skip(store, error)
        if silent is not None and not answered:
            raise Unreachable(f"no store says whether it has {ref.short}: {silent.message}") from silent
        return False

    async def size(self, ref: BlobRef) -> int:
        """See `BlobStore.size`."""
        return await self._first(ref, lambda store: store.size(ref))

    def _stores(self) -> tuple[BlobStore, ...]:
        return (self._home, *self._others)

    async def _offer(self, source: bytes | Path, ref: BlobRef) -> None:
        for store in self._others:
            try:
                await store.put(source, expect=ref)
            except GessoError as error:
                self._skip(store, error)

    async def _first(self, ref: BlobRef, ask: Callable[[BlobStore], Awaitable[T]]) -> T:
        """The first answer; a store that lacks, breaks or hides the content is passed over."""
        worst: GessoError = BlobMissing(f"{ref.short} is in none of the {len(self._stores())} stores")
        for store in self._stores():
            try:
                return await ask(store)
            except DiskFull:
                raise  # no other store makes room on our own disk
            except BlobMissing as error:
                self._skip(store, error)
            except GessoError as error:
                # A length or a refusal is only what this store says; what it says of the content stays in mind.
                worst = worst if isinstance(worst, BlobTooLarge) else error
                self._skip(store, error)
        raise worst

    def _skip(self, store: BlobStore, error: GessoError) -> None:
        if self._on_skip is not None:
            self._on_skip(store, error)
