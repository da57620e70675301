"""Model manifests cannot name a dangerous path; chunk lists cannot put wrong bytes in place."""

from __future__ import annotations

import posixpath
from pathlib import PureWindowsPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gesso_protocol.errors import BlobCorrupt, EncodingInvalid
from gesso_protocol.ids import BlobRef
from gesso_protocol.manifest import (
    CHUNK_BYTES,
    LISTING_KINDS,
    BlobManifest,
    FileEntry,
    ModelManifest,
    check_path,
    chunk_count,
)

BLOB = BlobRef(bytes(32))


def model(*paths: str, **changes: Any) -> ModelManifest:
    files = tuple(FileEntry(path=path, size=1, blob=BLOB) for path in paths or ("model_index.json",))
    fields: dict[str, Any] = {"name": "m", "version": 1, "kind": "base", "licence": "MIT", "files": files}
    return ModelManifest(**{**fields, **changes})


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd.txt",
        "../a.txt",
        "a/../b.txt",
        "./a.txt",
        "a//b.txt",
        "a/",
        "a\\b.txt",
        "C:/a.txt",
        "a\0.txt",
        "a.txt\n",
        ".hidden.txt",
        "a/.git/b.txt",
        "con.txt",
        "a/NUL.json",
        "COM1.txt",
        "a./b.txt",
        "model.bin",
        "model.pt",
        "model.pkl",
        "run.py",
        "é.txt",
        "a b.txt",
        "~/a.txt",
        "$HOME/a.txt",
        "-rf.txt",
        "x" * 200 + ".txt",
        "/".join("a" * 9) + ".txt",
    ],
)
def test_dangerous_paths(path: str) -> None:
    with pytest.raises(EncodingInvalid):
        check_path(path)


@pytest.mark.parametrize(
    "path", ["model_index.json", "unet/diffusion_pytorch_model.safetensors", "tokenizer/merges.txt"]
)
def test_ordinary_paths(path: str) -> None:
    assert check_path(path) == path


@given(path=st.text(max_size=40) | st.text(st.sampled_from("./\\ab:~C-"), max_size=12).map(lambda s: s + ".txt"))
def test_what_passes_stays_inside_its_folder(path: str) -> None:
    try:
        check_path(path)
    except EncodingInvalid:
        return
    assert posixpath.normpath(posixpath.join("/box", path)) == "/box/" + path
    assert not PureWindowsPath(path).is_absolute()
    assert ".." not in PureWindowsPath(path).parts


@pytest.mark.parametrize(
    "paths",
    [
        ("b.json", "a.json"),
        ("a.json", "a.json"),
        ("A.json", "a.json"),
        ("a.json", "a.json/b.json"),
        ("A.json", "a.json/b.json"),
    ],
)
def test_files_that_make_no_folder(paths: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError):
        model(*paths)


@pytest.mark.parametrize(
    "changes",
    [
        {"files": ()},
        {"files": tuple(FileEntry(path=f"f{i:04}.txt", size=0, blob=BLOB) for i in range(257))},
        {"files": tuple(FileEntry(path=f"f{i}.txt", size=32 * 1024**3, blob=BLOB) for i in range(3))},
        {"name": "Upper"},
        {"name": ""},
        {"name": "x" * 65},
        {"version": 0},
        {"kind": "checkpoint"},
        {"pipeline": "anything"},
        {"licence": ""},
    ],
)
def test_limits(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        model(**changes)


def test_identity_and_label() -> None:
    manifest = model("a.json", "b/c.safetensors", version=3, kind="vae")
    assert manifest.ref == BlobRef.of(manifest.encode())
    assert ModelManifest.decode(manifest.encode()) == manifest
    assert (manifest.label, manifest.size, manifest.listing_kind) == ("m@3", 2, 3)
    assert LISTING_KINDS == ("base", "lora", "controlnet", "vae", "dataset")


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES])
def test_chunks_cover_a_blob_exactly(size: int) -> None:
    data = bytes(size)
    manifest = BlobManifest.of(data)
    ranges = [manifest.chunk_range(index) for index in range(len(manifest.chunks))]
    assert len(ranges) == chunk_count(size)
    assert b"".join(data[offset : offset + length] for offset, length in ranges) == data
    assert sum(length for _, length in ranges) == size
    for index, (offset, length) in enumerate(ranges):
        manifest.check_chunk(index, data[offset : offset + length])
    assert BlobManifest.decode(manifest.encode()) == manifest


def test_a_wrong_chunk_is_noticed() -> None:
    manifest = BlobManifest.of(b"gesso")
    for wrong in (b"gessO", b"gess", b"gesso ", b""):
        with pytest.raises(BlobCorrupt):
            manifest.check_chunk(0, wrong)
    for index in (-1, 1):
        with pytest.raises(EncodingInvalid):
            manifest.check_chunk(index, b"gesso")


@pytest.mark.parametrize("size", [0, CHUNK_BYTES + 1, 33 * 1024**3, -1])
def test_the_list_must_match_the_size(size: int) -> None:
    with pytest.raises(ValidationError):
        BlobManifest(blob=BLOB, size=size, chunks=(BLOB,))


def test_the_largest_blob_still_has_a_readable_list() -> None:
    manifest = BlobManifest(blob=BLOB, size=32 * 1024**3, chunks=(BLOB,) * 32768)
    assert BlobManifest.decode(manifest.encode()) == manifest
