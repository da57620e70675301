"""An openings bundle: some or all leaves of a trace with their bytes, as one bounded blob that proves itself.

    "gesso/bundle/1" ++ header length (4, big-endian) ++ header (canonical JSON)
    ++ tree: every leaf of the trace, 32 bytes each ++ records, 70 bytes each ++ tensors, in the records' order
    record = position (4, big-endian) ++ form (1) ++ shape number (1) ++ salt (32) ++ digest (32)

The tree gives the root, so no proof a leaf is needed; each record must hash to its leaf, and each tensor to its
record's digest. Evidence in a dispute is such a blob: whoever has it and the trace root checks every byte alone.
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
from gesso_protocol.ids import Root
from gesso_protocol.trace import Binding, Layout, LeafKind, Run, Slot, TensorType, TraceManifest, tensor_digest

MAGIC = b"gesso/bundle/1"
MAX_BUNDLE_BYTES = 1 << 31
MAX_SHAPES = 16
MAX_HEADER_BYTES = 8 * 1024
_RECORD = struct.Struct(">IBB32s32s")
_Side = Annotated[int, Field(ge=1, lt=2**32)]
_Shape = Annotated[tuple[_Side, ...], Field(min_length=1, max_length=8, strict=False)]


class Form(enum.IntEnum):
    """What a leaf's bytes are. Plain: digested by SHA-256 alone (manifest, file). Bare: only the digest is opened."""

    FP32 = 0
    UINT8 = 1
    PLAIN = 2
    BARE = 3


@dataclass(frozen=True)
class Leaf:
    """One opened leaf. For plain bytes `shape` is their number alone; a bare leaf has neither bytes nor shape."""

    slot: Slot
    form: Form
    salt: bytes
    data: bytes | memoryview
    shape: tuple[int, ...]
    digest: bytes

    @classmethod
    def tensor(cls, slot: Slot, data: bytes, shape: tuple[int, ...], salt: bytes, form: Form = Form.FP32) -> Leaf:
        """A recorded tensor; raises `EncodingInvalid` if bytes and shape disagree."""
        return cls(slot, form, salt, data, tuple(shape), tensor_digest(data, shape, TensorType(form)))

    @classmethod
    def plain(cls, slot: Slot, data: bytes, salt: bytes) -> Leaf:
        """Bytes that are digested as they are: the trace manifest, a picture's file."""
        return cls(slot, Form.PLAIN, salt, data, (len(data),), sha256(data))

    @classmethod
    def bare(cls, slot: Slot, digest: bytes, salt: bytes) -> Leaf:
        """A digest whose bytes are elsewhere."""
        return cls(slot, Form.BARE, salt, b"", (), digest)


class BundleHeader(Document):
    """What a bundle holds: the trace's layout, the shapes of its tensors, how many leaves are opened."""

    MAX_BYTES: ClassVar[int] = MAX_HEADER_BYTES

    format: Literal["gesso/bundle/1"] = "gesso/bundle/1"
    images: Annotated[int, Field(ge=1, le=16)]
    steps: Annotated[int, Field(ge=1, le=1000)]
    guided: bool
    shapes: Annotated[tuple[_Shape, ...], Field(max_length=MAX_SHAPES, strict=False)]
    leaves: Annotated[int, Field(ge=1, lt=2**20)]


@dataclass(frozen=True)
class Bundle:
    """Opened leaves of one trace, each of them proved to stand under its root."""

    layout: Layout
    leaves: Mapping[Slot, Leaf]

    @classmethod
    def encode(cls, leaves: Sequence[Leaf], tree: Sequence[bytes], layout: Layout) -> bytes:
        """A bundle of `leaves`; `tree` are all leaves of the trace as `trace_leaves` gives them.

        Raises `EncodingInvalid` for leaves that do not belong there, too many shapes or more than 2 GiB.
        """
        ordered = sorted(leaves, key=lambda leaf: layout.position(leaf.slot))
        shapes = tuple(sorted({leaf.shape for leaf in ordered if leaf.form is not Form.BARE}))
        if len({leaf.slot for leaf in ordered}) != len(ordered):
            raise EncodingInvalid("a bundle opens a leaf once")
        if len(tree) != layout.count or len(shapes) > MAX_SHAPES or not ordered:
            raise EncodingInvalid(f"a bundle has a whole tree, 1 leaf or more and at most {MAX_SHAPES} shapes")
        header = BundleHeader(
            images=layout.images, steps=layout.steps, guided=layout.guided, shapes=shapes, leaves=len(ordered)
        ).encode()
        records = [_record(leaf, layout, shapes) for leaf in ordered]
        head = [MAGIC, struct.pack(">I", len(header)), header, *tree, *records]
        whole = b"".join([*head, *(leaf.data for leaf in ordered)])
        if len(whole) > MAX_BUNDLE_BYTES:
            raise EncodingInvalid("the bundle is larger than 2 GiB")
        return whole

    @classmethod
    def decode(cls, data: bytes, run: Run, layout: Layout, trace_root: Root) -> Bundle:
        """Read and verify everything. Raises `EncodingInvalid` at the first byte that is not what was committed."""
        if len(data) > MAX_BUNDLE_BYTES:
            raise EncodingInvalid("the bundle is larger than 2 GiB")
        view = memoryview(data)
        header, at = _read_header(view)
        if (header.images, header.steps, header.guided) != (layout.images, layout.steps, layout.guided):
            raise EncodingInvalid("the bundle is of a trace with another layout")
        tree_end, records_end = at + 32 * layout.count, at + 32 * layout.count + _RECORD.size * header.leaves
        if header.leaves > layout.count or len(view) < records_end:
            raise EncodingInvalid("the bundle is cut off")
        tree = [bytes(view[start : start + 32]) for start in range(at, tree_end, 32)]
        if merkle.root(tree) != trace_root:
            raise EncodingInvalid("the bundle is of another trace")
        found = _read_leaves(view, tree_end, records_end, header, layout)
        return cls(layout, {leaf.slot: _checked(leaf, run, layout, tree) for leaf in found})

    def leaf(self, slot: Slot) -> Leaf:
        """One opened leaf; raises `EncodingInvalid` when the bundle lacks it."""
        try:
            return self.leaves[slot]
        except KeyError:
            raise EncodingInvalid(f"the bundle does not open {slot.kind.value} {slot.image}/{slot.step}") from None

    def tensor(self, slot: Slot) -> bytes:
        """Raw bytes of one leaf; raises `EncodingInvalid` when the bundle lacks it or only opens its digest."""
        found = self.leaf(slot)
        if found.form is Form.BARE:
            raise EncodingInvalid("the bundle opens only the digest of that leaf")
        return bytes(found.data)

    def manifest(self) -> TraceManifest:
        """What ran, as the node committed it; raises `EncodingInvalid`."""
        return TraceManifest.decode(self.tensor(Slot(LeafKind.MANIFEST)))

    @property
    def complete(self) -> bool:
        """Whether every leaf is opened."""
        return len(self.leaves) == self.layout.count


def open_leaf(
    binding: Binding, slot: Slot, data: bytes, shape: tuple[int, ...], form: Form, digest: bytes | None = None
) -> Leaf:
    """Open one recorded leaf of a node's own trace; `digest` is needed for a bare one only."""
    salt = binding.salt(slot)
    if form is Form.BARE:
        return Leaf.bare(slot, digest or b"", salt)
    return Leaf.plain(slot, data, salt) if form is Form.PLAIN else Leaf.tensor(slot, data, shape, salt, form)


def _record(leaf: Leaf, layout: Layout, shapes: Sequence[tuple[int, ...]]) -> bytes:
    shape = 0 if leaf.form is Form.BARE else shapes.index(leaf.shape)
    if len(leaf.salt) != 32 or len(leaf.digest) != 32:
        raise EncodingInvalid("digest and salt of a leaf have 32 bytes")
    return _RECORD.pack(layout.position(leaf.slot), leaf.form, shape, leaf.salt, leaf.digest)


def _read_header(view: memoryview) -> tuple[BundleHeader, int]:
    start = len(MAGIC) + 4
    if len(view) < start or bytes(view[: len(MAGIC)]) != MAGIC:
        raise EncodingInvalid("this is no bundle")
    (size,) = struct.unpack(">I", view[len(MAGIC) : start])
    if size > MAX_HEADER_BYTES or len(view) < start + size:
        raise EncodingInvalid("the bundle's header is too large or cut off")
    return BundleHeader.decode(bytes(view[start : start + size])), start + size


def _read_leaves(view: memoryview, start: int, end: int, header: BundleHeader, layout: Layout) -> Iterator[Leaf]:
    at, last = end, -1
    for offset in range(start, end, _RECORD.size):
        position, form, shape_number, salt, digest = _RECORD.unpack(view[offset : offset + _RECORD.size])
        if not last < position < layout.count or form > Form.BARE:
            raise EncodingInvalid("the bundle's leaves are out of order or of no known form")
        last = position
        shape = _shape(Form(form), shape_number, header)
        size = _size(Form(form), shape)
        if len(view) - at < size:
            raise EncodingInvalid("the bundle is cut off")
        yield Leaf(layout.slot_at(position), Form(form), salt, view[at : at + size], shape, digest)
        at += size
    if at != len(view):
        raise EncodingInvalid("the bundle has bytes to spare")


def _shape(form: Form, number: int, header: BundleHeader) -> tuple[int, ...]:
    if form is Form.BARE and number == 0:
        return ()
    if form is Form.BARE or number >= len(header.shapes):
        raise EncodingInvalid("the bundle has no such shape")
    return header.shapes[number]


def _size(form: Form, shape: tuple[int, ...]) -> int:
    size = 0 if form is Form.BARE else 4 if form is Form.FP32 else 1
    for side in shape:
        size *= side
    return size


def _checked(leaf: Leaf, run: Run, layout: Layout, tree: Sequence[bytes]) -> Leaf:
    if run.salted_leaf(leaf.slot, leaf.digest, leaf.salt) != tree[layout.position(leaf.slot)]:
        raise EncodingInvalid(f"the opening of {leaf.slot.kind.value} is not what was committed")
    if leaf.form is Form.BARE:
        return leaf
    plain = leaf.form is Form.PLAIN
    if plain and len(leaf.shape) != 1:
        raise EncodingInvalid("plain bytes have one side")
    digest = sha256(leaf.data) if plain else tensor_digest(leaf.data, leaf.shape, TensorType(leaf.form))
    if digest != leaf.digest:
        raise EncodingInvalid(f"the bytes of {leaf.slot.kind.value} are not what was committed")
    return leaf
