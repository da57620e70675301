"""Checkpoints and adapters that a node opened, as verified files: bounded before they are fetched, never in memory."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from gesso_node.auditing.ask import Asker, NotOpenedError
from gesso_protocol.errors import EncodingInvalid, GessoError
from gesso_protocol.ids import Address
from gesso_protocol.trace import Slot
from gesso_protocol.training.openings import RunOpenings

HEADER_ROOM_BYTES = 64 * 1024
"""More than two honest headers of the same tensors can differ by."""
NOTES_ROOM_BYTES = 4 << 20
"""More than an adapter's file says beside its weights."""


@dataclass(frozen=True)
class RunFiles:
    """Fetches into `folder`. What is there is what was committed: its name is its SHA-256."""

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
        if path.is_file():
            return path
        try:
            await self.asker.fetch(self.node, blob, path, max_bytes)
        except GessoError as error:
            raise NotOpenedError(f"{name}: {error.code}: {error.message}") from error
        if await anyio.to_thread.run_sync(_sha256, path) != digest:
            path.unlink()
            raise NotOpenedError(f"the file of {name} is not what was committed")
        return path

    def clear(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _sha256(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
