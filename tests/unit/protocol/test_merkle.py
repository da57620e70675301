"""Merkle trees: every leaf can be proved, nothing else can."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso_protocol import merkle
from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import Root

leaf = st.binary(min_size=32, max_size=32)
trees = st.lists(leaf, min_size=1, max_size=40)


@given(leaves=trees, data=st.data())
def test_every_leaf_can_be_proved(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof = merkle.proof(leaves, index)
    assert len(proof) == merkle.depth(len(leaves))
    assert merkle.verify(merkle.root(leaves), leaves[index], index, proof)


@given(leaves=trees, data=st.data())
def test_no_other_leaf_place_or_proof_passes(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    root, proof = merkle.root(leaves), merkle.proof(leaves, index)
    other = data.draw(leaf.filter(lambda value: value != leaves[index]))
    assert not merkle.verify(root, other, index, proof)
    place = data.draw(st.integers(-2, 1 << merkle.depth(len(leaves))).filter(lambda value: value != index))
    taken = leaves[place] if 0 <= place < len(leaves) else None
    assert not merkle.verify(root, leaves[index], place, proof) or taken == leaves[index]
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        broken = [*proof[:at], data.draw(leaf.filter(lambda value: value != proof[at])), *proof[at + 1 :]]
        assert not merkle.verify(root, leaves[index], index, broken)
    assert not merkle.verify(root, leaves[index], index, [*proof, bytes(32)])
    assert not merkle.verify(root, leaves[index], index, proof[:-1]) or not proof


def test_an_inner_node_is_no_leaf() -> None:
    leaves = [keccak256(bytes([i])) for i in range(4)]
    root = merkle.root(leaves)
    left = keccak256(b"\x01" + keccak256(b"\x00" + leaves[0]) + keccak256(b"\x00" + leaves[1]))
    right = merkle.proof(leaves, 0)[1]
    assert not merkle.verify(root, left, 0, [right])


def test_padding_cannot_be_opened_as_a_leaf() -> None:
    leaves = [keccak256(bytes([i])) for i in range(3)]
    proof = [keccak256(b"\x00" + leaves[2]), merkle.proof(leaves, 2)[1]]
    assert not merkle.verify(merkle.root(leaves), bytes(32), 3, proof)


def test_duplicating_the_last_leaf_changes_the_root() -> None:
    leaves = [keccak256(bytes([i])) for i in range(3)]
    assert merkle.root(leaves) != merkle.root([*leaves, leaves[2]])


def test_the_tree_by_hand() -> None:
    a, b, c = (keccak256(bytes([i])) for i in range(3))
    la, lb, lc = (keccak256(b"\x00" + value) for value in (a, b, c))
    expected = keccak256(b"\x01" + keccak256(b"\x01" + la + lb) + keccak256(b"\x01" + lc + bytes(32)))
    assert merkle.root([a, b, c]) == Root(expected)
    assert merkle.root([a]) == Root(la)
    assert merkle.proof([a], 0) == ()


@pytest.mark.parametrize(("count", "depth"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (1 << 20, 20)])
def test_depth(count: int, depth: int) -> None:
    assert merkle.depth(count) == depth


@pytest.mark.parametrize("count", [0, -1, (1 << 20) + 1])
def test_no_such_tree(count: int) -> None:
    with pytest.raises(EncodingInvalid):
        merkle.depth(count)


def test_malformed_input() -> None:
    with pytest.raises(EncodingInvalid):
        merkle.root([])
    with pytest.raises(EncodingInvalid):
        merkle.root([b"short"])
    with pytest.raises(EncodingInvalid):
        merkle.proof([bytes(32)], 1)
    root = merkle.root([bytes(32)])
    assert not merkle.verify(root, b"short", 0, [])
    assert not merkle.verify(root, bytes(32), 0, [b"short"])
    assert not merkle.verify(root, bytes(32), 0, [bytes(32)] * 21)
    assert not merkle.verify(root, bytes(32), 1, [])
