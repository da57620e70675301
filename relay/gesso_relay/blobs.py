"""The relay's blob cache: a directory with a quota. What nobody asked for the longest goes first.

A cache, not an archive: a blob may be gone tomorrow, and whoever needs it must have another source. Room for an
upload is promised a little ahead of its bytes, so that uploads together can never fill the disk, and that words alone
take no room from others; it is made as the bytes come, so that a promise pushes nothing out. A blob counts as what it
costs, files and memory beside its bytes: otherwise small ones would have no quota at all. What was asked for is hashed
again now and then, and dropped when the disk broke it: whoever has it can then put it anew.
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
from gesso_protocol.errors import BlobCorrupt, BlobMissing, BlobTooLarge, RateLimited
from gesso_protocol.ids import BlobRef
from gesso_protocol.manifest import BlobManifest

LEAST_BYTES = 64 * 1024
"""No blob counts as less: its files take blocks and inodes, and it is remembered."""
AHEAD_SHARE = 512
SMALL_SHARE = 8
"""An upload is promised a 512th of the quota ahead of its bytes, and large ones leave an eighth of it for that."""
HASHED_EVERY_S = 3600.0
"""A blob that is asked for is hashed again when the last time was longer ago than this."""


@dataclass(eq=False, slots=True)
class _Coming:
    """An upload of a declared size, what of it is here, and how much room it has been promised."""

    size: int
    arrived: int = 0
    promised: int = 0


@dataclass(eq=False, slots=True)
class Doubt:
    """A blob that is here, or comes, for what it shall prove; `proved` by any of those that look at it."""

    proved: bool
    holders: int = 0


class BlobCache:
    """Bounded store of blobs. Use `open` to find what an earlier run left on the disk."""

    def __init__(
        self, store: LocalBlobs, *, quota_bytes: int, max_blob_bytes: int, least_bytes: int = LEAST_BYTES
    ) -> None:
        self._store = store
        self._quota = quota_bytes
        self._max_blob = max_blob_bytes
        self._least = least_bytes
        self._sizes: OrderedDict[BlobRef, int] = OrderedDict()
        self._kept = 0
        self._promised = 0
        self._arrived = 0
        self._hashed_s: dict[BlobRef, float] = {}
        self._doubted: OrderedDict[BlobRef, None] = OrderedDict()
        self._doubt = anyio.Event()
        self._unproved: dict[BlobRef, Doubt] = {}

    @classmethod
    def open(cls, root: Path, *, quota_bytes: int, max_blob_bytes: int, least_bytes: int = LEAST_BYTES) -> BlobCache:
        """The cache in `root`, with everything in it counted, oldest first, and brought under the quota."""
        store = LocalBlobs(root, max_bytes=max_blob_bytes)
        cache = cls(store, quota_bytes=quota_bytes, max_blob_bytes=max_blob_bytes, least_bytes=least_bytes)
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
        for one that comes only to be looked at (see `unproved`). RateLimited while others hold the room."""
        if size > self._max_blob:
            raise BlobTooLarge(f"a blob may have {self._max_blob} bytes here, this one has {size}")
        coming = _Coming(size)
        self._promise(coming, 0)
        try:
            await self._store.put(self._bounded(source, coming), expect=ref)
        finally:
            self._promised -= coming.promised
            self._arrived -= coming.arrived
        self._forget(ref)
        self._hashed_s[ref] = time.monotonic()
        self._count(ref, size)
        self._make_room()
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

    def _promise(self, coming: _Coming, more: int) -> None:
        """Room for so many more bytes, and for some that may follow. Raises RateLimited."""
        ahead = max(1, self._quota // AHEAD_SHARE)
        needed = min(coming.size, coming.arrived + more + ahead)
        others = self._promised - coming.promised
        # Whoever is alone may have all; beside others, what is small always finds room.
        most = self._quota if needed <= ahead or not others else self._quota - self._quota // SMALL_SHARE
        if others + needed > most:
            raise RateLimited("other uploads hold the room that this blob needs", hint="try again in a minute")
        self._promised += needed - coming.promised
        coming.promised = needed

    async def _bounded(self, source: AsyncIterator[bytes], coming: _Coming) -> AsyncIterator[bytes]:
        """The stream, with room made for each piece, stopped as soon as it is longer than was declared."""
        async for piece in source:
            if coming.arrived + len(piece) > coming.size:
                raise BlobTooLarge(f"the upload is longer than the {coming.size} bytes it declared")
            self._promise(coming, len(piece))
            coming.arrived += len(piece)
            self._arrived += len(piece)
            self._make_room()
            yield piece

    def _make_room(self) -> None:
        while self._sizes and self._kept + self._arrived > self._quota:
            oldest = next(iter(self._sizes))
            self._forget(oldest)
            self._store.remove(oldest)

    def _count(self, ref: BlobRef, size: int) -> None:
        self._sizes[ref] = max(size, self._least)
        self._kept += self._sizes[ref]

    def _forget(self, ref: BlobRef) -> None:
        self._kept -= self._sizes.pop(ref, 0)
        self._hashed_s.pop(ref, None)
        self._doubted.pop(ref, None)
