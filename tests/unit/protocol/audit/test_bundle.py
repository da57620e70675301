"""Bundles prove themselves: what decodes is what was committed, whatever the bytes are."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hostile import examples
from hypothesis import given
from hypothesis import strategies as st

from gesso_protocol.audit.bundle import Bundle, Form, Leaf, open_leaf
from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.hashing import keccak256, sha256
from gesso_protocol.ids import Address, BlobRef, Root, TaskId
from gesso_protocol.spec import TextToImage
from gesso_protocol.trace import Binding, Layout, LeafKind, Run, Slot, TraceManifest, trace_leaves, trace_root

BINDING = Binding(7, Address("0x" + "11" * 20), TaskId(b"\x03" * 32), Address("0x" + "22" * 20), b"\x07" * 32)
RUN = Run(BINDING.chain_id, BINDING.board, BINDING.task, BINDING.node)
SPEC = TextToImage(prompt="a red circle", model="tiny@1", steps=3, count=2, guidance=5.0)
LAYOUT = Layout.of(SPEC)
MANIFEST = TraceManifest.of(SPEC, BlobRef(bytes(32)), b"{}", "fp32/cpu-x86_64")


def recorded(slot: Slot) -> Leaf:
    """What a node recorded at a slot: small tensors that all differ."""
    if slot.kind is LeafKind.MANIFEST:
        return open_leaf(BINDING, slot, MANIFEST.encode(), (), Form.PLAIN)
    if slot.kind is LeafKind.FILE:
        return open_leaf(BINDING, slot, b"", (), Form.BARE, sha256(b"file %d" % slot.image))
    seed = keccak256(f"{slot}".encode())
    if slot.kind is LeafKind.RGB:
        return open_leaf(BINDING, slot, seed[:12], (2, 2, 3), Form.UINT8)
    shape = (1, 8) if slot.kind is LeafKind.EMBEDDING else (1, 2, 2, 2)
    return open_leaf(BINDING, slot, seed, shape, Form.FP32)


LEAVES = {slot: recorded(slot) for slot in LAYOUT.slots()}
TREE = trace_leaves(BINDING, LAYOUT, {slot: leaf.digest for slot, leaf in LEAVES.items()})
ROOT = trace_root(TREE)
WHOLE = Bundle.encode(list(LEAVES.values()), TREE, LAYOUT)


def test_a_whole_trace() -> None:
    found = Bundle.decode(WHOLE, RUN, LAYOUT, ROOT)
    assert found.complete
    assert found.manifest() == MANIFEST
    for slot, leaf in LEAVES.items():
        opened = found.leaf(slot)
        assert (bytes(opened.data), opened.shape, opened.form) == (leaf.data, leaf.shape, leaf.form)
    assert found.tensor(Slot(LeafKind.COND, 1, 2)) == LEAVES[Slot(LeafKind.COND, 1, 2)].data
    with pytest.raises(EncodingInvalid, match="digest"):
        found.tensor(Slot(LeafKind.FILE, 0))


@given(chosen=st.sets(st.sampled_from(sorted(LEAVES)), min_size=1))
def test_any_part_of_a_trace(chosen: set[Slot]) -> None:
    data = Bundle.encode([LEAVES[slot] for slot in chosen], TREE, LAYOUT)
    found = Bundle.decode(data, RUN, LAYOUT, ROOT)
    assert set(found.leaves) == chosen
    assert found.complete == (len(chosen) == LAYOUT.count)
    for slot in set(LEAVES) - chosen:
        with pytest.raises(EncodingInvalid, match="does not open"):
            found.leaf(slot)


@given(at=st.integers(0, len(WHOLE) - 1), flip=st.integers(1, 255))
@examples(300)
def test_no_byte_can_be_changed(at: int, flip: int) -> None:
    broken = WHOLE[:at] + bytes([WHOLE[at] ^ flip]) + WHOLE[at + 1 :]
    with pytest.raises(EncodingInvalid):
        Bundle.decode(broken, RUN, LAYOUT, ROOT)


@given(cut=st.integers(0, len(WHOLE) - 1), more=st.binary(min_size=1, max_size=40))
def test_no_byte_can_be_missing_or_added(cut: int, more: bytes) -> None:
    for broken in (WHOLE[:cut], WHOLE + more, WHOLE[:cut] + more + WHOLE[cut:]):
        with pytest.raises(EncodingInvalid):
            Bundle.decode(broken, RUN, LAYOUT, ROOT)


@given(data=st.binary(max_size=400))
def test_noise(data: bytes) -> None:
    for hostile in (data, b"gesso/bundle/1" + data):
        with pytest.raises(EncodingInvalid):
            Bundle.decode(hostile, RUN, LAYOUT, ROOT)


@pytest.mark.parametrize(
    "change",
    [
        {"chain_id": 8},
        {"board": Address("0x" + "33" * 20)},
        {"task": TaskId(bytes(32))},
        {"node": Address("0x" + "33" * 20)},
    ],
)
def test_a_bundle_serves_for_one_run(change: dict[str, object]) -> None:
    with pytest.raises(EncodingInvalid, match="committed"):
        Bundle.decode(WHOLE, replace(RUN, **change), LAYOUT, ROOT)  # type: ignore[arg-type]


def test_another_trace_or_layout() -> None:
    with pytest.raises(EncodingInvalid, match="another trace"):
        Bundle.decode(WHOLE, RUN, LAYOUT, Root(bytes(32)))
    with pytest.raises(EncodingInvalid, match="layout"):
        Bundle.decode(WHOLE, RUN, Layout(2, 3, guided=False), ROOT)


def test_a_header_that_promises_too_much_allocates_nothing() -> None:
    """Shapes of 2^60 bytes are refused by comparing numbers, before anything is cut or hashed."""
    size = struct.unpack(">I", WHOLE[14:18])[0]
    header = WHOLE[18 : 18 + size].replace(b"[1,2,2,2]", b"[4294967295,4294967295,4294967295]")
    with pytest.raises(EncodingInvalid):
        Bundle.decode(WHOLE[:14] + struct.pack(">I", len(header)) + header + WHOLE[18 + size :], RUN, LAYOUT, ROOT)


def test_what_cannot_be_encoded() -> None:
    some = LEAVES[Slot(LeafKind.NOISE, 0)]
    for leaves, tree in (([], TREE), ([some], TREE[:-1])):
        with pytest.raises(EncodingInvalid):
            Bundle.encode(leaves, tree, LAYOUT)
    with pytest.raises(EncodingInvalid):
        Bundle.encode([replace(some, slot=Slot(LeafKind.NOISE, 2))], TREE, LAYOUT)
    with pytest.raises(EncodingInvalid):
        Bundle.encode([some, some], TREE, LAYOUT)
    with pytest.raises(EncodingInvalid):
        Leaf.tensor(some.slot, b"123", (1,), bytes(32))
    with pytest.raises(EncodingInvalid):
        Bundle.encode([replace(some, salt=b"short")], TREE, LAYOUT)
