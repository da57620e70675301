"""Everything peers say to each other: gossip, progress, blob and opening requests. Bounded before it is parsed.

Gossip is signed by the transport (peer key) and is only ever a hint: whatever matters is checked on chain.
"""

from __future__ import annotations

import base64
import binascii
import struct
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from gesso_protocol.encoding import MAX_SAFE_INT, Document
from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.handover import Handover
from gesso_protocol.ids import Address, BlobRef, Root, TaskId
from gesso_protocol.manifest import CHUNK_BYTES, MAX_BLOB_BYTES
from gesso_protocol.merkle import MAX_DEPTH
from gesso_protocol.policy import Offer
from gesso_protocol.terms import ChainId, Terms, task_id
from gesso_protocol.training.checkpoint import KeptCheckpoint

TOPIC_TASKS = "gesso/tasks/1"
TOPIC_NODES = "gesso/nodes/2"
PROTOCOL_PROGRESS = "/gesso/progress/1"
PROTOCOL_BLOB = "/gesso/blob/1"
PROTOCOL_OPEN = "/gesso/open/1"

MAX_GOSSIP_BYTES = 16 * 1024
MAX_PREVIEW_BYTES = 12 * 1024
MAX_PROGRESS_BYTES = 20 * 1024
MAX_BLOB_REPLY_BYTES = CHUNK_BYTES + 1024
MAX_OPENINGS = 64
_MAX_HEADER_BYTES = 512

PeerId = Annotated[str, Field(min_length=2, max_length=128, pattern=r"^[1-9A-HJ-NP-Za-km-z]+$")]
Multiaddr = Annotated[str, Field(min_length=2, max_length=256, pattern=r"^/[!-~]+$")]
Multiaddrs = Annotated[tuple[Multiaddr, ...], Field(max_length=8, strict=False)]
HttpUrl = Annotated[str, Field(max_length=256, pattern=r"^https?://[!-~]+$")]
UnixSeconds = Annotated[int, Field(ge=0, le=MAX_SAFE_INT)]
Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class TaskAnnouncement(Document):
    """Topic `gesso/tasks/1`: a task is (or is about to be) on chain. `reply_to` is where progress may be sent."""

    MAX_BYTES: ClassVar[int] = MAX_GOSSIP_BYTES

    format: Literal["gesso/task/1"] = "gesso/task/1"
    chain_id: ChainId
    board: Address
    task: TaskId
    terms: Terms
    peer: PeerId | None = None
    reply_to: Multiaddrs = ()
    spec_from: HttpUrl | None = None

    @model_validator(mode="after")
    def _id_is_of_these_terms(self) -> Self:
        if task_id(self.chain_id, self.board, self.terms) != self.task:
            raise ValueError("the task id is not that of the terms")
        return self

    @classmethod
    def of(cls, chain_id: int, board: Address, terms: Terms, *, peer: str | None = None,
           reply_to: tuple[str, ...] = (), spec_from: str | None = None) -> Self:  # fmt: skip
        """Announce these terms; the id is computed."""
        return cls(chain_id=chain_id, board=board, task=task_id(chain_id, board, terms), terms=terms, peer=peer,
                   reply_to=reply_to, spec_from=spec_from)  # fmt: skip


class NodeAdvert(Document):
    """Topic `gesso/nodes/2`: a node is alive, offers this, and can be reached there. Older than a few beats: ignore."""

    MAX_BYTES: ClassVar[int] = MAX_GOSSIP_BYTES

    format: Literal["gesso/node/2"] = "gesso/node/2"
    chain_id: ChainId
    wallet: Address
    peer: PeerId
    addresses: Multiaddrs = ()
    blobs_at: HttpUrl | None = None
    offer: Offer
    free_slots: Annotated[int, Field(ge=0, le=1024)] = 0
    software: Annotated[str, Field(max_length=64, pattern=r"^[!-~]*$")] = ""
    sent_at: UnixSeconds


class Preview(Document):
    """A small picture of the state of affairs, PNG or JPEG, at most 12 KiB, as base64."""

    MAX_BYTES: ClassVar[int] = MAX_PROGRESS_BYTES

    mime: Literal["image/png", "image/jpeg"]
    data: Annotated[str, Field(max_length=4 * (-(-MAX_PREVIEW_BYTES // 3)), pattern=r"^[A-Za-z0-9+/]+={0,2}$")]

    @model_validator(mode="after")
    def _data_is_a_small_picture(self) -> Self:
        raw = self.image
        if len(raw) > MAX_PREVIEW_BYTES:
            raise ValueError("a preview has at most 12 KiB")
        if base64.b64encode(raw).decode("ascii") != self.data:
            raise ValueError("the preview's base64 is not in its shortest form")
        if not raw.startswith(_MAGIC[self.mime]):
            raise ValueError("the preview is not of its declared type")
        return self

    @classmethod
    def of(cls, image: bytes) -> Self:
        """Wrap PNG or JPEG bytes; raises `EncodingInvalid` for anything else or more than 12 KiB."""
        if len(image) > MAX_PREVIEW_BYTES:
            raise EncodingInvalid("a preview has at most 12 KiB")
        for mime, magic in _MAGIC.items():
            if image.startswith(magic):
                return cls.model_validate({"mime": mime, "data": base64.b64encode(image).decode("ascii")})
        raise EncodingInvalid("a preview is a PNG or a JPEG")

    @property
    def image(self) -> bytes:
        """The picture's bytes. Still untrusted: decode with a pixel limit."""
        try:
            return base64.b64decode(self.data, validate=True)
        except binascii.Error:
            raise EncodingInvalid("the preview is not base64") from None


_MAGIC: dict[str, bytes] = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff"}


class ProgressEvent(Document):
    """Protocol `/gesso/progress/1`: how far a node is. `step` of `total` in `stage`; `sequence` only grows.

    With stage `committed`, `note` is the name of the result manifest's blob: a hint that the committed root confirms.
    With stage `delivered`, `handover` is the node's signed word for what it is about to commit.
    With stage `executing`, `checkpoint` is its signed word for where its training can go on without it, and `note`
    tells of a training: `loss=NUMBER`, with ` checkpoint` after it where one was made, `paused` or `continued`.
    """

    MAX_BYTES: ClassVar[int] = MAX_PROGRESS_BYTES

    format: Literal["gesso/progress/1"] = "gesso/progress/1"
    task: TaskId
    node: Address
    sequence: Annotated[int, Field(ge=0, le=MAX_SAFE_INT)]
    stage: Literal["claimed", "loading", "executing", "uploading", "delivered", "committed", "failed"]
    step: Annotated[int, Field(ge=0, le=100_000)] = 0
    total: Annotated[int, Field(ge=0, le=100_000)] = 0
    image: Annotated[int, Field(ge=0, le=1024)] = 0
    preview: Preview | None = None
    note: Annotated[str, Field(max_length=200)] = ""
    handover: Handover | None = None
    checkpoint: KeptCheckpoint | None = None

    @model_validator(mode="after")
    def _step_is_within_total(self) -> Self:
        if self.step > self.total:
            raise ValueError("step goes up to total")
        return self

    @model_validator(mode="after")
    def _only_delivered_hands_over(self) -> Self:
        if (self.stage == "delivered") != (self.handover is not None):
            raise ValueError("a handover comes with stage delivered, and only with it")
        if self.checkpoint is not None and self.stage != "executing":
            raise ValueError("a checkpoint comes with stage executing")
        return self

    @property
    def result(self) -> BlobRef | None:
        """Where the node says that its result manifest is; None before it has one, or if it says nothing."""
        if self.handover is not None:
            return self.handover.manifest
        try:
            return BlobRef.parse(self.note) if self.stage == "committed" else None
        except EncodingInvalid:
            return None


class BlobRequest(Document):
    """Protocol `/gesso/blob/1`: give me `length` bytes from `offset`; `length` 0 asks for the size only."""

    MAX_BYTES: ClassVar[int] = _MAX_HEADER_BYTES

    format: Literal["gesso/blob-request/1"] = "gesso/blob-request/1"
    blob: BlobRef
    offset: Annotated[int, Field(ge=0, le=MAX_BLOB_BYTES)] = 0
    length: Annotated[int, Field(ge=0, le=CHUNK_BYTES)] = CHUNK_BYTES
    chunks: bool = False


class BlobReply(Document):
    """Header of the answer; `length` raw bytes follow it. `size` is the whole blob's."""

    MAX_BYTES: ClassVar[int] = _MAX_HEADER_BYTES

    format: Literal["gesso/blob-reply/1"] = "gesso/blob-reply/1"
    status: Literal["ok", "missing", "busy", "bad-range"]
    size: Annotated[int, Field(ge=0, le=MAX_BLOB_BYTES)] = 0
    length: Annotated[int, Field(ge=0, le=CHUNK_BYTES)] = 0


def encode_blob_reply(header: BlobReply, body: bytes = b"") -> bytes:
    """Two bytes header length (big-endian), header, body."""
    if len(body) != header.length:
        raise EncodingInvalid("the body's length is not the header's")
    head = header.encode()
    return struct.pack(">H", len(head)) + head + body


def decode_blob_reply(data: bytes) -> tuple[BlobReply, bytes]:
    """Header and body; raises `EncodingInvalid`. The body is unverified until it is hashed."""
    if len(data) < 2 or len(data) > MAX_BLOB_REPLY_BYTES:
        raise EncodingInvalid("the blob reply has an impossible size")
    (size,) = struct.unpack_from(">H", data)
    if size > _MAX_HEADER_BYTES:
        raise EncodingInvalid("the blob reply's header is too large")
    header = BlobReply.decode(data[2 : 2 + size])
    body = data[2 + size :]
    if len(body) != header.length:
        raise EncodingInvalid("the body's length is not the header's")
    return header, body


class OpenRequest(Document):
    """Protocol `/gesso/open/1`: open these leaves of a task's trace.

    Phase `inputs`: what the audited steps start from, as soon as the challenge is known. Phase `outputs`: every leaf,
    once it can help nobody to copy. No `positions` means all that the phase allows, which is always sent as a bundle.
    `asker` is the wallet that the sender's peer id is bound to on chain, if it claims to be an auditor.
    """

    MAX_BYTES: ClassVar[int] = 4 * 1024

    format: Literal["gesso/open-request/1"] = "gesso/open-request/1"
    task: TaskId
    phase: Literal["inputs", "outputs"]
    positions: Annotated[
        tuple[Annotated[int, Field(ge=0, lt=1 << MAX_DEPTH)], ...],
        Field(max_length=MAX_OPENINGS, strict=False),
    ] = ()
    asker: Address | None = None
    bundle: bool = False


class Opening(Document):
    """One opened leaf: digest, salt and the way to the root (hex). The bytes themselves are the blob `blob`."""

    MAX_BYTES: ClassVar[int] = 4 * 1024

    position: Annotated[int, Field(ge=0, lt=1 << MAX_DEPTH)]
    digest: Hex32
    salt: Hex32
    proof: Annotated[tuple[Hex32, ...], Field(max_length=MAX_DEPTH, strict=False)]
    blob: BlobRef | None = None


class OpenReply(Document):
    """Answer to `OpenRequest`: openings one by one, or one `bundle` (`gesso_protocol.audit.bundle`) with all of them.

    `not-yet`: the beacon or the asker's own commitment is still missing. `refused`: this asker gets nothing.
    """

    MAX_BYTES: ClassVar[int] = 128 * 1024

    format: Literal["gesso/open-reply/1"] = "gesso/open-reply/1"
    task: TaskId
    phase: Literal["inputs", "outputs"]
    status: Literal["ok", "unknown", "not-yet", "refused", "busy"] = "ok"
    trace_root: Root | None = None
    openings: Annotated[tuple[Opening, ...], Field(max_length=MAX_OPENINGS, strict=False)] = ()
    bundle: BlobRef | None = None
    result: BlobRef | None = None
    """Blob of the result manifest; a hint that the committed root confirms."""

    @model_validator(mode="after")
    def _only_ok_carries_anything(self) -> Self:
        if self.status == "ok" and self.trace_root is None:
            raise ValueError("an answer names the trace root that it opens")
        if self.status != "ok" and (self.openings or self.bundle is not None):
            raise ValueError("a refusal opens nothing")
        return self
