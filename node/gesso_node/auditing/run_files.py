"""Checkpoints and adapters that a node opened, as verified files: bounded before they are fetched, never in memory."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread
from blake3 import blake3

from gesso_node.auditing.ask import Asker, NotOpenedError
from gesso_protocol.errors import DiskFull, EncodingInvalid, GessoError
from gesso_protocol.ids import Address, BlobRef
from gesso_protocol.trace import Slot
from gesso_protocol.training.openings import RunOpenings


@dataclass(frozen=True)
class RunFiles:
    """Fetches into `folder`. What is there is what was committed: its name is its SHA-256, and whoever opens it names
    the blob that it is."""

    asker: Asker
    node: Address
    folder: Path

    async def get(self, opened: RunOpenings, slot: Slot, max_bytes: int) -> Path:
        """The file of an opened leaf. Raises NotOpenedError when it cannot be had as it was committed."""
        name = f"{slot.kind.value} {slot.step}"
        try:
            blob, size, digest = opened.file(slot)
        except EncodingInvalid as error:
            raise NotOpenedError(error.message) from error
        if size > max_bytes:
            raise NotOpenedError(f"{name} is said to have {size} bytes, which is more than it can have")
        path = self.folder / f"{digest.hex()}.safetensors"
        if not path.is_file():
            await self._fetch(name, blob, digest, path, max_bytes)
        if await anyio.to_thread.run_sync(_blake3, path) != blob.value:  # no root binds it: whoever opens chooses it
            raise NotOpenedError(f"the blob that is named for {name} is not what was committed")
        return path

    async def _fetch(self, name: str, blob: BlobRef, digest: bytes, path: Path, max_bytes: int) -> None:
        """Nothing has its trusted name before it has been checked: we may be stopped at any moment."""
        fetched = path.with_name(f"{path.name}.fetched")
        try:
            await self.asker.fetch(self.node, blob, fetched, max_bytes)
        except DiskFull:
            raise  # ours: it says nothing about the node
        except GessoError as error:
            raise NotOpenedError(f"{name}: {error.code}: {error.message}") from error
        if await anyio.to_thread.run_sync(_sha256, fetched) != digest:
            fetched.unlink()
            raise NotOpenedError(f"the file of {name} is not what was committed")
        fetched.replace(path)

    def clear(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _sha256(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _blake3(path: Path) -> bytes:
    return blake3().update_mmap(path).digest()
