"""The blob port: bytes named by the BLAKE3 hash of their content. Adapters live beside this file.

A store is never trusted. Every adapter verifies what it hands out, so a caller that got bytes, or a file at its final
path, got exactly the content that the ref names. What must not live here: any input or output.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

from gesso_protocol.ids import BlobRef
from gesso_protocol.manifest import CHUNK_BYTES

__all__ = ["CHUNK_BYTES", "DEFAULT_MAX_BYTES", "BlobSource", "BlobStore", "OnProgress"]

DEFAULT_MAX_BYTES = 8 << 30
"""What a store accepts when its owner sets no other bound: 8 GiB, more than any single weights file we know of."""

BlobSource: TypeAlias = bytes | Path | AsyncIterator[bytes]
"""What `put` takes: bytes in memory, a file, or a stream whose length is not known yet."""

OnProgress: TypeAlias = Callable[[int, int], None]
"""Called with (bytes verified so far, bytes in total) after each chunk of a fetch."""


@runtime_checkable
class BlobStore(Protocol):
    """Put and get content by hash. Safe to share between tasks of one event loop; every method is idempotent."""

    async def put(self, source: BlobSource, *, expect: BlobRef | None = None) -> BlobRef:
        """Keep `source` and return its ref; nothing is kept when an error is raised.

        Raises BlobCorrupt when the content is not `expect`, BlobTooLarge over the store's bound, Unreachable.
        """
        ...

    async def get(self, ref: BlobRef, *, max_bytes: int) -> bytes:
        """The whole verified content in memory. Raises BlobMissing, BlobTooLarge, BlobCorrupt, Unreachable."""
        ...

    async def fetch(self, ref: BlobRef, dest: Path, *, max_bytes: int, progress: OnProgress | None = None) -> None:
        """Put the verified content at `dest`, which appears at once and whole, or not at all.

        A fetch that was cut leaves `dest` + ".part" and the next one resumes from its last good chunk.
        Raises BlobMissing, BlobTooLarge, BlobCorrupt, Unreachable.
        """
        ...

    async def has(self, ref: BlobRef) -> bool:
        """Whether the store says that it has the content (a hint where the store is remote). Raises Unreachable."""
        ...

    async def size(self, ref: BlobRef) -> int:
        """Length in bytes as the store tells it. Raises BlobMissing, Unreachable."""
        ...
