"""Inputs of golden vectors: look random, are the same on every machine."""

from __future__ import annotations

from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import Address


def made_up(label: str, index: int = 0, size: int = 32) -> bytes:
    """Bytes that look random and are the same on every machine."""
    return keccak256(f"{label}/{index}".encode())[:size]


def address(label: str, index: int = 0) -> Address:
    return Address.from_bytes(made_up(label, index, 20))


def hexed(data: bytes) -> str:
    return "0x" + data.hex()
