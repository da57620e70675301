"""PNG text chunks: what we write can be read back, and hostile bytes give a typed error."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import pytest
from hostile import damaged
from hypothesis import given
from hypothesis import strategies as st
from made_results import image
from PIL import Image

from gesso import png
from gesso_protocol.errors import BlobCorrupt


def picture(width: int = 5, height: int = 3) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (10, 200, 30)).save(buffer, "PNG")
    return buffer.getvalue()


@given(st.text(max_size=200), st.text(max_size=200))
def test_text_survives_and_pixels_do_not_change(parameters: str, receipt: str) -> None:
    data = picture()
    marked = png.with_text(data, {"parameters": parameters, "gesso": receipt})
    assert png.read_text(marked) == {"parameters": parameters, "gesso": receipt}
    opened = Image.open(io.BytesIO(marked))
    assert opened.tobytes() == Image.open(io.BytesIO(data)).tobytes()


def test_other_tools_see_the_parameters() -> None:
    marked = png.with_text(picture(), {"parameters": "a red circle\nSteps: 25"})
    assert Image.open(io.BytesIO(marked)).info["parameters"] == "a red circle\nSteps: 25"


def test_a_notebook_shows_a_picture_with_what_is_written_in_it() -> None:
    shown = image()._repr_png_()
    assert set(png.read_text(shown)) == {"parameters", "gesso"}


def test_writing_again_replaces() -> None:
    once = png.with_text(picture(), {"parameters": "first"})
    assert png.read_text(png.with_text(once, {"parameters": "second"})) == {"parameters": "second"}


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def behind_the_pixels(*chunks: bytes) -> bytes:
    whole = picture()
    return whole[:-12] + b"".join(chunks) + whole[-12:]


def test_a_node_has_no_word_in_what_other_tools_read_of_a_saved_picture() -> None:
    exif = Image.Exif()
    exif[0x9286] = "theirs"  # UserComment
    for kind, body in (
        (b"tEXt", b"parameters\0theirs"),
        (b"zTXt", b"parameters\0\0" + zlib.compress(b"theirs")),
        (b"zTXt", b"gesso\0\0" + zlib.compress(b"theirs")),
        (b"zTXt", b"parameters"),
        (b"iTXt", b"parameters\0\1\0\0\0" + zlib.compress(b"theirs")),
        (b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")),
    ):
        theirs = behind_the_pixels(chunk(kind, body), chunk(b"zTXt", b"Software\0\0" + zlib.compress(b"kept")))
        ours = png.with_text(theirs, {"parameters": "ours", "gesso": "{}"})
        opened = Image.open(io.BytesIO(ours))
        opened.load()
        assert opened.text == {"parameters": "ours", "gesso": "{}", "Software": "kept"}  # type: ignore[attr-defined]
        assert not opened.getexif()
        assert b"theirs" not in png.without_text(ours, ("parameters", "gesso"))


def test_dimensions() -> None:
    assert png.dimensions(picture(7, 9)) == (7, 9)


def test_a_file_with_a_right_header_and_rubbish_behind_it_has_none() -> None:
    whole = picture()
    wrong = bytearray(whole)
    wrong[-20] ^= 1  # within the last chunk of pixels, or its checksum
    for data in (whole[:33], whole[:33] + b"rubbish", whole[:-12], whole[:-1], bytes(wrong)):
        with pytest.raises(BlobCorrupt):
            png.dimensions(data)


@given(damaged(png.with_text(picture(), {"parameters": "a", "gesso": "{}"})))
def test_a_damaged_picture_is_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(BlobCorrupt):
        png.read_text(data)
        assert len(png.without_text(data, ("parameters", "gesso"))) <= len(data)


@given(st.binary(max_size=400))
def test_noise_gives_a_typed_error(noise: bytes) -> None:
    for data in (noise, png.SIGNATURE + noise):
        with pytest.raises(BlobCorrupt):
            png.read_text(data)


def test_a_chunk_that_claims_to_be_huge_is_refused() -> None:
    body = png.SIGNATURE + struct.pack(">I", 2**31 - 1) + b"IHDR"
    with pytest.raises(BlobCorrupt, match="longer than the file"):
        png.read_text(body + b"\0" * 40)


def test_a_flipped_bit_is_seen() -> None:
    data = bytearray(picture())
    data[20] ^= 1
    with pytest.raises(BlobCorrupt, match="checksum"):
        png.read_text(bytes(data))


def test_compressed_text_is_skipped_not_inflated() -> None:
    body = b"bomb\0\x01\0\0\0" + zlib.compress(b"a" * 10_000)
    chunk = struct.pack(">I", len(body)) + b"iTXt" + body + struct.pack(">I", zlib.crc32(b"iTXt" + body))
    data = picture()
    assert png.read_text(data[:33] + chunk + data[33:]) == {}
