"""Keccak Merkle trees that Solidity can check.

    leaf node  = keccak256(0x00 ++ leaf)            leaf is 32 bytes
    inner node = keccak256(0x01 ++ left ++ right)
    padding    = 32 zero bytes, up to the next power of two

The domain bytes keep a leaf from being read as an inner node and the other way round. Depth is fixed by the number of
leaves: ceil(log2(n)), 0 for one leaf. There is no empty tree.
"""

from __future__ import annotations

from collections.abc import Sequence

from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import Root

MAX_DEPTH = 20
_PADDING = bytes(32)


def depth(count: int) -> int:
    """Depth of the tree over `count` leaves; raises `EncodingInvalid` for 0 or more than 2^20."""
    if not 1 <= count <= 1 << MAX_DEPTH:
        raise EncodingInvalid(f"a tree has 1 to 2^{MAX_DEPTH} leaves")
    return (count - 1).bit_length()


def root(leaves: Sequence[bytes]) -> Root:
    """Root over 32-byte leaves."""
    return Root(levels(leaves)[-1][0])


def proof(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Sibling nodes from leaf `index` up to just below the root."""
    if not 0 <= index < len(leaves):
        raise EncodingInvalid("there is no such leaf")
    return way(levels(leaves), index)


def way(nodes: Sequence[Sequence[bytes]], index: int) -> tuple[bytes, ...]:
    """The same in the `levels` of a tree, for whoever needs several proofs."""
    return tuple(level[(index >> height) ^ 1] for height, level in enumerate(nodes[:-1]))


def verify(expected: Root, leaf: bytes, index: int, siblings: Sequence[bytes]) -> bool:
    """Whether `leaf` stands at `index` under `expected`. False for anything malformed; never raises.

    A caller who knows the number of leaves must also check `len(siblings) == depth(count)` and `index < count`.
    """
    if len(siblings) > MAX_DEPTH or len(leaf) != 32 or not 0 <= index < 1 << len(siblings):
        return False
    if any(len(sibling) != 32 for sibling in siblings):
        return False
    node = _leaf_node(leaf)
    for sibling in siblings:
        node = _inner_node(sibling, node) if index & 1 else _inner_node(node, sibling)
        index >>= 1
    return node == expected.value


def levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    height = depth(len(leaves))
    if any(len(leaf) != 32 for leaf in leaves):
        raise EncodingInvalid("a leaf has 32 bytes")
    level = [_leaf_node(bytes(leaf)) for leaf in leaves]
    level += [_PADDING] * ((1 << height) - len(level))
    levels = [level]
    while len(level) > 1:
        level = [_inner_node(level[i], level[i + 1]) for i in range(0, len(level), 2)]
        levels.append(level)
    return levels


def _leaf_node(leaf: bytes) -> bytes:
    return keccak256(b"\x00" + leaf)


def _inner_node(left: bytes, right: bytes) -> bytes:
    return keccak256(b"\x01" + left + right)
