"""A download in progress: verified chunks in `dest`.part, renamed over `dest` only when the whole hash is right.

A chunk list comes from whoever serves the blob and is not bound to the ref, so it is only a hint: it finds a broken
chunk early. What decides is the BLAKE3 of the whole content. Blocking calls; adapters run them in a thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from pathlib import Path
from types import TracebackType

from blake3 import blake3

from gesso.blobs.disk import disk_room
from gesso.blobs.port import CHUNK_BYTES
from gesso_protocol.errors import BlobCorrupt
from gesso_protocol.ids import BlobRef
from gesso_protocol.manifest import BlobManifest


class Partial:
    """The verified beginning of a blob on disk. One writer at a time; a second one works in a file of its own."""

    def __init__(self, ref: BlobRef, dest: Path, size: int, chunks: BlobManifest | None) -> None:
        self._ref = ref
        self._dest = dest
        self.size = size
        self._chunks = chunks
        self._whole = blake3()
        self._pending = bytearray()
        self.verified = 0
        self._moved = False
        dest.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._fd, self._shared = _open_locked(dest)
        self._load()

    @property
    def wanted(self) -> int:
        """The offset of the next byte that `write` takes."""
        return self.verified + len(self._pending)

    @property
    def complete(self) -> bool:
        return self.verified == self.size

    def write(self, piece: bytes) -> None:
        """Take the next bytes; a chunk reaches the file only when whole and right. Raises BlobCorrupt, DiskFull."""
        if self.wanted + len(piece) > self.size:
            raise BlobCorrupt(f"{self._ref.short}: more bytes came than the {self.size} that were declared")
        self._pending += piece
        while len(self._pending) >= CHUNK_BYTES:
            self._keep(bytes(self._pending[:CHUNK_BYTES]))
            del self._pending[:CHUNK_BYTES]
        if self._pending and self.wanted == self.size:
            self._keep(bytes(self._pending))
            self._pending.clear()

    def drop_pending(self) -> None:
        """Forget the unfinished chunk, after a cut."""
        self._pending.clear()

    def restart(self) -> None:
        """Forget everything: what is on disk is not the beginning of this blob."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._whole = blake3()
        self._pending.clear()
        self.verified = 0

    def finish(self) -> None:
        """Move the content to its place. Raises BlobCorrupt, and forgets everything, when the whole hash is wrong."""
        if not self.complete or self._whole.digest() != bytes(self._ref):
            self.restart()
            raise BlobCorrupt(f"{self._ref.short}: the content that came has another hash")
        with disk_room():
            os.fsync(self._fd)
            self._path.replace(self._dest)
        self._moved = True

    def __enter__(self) -> Partial:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if not self._moved and (not self._shared or self.verified == 0):
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
        os.close(self._fd)

    def _load(self) -> None:
        os.lseek(self._fd, 0, os.SEEK_SET)
        found = os.fstat(self._fd).st_size
        while self.verified < min(found, self.size):
            chunk = os.read(self._fd, min(CHUNK_BYTES, self.size - self.verified))
            if not self._chunk_is_right(chunk):
                break
            self._whole.update(chunk)
            self.verified += len(chunk)
        os.ftruncate(self._fd, self.verified)
        os.lseek(self._fd, self.verified, os.SEEK_SET)

    def _chunk_is_right(self, chunk: bytes) -> bool:
        whole_chunk = len(chunk) == min(CHUNK_BYTES, self.size - self.verified)
        if self._chunks is None or not whole_chunk:
            return whole_chunk
        return blake3(chunk).digest() == bytes(self._chunks.chunks[self.verified // CHUNK_BYTES])

    def _keep(self, chunk: bytes) -> None:
        if not self._chunk_is_right(chunk):
            raise BlobCorrupt(f"{self._ref.short}: chunk {self.verified // CHUNK_BYTES} has another hash")
        view = memoryview(chunk)
        try:
            with disk_room():
                while view:
                    view = view[os.write(self._fd, view) :]
        except BaseException:  # what was written of it must not stand before what comes next
            os.ftruncate(self._fd, self.verified)
            os.lseek(self._fd, self.verified, os.SEEK_SET)
            raise
        self._whole.update(chunk)
        self.verified += len(chunk)


def _open_locked(dest: Path) -> tuple[Path, int, bool]:
    """The shared partial file when nobody else writes it, otherwise a private one that is removed at the end."""
    shared = dest.with_name(dest.name + ".part")
    fd = os.open(shared, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between our open and our lock the last writer may have renamed this file to its final place.
        if shared.stat().st_ino == os.fstat(fd).st_ino:
            return shared, fd, True
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(fd)
    private = dest.with_name(f"{dest.name}.{secrets.token_hex(8)}.part")
    return private, os.open(private, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), False
