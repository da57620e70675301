"""ABI types of a fixed size, read and written as whole words, and lists of them in calls.

Nearly all that our contracts log and are told is such, and eth-abi, which walks every value through streams and
registries, was a third of what a busy client computed. Whatever is not plainly well formed here is left to eth-abi, so
what is accepted, and what is raised for the rest, is its word alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from eth_abi.abi import decode as any_decode
from eth_abi.abi import encode as any_encode

from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.ids import Address

Values = tuple[Any, ...]
WORD = 32
MAX_LIST = 4096

_NUMBER = re.compile(r"uint(\d+)")
_BYTES = re.compile(r"bytes(\d+)")


class _NotPlainError(Exception):
    """This value is eth-abi's business."""


@dataclass(frozen=True, slots=True)
class _Plain:
    """A type of `words` words: how it is read at an offset, and written."""

    words: int
    read: Callable[[bytes, int], Any]
    write: Callable[[Any], bytes]


def decode(types: Sequence[str], data: bytes) -> Values:
    """What eth-abi's `decode` gives, as a tuple. Raises what it raises."""
    return reader(tuple(types))(data)


@lru_cache(maxsize=512)
def reader(types: tuple[str, ...]) -> Callable[[bytes], Values]:
    """`decode` for these types, for whoever reads many."""
    plain = _plain_all(types)
    if plain is None:
        return lambda data: tuple(any_decode(types, data))
    read_all = _reader_of(plain)

    def read(data: bytes) -> Values:
        try:
            return read_all(data, 0)
        except _NotPlainError:
            return tuple(any_decode(types, data))

    return read


def encode(types: Sequence[str], arguments: Sequence[Any]) -> bytes:
    """What eth-abi's `encode` gives. Raises what it raises."""
    try:
        return _write_call(tuple(types), arguments)
    except _NotPlainError:
        return any_encode(types, arguments)


def _reader_of(parts: tuple[_Plain, ...]) -> Callable[[bytes, int], Values]:
    """Reads them one after the other, from places that are computed once."""
    places, size = list[tuple[Callable[[bytes, int], Any], int]](), 0
    for part in parts:
        places.append((part.read, size))
        size += WORD * part.words

    def read_all(data: bytes, at: int) -> Values:
        if len(data) < at + size:
            raise _NotPlainError
        return tuple([read(data, at + place) for read, place in places])

    return read_all


def _write_all(plain: tuple[_Plain, ...], values: Sequence[Any]) -> bytes:
    if len(values) != len(plain):
        raise _NotPlainError
    return b"".join([each.write(value) for each, value in zip(plain, values, strict=True)])


def _write_call(types: tuple[str, ...], arguments: Sequence[Any]) -> bytes:
    plain = _plain_all(types)
    if plain is not None:
        return _write_all(plain, arguments)
    if len(types) == 1 and types[0].endswith("[]") and len(arguments) == 1:
        item, items = _plain(types[0].removesuffix("[]")), arguments[0]
        if item is not None and isinstance(items, list | tuple) and len(items) <= MAX_LIST:
            return _word(WORD) + _word(len(items)) + b"".join(map(item.write, items))
    raise _NotPlainError


@lru_cache(maxsize=512)
def _plain_all(types: tuple[str, ...]) -> tuple[_Plain, ...] | None:
    plain = tuple(_plain(kind) for kind in types)
    return None if None in plain else tuple(each for each in plain if each is not None)


@lru_cache(maxsize=512)
def _plain(kind: str) -> _Plain | None:
    if kind.startswith("(") and kind.endswith(")"):
        return _tuple(_plain_all(_split(kind[1:-1])))
    if kind == "address":
        return _Plain(1, _read_address, _write_address)
    if kind == "bool":
        return _Plain(1, _read_bool, _write_bool)
    if found := _NUMBER.fullmatch(kind):
        return _unsigned(int(found[1]))
    if found := _BYTES.fullmatch(kind):
        return _fixed(int(found[1]))
    return None


def _split(inner: str) -> tuple[str, ...]:
    """The parts of a tuple's inside, by the commas that no bracket encloses."""
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(inner):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append(inner[start:place])
            start = place + 1
    return (*parts, inner[start:])


def _tuple(parts: tuple[_Plain, ...] | None) -> _Plain | None:
    if parts is None:
        return None

    def write(value: Any) -> bytes:
        if not isinstance(value, list | tuple):
            raise _NotPlainError
        return _write_all(parts, value)

    return _Plain(sum(part.words for part in parts), _reader_of(parts), write)


def _unsigned(bits: int) -> _Plain:
    def read(data: bytes, at: int) -> int:
        value = int.from_bytes(data[at : at + WORD], "big")
        if value >> bits:
            raise _NotPlainError
        return value

    def write(value: Any) -> bytes:
        if not isinstance(value, int) or isinstance(value, bool) or value < 0 or value >> bits:
            raise _NotPlainError
        return _word(value)

    return _Plain(1, read, write)


def _fixed(size: int) -> _Plain:
    padding = bytes(WORD - size)

    def read(data: bytes, at: int) -> bytes:
        if data[at + size : at + WORD] != padding:
            raise _NotPlainError
        return data[at : at + size]

    def write(value: Any) -> bytes:
        if not isinstance(value, bytes) or len(value) != size:
            raise _NotPlainError
        return value + padding

    return _Plain(1, read, write)


def _read_address(data: bytes, at: int) -> str:
    if any(data[at : at + 12]):
        raise _NotPlainError
    return "0x" + data[at + 12 : at + WORD].hex()


def _write_address(value: Any) -> bytes:
    try:
        return bytes(12) + Address.validate(value).raw
    except EncodingInvalid:
        raise _NotPlainError from None


def _read_bool(data: bytes, at: int) -> bool:
    value = data[at : at + WORD]
    if any(value[:-1]) or value[-1] > 1:
        raise _NotPlainError
    return value[-1] == 1


def _write_bool(value: Any) -> bytes:
    if not isinstance(value, bool):
        raise _NotPlainError
    return _word(int(value))


def _word(value: int) -> bytes:
    return value.to_bytes(WORD, "big")
