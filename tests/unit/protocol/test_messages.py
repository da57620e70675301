"""Messages: bounded, typed, and no announcement can lie about its own id."""

from __future__ import annotations

import base64
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gesso_protocol import messages
from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.ids import Address, BlobRef, TaskId
from gesso_protocol.manifest import CHUNK_BYTES
from gesso_protocol.messages import (
    MAX_BLOB_REPLY_BYTES,
    MAX_GOSSIP_BYTES,
    MAX_PREVIEW_BYTES,
    BlobReply,
    BlobRequest,
    NodeAdvert,
    Preview,
    ProgressEvent,
    TaskAnnouncement,
    decode_blob_reply,
    encode_blob_reply,
)
from gesso_protocol.money import Wei
from gesso_protocol.policy import Offer, Price
from gesso_protocol.terms import Terms

BOARD = Address("0x" + "11" * 20)
NODE = Address("0x" + "22" * 20)
PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff\xe0"
PEER = "12D3KooWGzh3Yw9VZcmFzYcHqvGWP3n2wPYw2s9dN8mX5b8tN1yZ"
TERMS = Terms(requester=NODE, fee=Wei(1), spec=BlobRef(bytes(32)), claim_window_s=1, commit_window_s=1, nonce=1)


def progress(**changes: Any) -> ProgressEvent:
    fields: dict[str, Any] = {"task": TaskId(bytes(32)), "node": NODE, "sequence": 0, "stage": "executing"}
    return ProgressEvent(**{**fields, **changes})


def test_an_announcement_is_of_its_own_terms() -> None:
    announcement = TaskAnnouncement.of(31337, BOARD, TERMS, peer=PEER, reply_to=("/ip4/1.2.3.4/tcp/1",))
    assert TaskAnnouncement.decode(announcement.encode()) == announcement
    with pytest.raises(ValidationError, match="task id"):
        TaskAnnouncement(chain_id=31338, board=BOARD, task=announcement.task, terms=TERMS)
    forged = announcement.encode().replace(b'"fee":"1"', b'"fee":"2"')
    with pytest.raises(EncodingInvalid):
        TaskAnnouncement.decode(forged)


def test_the_largest_gossip_fits_its_limit() -> None:
    address = "/dns4/" + "a" * 250
    offer = Offer(
        models=tuple(BlobRef(bytes([i]) * 32) for i in range(64)),
        price=Price(base=Wei(2**256 - 1), per_megapixel_step=Wei(2**256 - 1)),
        dtypes=("fp32", "fp16", "bf16"),
    )
    advert = NodeAdvert(
        chain_id=2**53 - 1, wallet=NODE, peer="Q" * 128, addresses=(address,) * 8, blobs_at="https://" + "a" * 248,
        offer=offer, free_slots=1024, software="x" * 64, sent_at=2**53 - 1,
    )  # fmt: skip
    assert len(advert.encode()) <= MAX_GOSSIP_BYTES
    assert NodeAdvert.decode(advert.encode()) == advert
    announcement = TaskAnnouncement.of(
        2**53 - 1, BOARD, TERMS, peer="Q" * 128, reply_to=(address,) * 8, spec_from="https://" + "a" * 248
    )
    assert len(announcement.encode()) <= MAX_GOSSIP_BYTES


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("peer", "0OIl"),
        ("peer", "Q" * 129),
        ("addresses", ("/x",) * 9),
        ("addresses", ("ip4/1.2.3.4",)),
        ("addresses", ("/ip4/1.2.3.4 ",)),
        ("addresses", ("/" + "x" * 256,)),
        ("blobs_at", "file:///etc/passwd"),
        ("blobs_at", "http://a b"),
        ("software", "x\ny"),
        ("free_slots", -1),
        ("sent_at", 2**53),
        ("chain_id", 0),
    ],
)
def test_malformed_adverts(field: str, value: object) -> None:
    good: dict[str, Any] = {"chain_id": 1, "wallet": NODE, "peer": PEER, "offer": Offer(), "sent_at": 0}
    NodeAdvert(**good)
    with pytest.raises(ValidationError):
        NodeAdvert(**{**good, field: value})


def test_progress_with_the_largest_preview_fits() -> None:
    preview = Preview.of(PNG + bytes(MAX_PREVIEW_BYTES - len(PNG)))
    event = progress(step=100_000, total=100_000, preview=preview, note="☂" * 200, sequence=2**53 - 1)
    assert ProgressEvent.decode(event.encode()) == event
    assert len(preview.image) == MAX_PREVIEW_BYTES
    # a message of this size still fits what the protocol allows
    assert len(event.encode()) <= messages.MAX_PROGRESS_BYTES


def test_a_committed_node_names_its_result() -> None:
    ref = BlobRef(bytes(32))
    assert progress(stage="committed", note=str(ref)).result == ref
    assert progress(stage="committed", note="soon").result is None
    assert progress(stage="executing", note=str(ref)).result is None


@pytest.mark.parametrize("image", [PNG, JPEG + b"rest"])
def test_previews(image: bytes) -> None:
    assert Preview.of(image).image == image


@pytest.mark.parametrize("image", [b"", b"GIF89a", b"<svg", PNG + bytes(MAX_PREVIEW_BYTES)])
def test_what_is_no_preview(image: bytes) -> None:
    with pytest.raises(EncodingInvalid):
        Preview.of(image)


@pytest.mark.parametrize(
    ("mime", "data"),
    [
        ("image/png", base64.b64encode(JPEG).decode()),
        ("image/gif", base64.b64encode(PNG).decode()),
        ("image/png", "===="),
        ("image/png", "iVBORw0KGgp="),  # the last bits are not zero
        ("image/png", "iVBORw0KGgo"),
        ("image/png", "iVBORw0K Ggo="),
        ("image/png", ""),
    ],
)
def test_forged_previews(mime: str, data: str) -> None:
    with pytest.raises(ValidationError):
        Preview.model_validate({"mime": mime, "data": data})


@pytest.mark.parametrize(
    ("field", "value"), [("step", 1), ("sequence", -1), ("stage", "done"), ("note", "x" * 201), ("total", 100_001)]
)
def test_malformed_progress(field: str, value: object) -> None:
    with pytest.raises(ValidationError):
        progress(**{field: value})


@given(body=st.binary(max_size=300))
def test_blob_replies_round_trip(body: bytes) -> None:
    header = BlobReply(status="ok", size=len(body) + 5, length=len(body))
    assert decode_blob_reply(encode_blob_reply(header, body)) == (header, body)


def test_a_full_chunk_fits_a_reply() -> None:
    header = BlobReply(status="ok", size=32 * 1024**3, length=CHUNK_BYTES)
    data = encode_blob_reply(header, bytes(CHUNK_BYTES))
    assert len(data) <= MAX_BLOB_REPLY_BYTES
    assert decode_blob_reply(data)[0] == header


GOOD_REPLY = encode_blob_reply(BlobReply(status="missing"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\x00\x00",
        b"\xff\xff",
        GOOD_REPLY[:-1],
        GOOD_REPLY + b"x",
        struct.pack(">H", 513) + b" " * 513,
        bytes(MAX_BLOB_REPLY_BYTES + 1),
    ],
)
def test_malformed_blob_replies(data: bytes) -> None:
    with pytest.raises(EncodingInvalid):
        decode_blob_reply(data)


@given(data=st.binary(max_size=200))
def test_hostile_blob_replies(data: bytes) -> None:
    with pytest.raises(EncodingInvalid):
        decode_blob_reply(data)


def test_a_reply_must_match_its_body() -> None:
    with pytest.raises(EncodingInvalid):
        encode_blob_reply(BlobReply(status="ok", size=1, length=1))


def test_a_request_is_one_chunk_at_most() -> None:
    with pytest.raises(ValidationError):
        BlobRequest(blob=BlobRef(bytes(32)), length=CHUNK_BYTES + 1)


def test_the_names_on_the_wire() -> None:
    assert (messages.TOPIC_TASKS, messages.TOPIC_NODES) == ("gesso/tasks/1", "gesso/nodes/2")
    assert (messages.PROTOCOL_PROGRESS, messages.PROTOCOL_BLOB, messages.PROTOCOL_OPEN) == (
        "/gesso/progress/1", "/gesso/blob/1", "/gesso/open/1"
    )  # fmt: skip
