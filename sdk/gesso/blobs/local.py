"""Blobs in a directory: one file a blob, named by its hash, visible only when it is whole and verified.

objects/ab/abcd…   content          chunks/ab/abcd…   chunk list of more than one          incoming/   unfinished puts
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import BinaryIO

from anyio import to_thread

from gesso.blobs.disk import disk_room
from gesso.blobs.hashing import Digester, pieces
from gesso.blobs.partial import Partial
from gesso.blobs.port import CHUNK_BYTES, DEFAULT_MAX_BYTES, BlobSource, OnProgress
from gesso_protocol.errors import BlobCorrupt, BlobMissing, BlobTooLarge, EncodingInvalid
from gesso_protocol.ids import BlobRef
from gesso_protocol.manifest import BlobManifest


class LocalBlobs:
    """A directory of blobs. Several processes may share it: every change is one rename."""

    def __init__(self, root: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._incoming = root / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)

    def path(self, ref: BlobRef) -> Path:
        """Where the content of `ref` is, or would be. Reading it there verifies nothing."""
        return self._place("objects", ref)

    async def put(self, source: BlobSource, *, expect: BlobRef | None = None) -> BlobRef:
        """See `BlobStore.put`."""
        unfinished = self._incoming / secrets.token_hex(16)
        digester = Digester(self._max_bytes)
        try:
            with disk_room():
                with await to_thread.run_sync(unfinished.open, "xb") as file:
                    async with aclosing(pieces(source)) as given:
                        async for piece in given:
                            await to_thread.run_sync(digester.update, piece)
                            await to_thread.run_sync(file.write, piece)
                    await to_thread.run_sync(_settle, file)
                ref, chunks = digester.finish()
                if expect is not None and ref != expect:
                    raise BlobCorrupt(f"the content is {ref.short}, not {expect.short}")
                await to_thread.run_sync(self._keep, unfinished, ref, chunks)
        finally:
            unfinished.unlink(missing_ok=True)
        return ref

    async def link(self, path: Path, *, first: Callable[[BlobRef], None] = lambda _: None) -> BlobRef:
        """Keep a file that nobody changes any more, sharing its bytes where the file system can. `first` hears its name
        before it is here, if it was not already. Raises BlobTooLarge, DiskFull."""
        ref, chunks = await to_thread.run_sync(self._digest_file, path)
        if await self.has(ref):
            return ref
        first(ref)
        unfinished = self._incoming / secrets.token_hex(16)
        try:
            await to_thread.run_sync(os.link, path, unfinished)
        except OSError:
            return await self.put(path, expect=ref)
        try:
            with disk_room():
                await to_thread.run_sync(self._keep, unfinished, ref, chunks)
        finally:
            unfinished.unlink(missing_ok=True)
        return ref

    async def get(self, ref: BlobRef, *, max_bytes: int) -> bytes:
        """See `BlobStore.get`. Content that the disk broke is removed, so that it can be fetched again."""
        size = await self.size(ref)
        if size > max_bytes:
            raise BlobTooLarge(f"{ref.short} has {size} bytes, {max_bytes} are allowed here")
        data = await to_thread.run_sync(self._read, ref, size)
        if await to_thread.run_sync(BlobRef.of, data) != ref:
            self.remove(ref)
            raise BlobCorrupt(f"{ref.short}: the file on this disk has another hash; it is removed")
        return data

    async def fetch(self, ref: BlobRef, dest: Path, *, max_bytes: int, progress: OnProgress | None = None) -> None:
        """See `BlobStore.fetch`."""
        size = await self.size(ref)
        if size > max_bytes:
            raise BlobTooLarge(f"{ref.short} has {size} bytes, {max_bytes} are allowed here")
        try:
            await to_thread.run_sync(self._copy, ref, dest, size, progress)
        except BlobCorrupt:
            self.remove(ref)
            raise

    async def has(self, ref: BlobRef) -> bool:
        """See `BlobStore.has`."""
        return self.path(ref).is_file()

    async def size(self, ref: BlobRef) -> int:
        """See `BlobStore.size`."""
        try:
            return self.path(ref).stat().st_size
        except FileNotFoundError:
            raise _missing(ref) from None

    async def chunk_list(self, ref: BlobRef) -> BlobManifest:
        """The chunk list of a blob that is here. Raises BlobMissing."""
        kept = self._place("chunks", ref)
        try:
            return BlobManifest.decode(await to_thread.run_sync(kept.read_bytes))
        except (FileNotFoundError, EncodingInvalid):
            pass
        return (await to_thread.run_sync(self._digest, ref))[1]

    async def check(self, ref: BlobRef) -> None:
        """Hash what the disk has, and mend its chunk list. Raises BlobMissing, BlobCorrupt (and removes it)."""
        found, chunks = await to_thread.run_sync(self._digest, ref)
        if found != ref:
            self.remove(ref)
            raise BlobCorrupt(f"{ref.short}: the file on this disk has another hash; it is removed")
        await to_thread.run_sync(self._keep_list, ref, chunks)

    def drop_unfinished(self) -> None:
        """Remove what an earlier life left half written. Only for the one process that owns the directory."""
        for path in self._incoming.iterdir():
            path.unlink(missing_ok=True)

    async def read(self, ref: BlobRef, *, start: int, stop: int) -> AsyncIterator[bytes]:
        """Bytes `start` to `stop` in pieces, as the disk has them: for a server whose readers verify."""
        try:
            file = await to_thread.run_sync(self.path(ref).open, "rb")
        except FileNotFoundError:
            raise _missing(ref) from None
        with file:
            file.seek(start)
            while start < stop and (piece := await to_thread.run_sync(file.read, min(CHUNK_BYTES, stop - start))):
                start += len(piece)
                yield piece

    def inventory(self) -> Iterator[tuple[BlobRef, int]]:
        """Every blob that is here and its size, the longest unused first. Reads the whole directory: for start-up."""
        found = []
        for path in (self._root / "objects").glob("??/*"):
            with contextlib.suppress(EncodingInvalid, FileNotFoundError):
                ref, facts = BlobRef.parse(f"{BlobRef.PREFIX}{path.name}"), path.stat()
                found.append((facts.st_mtime_ns, ref, facts.st_size))
        for _, ref, size in sorted(found):
            yield ref, size

    def touch(self, ref: BlobRef) -> None:
        """Note that the blob was used just now; `inventory` tells it last."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.path(ref))

    def remove(self, ref: BlobRef) -> None:
        """Forget a blob; no error when it is not here."""
        self.path(ref).unlink(missing_ok=True)
        self._place("chunks", ref).unlink(missing_ok=True)

    def _place(self, kind: str, ref: BlobRef) -> Path:
        name = bytes(ref).hex()
        return self._root / kind / name[:2] / name

    def _keep_list(self, ref: BlobRef, chunks: BlobManifest) -> None:
        if len(chunks.chunks) < 2:
            return  # such a list says nothing that the name does not, and would cost a file for each small blob
        listed, data = self._place("chunks", ref), chunks.encode()
        if listed.is_file() and listed.read_bytes() == data:
            return
        listed.parent.mkdir(parents=True, exist_ok=True)
        draft = self._incoming / secrets.token_hex(16)
        try:
            draft.write_bytes(data)
            draft.replace(listed)
        finally:
            draft.unlink(missing_ok=True)

    def _keep(self, unfinished: Path, ref: BlobRef, chunks: BlobManifest) -> None:
        self._keep_list(ref, chunks)
        target = self.path(ref)
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished.replace(target)

    def _read(self, ref: BlobRef, size: int) -> bytes:
        try:
            with self.path(ref).open("rb") as file:
                return file.read(size + 1)
        except FileNotFoundError:
            raise _missing(ref) from None

    def _digest(self, ref: BlobRef) -> tuple[BlobRef, BlobManifest]:
        try:
            return self._digest_file(self.path(ref))
        except FileNotFoundError:
            raise _missing(ref) from None

    def _digest_file(self, path: Path) -> tuple[BlobRef, BlobManifest]:
        digester = Digester(max(self._max_bytes, DEFAULT_MAX_BYTES))
        with path.open("rb") as file:
            while piece := file.read(CHUNK_BYTES):
                digester.update(piece)
        return digester.finish()

    def _copy(self, ref: BlobRef, dest: Path, size: int, progress: OnProgress | None) -> None:
        try:
            source = self.path(ref).open("rb")
        except FileNotFoundError:
            raise _missing(ref) from None
        with source, Partial(ref, dest, size, None) as partial:
            # Copying is cheap, so it starts over: a stranger's partial file could only make it fail.
            partial.restart()
            while piece := source.read(CHUNK_BYTES):
                partial.write(piece)
                if progress is not None:
                    progress(partial.verified, size)
            partial.finish()


def _missing(ref: BlobRef) -> BlobMissing:
    return BlobMissing(f"{ref.short} is not in this directory")


def _settle(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
