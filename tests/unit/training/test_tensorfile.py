"""Safetensors without a tensor library: what we write loads elsewhere, and what lies is refused by a sentence."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso.tensorfile import MAX_HEADER_BYTES, open_tensors, write_tensors
from gesso_protocol.errors import ModelInvalid

ONE = np.arange(6, dtype=np.float32).reshape(2, 3)


def written(path: Path) -> Path:
    write_tensors(path, [("a", "F32", ONE.shape, ONE.tobytes()), ("b", "U8", (3,), b"abc")], {"ss_x": "ü", "a": "1"})
    return path


def raw_file(path: Path, header: Any, body: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


def test_round_trip(tmp_path: Path) -> None:
    file = open_tensors(written(tmp_path / "x.safetensors"), max_bytes=10**4)
    assert file.metadata == {"a": "1", "ss_x": "ü"}
    assert file.read("a") == ONE.tobytes()
    assert file.read("b") == b"abc"
    assert file.tensors["a"].shape == (2, 3)
    with pytest.raises(ModelInvalid):
        file.read("c")


def test_the_library_of_everybody_reads_it(tmp_path: Path) -> None:
    numpy_reader = pytest.importorskip("safetensors.numpy")
    loaded = numpy_reader.load_file(written(tmp_path / "x.safetensors"))
    assert np.array_equal(loaded["a"], ONE)


def test_we_read_what_the_library_writes(tmp_path: Path) -> None:
    numpy_writer = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "x.safetensors"
    numpy_writer.save_file({"w": ONE, "v": ONE[0].copy()}, path, metadata={"format": "pt"})
    file = open_tensors(path, max_bytes=10**4)
    assert file.read("w") == ONE.tobytes()
    assert file.metadata == {"format": "pt"}


def entry(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("header", "body", "word"),
    [
        ({"a": entry()}, b"", "bytes"),
        ({"a": entry()}, b"12345", "bytes"),
        ({"a": entry(shape=(2,))}, b"1234", "shape"),
        ({"a": entry("F8_E4M3", (4,))}, b"1234", "type"),
        ({"a": entry(shape=(-1,))}, b"1234", "malformed"),
        ({"a": entry(shape=(2**40, 2**40), offsets=(0, 4))}, b"1234", "shape"),
        ({"a": entry(offsets=(4, 0))}, b"1234", "shape"),
        ({"a": entry(offsets=(4, 8))}, b"12345678", "gaps"),
        ({"a": entry(), "b": entry()}, b"1234", "overlap"),
        ({"a": entry(shape=(True,))}, b"1234", "malformed"),
        ({"a\n": entry()}, b"1234", "unprintable"),
        ({"a": 3}, b"", "type"),
        ({"__metadata__": {"a": 1}}, b"", "metadata"),
        (b"[" * 5000, b"", "JSON"),
        (b"[]", b"", "object"),
        (b'{"a":', b"", "JSON"),
    ],
)
def test_lies_in_the_header(header: Any, body: bytes, word: str, tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid, match=word):
        open_tensors(raw_file(tmp_path / "x.safetensors", header, body), max_bytes=10**6)


def test_header_bombs(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for length in (MAX_HEADER_BYTES + 1, 2**63, 100):
        path.write_bytes(struct.pack("<Q", length) + b"{}")
        with pytest.raises(ModelInvalid, match="claims a header"):
            open_tensors(path, max_bytes=10**9)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", MAX_HEADER_BYTES + 1))
        file.truncate(2 * MAX_HEADER_BYTES)
    with pytest.raises(ModelInvalid, match="claims a header"):
        open_tensors(path, max_bytes=10**9)
    raw_file(path, {f"t{number}": entry(shape=(0,), offsets=(0, 0)) for number in range(20_001)})
    with pytest.raises(ModelInvalid, match="20001 tensors"):
        open_tensors(path, max_bytes=10**9)
    with pytest.raises(ModelInvalid, match="at most 10"):
        open_tensors(path, max_bytes=10)


def test_pickles_are_named_as_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for data in (pickle.dumps({"a": 1}), b"PK\x03\x04" + bytes(30)):
        path.write_bytes(data)
        with pytest.raises(ModelInvalid, match="pickle"):
            open_tensors(path, max_bytes=10**6)
    path.write_bytes(b"abc")
    with pytest.raises(ModelInvalid, match="too short"):
        open_tensors(path, max_bytes=10**6)
    with pytest.raises(ModelInvalid, match="cannot be read"):
        open_tensors(tmp_path / "absent", max_bytes=10**6)


@given(data=st.binary(max_size=200), at=st.integers(0, 250))
def test_noise_is_refused_and_never_crashes(data: bytes, at: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("noise")
    path = written(folder / "x.safetensors")
    raw = path.read_bytes()
    for hostile in (data, raw[:at] + data, raw[:at] + data[:4] + raw[at + 4 :]):
        path.write_bytes(hostile)
        try:
            file = open_tensors(path, max_bytes=10**6)
        except ModelInvalid:
            continue
        assert sum(info.size for info in file.tensors.values()) <= len(hostile)
