"""The relay's blob cache: a directory with a quota. What nobody asked for the longest goes first.

A cache, not an archive: a blob may be gone tomorrow, and whoever needs it must have another source. Room for an
upload is promised before its first byte, so that uploads together can never fill the disk; it is made as the bytes
come, so that a promise alone pushes nothing out. What was asked for is hashed again now and then, and dropped when the
disk broke it: whoever has it can then put it anew.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
import structlog

from gesso.blobs import LocalBlobs
from gesso_protocol.errors import BlobCorrupt, BlobMissing, BlobTooLarge
from gesso_protocol.ids import BlobRef
from gesso_protocol.manifest import BlobManifest

HASHED_EVERY_S = 3600.0
"""A blob that is asked for is hashed again when the last time was longer ago than this."""


@dataclass(eq=False, slots=True)
class Doubt:
    """A blob that is here, or comes, for what it shall prove; `proved` by any of those that look at it."""

    proved: bool
    holders: int = 0


class BlobCache:
    """Bounded store of blobs. Use `open` to find what an earlier run left on the disk."""

    def __init__(self, store: LocalBlobs, *, quota_bytes: int, max_blob_bytes: int) -> None:
        self._store = store
        self._quota = quota_bytes
        self._max_blob = max_blob_bytes
        self._sizes: OrderedDict[BlobRef, int] = OrderedDict()
        self._kept = 0
        self._promised = 0
        self._arrived = 0
        self._hashed_s: dict[BlobRef, float] = {}
        self._doubted: OrderedDict[BlobRef, None] = OrderedDict()
        self._doubt = anyio.Event()
        self._unproved: dict[BlobRef, Doubt] = {}

    @classmethod
    def open(cls, root: Path, *, quota_bytes: int, max_blob_bytes: int) -> BlobCache:
        """The cache in `root`, with everything in it counted, oldest first, and brought under the quota."""
        cache = cls(LocalBlobs(root, max_bytes=max_blob_bytes), quota_bytes=quota_bytes, max_blob_bytes=max_blob_bytes)
        cache._store.drop_unfinished()
        for ref, size in cache._store.inventory():
            cache._count(ref, size)
        cache._make_room()
        return cache

    @property
    def used_bytes(self) -> int:
        return self._kept

    @property
    def count(self) -> int:
        return len(self._sizes)

    @property
    def max_blob_bytes(self) -> int:
        return self._max_blob

    def path(self, ref: BlobRef) -> Path | None:
        """Where the blob is, now the most recently used one; None when it is not here."""
        if ref not in self._sizes:
            return None
        path = self._store.path(ref)
        if not path.is_file():
            self._forget(ref)
            return None
        self._sizes.move_to_end(ref)
        self._store.touch(ref)
        if time.monotonic() - self._hashed_s.get(ref, -HASHED_EVERY_S) >= HASHED_EVERY_S:
            self._doubted[ref] = None
            self._doubt.set()
        return path

    async def put(self, ref: BlobRef, size: int, source: AsyncIterator[bytes], *, wanted: bool = True) -> None:
        """Keep a blob of the declared size once its hash is right. Raises BlobTooLarge, BlobCorrupt. `wanted` is False
        for one that comes only to be looked at (see `unproved`)."""
        with self._promise(size):
            arrived = [0]
            try:
                await self._store.put(self._bounded(source, size, arrived), expect=ref)
            finally:
                self._arrived -= arrived[0]
            self._forget(ref)
            self._hashed_s[ref] = time.monotonic()
            self._count(ref, size)
            if wanted:
                self.want(ref)

    def want(self, ref: BlobRef) -> None:
        """Somebody has a use for this blob, whatever those find who look at it just now."""
        if ref in self._unproved:
            self._unproved[ref].proved = True

    async def get(self, ref: BlobRef, *, max_bytes: int) -> bytes:
        """See `BlobStore.get`."""
        return await self._store.get(ref, max_bytes=max_bytes)

    @contextmanager
    def unproved(self, ref: BlobRef) -> Iterator[Doubt]:
        """Look at a blob of which it is not known yet whether it is worth keeping. It goes with the last who looks at
        it, unless it was here before, somebody found it `proved`, or `want`s it: others' blobs are not a stranger's to
        remove."""
        doubt = self._unproved.setdefault(ref, Doubt(self.path(ref) is not None))
        doubt.holders += 1
        try:
            yield doubt
        finally:
            doubt.holders -= 1
            if not doubt.holders:
                del self._unproved[ref]
                if not doubt.proved:
                    self.drop(ref)

    def drop(self, ref: BlobRef) -> None:
        """Let a blob go before its turn."""
        self._forget(ref)
        with suppress(OSError):
            self._store.remove(ref)

    async def chunk_list(self, ref: BlobRef) -> BlobManifest:
        """See `LocalBlobs.chunk_list`."""
        return await self._store.chunk_list(ref)

    async def watch(self) -> None:
        """Hash what was asked for and not hashed lately, one blob at a time; runs until cancelled."""
        while True:
            while self._doubted:
                await self._check(self._doubted.popitem(last=False)[0])
            self._doubt = anyio.Event()
            await self._doubt.wait()

    async def _check(self, ref: BlobRef) -> None:
        try:
            await self._store.check(ref)
        except (BlobCorrupt, BlobMissing, OSError) as error:
            self._forget(ref)
            with suppress(OSError):
                self._store.remove(ref)
            structlog.get_logger("gesso.relay").warning("blob.dropped", blob=ref.short, reason=type(error).__name__)
        else:
            if ref in self._sizes:
                self._hashed_s[ref] = time.monotonic()

    @contextmanager
    def _promise(self, size: int) -> Iterator[None]:
        if size > self._max_blob:
            raise BlobTooLarge(f"a blob may have {self._max_blob} bytes here, this one has {size}")
        if size > self._quota - self._promised:
            raise BlobTooLarge("other uploads hold the room that this blob needs", hint="try again in a minute")
        self._promised += size
        try:
            yield
        finally:
            self._promised -= size

    async def _bounded(self, source: AsyncIterator[bytes], size: int, arrived: list[int]) -> AsyncIterator[bytes]:
        """The stream, with room made for each piece, stopped as soon as it is longer than was declared."""
        async for piece in source:
            if arrived[0] + len(piece) > size:
                raise BlobTooLarge(f"the upload is longer than the {size} bytes it declared")
            arrived[0] += len(piece)
            self._arrived += len(piece)
            self._make_room()
            yield piece

    def _make_room(self) -> None:
        while self._sizes and self._kept + self._arrived > self._quota:
            oldest = next(iter(self._sizes))
            self._forget(oldest)
            self._store.remove(oldest)

    def _count(self, ref: BlobRef, size: int) -> None:
        self._sizes[ref] = size
        self._kept += size

    def _forget(self, ref: BlobRef) -> None:
        self._kept -= self._sizes.pop(ref, 0)
        self._hashed_s.pop(ref, None)
        self._doubted.pop(ref, None)
