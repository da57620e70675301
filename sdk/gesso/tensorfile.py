"""Safetensors files read and written without any tensor library, and bounded before anything is allocated.

Eight bytes of header length (little-endian), a JSON header, then the tensors' raw bytes without gaps. Nothing in such
a file can run code; what a hostile one can do is lie about sizes, and that is what is checked here.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pydantic_core import from_json

from gesso_protocol.errors import ModelInvalid, UsageError

MAX_HEADER_BYTES = 8 * 1024 * 1024
MAX_TENSORS = 20_000
MAX_DIMENSIONS = 8
ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_NAME = re.compile(r"[!-~]{1,256}\Z")
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04", b"(dp", b"}q")


class FileUnreadable(ModelInvalid):
    """The machine could not read a file. It says nothing about what is in it, and whoever judges files must not."""

    exit_code = UsageError.exit_code


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of a file: element type (`F32`, `F16`, `U8`, …), shape, and where its bytes lie in the file."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class TensorFile:
    """The header of a checked file."""

    path: Path
    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]

    def read(self, name: str) -> bytes:
        """The raw little-endian bytes of one tensor. Raises ModelInvalid when there is none of that name,
        FileUnreadable when the disk fails."""
        info = self.tensors.get(name)
        if info is None:
            raise ModelInvalid(f"{self.path.name} holds no tensor called {name}")
        with _opened(self.path) as file:
            return _bytes_of(file, self.path.name, name, info)

    def read_all(self) -> Iterator[tuple[str, bytes]]:
        """Every tensor's name and raw bytes in the file's own order, the file opened and read through once. Raises as
        `read` does."""
        with _opened(self.path) as file:
            for name, info in sorted(self.tensors.items(), key=lambda item: item[1].offset):
                yield name, _bytes_of(file, self.path.name, name, info)


def open_tensors(path: Path, *, max_bytes: int) -> TensorFile:
    """Check a file's header against its length. Raises ModelInvalid with a sentence that says what is wrong, and
    FileUnreadable when the disk fails."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            if size > max_bytes:
                raise ModelInvalid(f"{path.name} has {size} bytes; at most {max_bytes} are allowed")
            head = file.read(8)
            length = _header_length(path.name, head, size)
            raw = file.read(length)
    except OSError as error:
        raise FileUnreadable(f"{path.name} cannot be read: {error.strerror}", hint="check its path") from error
    header = _parse(path.name, raw)
    metadata = _metadata(path.name, header.pop("__metadata__", {}))
    return TensorFile(path, _tensors(path.name, header, 8 + length, size), metadata)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise FileUnreadable(f"{path.name} cannot be read: {error.strerror}", hint="check its path") from error


def _bytes_of(file: IO[bytes], path: str, name: str, info: TensorInfo) -> bytes:
    file.seek(info.offset)
    data = file.read(info.size)
    if len(data) != info.size:
        raise ModelInvalid(f"{path} ends in the middle of {name}")
    return data


def write_tensors(
    path: Path, tensors: Sequence[tuple[str, str, Sequence[int], bytes]], metadata: Mapping[str, str] | None = None
) -> None:
    """Write (name, dtype, shape, bytes) rows; the same rows give the same file. Whole or absent."""
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    at = 0
    for name, dtype, shape, data in tensors:
        if len(data) != math.prod(shape) * ITEM_BYTES[dtype]:
            raise ModelInvalid(f"the bytes of {name} do not match its shape")
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, _, data in tensors:
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _header_length(name: str, head: bytes, size: int) -> int:
    if head.startswith(_PICKLES):
        raise ModelInvalid(
            f"{name} is a pickle or a zip, which can run code when it is loaded",
            hint="convert it to safetensors with a tool that you trust",
        )
    if len(head) < 8:
        raise ModelInvalid(f"{name} is too short to be a safetensors file")
    (length,) = struct.unpack("<Q", head)
    if length > MAX_HEADER_BYTES or 8 + length > size:
        raise ModelInvalid(f"{name} claims a header of {length} bytes; this is not a safetensors file")
    return int(length)


def _parse(name: str, raw: bytes) -> dict[str, Any]:
    try:
        header = from_json(raw, allow_inf_nan=False)  # bounds its depth by itself
    except ValueError as error:
        raise ModelInvalid(f"{name} has a header that is not JSON") from error
    if not isinstance(header, dict):
        raise ModelInvalid(f"{name} has a header that is not an object")
    if len(header) > MAX_TENSORS:
        raise ModelInvalid(f"{name} names {len(header)} tensors; at most {MAX_TENSORS} are allowed")
    return header


def _metadata(name: str, value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ModelInvalid(f"{name} has metadata that is not text")
    return value


def _tensors(name: str, header: Mapping[str, Any], start: int, size: int) -> dict[str, TensorInfo]:
    tensors = {}
    for tensor, entry in header.items():
        if not _NAME.match(tensor):
            raise ModelInvalid(f"{name} holds a tensor with an unprintable name")
        tensors[tensor] = _tensor(f"{name}: {tensor}", entry, start)
    at = start
    for info in sorted(tensors.values(), key=lambda info: (info.offset, info.size)):
        if info.offset != at:
            raise ModelInvalid(f"{name} has gaps or overlaps between its tensors")
        at += info.size
    if at != size:
        raise ModelInvalid(f"{name} has {size} bytes where its header promises {at}")
    return tensors


def _tensor(name: str, entry: object, start: int) -> TensorInfo:
    fields: dict[str, Any] = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = (fields.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise ModelInvalid(f"{name} has element type {str(dtype)[:20]!r}, which is not supported")
    sides, place = _naturals(shape, MAX_DIMENSIONS), _naturals(offsets, 2)
    if sides is None or place is None or len(place) != 2:
        raise ModelInvalid(f"{name} has a malformed shape or place")
    first, last = place
    if last < first or last - first != math.prod(sides) * ITEM_BYTES[dtype]:
        raise ModelInvalid(f"{name} has a shape that does not match its bytes")
    return TensorInfo(dtype, sides, start + first, last - first)


def _naturals(value: object, most: int) -> tuple[int, ...] | None:
    if not isinstance(value, list) or len(value) > most:
        return None
    for item in value:
        if type(item) is not int or not 0 <= item < 2**48:  # true and false are no numbers here
            return None
    return tuple(value)
