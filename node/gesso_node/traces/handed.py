"""Blobs that exist only because of a trace, its openings and its backup: noted in its folder, they leave with it.

A checkpoint shares its bytes with the file in the folder where the disk can do that, and is hashed once as long as it
is what it was: who asks again costs nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

from gesso.blobs import BlobStore, LocalBlobs
from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.ids import BlobRef

NOTES = "handed"
"""A file of the folder: a line for each blob that was made, with the bytes that it takes beside the folder's own."""
MAX_SEEN = 4096


class Handed:
    """Makes the blobs. `local` is where peers get them, `blobs` where bundles go, to outlive this node for a while."""

    def __init__(self, local: LocalBlobs, blobs: BlobStore) -> None:
        self.local = local
        self._blobs = blobs
        self._seen: OrderedDict[tuple[Path, int, int], BlobRef] = OrderedDict()

    async def known(self, path: Path) -> BlobRef | None:
        """The blob of a file that has not changed since it was made one."""
        blob = self._seen.get(_state(path))
        return blob if blob is not None and await self.local.has(blob) else None

    async def file(self, folder: Path, path: Path) -> BlobRef:
        """A file of a trace that is whole and stays as it is."""
        blob = await self.local.link(path, first=lambda made: note(folder, made, 0))
        self._seen[_state(path)] = blob
        while len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)
        return blob

    async def leaf(self, folder: Path, data: bytes) -> BlobRef:
        """The bytes of one leaf, for peers."""
        blob = BlobRef.of(data)
        if not await self.local.has(blob):
            note(folder, blob, len(data))
            await self.local.put(data, expect=blob)
        return blob

    async def bundle(self, folder: Path, data: bytes) -> BlobRef:
        """Openings as one blob, here and in the other stores."""
        blob = BlobRef.of(data)
        if not await self.local.has(blob):
            note(folder, blob, len(data))
        return await self._blobs.put(data, expect=blob)


def handed(folder: Path) -> dict[BlobRef, int]:
    """What was made for this trace, with the bytes that each takes. Lines that mean nothing are passed over."""
    try:
        lines = (folder / NOTES).read_text("ascii", errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    found = {}
    for line in lines:
        name, _, size = line.partition(" ")
        try:
            found[BlobRef.parse(name)] = int(size)
        except (EncodingInvalid, ValueError):
            continue
    return found


def note(folder: Path, blob: BlobRef, size: int) -> None:
    with (folder / NOTES).open(
        "a", encoding="ascii"
    ) as file:  # before the blob is there: a crash leaves a line, no blob
        file.write(f"{blob} {size}\n")


def _state(path: Path) -> tuple[Path, int, int]:
    found = path.stat()
    return path, found.st_mtime_ns, found.st_size
