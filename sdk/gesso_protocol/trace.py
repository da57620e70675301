"""The trace: a commitment to every step of a run, so that any step can be opened and run again later.

Each leaf binds chain, board, task, node, its own kind and place, the digest of its bytes and a salt, so a leaf of one
task or node is worthless for another and unopened leaves give nothing away. The order of leaves is fixed (`Layout`),
so an auditor who knows the spec knows where every leaf must stand.
"""

from __future__ import annotations

import enum
import hashlib
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from gesso_protocol import merkle
from gesso_protocol.encoding import Document
from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.fields import MAX_STRENGTH_MILLI, Scheduler
from gesso_protocol.hashing import keccak256, sha256, word
from gesso_protocol.ids import Address, BlobRef, Root, TaskId
from gesso_protocol.spec import TextToImage

_TENSOR = b"gesso/tensor/1"
_HEAD = 3  # manifest, two embeddings


class LeafKind(enum.StrEnum):
    """What a leaf holds. Cond and uncond are the model's output for the two guidance branches."""

    MANIFEST = "manifest"
    EMBEDDING = "embedding"
    NOISE = "noise"
    LATENT = "latent"
    COND = "cond"
    UNCOND = "uncond"
    RGB = "rgb"
    FILE = "file"
    DATASET = "dataset"
    CHECKPOINT = "checkpoint"
    LOSSES = "losses"

    @property
    def tag(self) -> bytes:
        """The leaf's domain: keccak256 of its name."""
        return keccak256(f"gesso/trace/1/{self.value}".encode("ascii"))


class TensorType(enum.IntEnum):
    """Element type of a digested tensor; bytes are little-endian, last axis fastest."""

    FP32 = 0
    UINT8 = 1


@dataclass(frozen=True, order=True)
class Slot:
    """The place of one leaf. `image` and `step` are 0 where they have no meaning; embeddings use `step` 0 and 1."""

    kind: LeafKind
    image: int = 0
    step: int = 0

    @property
    def index(self) -> int:
        """The number that is hashed: image * 2^32 + step."""
        if not 0 <= self.image < 2**32 or not 0 <= self.step < 2**32:
            raise EncodingInvalid("image and step of a leaf fit 32 bits")
        return (self.image << 32) | self.step


@dataclass(frozen=True)
class Layout:
    """Which leaves a trace has, in order: manifest, embeddings (cond, uncond), then picture by picture start noise,
    for each step the latent after it and the model's output (two with guidance), then RGB, file."""

    images: int
    steps: int
    guided: bool = False

    @classmethod
    def of(cls, spec: TextToImage) -> Self:
        """The layout that a spec demands; guidance of at most 1 has no unconditional branch."""
        return cls(spec.count, spec.steps, spec.guidance > 1)

    def __post_init__(self) -> None:
        if not 1 <= self.images <= 16 or not 1 <= self.steps <= 1000:
            raise EncodingInvalid("a trace has 1 to 16 pictures of 1 to 1000 steps")

    @property
    def count(self) -> int:
        """Number of leaves."""
        return _HEAD + self.images * self._per_image

    def slots(self) -> Iterator[Slot]:
        """Every slot, in the order of the tree."""
        return (self.slot_at(position) for position in range(self.count))

    def slot_at(self, position: int) -> Slot:
        """What stands at a position; raises `EncodingInvalid` when nothing does."""
        if not 0 <= position < self.count:
            raise EncodingInvalid("the trace has no such leaf")
        if position < _HEAD:
            return Slot(LeafKind.EMBEDDING, step=position - 1) if position else Slot(LeafKind.MANIFEST)
        image, at = divmod(position - _HEAD, self._per_image)
        if at == 0:
            return Slot(LeafKind.NOISE, image)
        if at >= self._per_image - 2:
            return Slot(LeafKind.FILE if at == self._per_image - 1 else LeafKind.RGB, image)
        step, part = divmod(at - 1, len(self._step_kinds))
        return Slot(self._step_kinds[part], image, step)

    def position(self, slot: Slot) -> int:
        """Where a slot stands in the tree; raises `EncodingInvalid` for one that this layout does not have."""
        start = _HEAD + slot.image * self._per_image
        position = {
            LeafKind.MANIFEST: 0,
            LeafKind.EMBEDDING: 1 + slot.step,
            LeafKind.NOISE: start,
            LeafKind.RGB: start + self._per_image - 2,
            LeafKind.FILE: start + self._per_image - 1,
        }.get(slot.kind)
        if position is None:
            part = self._step_kinds.index(slot.kind) if slot.kind in self._step_kinds else self.count
            position = start + 1 + slot.step * len(self._step_kinds) + part
        if not 0 <= position < self.count or self.slot_at(position) != slot:
            raise EncodingInvalid("the trace has no such leaf")
        return position

    @property
    def _step_kinds(self) -> tuple[LeafKind, ...]:
        both = (LeafKind.LATENT, LeafKind.COND, LeafKind.UNCOND)
        return both if self.guided else both[:2]

    @property
    def _per_image(self) -> int:
        return 3 + self.steps * len(self._step_kinds)


class LoraUse(Document):
    """One adapter of a run: its manifest and its strength in thousandths."""

    manifest: BlobRef
    strength_milli: Annotated[int, Field(ge=-MAX_STRENGTH_MILLI, le=MAX_STRENGTH_MILLI)] = 1000


class TraceManifest(Document):
    """What ran, and how: the preimage of a trace's first leaf. Nothing here is left to the node's choice later."""

    MAX_BYTES: ClassVar[int] = 16 * 1024

    format: Literal["gesso/trace-manifest/1"] = "gesso/trace-manifest/1"
    model_manifest: BlobRef
    loras: Annotated[tuple[LoraUse, ...], Field(max_length=16, strict=False)] = ()
    scheduler: Scheduler
    scheduler_config: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of the model's own scheduler_config.json, byte for byte; of no bytes where a model has none."""
    dtype: Literal["fp32", "fp16", "bf16"]
    profile: Annotated[str, Field(pattern=r"^(fp32|fp16|bf16)/[a-z0-9][a-z0-9._-]{0,47}$")]
    """The cell of the limits table: `{dtype}/{device family}`."""

    @classmethod
    def of(cls, spec: TextToImage, model_manifest: BlobRef, scheduler_config: bytes, profile: str) -> Self:
        """What an honest run of `spec` commits to; `scheduler_config` are the bytes of the model's own file."""
        return cls(
            model_manifest=model_manifest,
            loras=tuple(LoraUse(manifest=one.manifest, strength_milli=one.strength_milli) for one in spec.loras),
            scheduler=spec.scheduler,
            scheduler_config=sha256(scheduler_config).hex(),
            dtype=spec.dtype,
            profile=profile,
        )

    @property
    def digest(self) -> bytes:
        """SHA-256 of the canonical bytes: the digest of the manifest leaf."""
        return sha256(self.encode())


@dataclass(frozen=True)
class Run:
    """Who ran which task where: what every leaf of a trace is bound to, and all of it public."""

    chain_id: int
    board: Address
    task: TaskId
    node: Address

    def salted_leaf(self, slot: Slot, digest: bytes, salt: bytes) -> bytes:
        """keccak256 of eight words: tag, chain id, board, task, node, index, digest, salt. 32 bytes."""
        if len(digest) != 32 or len(salt) != 32:
            raise EncodingInvalid("digest and salt of a leaf have 32 bytes")
        place = [word(self.chain_id), word(int(self.board, 16)), self.task.value, word(int(self.node, 16))]
        return keccak256(b"".join([slot.kind.tag, *place, word(slot.index), digest, salt]))


@dataclass(frozen=True)
class Binding(Run):
    """A run and the node's secret: 32 random bytes from which every leaf gets a salt of its own."""

    secret: bytes

    def __post_init__(self) -> None:
        if len(self.secret) != 32:
            raise EncodingInvalid("a trace secret has 32 bytes")

    def __repr__(self) -> str:
        return f"Binding({self.task!r}, {self.node.short})"

    def salt(self, slot: Slot) -> bytes:
        """The salt of one leaf; opening it tells nothing about the others."""
        return keccak256(b"gesso/trace/1/salt" + self.secret + slot.kind.tag + word(slot.index))

    def leaf(self, slot: Slot, digest: bytes) -> bytes:
        """The leaf for a digest, salted from the secret."""
        return self.salted_leaf(slot, digest, self.salt(slot))


def tensor_digest(data: bytes | memoryview, shape: Sequence[int], kind: TensorType = TensorType.FP32) -> bytes:
    """SHA-256 over a header (type, shape) and the tensor's raw bytes. Raises `EncodingInvalid` if they disagree."""
    count = 4 if kind is TensorType.FP32 else 1
    for side in shape:
        if not 0 < side < 2**32:
            raise EncodingInvalid("a tensor's sides are positive")
        count *= side
    if len(shape) > 8 or len(data) != count:
        raise EncodingInvalid("the tensor's bytes do not match its shape")
    header = _TENSOR + struct.pack(f"<BB{len(shape)}I", int(kind), len(shape), *shape)
    digest = hashlib.sha256(header)
    digest.update(data)
    return digest.digest()


def trace_leaves(binding: Binding, layout: Layout, digests: Mapping[Slot, bytes]) -> list[bytes]:
    """All leaves in order. Raises `EncodingInvalid` unless there is a digest for every slot and no other."""
    if len(digests) != layout.count:
        raise EncodingInvalid(f"the trace needs {layout.count} digests and has {len(digests)}")
    try:
        return [binding.leaf(slot, digests[slot]) for slot in layout.slots()]
    except KeyError as missing:
        raise EncodingInvalid(f"the trace lacks {missing.args[0]}") from None


def trace_root(leaves: Sequence[bytes]) -> Root:
    """What `commit` puts on chain beside the result root."""
    return merkle.root(leaves)


def opened(
    expected: Root, run: Run, layout: Layout, position: int, digest: bytes, salt: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether an opening of the leaf at `position` is what the node committed to. False for anything malformed."""
    if not 0 <= position < layout.count or len(proof) != merkle.depth(layout.count):
        return False
    if len(digest) != 32 or len(salt) != 32:
        return False
    leaf = run.salted_leaf(layout.slot_at(position), digest, salt)
    return merkle.verify(expected, leaf, position, proof)
