"""The relay's blob cache: a quota that holds, a fair loser, and uploads that cannot cheat."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from gesso_protocol.errors import BlobCorrupt, BlobTooLarge, RateLimited
from gesso_protocol.ids import BlobRef
from gesso_protocol.manifest import CHUNK_BYTES, BlobManifest
from gesso_relay.blobs import BlobCache

from .running import GENEROUS, running

pytestmark = pytest.mark.anyio


async def one(data: bytes) -> AsyncIterator[bytes]:
    yield data


def opened(root: Path, quota: int = 1000, largest: int = 600) -> BlobCache:
    return BlobCache.open(root, quota_bytes=quota, max_blob_bytes=largest, least_bytes=0)


async def put(cache: BlobCache, data: bytes) -> BlobRef:
    ref = BlobRef.of(data)
    await cache.put(ref, len(data), one(data))
    return ref


def on_disk(root: Path) -> int:
    return sum(path.stat().st_size for path in root.glob("objects/??/*"))


def blocks_of(root: Path) -> list[int]:
    """What each file takes on the disk."""
    return [path.stat().st_blocks * 512 for path in root.rglob("*") if path.is_file()]


async def test_what_nobody_asked_for_the_longest_goes_first(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    first, second, third = [await put(cache, letter * 300) for letter in (b"a", b"b", b"c")]
    assert cache.path(first) is not None
    await put(cache, b"d" * 300)
    assert cache.path(second) is None
    assert cache.path(first) is not None
    assert cache.path(third) is not None
    assert (cache.count, cache.used_bytes, on_disk(tmp_path)) == (3, 900, 900)


async def test_the_order_of_use_survives_a_restart(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    refs = [await put(cache, letter * 300) for letter in (b"a", b"b", b"c")]
    for age, ref in enumerate(reversed(refs)):
        path = cache.path(ref)
        assert path is not None
        os.utime(path, (1000 + age, 1000 + age))
    again = opened(tmp_path)
    assert again.used_bytes == 900
    await put(again, b"d" * 300)
    assert [again.path(ref) is not None for ref in refs] == [True, True, False]


async def test_a_smaller_quota_is_enforced_at_the_start(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    for letter in (b"a", b"b", b"c"):
        await put(cache, letter * 300)
    assert opened(tmp_path, quota=600).count == 2
    assert on_disk(tmp_path) == 600


async def test_uploads_together_cannot_pass_the_quota(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    half, go = anyio.Event(), anyio.Event()
    data = b"s" * 600

    async def slow() -> AsyncIterator[bytes]:
        yield data[:500]
        half.set()
        await go.wait()
        yield data[500:]

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(cache.put, BlobRef.of(data), 600, slow())
            await half.wait()
            with pytest.raises(RateLimited, match="other uploads"):
                await put(cache, b"f" * 400)
            await put(cache, b"g" * 300)
            go.set()
    assert (cache.used_bytes, cache._promised, cache._arrived) == (900, 0, 0)


async def test_uploads_that_send_nothing_take_no_room_from_others(tmp_path: Path) -> None:
    cache = opened(tmp_path, quota=64_000, largest=64_000)
    silent = anyio.Event()

    async def nothing() -> AsyncIterator[bytes]:
        await silent.wait()
        yield b""

    async def promise(number: int) -> None:
        with pytest.raises(BlobCorrupt):
            await cache.put(BlobRef.of(bytes([number])), 16_000, nothing())

    async def large() -> AsyncIterator[bytes]:
        yield b"l" * 40_000

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for number in range(32):
                group.start_soon(promise, number)
            await anyio.wait_all_tasks_blocked()
            await put(cache, b"a spec")
            await cache.put(BlobRef.of(b"l" * 40_000), 40_000, large())
            silent.set()


async def test_what_is_small_finds_room_whatever_large_uploads_hold(tmp_path: Path) -> None:
    cache = opened(tmp_path, quota=51_200, largest=51_200)
    silent = anyio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield bytes(20_000)
        await silent.wait()

    async def hold(number: int) -> None:
        with pytest.raises((BlobCorrupt, RateLimited)):
            await cache.put(BlobRef.of(bytes([number])), 40_000, half())

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(hold, number)
            await anyio.wait_all_tasks_blocked()
            for number in range(100):
                await put(cache, bytes([number]) * 100)
            silent.set()


async def test_small_blobs_count_as_what_they_cost(tmp_path: Path) -> None:
    cache = BlobCache.open(tmp_path, quota_bytes=1 << 20, max_blob_bytes=1 << 20)
    for number in range(100):
        await put(cache, number.to_bytes(2, "big"))
    assert cache.count == 16
    sizes = blocks_of(tmp_path)
    assert len(sizes) == 16  # no list of chunks beside what has one
    assert sum(sizes) <= 1 << 20


async def test_a_promise_alone_pushes_nothing_out(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    kept = await put(cache, b"k" * 600)

    async def broken() -> AsyncIterator[bytes]:
        yield b"s" * 10
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await cache.put(BlobRef.of(b"s" * 600), 600, broken())
    assert cache.path(kept) is not None
    assert (cache.used_bytes, cache._promised, cache._arrived) == (600, 0, 0)


async def test_what_an_earlier_life_left_half_written_is_removed(tmp_path: Path) -> None:
    opened(tmp_path)
    (tmp_path / "incoming" / "left").write_bytes(bytes(500))
    opened(tmp_path)
    assert list((tmp_path / "incoming").iterdir()) == []


@pytest.mark.parametrize(("declared", "sent"), [(5, b"123456"), (5, b"1234"), (600, b""), (0, b"x")])
async def test_an_upload_that_lies_about_its_length_is_not_kept(tmp_path: Path, declared: int, sent: bytes) -> None:
    cache = opened(tmp_path)
    with pytest.raises((BlobTooLarge, BlobCorrupt)):
        await cache.put(BlobRef.of(b"12345"), declared, one(sent))
    assert (cache.count, cache.used_bytes, on_disk(tmp_path)) == (0, 0, 0)


async def test_strange_files_in_the_directory_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "objects" / "no"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    assert opened(tmp_path).count == 0
    assert (folder / "notes.txt").read_text() == "mine"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 650)), max_size=25))
async def test_the_quota_holds_whatever_is_put(tmp_path: Path, steps: list[tuple[int, int]]) -> None:
    cache = opened(tmp_path / "a")
    for letter, size in steps:
        try:
            ref = await put(cache, bytes([letter]) * size)
        except BlobTooLarge:
            assert size > 600
            continue
        assert cache.path(ref) is not None
        assert cache.used_bytes == on_disk(tmp_path / "a") <= 1000


DATA = b"0123456789" * 100
URL = f"/v1/blobs/{BlobRef.of(DATA).hex()}"


async def test_ranges_over_http(tmp_path: Path) -> None:
    async with running(tmp_path) as relay:
        created = await relay.client.put(URL, content=DATA)
        again = await relay.client.put(URL, content=DATA)
        assert (created.status_code, again.status_code) == (201, 200)
        cases = {
            "bytes=0-9": (206, DATA[:10]),
            "bytes=990-": (206, DATA[990:]),
            "bytes=-5": (206, DATA[-5:]),
            "bytes=990-5000": (206, DATA[990:]),
            "bytes=1000-": (416, None),
            "bytes=5-2": (416, None),
            "bytes=a-b": (416, None),
            "lines=1-2": (416, None),
        }
        for asked, (status, body) in cases.items():
            reply = await relay.client.get(URL, headers={"Range": asked})
            assert reply.status_code == status, asked
            assert body is None or reply.content == body, asked
        head = await relay.client.head(URL)
        assert (head.headers["content-length"], head.headers["accept-ranges"]) == ("1000", "bytes")
        assert head.headers["x-content-type-options"] == "nosniff"
        listed = BlobManifest.decode((await relay.client.get(URL + "/chunks")).content)
        assert listed == BlobManifest.of(DATA)


async def test_uploads_that_are_refused_over_http(tmp_path: Path) -> None:
    async with running(tmp_path, max_blob_bytes=1 << 20, blob_quota_bytes=2 << 20) as relay:

        async def refused(reply: httpx.Response, status: int, code: str) -> None:
            assert (reply.status_code, reply.json()["code"]) == (status, code)

        await refused(await relay.client.put(URL, content=b"other"), 422, "blob-corrupt")
        await refused(await relay.client.put(URL, content=one(DATA)), 411, "length-required")
        await refused(await relay.client.put(URL, content=bytes((1 << 20) + 1)), 413, "blob-too-large")
        await refused(await relay.client.put("/v1/blobs/..%2f..%2fevil", content=DATA), 400, "usage")
        await refused(
            await relay.client.put(URL.upper().replace("/V1/BLOBS", "/v1/blobs"), content=DATA), 400, "encoding-invalid"
        )
        assert (await relay.client.head(URL)).status_code == 404
        assert (await relay.json("/v1/health"))["blobs"]["count"] == 0


async def test_uploads_may_need_a_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("correct horse battery\n")
    async with running(tmp_path, upload_token_file=token) as relay:
        for given_token in (None, "Bearer wrong", "Bearer", "correct horse battery x"):
            headers = {} if given_token is None else {"Authorization": given_token}
            reply = await relay.client.put(URL, content=DATA, headers=headers)
            assert (reply.status_code, reply.json()["code"]) == (401, "config-invalid")
        right = await relay.client.put(URL, content=DATA, headers={"Authorization": "Bearer correct horse battery"})
        assert right.status_code == 201
        assert (await relay.client.get(URL)).content == DATA


async def test_an_upload_that_falls_silent_is_dropped(tmp_path: Path) -> None:
    limits = GENEROUS.model_copy(update={"upload_idle_s": 0.05})
    async with running(tmp_path, limits=limits) as relay:
        host, port = relay.relay.url.removeprefix("http://").split(":")
        with anyio.fail_after(60):
            async with await anyio.connect_tcp(host, int(port)) as raw:
                await raw.send(f"PUT {URL} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n0123".encode())
                assert b"HTTP/1.1 502" in await raw.receive()
    assert list((tmp_path / "relay" / "blobs" / "incoming").iterdir()) == []


@pytest.mark.parametrize(
    "pace", [{"upload_bytes_per_s": 5_000}, {"upload_bytes_per_s": 1, "upload_s": 600}], ids=["too slow", "never whole"]
)
async def test_an_upload_that_drips_loses_its_seat_long_before_its_end(tmp_path: Path, pace: dict[str, float]) -> None:
    limits = GENEROUS.model_copy(update={"upload_idle_s": 0.2, "max_uploads": 1, **pace})
    async with running(tmp_path, limits=limits) as relay:
        host, port = relay.relay.url.removeprefix("http://").split(":")
        with anyio.fail_after(60):
            async with await anyio.connect_tcp(host, int(port)) as raw, anyio.create_task_group() as group:
                await raw.send(f"PUT {URL} HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000000\r\n\r\n".encode())

                async def drip() -> None:
                    while True:  # never silent for long, and never done
                        await raw.send(b"x")
                        await anyio.sleep(0.02)

                group.start_soon(drip)
                assert b"HTTP/1.1 502" in await raw.receive()
                group.cancel_scope.cancel()
            assert (await relay.client.put(URL, content=DATA)).status_code == 201
    assert list((tmp_path / "relay" / "blobs" / "incoming").iterdir()) == []


async def test_what_the_disk_broke_is_dropped_when_asked_for_and_can_be_put_again(tmp_path: Path) -> None:
    async with running(tmp_path) as relay:
        assert (await relay.client.put(URL, content=DATA)).status_code == 201
    stored = next((tmp_path / "relay" / "blobs" / "objects").glob("??/*"))
    stored.write_bytes(b"x" + DATA[1:])
    async with running(tmp_path) as relay:
        with anyio.fail_after(60):
            while (await relay.client.head(URL)).status_code != 404:
                await anyio.lowlevel.checkpoint()
        assert (await relay.client.put(URL, content=DATA)).status_code == 201
        assert (await relay.client.get(URL)).content == DATA


@pytest.mark.parametrize("damage", [b"no list", BlobManifest.of(b"other content").encode()])
async def test_a_broken_chunk_list_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    content = b"c" * (CHUNK_BYTES + 1)  # of one chunk there is no list
    cache = opened(tmp_path, quota=2 * CHUNK_BYTES, largest=2 * CHUNK_BYTES)
    ref = await put(cache, content)
    listed = next((tmp_path / "chunks").glob("??/*"))
    listed.write_bytes(damage)
    await cache._check(ref)
    assert await cache.chunk_list(ref) == BlobManifest.of(content)
    listed.write_bytes(b"no list")
    assert await cache.chunk_list(ref) == BlobManifest.of(content)


async def test_a_blob_that_somebody_proved_is_not_another_s_to_remove(tmp_path: Path) -> None:
    """A node answers with another node's openings, which prove nothing of its own."""
    cache = BlobCache.open(tmp_path, quota_bytes=1 << 20, max_blob_bytes=1 << 20)
    data, other = b"openings", b"what was here before"
    ref, kept = BlobRef.of(data), BlobRef.of(other)
    await cache.put(kept, len(other), one(other))
    with cache.unproved(ref) as mine:
        await cache.put(ref, len(data), one(data), wanted=False)
        with cache.unproved(ref), cache.unproved(kept):
            pass
        assert cache.path(ref) is not None
        mine.proved = True
    assert None not in (cache.path(ref), cache.path(kept))
    cache.drop(ref)
    with cache.unproved(ref):
        await cache.put(ref, len(data), one(data), wanted=False)
    assert cache.path(ref) is None


@pytest.mark.parametrize("looked_at", ["before it comes", "while it is here"])
async def test_an_upload_stays_that_a_node_named_for_openings_meanwhile(tmp_path: Path, looked_at: str) -> None:
    async with running(tmp_path) as relay:
        cache, ref = relay.relay._cache, BlobRef.of(DATA)
        with cache.unproved(ref):
            if looked_at == "while it is here":
                await cache.put(ref, len(DATA), one(DATA), wanted=False)
            assert (await relay.client.put(URL, content=DATA)).status_code in (200, 201)
        assert (await relay.client.get(URL)).content == DATA


async def test_a_relay_whose_disk_is_full_says_so_and_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with running(tmp_path) as relay:
        path = f"/v1/blobs/{BlobRef.of(b'more').value.hex()}"
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            reply = await relay.client.put(path, content=b"more")
            assert (reply.status_code, reply.json()["code"]) == (507, "disk-full")
            assert (await relay.client.get(path)).status_code == 404
        assert relay.relay._cache.used_bytes == relay.relay._cache._arrived == relay.relay._cache._promised == 0
        assert (await relay.client.put(path, content=b"more")).status_code == 201


async def test_a_database_that_fails_is_a_typed_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path) as relay:
        await relay.indexed()
        engine = relay.relay._queries._database._engine
        with monkeypatch.context() as patch:

            def broken(*_: object, **__: object) -> None:
                raise OperationalError("SELECT", {}, Exception("database or disk is full"))

            patch.setattr(type(engine), "connect", broken)
            told = await relay.json("/v1/tasks", 503)
        assert told["code"] == "index-away"
        await relay.json("/v1/tasks")
