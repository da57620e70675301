"""A transfer that is cut goes on where it was cut, and keeps only what is verified."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gesso.blobs import CHUNK_BYTES, HttpBlobs
from gesso_protocol.errors import Unreachable
from gesso_protocol.ids import BlobRef

from .conftest import QUICK, relay_app
from .servers import CuttingProxy, serving

pytestmark = pytest.mark.anyio

DATA = b"".join(index.to_bytes(4, "big") for index in range(5 * CHUNK_BYTES // 4)) + b"tail"
REF = BlobRef.of(DATA)


@asynccontextmanager
async def behind_proxy(
    folder: Path, pauses_s: tuple[float, ...] = QUICK
) -> AsyncIterator[tuple[CuttingProxy, HttpBlobs]]:
    async with (
        serving(relay_app(folder / "relay")) as url,
        CuttingProxy.before(url) as proxy,
        HttpBlobs(proxy.url, retry_pauses_s=pauses_s) as store,
    ):
        await store.put(DATA)
        proxy.bytes_from_server = 0
        yield proxy, store


async def test_one_fetch_survives_many_cuts_and_loads_little_twice(tmp_path: Path) -> None:
    async with behind_proxy(tmp_path) as (proxy, store):
        proxy.cuts = [CHUNK_BYTES + 500_000] * 4
        with anyio.fail_after(60):
            await store.fetch(REF, tmp_path / "x", max_bytes=len(DATA))
        assert (tmp_path / "x").read_bytes() == DATA
        assert proxy.cuts == []
        assert proxy.bytes_from_server < len(DATA) + 5 * CHUNK_BYTES


async def test_a_later_fetch_resumes_from_the_last_good_chunk(tmp_path: Path) -> None:
    part = tmp_path / "x.part"
    async with behind_proxy(tmp_path, pauses_s=()) as (proxy, store):
        with anyio.fail_after(60):
            # The first connection of a fetch is also the one that asks for size and chunk list.
            proxy.cuts = [3 * CHUNK_BYTES + 200_000]
            with pytest.raises(Unreachable):
                await store.fetch(REF, tmp_path / "x", max_bytes=len(DATA))
            assert not (tmp_path / "x").exists()
            kept = part.stat().st_size
            assert kept in (2 * CHUNK_BYTES, 3 * CHUNK_BYTES)
            assert part.read_bytes() == DATA[:kept]
            proxy.bytes_from_server = 0
            await store.fetch(REF, tmp_path / "x", max_bytes=len(DATA))
        assert proxy.bytes_from_server < len(DATA) - kept + 100_000
    assert (tmp_path / "x").read_bytes() == DATA
    assert not part.exists()


async def test_a_partial_file_that_was_tampered_with_is_loaded_again_from_there(tmp_path: Path) -> None:
    spoilt = bytearray(DATA[: 3 * CHUNK_BYTES])
    spoilt[CHUNK_BYTES + 9] ^= 1
    (tmp_path / "x.part").write_bytes(spoilt)
    async with behind_proxy(tmp_path) as (proxy, store):
        with anyio.fail_after(60):
            await store.fetch(REF, tmp_path / "x", max_bytes=len(DATA))
        assert len(DATA) - CHUNK_BYTES <= proxy.bytes_from_server < len(DATA)
    assert (tmp_path / "x").read_bytes() == DATA


async def test_get_survives_a_cut(tmp_path: Path) -> None:
    async with behind_proxy(tmp_path) as (proxy, store):
        proxy.cuts = [10, 100_000]
        with anyio.fail_after(60):
            assert await store.get(REF, max_bytes=len(DATA)) == DATA


async def test_a_link_that_is_always_cut_gives_up(tmp_path: Path) -> None:
    async with behind_proxy(tmp_path) as (proxy, store):
        proxy.cuts = [100] * 1000
        with anyio.fail_after(60), pytest.raises(Unreachable):
            await store.fetch(REF, tmp_path / "x", max_bytes=len(DATA))
        assert len(proxy.cuts) > 900


async def test_an_upload_that_is_cut_leaves_nothing(tmp_path: Path) -> None:
    ref = BlobRef.of(DATA[:-1])
    with anyio.fail_after(60):
        async with serving(relay_app(tmp_path / "relay"), patience_s=30) as url:
            host, port = url.removeprefix("http://").split(":")
            for sent in (0, 1, CHUNK_BYTES + 1, len(DATA) - 2):
                stream = await anyio.connect_tcp(host, int(port))
                head = f"PUT /v1/blobs/{ref.hex()} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(DATA) - 1}\r\n\r\n"
                await stream.send(head.encode() + DATA[:sent])
                await stream.aclose()
        # Stopping the server waits for its handlers, so nothing is still being written here.
        assert list((tmp_path / "relay" / "incoming").iterdir()) == []
        async with serving(relay_app(tmp_path / "relay")) as url, HttpBlobs(url, retry_pauses_s=QUICK) as store:
            assert not await store.has(ref)
            assert await store.put(DATA[:-1]) == ref


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, len(DATA)), max_size=3))
async def test_wherever_it_is_cut_the_content_arrives(tmp_path: Path, cuts: list[int]) -> None:
    (tmp_path / "x").unlink(missing_ok=True)
    async with behind_proxy(tmp_path) as (proxy, store):
        proxy.cuts = list(cuts)
        with anyio.fail_after(60):
            await store.fetch(REF, tmp_path / "x", max_bytes=len(DATA))
        assert (tmp_path / "x").read_bytes() == DATA
