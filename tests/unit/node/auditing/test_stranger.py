"""A stranger's picture gives its pixels or nothing, whatever stands in its file."""

from __future__ import annotations

import struct
import zlib

import pytest

from gesso_node.auditing.stranger import pixels_of

SIZE = (8, 4)
ROWS = b"".join(b"\0" + bytes(range(24)) for _ in range(4))
PIXELS = bytes(range(24)) * 4


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def picture(after: bytes = b"", before: bytes = b"") -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *SIZE, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + before + chunk(b"IDAT", zlib.compress(ROWS)) + after + chunk(b"IEND", b"")


def test_a_plain_one() -> None:
    assert pixels_of(picture(), *SIZE) == PIXELS
    assert pixels_of(picture(), 4, 8) is None


@pytest.mark.parametrize(
    "kind", [b"iCCP", b"tRNS", b"gAMA", b"sRGB", b"pHYs", b"zTXt", b"iTXt", b"acTL", b"fcTL", b"fdAT", b"eXIf"]
)
@pytest.mark.parametrize("length", [0, 1, 3])
@pytest.mark.parametrize("place", ["before", "after"])
def test_chunks_that_a_decoder_stumbles_over(kind: bytes, length: int, place: str) -> None:
    found = pixels_of(picture(**{place: chunk(kind, bytes(length))}), *SIZE)
    assert found is None or found == PIXELS


@pytest.mark.parametrize("cut", [0, 7, 20, 33, 50, 60])
def test_what_is_cut_off(cut: int) -> None:
    found = pixels_of(picture()[:cut], *SIZE)
    assert found is None or found == PIXELS
