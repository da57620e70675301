"""Identities as types: a task is never confused with a blob, a root or an address.

All are immutable, hashable, ordered and usable as pydantic fields. `str()` is the full form that goes into
documents, `.short` the form for logs. Malformed input raises `EncodingInvalid`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Self

from pydantic_core import CoreSchema, core_schema

from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.hashing import blake3_256, keccak256
from gesso_protocol.whole import Whole

_HEX = re.compile(r"[0-9a-f]+\Z")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}\Z")


@dataclass(frozen=True, order=True, repr=False)
class Digest:
    """Thirty-two bytes with a type. Subclasses say which hash of what; two subclasses never compare equal."""

    value: bytes

    PREFIX: ClassVar[str] = "0x"
    SIZE: ClassVar[int] = 32

    def __post_init__(self) -> None:
        if not isinstance(self.value, bytes) or len(self.value) != self.SIZE:
            raise EncodingInvalid(f"{type(self).__name__} needs {self.SIZE} bytes")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the `str()` form: prefix and 64 lower-case hex digits."""
        digits = text.removeprefix(cls.PREFIX)
        if not text.startswith(cls.PREFIX) or len(digits) != 2 * cls.SIZE or not _HEX.match(digits):
            raise EncodingInvalid(f"{cls.__name__} is '{cls.PREFIX}' and {2 * cls.SIZE} lower-case hex digits")
        return cls(bytes.fromhex(digits))

    @property
    def short(self) -> str:
        """For logs: prefix, eight digits, ellipsis."""
        return f"{self.PREFIX}{self.value.hex()[:8]}…"

    def hex(self) -> str:
        """Sixty-four lower-case hex digits, no prefix."""
        return self.value.hex()

    def __bytes__(self) -> bytes:
        return self.value

    def __str__(self) -> str:
        return f"{self.PREFIX}{self.value.hex()}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.short})"

    @classmethod
    def validate(cls, value: object) -> Self:
        """An instance, its text or its raw bytes; anything else raises `EncodingInvalid`."""
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls.parse(value)
        if isinstance(value, bytes):
            return cls(value)
        raise EncodingInvalid(f"{cls.__name__} is text")

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.validate,
            json_schema_input_schema=core_schema.str_schema(pattern=f"^{cls.PREFIX}[0-9a-f]{{64}}$"),
            serialization=core_schema.to_string_ser_schema(when_used="json"),
        )


class TaskId(Digest):
    """Keccak-256 of chain id, board address and terms: one task on one board, for ever."""


class Root(Digest):
    """A Keccak-256 commitment: the root of a Merkle tree, or one of its leaves."""


class BlobRef(Digest):
    """BLAKE3 of a blob's whole content; the only name a blob has. Text form `b3:<hex>`."""

    PREFIX = "b3:"

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview) -> Self:
        """The name of these bytes."""
        return cls(blake3_256(data))


class Address(str):
    """A 20-byte account or contract address, always in EIP-55 checksum form."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if not isinstance(text, str) or not _ADDRESS.match(text):
            raise EncodingInvalid("an address is 0x and 40 hex digits")
        digits = text[2:]
        checked = _checksum(digits.lower())
        if digits not in (checked, digits.lower(), digits.upper()):
            raise EncodingInvalid("the address has a wrong checksum; was a digit mistyped?")
        return super().__new__(cls, "0x" + checked)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """From 20 raw bytes."""
        if not isinstance(raw, bytes) or len(raw) != 20:
            raise EncodingInvalid("an address is 20 bytes")
        return cls("0x" + raw.hex())

    @property
    def raw(self) -> bytes:
        """The 20 bytes."""
        return bytes.fromhex(self[2:])

    @property
    def short(self) -> str:
        """For logs: `0x1234…abcd`."""
        return f"{self[:6]}…{self[-4:]}"

    @classmethod
    def validate(cls, value: object) -> Self:
        """An instance or any accepted text; anything else raises `EncodingInvalid`."""
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls(value)
        raise EncodingInvalid("an address is text")

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.validate,
            json_schema_input_schema=core_schema.str_schema(pattern="^0x[0-9a-fA-F]{40}$"),
            serialization=core_schema.to_string_ser_schema(when_used="json"),
        )


@lru_cache(maxsize=4096)
def _checksum(lower: str) -> str:
    digest = keccak256(lower.encode("ascii")).hex()
    return "".join(c.upper() if int(h, 16) >= 8 else c for c, h in zip(lower, digest, strict=False))


ZERO_ADDRESS = Address("0x" + "00" * 20)


class ListingId(Whole, bits=64, what="a listing id"):
    """A marketplace listing, counted from 1; 0 means "no listing"."""

    __slots__ = ()


NO_LISTING = ListingId(0)
