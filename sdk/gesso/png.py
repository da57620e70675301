"""PNG text chunks without an imaging library: the usual `parameters` line and the gesso receipt.

Pixels are never touched, so the picture that the node committed to stays bit for bit what it was;
only ancillary text chunks are added in front of the image data.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterator, Mapping

from gesso_protocol.errors import BlobCorrupt

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_TEXT_BYTES = 256 * 1024
"""Bound for one text value, written or read."""

_TEXT_KINDS = (b"tEXt", b"iTXt")
_KEYED_KINDS = (*_TEXT_KINDS, b"zTXt")
"""Whose keyword other tools read, whether or not we read what is behind it."""
_PARAMETERS = "parameters"


def is_png(data: bytes) -> bool:
    """True when the bytes start like a PNG; says nothing about the rest."""
    return data.startswith(SIGNATURE)


def dimensions(data: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the header chunk of a file whose chunks are whole, to the last. Raises
    BlobCorrupt."""
    chunks = _chunks(data)
    kind, body = next(chunks)
    for _ in chunks:
        pass
    if kind != b"IHDR" or len(body) != 13:
        raise BlobCorrupt("the PNG does not start with a header chunk")
    width, height = struct.unpack(">II", body[:8])
    return width, height


def read_text(data: bytes) -> dict[str, str]:
    """All uncompressed text chunks by keyword. Raises BlobCorrupt for anything that is not a PNG."""
    texts: dict[str, str] = {}
    for kind, body in _chunks(data):
        if kind in _TEXT_KINDS and len(body) <= MAX_TEXT_BYTES:
            keyword, value = _parse_text(kind, body)
            if value is not None:
                texts[keyword] = value
    return texts


def with_text(data: bytes, texts: Mapping[str, str]) -> bytes:
    """The same picture with these texts and no other word for the same: neither texts of the same keyword, compressed
    or not, nor Exif, where other tools look for `parameters` too."""
    pieces = [SIGNATURE]
    for kind, body in _others(data, texts):
        pieces.append(_chunk(kind, body))
        if kind == b"IHDR":
            pieces.extend(_text_chunk(keyword, value) for keyword, value in texts.items())
    return b"".join(pieces)


def without_text(data: bytes, keywords: Collection[str]) -> bytes:
    """The same picture without the texts of these keywords, as it was before `with_text`. Raises BlobCorrupt."""
    return SIGNATURE + b"".join(_chunk(kind, body) for kind, body in _others(data, keywords))


def _others(data: bytes, keywords: Collection[str]) -> Iterator[tuple[bytes, bytes]]:
    for kind, body in _chunks(data):
        said: str | None = None
        if kind in _KEYED_KINDS:
            said = body.partition(b"\0")[0].decode("latin-1")
        elif kind == b"eXIf":
            said = _PARAMETERS
        if said is None or said not in keywords:
            yield kind, body


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    if not is_png(data):
        raise BlobCorrupt("the bytes are not a PNG")
    at, end = len(SIGNATURE), len(data)
    while at < end:
        if at + 12 > end:
            raise BlobCorrupt("the PNG ends inside a chunk")
        length, kind = struct.unpack_from(">I4s", data, at)
        stop = at + 12 + length
        if stop > end:
            raise BlobCorrupt("a PNG chunk is longer than the file")
        body = data[at + 8 : at + 8 + length]
        (checksum,) = struct.unpack_from(">I", data, stop - 4)
        if checksum != zlib.crc32(kind + body):
            raise BlobCorrupt("a PNG chunk fails its checksum")
        yield kind, body
        at = stop
        if kind == b"IEND":
            return
    raise BlobCorrupt("the PNG has no end chunk")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _text_chunk(keyword: str, value: str) -> bytes:
    # Other tools look for `parameters` in a Latin-1 tEXt chunk; iTXt only where that cannot hold it.
    try:
        kind, body = b"tEXt", keyword.encode("latin-1") + b"\0" + value.encode("latin-1")
    except UnicodeEncodeError:
        kind, body = b"iTXt", keyword.encode("latin-1") + b"\0\0\0\0\0" + value.encode()
    return _chunk(kind, body[:MAX_TEXT_BYTES])


def _parse_text(kind: bytes, body: bytes) -> tuple[str, str | None]:
    keyword, _, rest = body.partition(b"\0")
    name = keyword.decode("latin-1")
    if kind == b"tEXt":
        return name, rest.decode("latin-1")
    compressed, rest = rest[:1], rest[2:]
    _, _, rest = rest.partition(b"\0")
    _, _, rest = rest.partition(b"\0")
    return name, rest.decode(errors="replace") if compressed == b"\0" else None
