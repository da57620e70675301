"""Every reader of outside bytes, against hostile bytes: a document that encodes back, or its typed error. Nothing else.

New documents are found by themselves: one without an example below fails the first test.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import pkgutil
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hostile import damaged
from hypothesis import given
from hypothesis import strategies as st

import gesso_protocol
import gesso_protocol.audit
from gesso_protocol.audit.bundle import BundleHeader
from gesso_protocol.audit.envelope import Envelope, EnvelopeCell
from gesso_protocol.audit.limits import Limit, LimitsTable
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.card import CardPreview, ModelCard
from gesso_protocol.encoding import Document, canonical
from gesso_protocol.errors import EncodingInvalid, SpecInvalid
from gesso_protocol.events import Claimed, event_json, parse_event
from gesso_protocol.handover import Handover
from gesso_protocol.ids import Address, BlobRef, Root, TaskId
from gesso_protocol.manifest import BlobManifest, FileEntry, ModelManifest
from gesso_protocol.messages import (
    BlobReply,
    BlobRequest,
    NodeAdvert,
    Opening,
    OpenReply,
    OpenRequest,
    Preview,
    ProgressEvent,
    TaskAnnouncement,
    decode_blob_reply,
    encode_blob_reply,
)
from gesso_protocol.money import Wei
from gesso_protocol.policy import Offer, Price
from gesso_protocol.result import ImageEntry, ResultManifest
from gesso_protocol.spec import Adapter, TextToImage, TrainLora, UsedAdapter, parse_any_spec
from gesso_protocol.terms import BoardParams, Terms
from gesso_protocol.trace import LoraUse, TraceManifest
from gesso_protocol.training.checkpoint import KeptCheckpoint, Resume
from gesso_protocol.training.dataset import DatasetIndex, Sample
from gesso_protocol.training.openings import OpeningsHeader
from gesso_protocol.training.trace import TrainingFacts

BLOB, TASK, ROOT, NODE = BlobRef(b"\x01" * 32), TaskId(b"\x02" * 32), Root(b"\x03" * 32), Address("0x" + "44" * 20)
TERMS = Terms(requester=NODE, fee=Wei(9), spec=BLOB, claim_window_s=60, commit_window_s=60, nonce=5)
FILE = FileEntry(path="unet/model.safetensors", size=3, blob=BLOB)
IMAGE = ImageEntry(index=0, blob=BLOB, sha256="ab" * 32, width=64, height=64, seed=1)
PREVIEW = Preview.of(b"\x89PNG\r\n\x1a\nrest")
OPENING = Opening(position=3, digest="00" * 32, salt="11" * 32, proof=("22" * 32,) * 3, blob=BLOB)

LIMIT = Limit(
    profile="fp32/cpu-x86_64", tau_soft_ppb=1, tau_hard_ppb=2, guided_ppb=3, rgb_levels=2, calibrated=True, samples=4,
    source="measured",
)  # fmt: skip
CELL = EnvelopeCell(family="single", guidance="off", length="short", lows=((0,) * 8,) * 5, highs=((9,) * 8,) * 5)
SHOWN = CardPreview(blob=BLOB, size=9, width=64, height=64, caption="a")

EXAMPLES: list[Document] = [
    TextToImage(prompt="a red circle", model="tiny@1", model_manifest=BLOB, guidance=7.25),
    TrainLora(model="tiny@1", dataset=BLOB, continue_from=Adapter(ref="zbx@1", manifest=BLOB), trigger="zbx"),
    Adapter(manifest=BLOB),
    Resume(task=TASK, seed="ab" * 32, step=20, state=BLOB, size=9),
    KeptCheckpoint(state=BLOB, step=20, size=9, seed="ab" * 32, signature="cd" * 65),
    Sample(caption="a", width=64, height=64),
    OpeningsHeader(segments=2, leaves=3),
    TrainingFacts(
        spec=BLOB, model_manifest=BLOB, dataset=BLOB, seed="00" * 32, steps_done=3, dtype="fp32", profile="fp32/fake"
    ),
    DatasetIndex(resolution=64, samples=(Sample(caption="a", width=64, height=64),)),
    UsedAdapter(ref="zbx@1", manifest=BLOB, strength_milli=-500),
    TERMS,
    BoardParams(challenge_window_s=20, sortition_step_s=5),
    FILE,
    ModelManifest(name="tiny", version=1, kind="lora", parent=BLOB, licence="MIT", files=(FILE,)),
    SHOWN,
    ModelCard(summary="a", text="# a", trigger="zbx", tags=("toy",), previews=(SHOWN,)),
    BlobManifest.of(b"gesso"),
    IMAGE,
    ResultManifest(
        task=TASK, node=NODE, executor="fake", spec=BLOB, model_manifest=BLOB, images=(IMAGE,),
        profile={"torch": "2"}, trace_root=ROOT,
    ),
    Price(base=Wei(1)),
    Offer(models=(BLOB,)),
    TaskAnnouncement.of(1, NODE, TERMS, reply_to=("/ip4/1.2.3.4/tcp/5",), spec_from="http://relay.example"),
    NodeAdvert(chain_id=1, wallet=NODE, peer="QmPeer", offer=Offer(), sent_at=1, addresses=("/ip4/1.2.3.4",)),
    PREVIEW,
    ProgressEvent(task=TASK, node=NODE, sequence=1, stage="executing", step=1, total=2, preview=PREVIEW),
    BlobRequest(blob=BLOB),
    BlobReply(status="ok", size=5, length=5),
    OpenRequest(task=TASK, phase="inputs", positions=(0, 5), asker=NODE),
    OPENING,
    OpenReply(task=TASK, phase="outputs", trace_root=ROOT, openings=(OPENING,)),
    LoraUse(manifest=BLOB, strength_milli=-500),
    AuditRules(),
    BundleHeader(images=1, steps=2, guided=True, shapes=((1, 4, 2, 2),), leaves=3),
    LIMIT,
    LimitsTable(rows=(LIMIT,)),
    Handover(manifest=BLOB, result_root=ROOT, trace_root=ROOT, signature="0a" * 65),
    CELL,
    Envelope(cells=(CELL,)),
    TraceManifest(
        model_manifest=BLOB, loras=(LoraUse(manifest=BLOB),), scheduler="euler", scheduler_config="00" * 32,
        dtype="fp32", profile="fp32/cpu-x86_64",
    ),
]  # fmt: skip
examples = st.sampled_from(EXAMPLES)
kinds = st.sampled_from([type(example) for example in EXAMPLES])


def subclasses(kind: type[Document]) -> Iterator[type[Document]]:
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


def read(kind: type[Document], data: bytes) -> Document | None:
    """The document, or None for the one error that its reader may raise. Any other exception fails the test."""
    try:
        document = kind.decode(data)
    except kind.INVALID:
        return None
    assert document.encode() == data
    return document


def test_every_document_has_an_example() -> None:
    for package in (gesso_protocol, gesso_protocol.audit):
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")
    assert {type(example) for example in EXAMPLES} == set(subclasses(Document))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_examples_round_trip(example: Document) -> None:
    assert read(type(example), example.encode()) == example


FRAMES: tuple[tuple[Callable[[bytes], object], bytes], ...] = (
    (parse_any_spec, EXAMPLES[0].encode()),
    (parse_any_spec, EXAMPLES[1].encode()),
    (parse_event, event_json(Claimed(task=TASK, at_ms=1, node=NODE, commit_by=9))),
    (decode_blob_reply, encode_blob_reply(BlobReply(status="ok", size=5, length=5), b"gesso")),
)


@given(frame=st.sampled_from(FRAMES), data=st.data())
def test_damaged_frames(frame: tuple[Callable[[bytes], object], bytes], data: st.DataObject) -> None:
    reader, good = frame
    assert reader(good)
    for bad in (data.draw(damaged(good)), data.draw(st.binary(max_size=80))):
        with contextlib.suppress(EncodingInvalid, SpecInvalid):
            reader(bad)


@given(kind=kinds, data=st.binary(max_size=300))
def test_noise(kind: type[Document], data: bytes) -> None:
    assert read(kind, data) is None


@given(example=examples, data=st.data())
def test_damaged_bytes(example: Document, data: st.DataObject) -> None:
    good = example.encode()
    at = data.draw(st.integers(0, len(good) - 1))
    cut = data.draw(st.integers(0, 8))
    read(type(example), good[:at] + data.draw(st.binary(max_size=8)) + good[at + cut :])


wrong_values: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53) + 1, 2**53 - 1),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
    st.lists(st.none() | st.integers(0, 5) | st.just({}), max_size=5),
    st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.integers(0, 5), max_size=3),
    st.sampled_from(["0x", "b3:", "b3:" + "0" * 64, "0x" + "0" * 40, "9" * 78, "-1", "1.5", "\x00", "../../etc"]),
)


@given(example=examples, data=st.data())
def test_wrong_values_in_the_right_shape(example: Document, data: st.DataObject) -> None:
    fields = json.loads(example.encode())
    name = data.draw(st.sampled_from(sorted(fields)))
    fields[name] = data.draw(wrong_values)
    read(type(example), canonical(fields))


@given(example=examples, data=st.data())
def test_missing_and_surplus_fields(example: Document, data: st.DataObject) -> None:
    fields = json.loads(example.encode())
    name = data.draw(st.sampled_from(sorted(fields)))
    assert read(type(example), canonical({key: value for key, value in fields.items() if key != name})) is None
    assert read(type(example), canonical({**fields, "surplus": data.draw(wrong_values)})) is None


@given(example=examples, kind=kinds)
def test_one_document_is_never_read_as_another(example: Document, kind: type[Document]) -> None:
    if kind is not type(example):
        assert read(kind, example.encode()) is None


@pytest.mark.parametrize("kind", [type(example) for example in EXAMPLES], ids=lambda kind: kind.__name__)
def test_floods_are_refused_cheaply(kind: type[Document]) -> None:
    floods = [
        b"[" * 5_000_000,
        b'{"a":' * 30_000,
        b'"' + b"x" * 5_000_000 + b'"',
        b"9" * 1_000_000,
        b"[" + b"1," * 2_000_000 + b"1]",
    ]
    tracemalloc.start()
    for flood in floods:
        assert read(kind, flood) is None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8_000_000


@pytest.mark.parametrize("data", [None, "{}", 5, bytearray(b"{}"), memoryview(b"{}")])
def test_only_bytes_are_read(data: Any) -> None:
    assert read(Terms, data) is None
