"""Recording a trace: every tensor that leaves the node no freedom, its digest, and where its bytes lie.

The child writes `trace.bin` (raw bytes) and `trace.json` (slots, digests); it knows no secret. The node's own process
binds the digests to chain, task and wallet. Opened later, any leaf can be handed over and its step run again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gesso_protocol.errors import EncodingInvalid, ExecutorCrashed
from gesso_protocol.hashing import sha256
from gesso_protocol.ids import BlobRef, Root
from gesso_protocol.spec import TextToImage
from gesso_protocol.trace import Binding, Layout, LeafKind, Slot, TensorType, tensor_digest, trace_leaves, trace_root

BYTES_FILE = "trace.bin"
INDEX_FILE = "trace.json"
MAX_INDEX_BYTES = 8 * 1024 * 1024

_Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: LeafKind
    image: int = Field(ge=0, lt=2**32)
    step: int = Field(ge=0, lt=2**32)
    digest: _Hex32
    offset: int = Field(ge=0)
    length: int = Field(ge=0)
    shape: tuple[int, ...] = Field(max_length=8)

    @property
    def slot(self) -> Slot:
        return Slot(self.kind, self.image, self.step)


class _Index(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int
    steps: int
    branches: bool
    entries: tuple[_Entry, ...] = Field(max_length=16 * 1000 * 4)


class TraceRecorder:
    """Writes one run's trace. A context manager; `finish` makes it readable."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        self._folder = folder
        self._layout = layout
        self._entries: list[dict[str, object]] = []
        self._offset = 0
        self._file = (folder / BYTES_FILE).open("wb", buffering=1 << 20)

    @classmethod
    def open(cls, folder: Path, spec: TextToImage, manifest: BlobRef, *, branches: bool = False) -> Self:
        """Start the trace of `spec`; the model manifest is its first leaf."""
        recorder = cls(folder, Layout(spec.count, spec.steps, branches))
        recorder._add(Slot(LeafKind.MANIFEST), manifest.value, b"", ())
        return recorder

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def tensor(self, slot: Slot, data: bytes, shape: Sequence[int], kind: TensorType = TensorType.FP32) -> None:
        """Record a tensor's little-endian bytes."""
        self._add(slot, tensor_digest(data, shape, kind), data, shape)

    def file(self, image: int, data: bytes) -> None:
        """Record a finished picture's file by its SHA-256; its bytes are a blob already."""
        self._add(Slot(LeafKind.FILE, image), sha256(data), b"", ())

    def finish(self) -> None:
        """Close the bytes and write the index; without it there is no trace."""
        self._file.close()
        layout = self._layout
        index = {"images": layout.images, "steps": layout.steps, "branches": layout.branches, "entries": self._entries}
        (self._folder / INDEX_FILE).write_text(json.dumps(index, separators=(",", ":")))

    def _add(self, slot: Slot, digest: bytes, data: bytes, shape: Sequence[int]) -> None:
        self._entries.append(
            {
                "kind": slot.kind.value,
                "image": slot.image,
                "step": slot.step,
                "digest": digest.hex(),
                "offset": self._offset,
                "length": len(data),
                "shape": list(shape),
            }
        )
        self._file.write(data)
        self._offset += len(data)


@dataclass(frozen=True)
class RecordedTrace:
    """A trace on disk, as the node's own process reads it back."""

    folder: Path
    layout: Layout
    entries: dict[Slot, _Entry]

    @classmethod
    def read(cls, folder: Path, spec: TextToImage) -> Self:
        """Raises ExecutorCrashed when the child left no trace, or not one of this spec."""
        path = folder / INDEX_FILE
        try:
            if path.stat().st_size > MAX_INDEX_BYTES:
                raise ExecutorCrashed("the trace's index is too large")
            index = _Index.model_validate_json(path.read_bytes())
            layout = Layout(index.images, index.steps, index.branches)
        except (OSError, ValidationError, EncodingInvalid) as error:
            raise ExecutorCrashed(f"the child left no readable trace: {error}") from error
        if (layout.images, layout.steps) != (spec.count, spec.steps):
            raise ExecutorCrashed(
                f"the trace has {layout.images} pictures of {layout.steps} steps; the spec has others"
            )
        return cls(folder, layout, {entry.slot: entry for entry in index.entries})

    def leaves(self, binding: Binding) -> list[bytes]:
        """All leaves in the tree's order. Raises ExecutorCrashed when one is missing."""
        try:
            digests = {slot: bytes.fromhex(entry.digest) for slot, entry in self.entries.items()}
            return trace_leaves(binding, self.layout, digests)
        except EncodingInvalid as error:
            raise ExecutorCrashed(f"the trace is incomplete: {error.message}") from error

    def root(self, binding: Binding) -> Root:
        """What goes on chain. Raises ExecutorCrashed."""
        return trace_root(self.leaves(binding))

    def bytes_of(self, slot: Slot) -> bytes:
        """The raw tensor of one slot; empty for leaves that are only a digest."""
        entry = self.entries[slot]
        with (self.folder / BYTES_FILE).open("rb") as file:
            file.seek(entry.offset)
            return file.read(entry.length)
