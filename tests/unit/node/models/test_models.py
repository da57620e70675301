"""The model cache: whole or absent, verified, within its budget, and never pulling a model from under a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from gesso.blobs import LocalBlobs
from gesso_node.models.cache import ModelCache
from gesso_protocol.errors import BlobMissing, GessoError, ModelInvalid
from gesso_protocol.ids import BlobRef
from gesso_protocol.manifest import FileEntry, ModelManifest

pytestmark = pytest.mark.anyio


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


async def publish(blobs: LocalBlobs, name: str, size: int, *, omit: bool = False) -> BlobRef:
    content = name.encode() * size
    content = content[:size]
    index = b"{}"
    if not omit:
        await blobs.put(content)
    await blobs.put(index)
    files = (
        FileEntry(path="model_index.json", size=len(index), blob=BlobRef.of(index)),
        FileEntry(path="unet/weights.safetensors", size=size, blob=BlobRef.of(content)),
    )
    manifest = ModelManifest(name=name, version=1, kind="base", licence="MIT", files=files)
    return await blobs.put(manifest.encode())


@pytest.fixture
def cache(tmp_path: Path, blobs: LocalBlobs) -> ModelCache:
    return ModelCache(tmp_path / "models", blobs, budget_bytes=1000, clock=Clock())


async def test_a_model_is_fetched_once_and_found_again(cache: ModelCache, blobs: LocalBlobs, tmp_path: Path) -> None:
    ref = await publish(blobs, "one", 100)
    folder = await cache.ensure(ref)
    assert (folder / "unet" / "weights.safetensors").stat().st_size == 100
    assert await cache.ensure(ref) == folder
    again = ModelCache(tmp_path / "models", blobs, budget_bytes=1000)
    assert [model.label for model in again.cached()] == ["one@1"]


async def test_the_least_recently_used_model_leaves(cache: ModelCache, blobs: LocalBlobs) -> None:
    one, two, three = [await publish(blobs, name, 400) for name in ("one", "two", "three")]
    await cache.ensure(one)
    await cache.ensure(two)
    with cache.using(one):
        pass
    await cache.ensure(three)
    assert (cache.has(one), cache.has(two), cache.has(three)) == (True, False, True)
    assert not cache.path(two).exists()


async def test_a_model_in_use_stays(cache: ModelCache, blobs: LocalBlobs) -> None:
    one, two = [await publish(blobs, name, 600) for name in ("one", "two")]
    await cache.ensure(one)
    with cache.using(one), pytest.raises(ModelInvalid, match="in use"):
        await cache.ensure(two)
    await cache.ensure(two)
    assert not cache.has(one)


async def test_a_model_over_the_budget_is_refused_before_it_is_fetched(cache: ModelCache, blobs: LocalBlobs) -> None:
    with pytest.raises(ModelInvalid, match="bytes"):
        await cache.ensure(await publish(blobs, "huge", 5000))


async def test_a_missing_file_leaves_nothing_that_looks_whole_and_the_rest_is_kept(
    cache: ModelCache, blobs: LocalBlobs
) -> None:
    ref = await publish(blobs, "part", 100, omit=True)
    with pytest.raises(BlobMissing):
        await cache.ensure(ref)
    assert not cache.has(ref)
    assert cache.cached() == ()
    await publish(blobs, "part", 100)
    await cache.ensure(ref)
    assert cache.has(ref)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"format":"gesso/model/1"}', b"\xff" * 50])
async def test_what_is_no_manifest_is_a_typed_error(cache: ModelCache, blobs: LocalBlobs, content: bytes) -> None:
    with pytest.raises(GessoError):
        await cache.ensure(await blobs.put(content))


async def test_a_damaged_note_means_absent(cache: ModelCache, blobs: LocalBlobs, tmp_path: Path) -> None:
    ref = await publish(blobs, "one", 100)
    await cache.ensure(ref)
    (tmp_path / "models" / f"{ref.hex()}.json").write_text("{")
    assert cache.cached() == ()


async def test_downloads_that_were_given_up_count_and_leave_first(cache: ModelCache, blobs: LocalBlobs) -> None:
    kept = await publish(blobs, "kept", 400)
    await cache.ensure(kept)
    stale = cache.path(BlobRef.of(b"stale")).with_suffix(".partial")
    stale.mkdir()
    (stale / "half.part").write_bytes(bytes(500))
    other = await publish(blobs, "other", 400)
    await cache.ensure(other)
    assert not stale.exists()
    assert cache.has(kept)
    assert cache.has(other)


async def test_a_download_that_is_on_its_way_has_its_room(cache: ModelCache, tmp_path: Path) -> None:
    """A small model is not held up by a large one, and the two together stay within the budget."""
    slow = SlowBlobs(tmp_path / "slow")
    cache._blobs = slow
    large, small, much = [
        await publish(slow, name, size) for name, size in (("large", 700), ("small", 200), ("much", 300))
    ]
    async with anyio.create_task_group() as group:
        slow.hold = BlobRef.of(b"large" * 140)
        group.start_soon(cache.ensure, large)
        await slow.held.wait()
        await cache.ensure(small)
        with pytest.raises(ModelInvalid, match="full of"):
            await cache.ensure(much)
        slow.go.set()
    assert cache.has(large)


class SlowBlobs(LocalBlobs):
    """Holds one blob back until it is told to go on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.hold: BlobRef | None = None
        self.held, self.go = anyio.Event(), anyio.Event()

    async def fetch(self, ref: BlobRef, dest: Path, *, max_bytes: int, progress: Any = None) -> None:
        if ref == self.hold:
            self.held.set()
            await self.go.wait()
        await super().fetch(ref, dest, max_bytes=max_bytes, progress=progress)


async def test_whether_a_model_could_be_had(cache: ModelCache, blobs: LocalBlobs) -> None:
    fine, gone = await publish(blobs, "fine", 100), await publish(blobs, "gone", 100, omit=True)
    assert await cache.obtainable(fine, "base")
    assert not await cache.obtainable(gone, "base")
    assert not await cache.obtainable(BlobRef.of(b"nobody's"), "base")
    with pytest.raises(ModelInvalid, match="is a base, not a lora"):
        await cache.obtainable(fine, "lora")
    with pytest.raises(ModelInvalid, match="bytes"):
        await cache.obtainable(await publish(blobs, "huge", 5000), "base")
    assert cache.cached() == ()
    await cache.ensure(fine)
    assert cache.cached()[0].kind == "base"


async def test_a_download_is_timed_and_what_is_missing_is_known_once_a_manifest_was_read(
    tmp_path: Path, blobs: LocalBlobs
) -> None:
    heard = list[tuple[int, bool]]()

    async def fetched(size: int, seconds: float) -> None:
        heard.append((size, seconds > 0))

    cache = ModelCache(tmp_path / "models", blobs, budget_bytes=1000, fetched=fetched)
    ref = await publish(blobs, "one", 100)
    assert cache.missing_bytes(ref) == 0
    size = (await cache.read_manifest(ref)).size
    assert cache.missing_bytes(ref) == size
    for _ in range(2):
        await cache.ensure(ref)
    assert (cache.missing_bytes(ref), heard) == (0, [(size, True)])
    later = await publish(blobs, "two", 100)
    (tmp_path / "models" / f"{later.hex()}.partial").mkdir()
    await cache.ensure(later)
    assert len(heard) == 1, "one that went on says nothing"


@pytest.mark.parametrize("where", ["before its note was written", "while it was removed", "with half of it removed"])
async def test_what_a_killed_node_left_keeps_no_model_away(tmp_path: Path, blobs: LocalBlobs, where: str) -> None:
    ref = await publish(blobs, "one", 100)
    cache = ModelCache(tmp_path / "models", blobs, budget_bytes=1000)
    await cache.ensure(ref)
    cache._note_path(ref).unlink()
    if "removed" in where:
        cache._manifest_path(ref).unlink()
    if "half" in where:
        (cache.path(ref) / "model_index.json").unlink()
    again = ModelCache(tmp_path / "models", blobs, budget_bytes=1000)
    assert not again.has(ref)
    path = await again.ensure(ref)
    assert again.has(ref)
    assert (path / "model_index.json").read_bytes() == b"{}"
    assert len(again.parts(ref)) == 3


async def test_what_a_killed_node_left_counts_and_goes_when_its_room_is_wanted(
    tmp_path: Path, blobs: LocalBlobs
) -> None:
    left, other = await publish(blobs, "left", 600), await publish(blobs, "other", 600)
    cache = ModelCache(tmp_path / "models", blobs, budget_bytes=1000)
    await cache.ensure(left)
    cache._note_path(left).unlink()
    assert cache._taken(cache.cached()) >= 600
    await cache.ensure(other)
    assert not cache.path(left).exists()
    assert cache.has(other)


async def test_a_model_that_is_held_does_not_leave_for_what_is_fetched_beside_it(
    tmp_path: Path, blobs: LocalBlobs
) -> None:
    """A task's own base was the one that was used least recently, and left for the task's LoRA."""
    cache = ModelCache(tmp_path / "models", blobs, budget_bytes=1000, clock=Clock())
    base, other, lora = [await publish(blobs, *one) for one in (("base", 400), ("other", 400), ("lora", 300))]
    await cache.ensure(base)
    await cache.ensure(other)
    async with cache.held(base) as folder, cache.held(lora):
        assert folder.is_dir()
        assert [cache.has(ref) for ref in (base, other, lora)] == [True, False, True]
    await cache.ensure(other)
    assert not cache.has(base), "it is held no longer than it is used"
