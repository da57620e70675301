"""An encrypted copy of a training's trace in the blob stores, piece by piece: no memory has to hold it, and a node that
lost its disk fetches only the checkpoints that are asked for.

    index  "gesso/run-backup/1\\n" ++ number of pieces (4, big-endian) ++ their names, 32 bytes each ++ nonce (12)
           ++ ChaCha20-Poly1305(JSON: file -> bytes), with task and names as associated data
    piece  nonce (12) ++ ChaCha20-Poly1305(at most 32 MiB of a file), with task, file and number as associated data

Files are in the order of their names, and so are their pieces. The result names the index. Whoever passes the copy on
can read the names of pieces in it; what they hold, only the wallet.
"""

from __future__ import annotations

import json
import re
import secrets
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import anyio.to_thread
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from pydantic_core import from_json

from gesso.blobs import BlobStore
from gesso_node.traces.backup import NONCE_BYTES
from gesso_protocol.errors import BlobCorrupt
from gesso_protocol.ids import BlobRef, TaskId

MAGIC = b"gesso/run-backup/1\n"
PIECE_BYTES = 32 << 20
MAX_INDEX_BYTES = 1 << 20
MAX_PIECES = 8192
_FILE = re.compile(
    r"(facts\.json|digests\.bin|checkpoint-[0-9]{4}\.safetensors|losses-[0-9]{4}\.bin|adapter/adapter\.safetensors)\Z"
)
_SMALL = re.compile(r"(facts\.json|digests\.bin|losses-[0-9]{4}\.bin)\Z")
_COUNT = struct.Struct(">I")
Put = Callable[[BlobRef, int], None]
"""Told of each blob before it is put, with its size."""


@dataclass(frozen=True)
class Index:
    """Which files a backup has, and their pieces."""

    sizes: Mapping[str, int]
    pieces: tuple[BlobRef, ...]

    @classmethod
    def of(cls, told: bytes, pieces: tuple[BlobRef, ...]) -> Self:
        """Ours, as only we have the key; checked all the same before it names paths. Raises BlobCorrupt."""
        try:
            sizes = from_json(told)
        except ValueError as error:
            raise BlobCorrupt("the backup's index is unreadable") from error
        fine = isinstance(sizes, dict) and all(
            _FILE.match(name) and isinstance(size, int) and size >= 0 for name, size in sizes.items()
        )
        if not fine or sum(map(_count, sizes.values())) != len(pieces):
            raise BlobCorrupt("the backup's index names other files than it has")
        return cls(dict(sorted(sizes.items())), pieces)

    def of_file(self, name: str) -> tuple[BlobRef, ...]:
        """The pieces of one file. Raises BlobCorrupt for one that the backup has not."""
        at = 0
        for other, size in self.sizes.items():
            if other == name:
                return self.pieces[at : at + _count(size)]
            at += _count(size)
        raise BlobCorrupt(f"the backup has no {name}")

    @property
    def small(self) -> tuple[str, ...]:
        """Facts, digests and losses, which any opening needs."""
        return tuple(name for name in self.sizes if _SMALL.match(name))


class RunBackup:
    """The backup of one training of ours; `key` is its secret."""

    def __init__(self, blobs: BlobStore, task: TaskId, key: bytes) -> None:
        self._blobs = blobs
        self._task = task
        self._cipher = ChaCha20Poly1305(key)

    async def store(
        self, folder: Path, names: Iterable[str], *, most_bytes: int, note: Put = lambda *_: None
    ) -> BlobRef | None:
        """Encrypt these files and put them; None for more than `most_bytes`. Raises what the store raises."""
        sizes = {name: (folder / name).stat().st_size for name in sorted(names)}
        if sum(sizes.values()) > most_bytes or sum(map(_count, sizes.values())) > MAX_PIECES:
            return None
        pieces: list[BlobRef] = []
        for name, size in sizes.items():
            for number in range(_count(size)):
                plain = await anyio.to_thread.run_sync(_read, folder / name, number)
                sealed = await anyio.to_thread.run_sync(self._seal, plain, _place(name, number))
                pieces.append(await self._put(sealed, note))
        head = MAGIC + _COUNT.pack(len(pieces)) + b"".join(piece.value for piece in pieces)
        index = json.dumps(sizes, separators=(",", ":")).encode()
        return await self._put(head + self._seal(index, head), note)

    async def index(self, ref: BlobRef) -> Index:
        """What the backup has. Raises BlobCorrupt, and what the store raises."""
        data = await self._blobs.get(ref, max_bytes=MAX_INDEX_BYTES)
        pieces = pieces_of(data)
        start = len(MAGIC) + _COUNT.size + 32 * len(pieces)
        return Index.of(self._open(data[start:], data[:start]), pieces)

    async def bring(self, index: Index, names: Iterable[str], folder: Path) -> None:
        """Lay these files out in `folder`, each of them whole or not at all. Raises BlobCorrupt, and what the store
        raises."""
        for name in names:
            fresh = folder / f"{name}.fresh"
            await anyio.to_thread.run_sync(_begin, fresh)
            for number, piece in enumerate(index.of_file(name)):
                data = await self._blobs.get(piece, max_bytes=PIECE_BYTES + 1024)
                await anyio.to_thread.run_sync(self._append, fresh, data, _place(name, number))
            if fresh.stat().st_size != index.sizes[name]:
                raise BlobCorrupt(f"the pieces of {name} are not as long as it was")
            fresh.replace(folder / name)

    async def _put(self, sealed: bytes, note: Put) -> BlobRef:
        note(BlobRef.of(sealed), len(sealed))
        return await self._blobs.put(sealed)

    def _append(self, path: Path, data: bytes, place: bytes) -> None:
        with path.open("ab") as file:
            file.write(self._open(data, place))

    def _seal(self, plain: bytes, place: bytes) -> bytes:
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, self._task.value + place)

    def _open(self, data: bytes, place: bytes) -> bytes:
        try:
            return self._cipher.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], self._task.value + place)
        except (InvalidTag, ValueError):
            raise BlobCorrupt("the backup is not of this task and wallet") from None


def pieces_of(index: bytes) -> tuple[BlobRef, ...]:
    """The pieces of a backup, as whoever passes it on reads them. Raises BlobCorrupt for what is no index."""
    start = len(MAGIC) + _COUNT.size
    if len(index) < start or not index.startswith(MAGIC):
        raise BlobCorrupt("that is no backup of a training")
    (count,) = _COUNT.unpack_from(index, len(MAGIC))
    if count > MAX_PIECES or len(index) < start + 32 * count:
        raise BlobCorrupt("the backup's index is cut off")
    return tuple(BlobRef(index[at : at + 32]) for at in range(start, start + 32 * count, 32))


def _count(size: int) -> int:
    return -(-size // PIECE_BYTES)


def _place(name: str, number: int) -> bytes:
    return b"/" + name.encode("ascii") + b"/" + _COUNT.pack(number)


def _read(path: Path, number: int) -> bytes:
    with path.open("rb") as file:
        file.seek(number * PIECE_BYTES)
        return file.read(PIECE_BYTES)


def _begin(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
