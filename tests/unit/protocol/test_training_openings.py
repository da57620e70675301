"""Openings of a training prove themselves: what decodes is what was committed, whatever the bytes are."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.hashing import sha256
from gesso_protocol.ids import Address, BlobRef, Root, TaskId
from gesso_protocol.spec import spec_ref
from gesso_protocol.trace import Binding, LeafKind, Run, Slot, trace_leaves, trace_root
from gesso_protocol.training.openings import MAX_OPENINGS_BYTES, Held, RunLeaf, RunOpenings, losses_fit
from gesso_protocol.training.presets import make_training
from gesso_protocol.training.trace import TrainingFacts, TrainingLayout, segments

BINDING = Binding(7, Address("0x" + "11" * 20), TaskId(b"\x03" * 32), Address("0x" + "22" * 20), b"\x07" * 32)
RUN = Run(BINDING.chain_id, BINDING.board, BINDING.task, BINDING.node)
SPEC = make_training("gesso-tiny@1", dataset=BlobRef(bytes(32)), steps=50, checkpoint_every=20)
LAYOUT = TrainingLayout.for_run(SPEC)
FACTS = TrainingFacts(
    spec=spec_ref(SPEC), model_manifest=BlobRef(bytes(32)), dataset=SPEC.dataset, seed="00" * 32, steps_done=50,
    dtype="fp32", profile="fp32/cpu-x86_64",
)  # fmt: skip


def recorded(slot: Slot) -> RunLeaf:
    salt = BINDING.salt(slot)
    if slot.kind is LeafKind.MANIFEST:
        return RunLeaf.inline(slot, salt, FACTS.encode())
    if slot.kind is LeafKind.LOSSES:
        one = segments(SPEC)[slot.step]
        return RunLeaf.inline(slot, salt, struct.pack(f"<{one.last - one.first}d", *range(one.first, one.last)))
    if slot.kind is LeafKind.DATASET:
        return RunLeaf(slot, salt, bytes(32))
    return RunLeaf.file(slot, salt, sha256(str(slot).encode()), BlobRef.of(str(slot).encode()), 1000 + slot.step)


LEAVES = {slot: recorded(slot) for slot in LAYOUT.slots()}
TREE = trace_leaves(BINDING, LAYOUT, {slot: leaf.digest for slot, leaf in LEAVES.items()})
ROOT = trace_root(TREE)
WHOLE = RunOpenings.encode(list(LEAVES.values()), TREE, LAYOUT)


def decoded(data: bytes, root: Root = ROOT) -> RunOpenings:
    return RunOpenings.decode(data, RUN, SPEC, root)


def test_a_whole_trace() -> None:
    found = decoded(WHOLE)
    assert found.complete
    assert dict(found.leaves) == LEAVES
    assert found.facts() == FACTS
    assert found.losses(2) == tuple(float(at) for at in range(40, 50))
    assert losses_fit(found, SPEC, 50)
    assert found.file(Slot(LeafKind.CHECKPOINT, step=3))[1] == 1003
    for reads in (lambda: found.file(Slot(LeafKind.DATASET)), lambda: found.file(Slot(LeafKind.CHECKPOINT, step=9)),
                  lambda: found.losses(7)):  # fmt: skip
        with pytest.raises(EncodingInvalid):
            reads()


@given(chosen=st.sets(st.sampled_from(sorted(LEAVES)), min_size=1), bare=st.booleans())
def test_any_part_of_a_trace(chosen: set[Slot], bare: bool) -> None:
    leaves = [RunLeaf(slot, LEAVES[slot].salt, LEAVES[slot].digest) if bare else LEAVES[slot] for slot in chosen]
    found = decoded(RunOpenings.encode(leaves, TREE, LAYOUT))
    assert set(found.leaves) == chosen
    assert found.complete == (not bare and len(chosen) == LAYOUT.count)


@given(at=st.integers(0, len(WHOLE) - 1), bit=st.integers(0, 7))
def test_no_bit_can_be_turned_but_those_that_only_say_where_a_file_is(at: int, bit: int) -> None:
    bent = bytearray(WHOLE)
    bent[at] ^= 1 << bit
    try:
        found = decoded(bytes(bent))
    except EncodingInvalid:
        return
    told = {slot: replace(leaf, blob=None, size=0, held=Held.DIGEST) for slot, leaf in found.leaves.items()}
    assert told == {slot: replace(leaf, blob=None, size=0, held=Held.DIGEST) for slot, leaf in LEAVES.items()}


@given(st.integers(0, len(WHOLE)))
def test_nothing_may_be_cut_off_or_added(cut: int) -> None:
    for data in (WHOLE[:cut], WHOLE[:cut] + b"x" + WHOLE[cut:]):
        if data != WHOLE:
            with pytest.raises(EncodingInvalid):
                decoded(data)


@given(st.binary(max_size=400))
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(EncodingInvalid):
        decoded(data)


def test_what_is_too_much_and_what_is_in_the_wrong_place_is_refused() -> None:
    with pytest.raises(EncodingInvalid, match="1 MiB"):
        decoded(bytes(MAX_OPENINGS_BYTES + 1))
    small = SPEC.changed(steps=20)
    with pytest.raises(EncodingInvalid, match="more segments"):
        RunOpenings.decode(WHOLE, RUN, small, ROOT)
    with pytest.raises(EncodingInvalid, match="another trace"):
        decoded(WHOLE, Root(bytes(32)))
    other = Run(RUN.chain_id, RUN.board, TaskId(bytes(32)), RUN.node)
    with pytest.raises(EncodingInvalid, match="not what was committed"):
        RunOpenings.decode(WHOLE, other, SPEC, ROOT)
    begin, dataset, losses = Slot(LeafKind.CHECKPOINT), Slot(LeafKind.DATASET), Slot(LeafKind.LOSSES)
    wrong = (
        replace(LEAVES[begin], held=Held.INLINE, blob=None, size=4, data=b"tiny"),
        replace(LEAVES[dataset], held=Held.BLOB, blob=BlobRef(bytes(32))),
        replace(LEAVES[losses], held=Held.DIGEST, data=b""),
        replace(LEAVES[begin], size=1 << 62),
    )
    for leaf in wrong:
        with pytest.raises(EncodingInvalid):
            decoded(
                RunOpenings.encode([*(one for one in LEAVES.values() if one.slot != leaf.slot), leaf], TREE, LAYOUT)
            )
    for leaves, tree in (((LEAVES[begin],) * 2, TREE), ((LEAVES[begin],), TREE[1:])):
        with pytest.raises(EncodingInvalid):
            RunOpenings.encode(leaves, tree, LAYOUT)
    with pytest.raises(EncodingInvalid):
        RunOpenings.encode([replace(LEAVES[dataset], blob=BlobRef(bytes(32)))], TREE, LAYOUT)
