"""drand's quicknet as a clock of public randomness: rounds, and the form in which a contract takes their signatures.

Scheme ``bls-unchained-g1-rfc9380``: one signature in G1 of BLS12-381 every three seconds, over the hash of the
round's number. drand publishes the point compressed (48 bytes); `DrandBeacon` takes it uncompressed (96 bytes), because
a square root is cheap here and dear on a chain. Nothing in this module verifies a signature: the contract does.
"""

from __future__ import annotations

from hashlib import sha256

from gesso_protocol.errors import EncodingInvalid

CHAIN_HASH = "52db9ba70e0cc0f6eaf7803dd07447a1f5477735fd3f661792ba94600c84e971"
"""Quicknet's name at every server: a hash over its key, period, first second and identity."""
GENESIS = 1_692_803_367
PERIOD_S = 3
SIGNATURE_BYTES = 48
POINT_BYTES = 96
PUBLIC_KEY = bytes.fromhex(
    "83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d106451"
    "0d1fec758c921cc22b0e17e63aaf4bcb5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a"
)
"""Quicknet's key, a compressed point of G2."""

FIELD = 0x1A0111EA397FE69A4B1BA7B6434BACD764774B84F38512BF6730D2A0F6B0F6241EABFFFEB153FFFFB9FEFFFFFFFFAAAB
_COMPRESSED, _INFINITY, _LARGER = 0x80, 0x40, 0x20


def round_at(time_s: int, lag_s: int = 0, stride: int = 1) -> int:
    """The round that is current at a second since the epoch; 0 before the first. ``lag_s`` and ``stride`` are the
    contract's; drand's own number of a contract's round is ``stride`` times that."""
    return max(0, (time_s + lag_s - GENESIS) // PERIOD_S + 1) // stride


def published_at(number: int) -> int:
    """Second since the epoch from which drand publishes a round; numbers start at 1."""
    return GENESIS + (number - 1) * PERIOD_S


def uncompress(signature: bytes) -> bytes:
    """x ‖ y (96 bytes, big-endian) of a published signature; raises `EncodingInvalid` when it is no curve point."""
    if len(signature) != SIGNATURE_BYTES:
        raise EncodingInvalid(f"a quicknet signature has {SIGNATURE_BYTES} bytes, not {len(signature)}")
    flags = signature[0] & 0xE0
    if flags & (_COMPRESSED | _INFINITY) != _COMPRESSED:
        raise EncodingInvalid("a quicknet signature is a compressed point and never infinity")
    x = int.from_bytes(bytes([signature[0] & 0x1F]) + signature[1:], "big")
    square = (pow(x, 3, FIELD) + 4) % FIELD
    y = pow(square, (FIELD + 1) // 4, FIELD)
    if x >= FIELD or y * y % FIELD != square:
        raise EncodingInvalid("a quicknet signature is a point of the curve")
    if (y > FIELD // 2) != bool(flags & _LARGER):
        y = (FIELD - y) % FIELD
    return x.to_bytes(48, "big") + y.to_bytes(48, "big")


def seed_of(signature: bytes) -> bytes:
    """What drand publishes as a round's randomness and the contract stores: SHA-256 of the compressed signature."""
    return sha256(signature).digest()
