"""The relay's blob cache: a directory with a quota. What nobody asked for the longest goes first.

A cache, not an archive: a blob may be gone tomorrow, and whoever needs it must have another source. Room for an
upload is reserved before its first byte, so that uploads together can never fill the disk.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

from gesso.blobs import LocalBlobs
from gesso_protocol.errors import BlobTooLarge
from gesso_protocol.ids import BlobRef
from gesso_protocol.manifest import BlobManifest


class BlobCache:
    """Bounded store of blobs. Use `open` to find what an earlier run left on the disk."""

    def __init__(self, store: LocalBlobs, *, quota_bytes: int, max_blob_bytes: int) -> None:
        self._store = store
        self._quota = quota_bytes
        self._max_blob = max_blob_bytes
        self._sizes: OrderedDict[BlobRef, int] = OrderedDict()
        self._kept = 0
        self._reserved = 0

    @classmethod
    def open(cls, root: Path, *, quota_bytes: int, max_blob_bytes: int) -> BlobCache:
        """The cache in `root`, with everything in it counted, oldest first, and brought under the quota."""
        cache = cls(LocalBlobs(root, max_bytes=max_blob_bytes), quota_bytes=quota_bytes, max_blob_bytes=max_blob_bytes)
        for ref, size in cache._store.inventory():
            cache._count(ref, size)
        cache._make_room(0)
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
        return path

    async def put(self, ref: BlobRef, size: int, source: AsyncIterator[bytes]) -> None:
        """Keep a blob of the declared size once its hash is right. Raises BlobTooLarge, BlobCorrupt."""
        with self._room_for(size):
            await self._store.put(_bounded(source, size), expect=ref)
        self._forget(ref)
        self._count(ref, size)

    async def get(self, ref: BlobRef, *, max_bytes: int) -> bytes:
        """See `BlobStore.get`."""
        return await self._store.get(ref, max_bytes=max_bytes)

    async def chunk_list(self, ref: BlobRef) -> BlobManifest:
        """See `LocalBlobs.chunk_list`."""
        return await self._store.chunk_list(ref)

    @contextmanager
    def _room_for(self, size: int) -> Iterator[None]:
        if size > self._max_blob:
            raise BlobTooLarge(f"a blob may have {self._max_blob} bytes here, this one has {size}")
        if size > self._quota - self._reserved:
            raise BlobTooLarge("other uploads hold the room that this blob needs", hint="try again in a minute")
        self._make_room(size)
        self._reserved += size
        try:
            yield
        finally:
            self._reserved -= size

    def _make_room(self, size: int) -> None:
        while self._sizes and self._kept + self._reserved + size > self._quota:
            oldest = next(iter(self._sizes))
            self._forget(oldest)
            self._store.remove(oldest)

    def _count(self, ref: BlobRef, size: int) -> None:
        self._sizes[ref] = size
        self._kept += size

    def _forget(self, ref: BlobRef) -> None:
        self._kept -= self._sizes.pop(ref, 0)


async def _bounded(source: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """The stream, stopped as soon as it is longer than was declared."""
    seen = 0
    async for piece in source:
        seen += len(piece)
        if seen > size:
            raise BlobTooLarge(f"the upload is longer than the {size} bytes it declared")
        yield piece
