"""The bytes of a type-2 (EIP-1559) transaction, signed: what eth-account does, without asking what kind it is.

Signing is most of what a busy sender computes; written out for the one kind that we send it costs a fifth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coincurve import PrivateKey

from gesso_protocol.hashing import keccak256

TYPE = b"\x02"
KEYS = frozenset(
    {"type", "chainId", "nonce", "maxPriorityFeePerGas", "maxFeePerGas", "gas", "to", "value", "data"}
)  # fmt: skip
_WORD = 1 << 256
_NO_LIST = b"\xc0"


def is_plain(fields: Mapping[str, Any]) -> bool:
    """Whether these are the fields of a type-2 transaction without an access list, in the forms that we write."""
    if frozenset(fields) != KEYS or fields["type"] != 2:
        return False
    to, data = fields["to"], fields["data"]
    numbers = (fields["chainId"], fields["nonce"], *_prices(fields), fields["gas"], fields["value"])
    addressed = isinstance(to, str) and (to == "" or (to.startswith("0x") and len(to) == 42))
    return (
        addressed
        and isinstance(data, bytes)
        and all(isinstance(number, int) and 0 <= number < _WORD for number in numbers)
    )


def sign(fields: Mapping[str, Any], key: PrivateKey) -> tuple[bytes, bytes]:
    """Raw transaction and hash. `fields` must be plain."""
    to = bytes.fromhex(fields["to"][2:])
    numbers = (fields["chainId"], fields["nonce"], *_prices(fields), fields["gas"])
    body = b"".join(map(_number, numbers)) + _bytes(to) + _number(fields["value"]) + _bytes(fields["data"]) + _NO_LIST
    signature = key.sign_recoverable(keccak256(TYPE + _length(0xC0, len(body)) + body), hasher=None)
    body += _number(signature[64]) + _bytes(signature[:32].lstrip(b"\0")) + _bytes(signature[32:64].lstrip(b"\0"))
    raw = TYPE + _length(0xC0, len(body)) + body
    return raw, keccak256(raw)


def _prices(fields: Mapping[str, Any]) -> tuple[Any, Any]:
    return fields["maxPriorityFeePerGas"], fields["maxFeePerGas"]


def _number(value: int) -> bytes:
    return _bytes(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _bytes(data: bytes) -> bytes:
    return data if len(data) == 1 and data[0] < 0x80 else _length(0x80, len(data)) + data


def _length(offset: int, size: int) -> bytes:
    if size < 56:
        return bytes([offset + size])
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([offset + 55 + len(digits)]) + digits
