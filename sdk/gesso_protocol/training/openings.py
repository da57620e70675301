"""Openings of a training's trace: one small blob that proves every leaf and names the large ones as blobs.

    "gesso/training-openings/1" ++ header length (4, big-endian) ++ header (canonical JSON)
    ++ tree: every leaf of the trace, 32 bytes each ++ records, 109 bytes each ++ bytes of inline leaves, in order
    record = position (4, big-endian) ++ form (1) ++ size (8, big-endian) ++ salt (32) ++ digest (32) ++ blob (32 bytes,
             zeros where no blob is named)

Facts and losses travel inline; checkpoints and the adapter's file can be gigabytes, so they are fetched one by one,
into files, and only those that somebody looks into. Their digest is the SHA-256 of the file.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from gesso_protocol import merkle
from gesso_protocol.encoding import Document
from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.hashing import sha256
from gesso_protocol.ids import BlobRef, Root
from gesso_protocol.trace import LeafKind, Run, Slot
from gesso_protocol.training.spec import MAX_CHECKPOINTS, TrainLora
from gesso_protocol.training.trace import TrainingFacts, TrainingLayout, segments

MAGIC = b"gesso/training-openings/1"
MAX_OPENINGS_BYTES = 1 << 20
MAX_HEADER_BYTES = 1024
MAX_FILE_BYTES = 8 << 30
_RECORD = struct.Struct(">IBQ32s32s32s")
_NO_BLOB = bytes(32)
_INLINE = (LeafKind.MANIFEST, LeafKind.LOSSES)
_FILES = (LeafKind.CHECKPOINT, LeafKind.FILE)


class Held(enum.IntEnum):
    """Where a leaf's bytes are: in the openings, in a blob, or nowhere (only the digest is opened)."""

    INLINE = 0
    BLOB = 1
    DIGEST = 2


@dataclass(frozen=True)
class RunLeaf:
    """One opened leaf. `size` is that of its bytes, as the node says, and binds nobody for a blob."""

    slot: Slot
    salt: bytes
    digest: bytes
    held: Held = Held.DIGEST
    data: bytes = b""
    blob: BlobRef | None = None
    size: int = 0

    @classmethod
    def inline(cls, slot: Slot, salt: bytes, data: bytes) -> RunLeaf:
        """Facts or losses."""
        return cls(slot, salt, sha256(data), Held.INLINE, data, None, len(data))

    @classmethod
    def file(cls, slot: Slot, salt: bytes, digest: bytes, blob: BlobRef, size: int) -> RunLeaf:
        """A checkpoint or the adapter, kept elsewhere."""
        return cls(slot, salt, digest, Held.BLOB, b"", blob, size)


class OpeningsHeader(Document):
    """What is opened: how many segments the trace has, and how many leaves follow."""

    MAX_BYTES: ClassVar[int] = MAX_HEADER_BYTES

    format: Literal["gesso/training-openings/1"] = "gesso/training-openings/1"
    segments: Annotated[int, Field(ge=0, le=MAX_CHECKPOINTS)]
    leaves: Annotated[int, Field(ge=1, le=2 * MAX_CHECKPOINTS + 4)]


@dataclass(frozen=True)
class RunOpenings:
    """Opened leaves of one training's trace, each of them proved to stand under its root."""

    layout: TrainingLayout
    leaves: Mapping[Slot, RunLeaf]

    @classmethod
    def encode(cls, leaves: Sequence[RunLeaf], tree: Sequence[bytes], layout: TrainingLayout) -> bytes:
        """Raises `EncodingInvalid` for leaves that do not belong there or are opened twice."""
        ordered = sorted(leaves, key=lambda leaf: layout.position(leaf.slot))
        if len(tree) != layout.count or len({leaf.slot for leaf in ordered}) != len(ordered):
            raise EncodingInvalid("openings have a whole tree, and each leaf once")
        header = OpeningsHeader(segments=layout.steps, leaves=len(ordered)).encode()
        head = [MAGIC, struct.pack(">I", len(header)), header, *tree]
        return b"".join([*head, *(_record(leaf, layout) for leaf in ordered), *(leaf.data for leaf in ordered)])

    @classmethod
    def decode(cls, data: bytes, run: Run, spec: TrainLora, trace_root: Root) -> RunOpenings:
        """Read and verify everything. Raises `EncodingInvalid` at the first byte that is not what was committed."""
        if len(data) > MAX_OPENINGS_BYTES:
            raise EncodingInvalid("the openings are larger than 1 MiB")
        header, at = _read_header(data)
        if header.segments > spec.checkpoints:
            raise EncodingInvalid("the trace has more segments than were ordered")
        layout = TrainingLayout(1, header.segments, False)
        tree_end, records_end = at + 32 * layout.count, at + 32 * layout.count + _RECORD.size * header.leaves
        if header.leaves > layout.count or len(data) < records_end:
            raise EncodingInvalid("the openings are cut off")
        tree = [data[start : start + 32] for start in range(at, tree_end, 32)]
        if merkle.root(tree) != trace_root:
            raise EncodingInvalid("the openings are of another trace")
        found = {leaf.slot: leaf for leaf in _read_leaves(data, tree_end, records_end, layout)}
        for slot, leaf in found.items():
            if run.salted_leaf(slot, leaf.digest, leaf.salt) != tree[layout.position(slot)]:
                raise EncodingInvalid(f"the opening of {slot.kind.value} is not what was committed")
        return cls(layout, found)

    def leaf(self, slot: Slot) -> RunLeaf:
        """One opened leaf; raises `EncodingInvalid` when it is not opened."""
        try:
            return self.leaves[slot]
        except KeyError:
            raise EncodingInvalid(f"{slot.kind.value} {slot.step} is not opened") from None

    def file(self, slot: Slot) -> tuple[BlobRef, int, bytes]:
        """Blob, size as told and SHA-256 of a leaf's file; raises `EncodingInvalid` when no blob is named."""
        leaf = self.leaf(slot)
        if leaf.blob is None:
            raise EncodingInvalid(f"{slot.kind.value} {slot.step} is opened without its bytes")
        return leaf.blob, leaf.size, leaf.digest

    def facts(self) -> TrainingFacts:
        """What trained, as the node committed it; raises `EncodingInvalid`."""
        return TrainingFacts.decode(self._inline(Slot(LeafKind.MANIFEST)))

    def losses(self, number: int) -> tuple[float, ...]:
        """The losses of a segment, as many as there are; raises `EncodingInvalid`."""
        data = self._inline(Slot(LeafKind.LOSSES, step=number))
        if len(data) % 8:
            raise EncodingInvalid("a log of losses has eight bytes a number")
        return struct.unpack(f"<{len(data) // 8}d", data)

    @property
    def complete(self) -> bool:
        """Whether every leaf is opened, and facts and losses with their bytes."""
        inline = (leaf for leaf in self.leaves.values() if leaf.slot.kind in _INLINE)
        return len(self.leaves) == self.layout.count and all(leaf.held is Held.INLINE for leaf in inline)

    def _inline(self, slot: Slot) -> bytes:
        leaf = self.leaf(slot)
        if leaf.held is not Held.INLINE:
            raise EncodingInvalid(f"{slot.kind.value} {slot.step} is opened without its bytes")
        return leaf.data


def losses_fit(opened: RunOpenings, spec: TrainLora, done: int) -> bool:
    """Whether every log has one loss an update. Needs complete openings."""
    return all(len(opened.losses(one.number)) == one.last - one.first for one in segments(spec, done))


def _record(leaf: RunLeaf, layout: TrainingLayout) -> bytes:
    if len(leaf.salt) != 32 or len(leaf.digest) != 32 or (leaf.blob is None) != (leaf.held is not Held.BLOB):
        raise EncodingInvalid("a leaf has a salt, a digest, and a blob where it says so")
    blob = _NO_BLOB if leaf.blob is None else leaf.blob.value
    return _RECORD.pack(layout.position(leaf.slot), leaf.held, leaf.size, leaf.salt, leaf.digest, blob)


def _read_header(data: bytes) -> tuple[OpeningsHeader, int]:
    start = len(MAGIC) + 4
    if len(data) < start or data[: len(MAGIC)] != MAGIC:
        raise EncodingInvalid("these are no openings of a training")
    (size,) = struct.unpack(">I", data[len(MAGIC) : start])
    if size > MAX_HEADER_BYTES or len(data) < start + size:
        raise EncodingInvalid("the header of the openings is too large or cut off")
    return OpeningsHeader.decode(data[start : start + size]), start + size


def _read_leaves(data: bytes, start: int, end: int, layout: TrainingLayout) -> Iterator[RunLeaf]:
    at, last = end, -1
    for offset in range(start, end, _RECORD.size):
        position, held, size, salt, digest, blob = _RECORD.unpack_from(data, offset)
        if not last < position < layout.count or held > Held.DIGEST:
            raise EncodingInvalid("the opened leaves are out of order or of no known form")
        last, slot, form = position, layout.slot_at(position), Held(held)
        _check_form(slot, form, size, blob)
        inline = size if form is Held.INLINE else 0
        if len(data) - at < inline:
            raise EncodingInvalid("the openings are cut off")
        content, at = data[at : at + inline], at + inline
        if form is Held.INLINE and sha256(content) != digest:
            raise EncodingInvalid(f"the bytes of {slot.kind.value} are not what was committed")
        yield RunLeaf(slot, salt, digest, form, content, BlobRef(blob) if form is Held.BLOB else None, size)
    if at != len(data):
        raise EncodingInvalid("the openings have bytes to spare")


def _check_form(slot: Slot, form: Held, size: int, blob: bytes) -> None:
    if form is Held.INLINE and slot.kind not in _INLINE:
        raise EncodingInvalid(f"{slot.kind.value} does not travel inside the openings")
    if form is Held.BLOB and slot.kind not in _FILES:
        raise EncodingInvalid(f"{slot.kind.value} is no file")
    if (form is Held.DIGEST and size) or (form is not Held.BLOB and blob != _NO_BLOB) or size > MAX_FILE_BYTES:
        raise EncodingInvalid("an opened leaf has an impossible size or a blob that it does not need")
