"""Traces: every leaf has one place, is bound to its run, and can be opened alone."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso_protocol import merkle
from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.hashing import keccak256, sha256
from gesso_protocol.ids import Address, TaskId
from gesso_protocol.trace import (
    Binding,
    Layout,
    LeafKind,
    Slot,
    TensorType,
    opened,
    tensor_digest,
    trace_leaves,
    trace_root,
)

BINDING = Binding(1, Address("0x" + "11" * 20), TaskId(bytes(32)), Address("0x" + "22" * 20), b"\x07" * 32)
layouts = st.builds(Layout, st.integers(1, 16), st.integers(1, 60), st.booleans())


def digests(layout: Layout) -> dict[Slot, bytes]:
    return {slot: keccak256(str(position).encode()) for position, slot in enumerate(layout.slots())}


@given(layout=layouts)
def test_every_slot_has_one_place(layout: Layout) -> None:
    slots = list(layout.slots())
    assert len(set(slots)) == len(slots) == layout.count
    assert [layout.position(slot) for slot in slots] == list(range(layout.count))


@given(layout=layouts, kind=st.sampled_from(LeafKind), image=st.integers(-1, 17), step=st.integers(-1, 61))
def test_other_slots_have_none(layout: Layout, kind: LeafKind, image: int, step: int) -> None:
    slot = Slot(kind, image, step)
    if slot in set(layout.slots()):
        assert layout.slot_at(layout.position(slot)) == slot
    else:
        with pytest.raises(EncodingInvalid):
            layout.position(slot)


def test_the_order_is_the_story_of_the_run() -> None:
    kinds = [slot.kind.value for slot in Layout(images=1, steps=2, guided=True).slots()]
    assert kinds == [
        "manifest", "embedding", "embedding", "noise", "latent", "cond", "uncond", "latent", "cond", "uncond", "rgb",
        "file",
    ]  # fmt: skip


def test_the_largest_trace_fits_the_tree() -> None:
    assert merkle.depth(Layout(16, 1000, guided=True).count) <= merkle.MAX_DEPTH


@pytest.mark.parametrize(("images", "steps"), [(0, 1), (17, 1), (1, 0), (1, 1001)])
def test_no_such_trace(images: int, steps: int) -> None:
    with pytest.raises(EncodingInvalid):
        Layout(images, steps)


@given(layout=st.builds(Layout, st.integers(1, 3), st.integers(1, 6), st.booleans()), data=st.data())
def test_any_leaf_can_be_opened_alone_and_nowhere_else(layout: Layout, data: st.DataObject) -> None:
    known = digests(layout)
    leaves = trace_leaves(BINDING, layout, known)
    root = trace_root(leaves)
    position = data.draw(st.integers(0, layout.count - 1))
    slot = layout.slot_at(position)
    digest, salt, proof = known[slot], BINDING.salt(slot), merkle.proof(leaves, position)
    assert opened(root, BINDING, layout, position, digest, salt, proof)
    elsewhere = data.draw(st.integers(-1, layout.count).filter(lambda value: value != position))
    assert not opened(root, BINDING, layout, elsewhere, digest, salt, proof)
    assert not opened(root, BINDING, layout, position, bytes(32), salt, proof)
    assert not opened(root, BINDING, layout, position, digest, bytes(32), proof)
    assert not opened(root, BINDING, layout, position, digest, salt, proof[:-1])
    assert not opened(root, BINDING, layout, position, digest[:-1], salt, proof)
    for other in (
        replace(BINDING, chain_id=2),
        replace(BINDING, board=Address("0x" + "33" * 20)),
        replace(BINDING, task=TaskId(b"\x01" * 32)),
        replace(BINDING, node=Address("0x" + "33" * 20)),
    ):
        assert not opened(root, other, layout, position, digest, salt, proof)


def test_leaves_hide_equal_tensors() -> None:
    layout = Layout(images=2, steps=3)
    same = dict.fromkeys(layout.slots(), bytes(32))
    leaves = trace_leaves(BINDING, layout, same)
    assert len(set(leaves)) == layout.count
    assert not set(leaves) & set(trace_leaves(replace(BINDING, secret=b"\x08" * 32), layout, same))


def test_a_trace_is_complete() -> None:
    layout = Layout(images=1, steps=2)
    full = digests(layout)
    missing = {slot: digest for slot, digest in full.items() if slot.kind is not LeafKind.RGB}
    with pytest.raises(EncodingInvalid, match="needs 10"):
        trace_leaves(BINDING, layout, missing)
    with pytest.raises(EncodingInvalid, match="lacks"):
        trace_leaves(BINDING, layout, {**missing, Slot(LeafKind.UNCOND): bytes(32)})
    with pytest.raises(EncodingInvalid):
        trace_leaves(BINDING, layout, {**full, Slot(LeafKind.RGB): b"short"})


def test_a_leaf_is_eight_words() -> None:
    slot = Slot(LeafKind.LATENT, image=1, step=2)
    words = [
        keccak256(b"gesso/trace/1/latent"), (1).to_bytes(32, "big"), bytes(12) + b"\x11" * 20, bytes(32),
        bytes(12) + b"\x22" * 20, ((1 << 32) + 2).to_bytes(32, "big"), b"d" * 32, b"s" * 32,
    ]  # fmt: skip
    assert BINDING.salted_leaf(slot, b"d" * 32, b"s" * 32) == keccak256(b"".join(words))


def test_the_secret_stays_out_of_logs() -> None:
    assert "07" * 4 not in repr(BINDING)
    assert "\\x07" not in repr(BINDING)
    with pytest.raises(EncodingInvalid):
        replace(BINDING, secret=b"short")


def test_tensor_digests_bind_type_and_shape() -> None:
    data = struct.pack("<4f", 0.0, 1.0, -2.5, 3.25)
    header = b"gesso/tensor/1" + b"\x00\x02" + struct.pack("<II", 2, 2)
    assert tensor_digest(data, (2, 2)) == sha256(header + data)
    different = {
        tensor_digest(data, (2, 2)), tensor_digest(data, (4,)), tensor_digest(data, (1, 4)),
        tensor_digest(data, (16,), TensorType.UINT8),
    }  # fmt: skip
    assert len(different) == 4


@pytest.mark.parametrize("shape", [(3,), (0,), (2, -2), (5,), (2**32,), (1,) * 9])
def test_a_shape_that_does_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(EncodingInvalid):
        tensor_digest(bytes(16), shape)


def test_slots_fit_their_index() -> None:
    for slot in (Slot(LeafKind.LATENT, -1), Slot(LeafKind.LATENT, 0, 2**32)):
        with pytest.raises(EncodingInvalid):
            _ = slot.index
