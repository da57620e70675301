"""Hashes of content that arrives piece by piece: the whole, and each chunk. No files and no sockets here."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

from anyio import to_thread
from blake3 import blake3

from gesso.blobs.port import CHUNK_BYTES, BlobSource
from gesso_protocol.errors import BlobTooLarge
from gesso_protocol.ids import BlobRef
from gesso_protocol.manifest import BlobManifest


class Digester:
    """Running hash of a stream and of its chunks; refuses to go past `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self.size = 0
        self._max_bytes = max_bytes
        self._whole = blake3()
        self._chunk = blake3()
        self._chunk_room = CHUNK_BYTES
        self._chunks: list[BlobRef] = []

    def update(self, piece: bytes) -> None:
        """Add the next bytes, of any length. Raises BlobTooLarge before it hashes what is too much."""
        if self.size + len(piece) > self._max_bytes:
            raise BlobTooLarge(f"content is larger than the {self._max_bytes} bytes allowed here")
        self.size += len(piece)
        self._whole.update(piece)
        for part in self._cut(memoryview(piece)):
            self._chunk.update(part)
            self._chunk_room -= len(part)
            if self._chunk_room == 0:
                self._close_chunk()

    def finish(self) -> tuple[BlobRef, BlobManifest]:
        """The name of all that was seen, and its chunk list."""
        if self._chunk_room < CHUNK_BYTES:
            self._close_chunk()
        ref = BlobRef(self._whole.digest())
        return ref, BlobManifest(blob=ref, size=self.size, chunks=tuple(self._chunks))

    def _cut(self, view: memoryview) -> Iterator[memoryview]:
        while len(view) > 0:
            part = view[: self._chunk_room]
            yield part
            view = view[len(part) :]

    def _close_chunk(self) -> None:
        self._chunks.append(BlobRef(self._chunk.digest()))
        self._chunk = blake3()
        self._chunk_room = CHUNK_BYTES


async def pieces(source: BlobSource) -> AsyncGenerator[bytes]:
    """The source as pieces of at most one chunk where it is ours to cut; a stream's own pieces pass as they come.
    Whoever may not come to the end closes it."""
    if isinstance(source, bytes):
        for start in range(0, len(source), CHUNK_BYTES):
            yield source[start : start + CHUNK_BYTES]
    elif isinstance(source, Path):
        # Closed at once also where the reader is cancelled, which an asynchronous file is not.
        with await to_thread.run_sync(source.open, "rb") as file:
            while piece := await to_thread.run_sync(file.read, CHUNK_BYTES):
                yield piece
    else:
        async for piece in source:
            yield piece
