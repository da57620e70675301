"""The three hash functions and what each is for.

* Keccak-256: whatever the chain must recompute (ids, roots, sortition).
* BLAKE3: names of blobs, fast over gigabytes.
* SHA-256: tensors inside a trace and files in a receipt; every tool on earth has it.
"""

from __future__ import annotations

import hashlib

import blake3 as _blake3

from gesso_protocol import keccak as _keccak

_fastest_keccak = _keccak.fastest()


def keccak256(data: bytes) -> bytes:
    """Keccak-256 as Ethereum uses it (not NIST SHA3-256); 32 bytes."""
    return _fastest_keccak(data if type(data) is bytes else bytes(data))


def blake3_256(data: bytes | bytearray | memoryview) -> bytes:
    """BLAKE3 with its default 32-byte output."""
    return _blake3.blake3(data).digest()


def sha256(data: bytes | bytearray | memoryview) -> bytes:
    """SHA-256; 32 bytes."""
    return hashlib.sha256(data).digest()


def word(value: int) -> bytes:
    """A non-negative integer as one 32-byte big-endian word, as `abi.encode` writes it."""
    return value.to_bytes(32, "big")
