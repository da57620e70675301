"""An encrypted copy of a trace in the blob stores, so that a lost disk is no lost dispute. Of trainings: `run_backup`.

    "gesso/trace-backup/1\\n" ++ nonce (12) ++ ChaCha20-Poly1305(index length (4, big-endian) ++ index ++ tensors)

The key comes from the wallet's key and the task, so whoever has the wallet can open it on any machine; to everybody
else it is noise. The task's id is associated data: a backup cannot pass for another task's.
"""

from __future__ import annotations

import secrets
import struct
from pathlib import Path

import anyio.to_thread
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from gesso.blobs import BlobStore
from gesso_node.executors.trace import BYTES_FILE, INDEX_FILE, MAX_INDEX_BYTES
from gesso_protocol.errors import BlobCorrupt
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import BlobRef, TaskId

MAGIC = b"gesso/trace-backup/1\n"
NONCE_BYTES = 12
MAX_BACKUP_BYTES = 1 << 31
"""What the cipher takes in one piece; larger traces have no backup."""


class TraceSecrets:
    """What a node derives from its wallet for its traces: the same after a restart, a crash, or on a new disk."""

    def __init__(self, root: bytes) -> None:
        self._root = root

    def salt_secret(self, task: TaskId) -> bytes:
        """32 bytes from which the leaves of this task's trace get their salts."""
        return keccak256(b"gesso/trace/1/secret" + self._root + task.value)

    def backup_key(self, task: TaskId) -> bytes:
        """32 bytes that encrypt this task's backup."""
        return keccak256(b"gesso/trace/1/backup" + self._root + task.value)

    def __repr__(self) -> str:
        return "TraceSecrets()"


async def store(blobs: BlobStore, folder: Path, task: TaskId, key: bytes) -> BlobRef | None:
    """Encrypt the trace in `folder` and put it; None for one that is too large. Raises what the store raises."""
    size = (folder / BYTES_FILE).stat().st_size + (folder / INDEX_FILE).stat().st_size
    if size > MAX_BACKUP_BYTES - 4096:
        return None
    return await blobs.put(await anyio.to_thread.run_sync(_sealed, folder, task, key))


async def restore(blobs: BlobStore, ref: BlobRef, folder: Path, task: TaskId, key: bytes) -> None:
    """Fetch, decrypt and lay a trace out in `folder`. Raises BlobCorrupt for what is no backup of this task by this
    wallet, and what the store raises."""
    data = await blobs.get(ref, max_bytes=MAX_BACKUP_BYTES)
    await anyio.to_thread.run_sync(_opened, data, folder, task, key)


def _sealed(folder: Path, task: TaskId, key: bytes) -> bytes:
    return _encrypted((folder / INDEX_FILE).read_bytes(), (folder / BYTES_FILE).read_bytes(), task, key)


def _encrypted(index: bytes, tensors: bytes, task: TaskId, key: bytes) -> bytes:
    nonce = secrets.token_bytes(NONCE_BYTES)
    plain = struct.pack(">I", len(index)) + index + tensors
    return MAGIC + nonce + ChaCha20Poly1305(key).encrypt(nonce, plain, task.value)


def _opened(data: bytes, folder: Path, task: TaskId, key: bytes) -> None:
    index, tensors = _decrypted(data, task, key)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / BYTES_FILE).write_bytes(tensors)
    fresh = folder / f"{INDEX_FILE}.fresh"
    fresh.write_bytes(index)
    fresh.replace(folder / INDEX_FILE)  # the index goes last: without it there is no trace


def _decrypted(data: bytes, task: TaskId, key: bytes) -> tuple[bytes, bytes]:
    if not data.startswith(MAGIC):
        raise BlobCorrupt("that is no backup of a trace")
    nonce, sealed = data[len(MAGIC) : len(MAGIC) + NONCE_BYTES], data[len(MAGIC) + NONCE_BYTES :]
    try:
        plain = ChaCha20Poly1305(key).decrypt(nonce, sealed, task.value)
    except (InvalidTag, ValueError):
        raise BlobCorrupt("the backup is not of this task and wallet") from None
    (length,) = struct.unpack_from(">I", plain)
    if length > MAX_INDEX_BYTES or 4 + length > len(plain):
        raise BlobCorrupt("the backup's index has an impossible length")
    return plain[4 : 4 + length], plain[4 + length :]
