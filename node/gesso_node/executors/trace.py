"""Recording a trace: every tensor that leaves the node no freedom, its digest, and where its bytes lie.

The child writes `trace.bin` (raw bytes) and `trace.json` (slots, digests); it knows no secret. The node's own process
binds the digests to chain, task and wallet. Opened later, any leaf can be handed over and its step run again.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gesso_protocol.errors import EncodingInvalid, ExecutorCrashed
from gesso_protocol.hashing import sha256
from gesso_protocol.ids import Root
from gesso_protocol.spec import TextToImage
from gesso_protocol.trace import (
    Binding,
    Layout,
    LeafKind,
    Slot,
    TensorType,
    TraceManifest,
    tensor_digest,
    trace_leaves,
    trace_root,
)

BYTES_FILE = "trace.bin"
INDEX_FILE = "trace.json"
MAX_INDEX_BYTES = 8 * 1024 * 1024
MAX_WAITING = 64
"""Leaves that may wait to be written; when the disk is slower than the run, the run waits."""

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
    guided: bool
    entries: tuple[_Entry, ...] = Field(max_length=16 * 1000 * 4)


Source: TypeAlias = bytes | Callable[[], bytes]
"""Bytes, or how to get them: called in the recorder's thread, so that copies from a GPU do not wait in the run."""


@dataclass(frozen=True, slots=True)
class _Leaf:
    slot: Slot
    source: Source
    shape: tuple[int, ...]
    digest: Callable[[bytes], bytes]
    keep: bool = True


class TraceRecorder:
    """Writes one run's trace, in a thread of its own. A context manager; `finish` makes the trace readable."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        self._folder = folder
        self._layout = layout
        self._entries: list[dict[str, object]] = []
        self._offset = 0
        self._file = (folder / BYTES_FILE).open("wb", buffering=1 << 20)
        self._failure: BaseException | None = None
        self._leaves: queue.Queue[_Leaf | None] = queue.Queue(maxsize=MAX_WAITING)
        self._thread = threading.Thread(target=self._write, name="trace", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, folder: Path, spec: TextToImage, manifest: TraceManifest) -> Self:
        """Start the trace of `spec`; what runs, and how, is its first leaf."""
        recorder = cls(folder, Layout.of(spec))
        recorder._put(_Leaf(Slot(LeafKind.MANIFEST), manifest.encode(), (), sha256))
        return recorder

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        self._file.close()

    def tensor(self, slot: Slot, source: Source, shape: Sequence[int], kind: TensorType = TensorType.FP32) -> None:
        """Record a tensor's little-endian bytes. Returns at once; trouble is raised by a later call or by `finish`."""
        sides = tuple(shape)
        self._put(_Leaf(slot, source, sides, lambda data: tensor_digest(data, sides, kind)))

    def file(self, image: int, data: bytes) -> None:
        """Record a finished picture's file by its SHA-256; its bytes are a blob already."""
        self._put(_Leaf(Slot(LeafKind.FILE, image), data, (), sha256, keep=False))

    def finish(self) -> None:
        """Wait for the last byte and write the index; without it there is no trace. Raises what went wrong."""
        self._stop()
        self._file.close()
        if self._failure is not None:
            raise self._failure
        layout = self._layout
        index = {"images": layout.images, "steps": layout.steps, "guided": layout.guided, "entries": self._entries}
        (self._folder / INDEX_FILE).write_text(json.dumps(index, separators=(",", ":")))

    def _put(self, leaf: _Leaf) -> None:
        if self._failure is not None:
            raise self._failure
        self._leaves.put(leaf)

    def _stop(self) -> None:
        if self._thread.is_alive():
            self._leaves.put(None)
            self._thread.join()

    def _write(self) -> None:
        while (leaf := self._leaves.get()) is not None:
            if self._failure is None:  # otherwise only empty the queue, so that nobody waits for room in it
                try:
                    self._add(leaf)
                except BaseException as error:
                    self._failure = error

    def _add(self, leaf: _Leaf) -> None:
        data = leaf.source if isinstance(leaf.source, bytes) else leaf.source()
        kept = data if leaf.keep else b""
        self._entries.append(
            {
                "kind": leaf.slot.kind.value,
                "image": leaf.slot.image,
                "step": leaf.slot.step,
                "digest": leaf.digest(data).hex(),
                "offset": self._offset,
                "length": len(kept),
                "shape": list(leaf.shape),
            }
        )
        self._file.write(kept)
        self._offset += len(kept)


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
            layout = Layout(index.images, index.steps, index.guided)
        except (OSError, ValidationError, EncodingInvalid) as error:
            raise ExecutorCrashed(f"the child left no readable trace: {error}") from error
        if layout != Layout.of(spec):
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
