"""A disk that is full in the middle: an error with a name, nothing half there, nothing lost, and it goes on later."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from gesso.blobs import CHUNK_BYTES, LayeredBlobs, LocalBlobs
from gesso.blobs.partial import Partial
from gesso_protocol.errors import DiskFull
from gesso_protocol.ids import BlobRef

pytestmark = pytest.mark.anyio
DATA = bytes(range(256)) * (3 * CHUNK_BYTES // 256)
REF = BlobRef.of(DATA)


@contextmanager
def full_after(bytes_: int, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """`os.write` takes so many bytes, the last call only a part of its own."""
    left, real = bytes_, os.write

    def write(fd: int, data: Any) -> int:
        nonlocal left
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = real(fd, memoryview(data)[:left])
        left -= taken
        return taken

    with patch.context() as patched:
        patched.setattr(os, "write", write)
        yield


def broken(error: int) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(error, os.strerror(error))

    return fail


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("failing", ["fsync", "replace", "mkdir", "write_bytes"])
async def test_a_put_that_finds_no_room_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    store = LocalBlobs(tmp_path / "store")
    kept = await store.put(b"what was here before")
    before = files(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os if failing == "fsync" else Path, failing, broken(errno.ENOSPC))
        with pytest.raises(DiskFull):
            await store.put(DATA)
        with (tmp_path / "a file").open("wb") as file:
            file.write(DATA[:-1])
        if failing != "fsync":
            with pytest.raises(DiskFull):
                await store.link(tmp_path / "a file")
    (tmp_path / "a file").unlink()
    assert not await store.has(REF)
    assert [path for path in files(tmp_path) if path not in before and "incoming" in path.parts] == []
    assert await store.get(kept, max_bytes=100) == b"what was here before"
    assert await store.put(DATA) == REF


async def test_other_trouble_with_the_disk_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalBlobs(tmp_path)
    monkeypatch.setattr(os, "fsync", broken(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        await store.put(DATA)


async def test_a_fetch_goes_on_when_there_is_room_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Noting(LocalBlobs):
        async def fetch(self, ref: BlobRef, dest: Path, **more: Any) -> None:
            asked.append(self)
            await super().fetch(ref, dest, **more)

    first, second = Noting(tmp_path / "first"), Noting(tmp_path / "second")
    await first.put(DATA)
    await second.put(DATA)
    both, dest = LayeredBlobs([first, second]), tmp_path / "dest"
    dest.write_bytes(b"an older file")
    with full_after(CHUNK_BYTES + 17, monkeypatch), pytest.raises(DiskFull):
        await both.fetch(REF, dest, max_bytes=len(DATA))
    assert asked == [first]  # no other store has room for us
    assert dest.read_bytes() == b"an older file"
    await both.fetch(REF, dest, max_bytes=len(DATA))
    assert dest.read_bytes() == DATA
    assert [path.name for path in files(tmp_path) if path.parent == tmp_path] == ["dest"]


def test_what_was_written_of_a_chunk_never_stands_before_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Partial(REF, tmp_path / "dest", len(DATA), None) as partial:
        with full_after(CHUNK_BYTES + 17, monkeypatch), pytest.raises(DiskFull):
            partial.write(DATA)
        partial.drop_pending()
        assert partial.wanted == CHUNK_BYTES
        partial.write(DATA[CHUNK_BYTES:])
        partial.finish()
    assert (tmp_path / "dest").read_bytes() == DATA


async def test_two_writers_of_one_blob_agree(tmp_path: Path) -> None:
    store, done = LocalBlobs(tmp_path / "store"), []

    async def put() -> None:
        done.append(await store.put(DATA))

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(put)
    assert done == [REF] * 4
    assert await store.get(REF, max_bytes=len(DATA)) == DATA
    assert not list((tmp_path / "store" / "incoming").iterdir())
