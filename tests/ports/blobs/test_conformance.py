"""What every blob store promises, run on every adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest

from gesso.blobs import CHUNK_BYTES, BlobStore
from gesso_protocol.errors import BlobCorrupt, BlobMissing, BlobTooLarge
from gesso_protocol.ids import BlobRef

from .conftest import MAX_BLOB

pytestmark = pytest.mark.anyio

SIZES = [0, 1, 1000, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 77]
BIG = 1 << 30


def content(size: int, salt: bytes = b"") -> bytes:
    return (salt + bytes(range(251)) * (size // 251 + 1))[:size]


async def in_pieces(data: bytes, size: int = 70_001) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def given(data: bytes, how: str, folder: Path) -> bytes | Path | AsyncIterator[bytes]:
    if how == "stream":
        return in_pieces(data)
    if how == "file":
        path = folder / "given"
        path.write_bytes(data)
        return path
    return data


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("how", ["bytes", "file", "stream"])
async def test_what_is_put_comes_back(store: BlobStore, tmp_path: Path, size: int, how: str) -> None:
    data = content(size)
    with anyio.fail_after(60):
        ref = await store.put(await given(data, how, tmp_path))
        assert ref == BlobRef.of(data)
        assert await store.has(ref)
        assert await store.size(ref) == size
        assert await store.get(ref, max_bytes=size) == data
        seen: list[tuple[int, int]] = []
        dest = tmp_path / "deep" / "er" / "file.bin"
        await store.fetch(ref, dest, max_bytes=size, progress=lambda done, total: seen.append((done, total)))
    assert dest.read_bytes() == data
    assert [entry.name for entry in dest.parent.iterdir()] == ["file.bin"]
    assert seen == sorted(seen)
    assert not size or seen[-1] == (size, size)


async def test_putting_twice_is_the_same_as_once(store: BlobStore) -> None:
    assert await store.put(b"again") == await store.put(in_pieces(b"again"))


async def test_unknown_content_is_missing(store: BlobStore, tmp_path: Path) -> None:
    ref = BlobRef.of(b"nobody has this")
    assert not await store.has(ref)
    for call in (
        lambda: store.get(ref, max_bytes=BIG),
        lambda: store.size(ref),
        lambda: store.fetch(ref, tmp_path / "x", max_bytes=BIG),
    ):
        with pytest.raises(BlobMissing):
            await call()
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("how", ["bytes", "file", "stream"])
async def test_wrong_hash_is_refused_and_not_kept(store: BlobStore, tmp_path: Path, how: str) -> None:
    data = content(CHUNK_BYTES + 5)
    with pytest.raises(BlobCorrupt):
        await store.put(await given(data, how, tmp_path), expect=BlobRef.of(b"other"))
    assert not await store.has(BlobRef.of(data))
    assert not await store.has(BlobRef.of(b"other"))
    assert unfinished(tmp_path) == []


async def test_reader_sets_the_limit(store: BlobStore, tmp_path: Path) -> None:
    ref = await store.put(content(5000))
    with pytest.raises(BlobTooLarge):
        await store.get(ref, max_bytes=4999)
    with pytest.raises(BlobTooLarge):
        await store.fetch(ref, tmp_path / "x", max_bytes=4999)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("how", ["bytes", "file", "stream"])
async def test_store_has_a_limit(store: BlobStore, tmp_path: Path, how: str) -> None:
    data = content(MAX_BLOB + 1)
    with anyio.fail_after(60), pytest.raises(BlobTooLarge):
        await store.put(await given(data, how, tmp_path))
    assert not await store.has(BlobRef.of(data))
    assert unfinished(tmp_path) == []


async def test_a_stream_that_breaks_leaves_nothing(store: BlobStore, tmp_path: Path) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield content(CHUNK_BYTES)
        raise OSError("the camera was unplugged")

    with pytest.raises(OSError, match="unplugged"):
        await store.put(breaking())
    assert unfinished(tmp_path) == []


async def test_content_that_the_disk_broke_is_never_handed_out(
    store: BlobStore, tmp_path: Path, corrupt: Callable[[], int]
) -> None:
    read, fetched = await store.put(content(2 * CHUNK_BYTES)), await store.put(content(3 * CHUNK_BYTES))
    assert corrupt() >= 2
    with pytest.raises(BlobCorrupt):
        await store.get(read, max_bytes=BIG)
    with pytest.raises(BlobCorrupt):
        await store.fetch(fetched, tmp_path / "x", max_bytes=BIG)
    assert not (tmp_path / "x").exists()


async def test_fetch_replaces_what_was_there_in_one_step(store: BlobStore, tmp_path: Path) -> None:
    ref = await store.put(content(1000))
    dest = tmp_path / "x"
    dest.write_bytes(b"old")
    await store.fetch(ref, dest, max_bytes=BIG)
    assert dest.read_bytes() == content(1000)


async def test_many_fetches_to_one_place_agree(store: BlobStore, tmp_path: Path) -> None:
    data = content(3 * CHUNK_BYTES + 1)
    ref = await store.put(data)
    dest = tmp_path / "to" / "x"
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for _ in range(6):
                group.start_soon(lambda: store.fetch(ref, dest, max_bytes=BIG))
    assert dest.read_bytes() == data
    assert [entry.name for entry in dest.parent.iterdir()] == ["x"]


async def test_foreign_leftovers_do_not_spoil_a_fetch(store: BlobStore, tmp_path: Path) -> None:
    data = content(2 * CHUNK_BYTES)
    ref = await store.put(data)
    (tmp_path / "x.part").write_bytes(b"\0" * (CHUNK_BYTES + 3))
    await store.fetch(ref, tmp_path / "x", max_bytes=BIG)
    assert (tmp_path / "x").read_bytes() == data


def unfinished(root: Path) -> list[Path]:
    return [path for path in root.glob("*/incoming/*") if path.is_file()]
