"""A server that lies costs a typed error and bounded memory; it never gets bytes into place."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from gesso.blobs import CHUNK_BYTES, HttpBlobs
from gesso_protocol.errors import BlobCorrupt, BlobMissing, BlobTooLarge, ConfigError, GessoError, Unreachable
from gesso_protocol.ids import BlobRef
from gesso_protocol.manifest import BlobManifest

from .conftest import QUICK
from .servers import Script, answer, raw_server

pytestmark = pytest.mark.anyio

DATA = bytes(range(256)) * 10_000
REF = BlobRef.of(DATA)
BIG = 8 << 20


async def attempt(
    script: Script, tmp_path: Path, *, max_bytes: int = BIG
) -> tuple[GessoError | bytes, GessoError | bytes]:
    """What `get` and what `fetch` come to against the server; both must end quickly."""
    dest = tmp_path / "dest"

    async def fetched(store: HttpBlobs) -> bytes:
        await store.fetch(REF, dest, max_bytes=max_bytes)
        return dest.read_bytes()

    async def outcome(call: Awaitable[bytes]) -> GessoError | bytes:
        try:
            return await call
        except GessoError as error:
            return error

    async with raw_server(script) as url, HttpBlobs(url, timeout_s=30, retry_pauses_s=QUICK) as store:
        with anyio.fail_after(60):
            got = await outcome(store.get(REF, max_bytes=max_bytes))
            kept = await outcome(fetched(store))
    if not isinstance(kept, bytes):
        assert not dest.exists()
    return got, kept


def serve(body: bytes, *, status: str = "200 OK", chunks: bytes | None = None, **headers: str) -> Script:
    """HEAD tells the honest size; GET answers `body` whatever the range."""

    def script(method: str, path: str, asked: dict[str, str]) -> bytes:
        if path.endswith("/chunks"):
            return answer("404 Not Found") if chunks is None else answer("200 OK", chunks)
        if method == "HEAD":
            return answer("200 OK", Content_Length=str(len(DATA)))
        return answer(status, body, **headers)

    return script


async def test_an_honest_server_without_ranges_or_chunk_lists_is_enough(tmp_path: Path) -> None:
    assert await attempt(serve(DATA), tmp_path) == (DATA, DATA)


@pytest.mark.parametrize(
    "body",
    [b"", b"x", DATA[:-1] + b"\0", DATA[::-1], b"\0" * len(DATA)],
    ids=["empty", "short", "last byte", "reversed", "zeros"],
)
async def test_other_content_of_any_length_is_corrupt_or_cut(tmp_path: Path, body: bytes) -> None:
    got, kept = await attempt(serve(body), tmp_path)
    assert isinstance(got, BlobCorrupt)
    assert isinstance(kept, BlobCorrupt | Unreachable)


async def test_a_body_longer_than_declared_is_cut_off(tmp_path: Path) -> None:
    got, kept = await attempt(serve(DATA + b"\0" * BIG), tmp_path)
    assert isinstance(got, BlobTooLarge)
    assert isinstance(kept, BlobCorrupt)


async def test_an_endless_body_without_a_length_is_cut_off(tmp_path: Path) -> None:
    endless = b"100000\r\n" + b"\0" * (1 << 20) + b"\r\n"
    got, kept = await attempt(serve(endless * 12, Content_Length="", Transfer_Encoding="chunked"), tmp_path)
    assert isinstance(got, BlobTooLarge)
    assert isinstance(kept, BlobCorrupt)


async def test_a_declared_length_over_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    def script(method: str, path: str, asked: dict[str, str]) -> bytes:
        return answer("200 OK", b"" if method == "HEAD" else b"\0" * 100, Content_Length=str(1 << 40))

    got, kept = await attempt(script, tmp_path)
    assert isinstance(got, BlobTooLarge)
    assert isinstance(kept, BlobTooLarge)


@pytest.mark.parametrize("length", ["-5", "1e9", "9" * 40, "0x10", "five", "١٢"])
async def test_a_length_that_is_no_number_is_an_error(tmp_path: Path, length: str) -> None:
    def script(method: str, path: str, asked: dict[str, str]) -> bytes:
        return f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode()

    got, kept = await attempt(script, tmp_path)
    assert isinstance(got, GessoError)
    assert isinstance(kept, GessoError)


async def test_a_compressed_answer_is_refused(tmp_path: Path) -> None:
    bomb = gzip.compress(b"\0" * (1 << 24))
    got, kept = await attempt(serve(bomb, Content_Encoding="gzip"), tmp_path)
    assert isinstance(got, BlobCorrupt)
    assert isinstance(kept, BlobCorrupt)


async def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    got, kept = await attempt(serve(b"", status="302 Found", Location="http://169.254.169.254/"), tmp_path)
    assert isinstance(got, Unreachable)
    assert isinstance(kept, Unreachable)


async def test_another_range_than_asked_for_is_refused(tmp_path: Path) -> None:
    script = serve(DATA, status="206 Partial Content", Content_Range=f"bytes 7-{len(DATA)}/{len(DATA)}")
    _, kept = await attempt(script, tmp_path)
    assert isinstance(kept, BlobCorrupt)


HONEST = BlobManifest.of(DATA)


@pytest.mark.parametrize(
    "chunks",
    [
        b"",
        b"not json",
        b"[" * 100_000,
        BlobManifest.of(DATA[::-1]).encode(),
        BlobManifest.of(b"").encode(),
        b"\0" * (5 << 20),
    ],
    ids=["empty", "text", "deep", "other blob", "no chunks", "huge"],
)
async def test_a_chunk_list_that_cannot_be_right_names_its_sender(tmp_path: Path, chunks: bytes) -> None:
    _, kept = await attempt(serve(DATA, chunks=chunks), tmp_path)
    assert isinstance(kept, BlobCorrupt)


async def test_a_forged_chunk_list_cannot_pass_forged_content(tmp_path: Path) -> None:
    forged = b"\0" * len(DATA)
    listed = BlobManifest(blob=REF, size=len(DATA), chunks=BlobManifest.of(forged).chunks).encode()
    _, kept = await attempt(serve(forged, chunks=listed), tmp_path)
    assert isinstance(kept, BlobCorrupt)
    assert not (tmp_path / "dest.part").exists()


async def test_a_broken_chunk_is_noticed_before_the_rest_is_loaded(tmp_path: Path) -> None:
    asked: list[str] = []
    broken = bytearray(DATA)
    broken[0] ^= 1

    def script(method: str, path: str, headers: dict[str, str]) -> bytes:
        asked.append(f"{method} {headers.get('range', '')}")
        return serve(bytes(broken), chunks=HONEST.encode())(method, path, headers)

    _, kept = await attempt(script, tmp_path)
    assert isinstance(kept, BlobCorrupt)
    assert "chunk 0" in kept.message
    assert "GET bytes=1048576-" not in asked


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400 Bad Request", Unreachable),
        ("401 Unauthorized", ConfigError),
        ("404 Not Found", BlobMissing),
        ("413 Too Large", BlobTooLarge),
        ("416 Range", BlobCorrupt),
        ("429 Slow Down", Unreachable),
        ("500 Oops", Unreachable),
        ("999 What", Unreachable),
    ],
)
async def test_each_refusal_has_its_error(tmp_path: Path, status: str, kind: type[GessoError]) -> None:
    def script(method: str, path: str, asked: dict[str, str]) -> bytes:
        return answer(status, b"" if method == "HEAD" else b"no")

    got, kept = await attempt(script, tmp_path)
    assert type(got) is kind
    assert type(kept) is kind


@pytest.mark.parametrize("junk", [b"", b"\0" * 1000, b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200\r\n" + b"X: y\r\n" * 9000])
async def test_what_is_not_http_is_unreachable(tmp_path: Path, junk: bytes) -> None:
    got, kept = await attempt(lambda method, path, headers: junk, tmp_path)
    assert isinstance(got, Unreachable)
    assert isinstance(kept, Unreachable)


async def test_nobody_at_the_address_is_unreachable() -> None:
    async with HttpBlobs("http://127.0.0.1:1", retry_pauses_s=QUICK) as store:
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.get(REF, max_bytes=1),
            lambda: store.has(REF),
            lambda: store.put(b"x"),
        ]
        for call in calls:
            with pytest.raises(Unreachable):
                await call()


async def test_a_silent_server_times_out(tmp_path: Path) -> None:
    connections = 0

    async def never(stream: anyio.abc.SocketStream) -> None:
        nonlocal connections
        connections += 1
        async with stream:
            await anyio.sleep_forever()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, never)
        with anyio.fail_after(60):
            async with HttpBlobs(f"http://127.0.0.1:{port}", timeout_s=0.2, retry_pauses_s=QUICK) as store:
                with pytest.raises(Unreachable):
                    await store.get(REF, max_bytes=BIG)
        assert connections == 1
        group.cancel_scope.cancel()


@pytest.mark.parametrize("url", ["", "relay", "ftp://relay", "http://", "file:///etc/passwd", "javascript:alert(1)"])
def test_what_is_no_web_address_is_a_setting_error(url: str) -> None:
    with pytest.raises(ConfigError):
        HttpBlobs(url)


async def stream(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]


@asynccontextmanager
async def dripping(head: str) -> AsyncIterator[str]:
    """A server that is never silent for long and never done."""

    async def drip(stream: SocketStream) -> None:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async with stream:
                asked = await stream.receive()
                if asked.startswith(b"HEAD") or not head:
                    text = f"HTTP/1.1 200 OK\r\nContent-Length: {len(DATA)}\r\n" if head else "HTTP/1.1 200 OK\r\n"
                else:
                    text = head
                await stream.send(text.encode() + (b"\r\n" if head else b""))
                while not (asked.startswith(b"HEAD") and head):
                    await stream.send(b"x" if head else b"X-More: x\r\n")
                    await anyio.sleep(0.02)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, drip)
        yield f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        group.cancel_scope.cancel()


@pytest.mark.parametrize("head", [f"HTTP/1.1 200 OK\r\nContent-Length: {len(DATA)}\r\n", ""], ids=["body", "headers"])
async def test_a_server_that_drips_is_given_up(tmp_path: Path, head: str) -> None:
    async with (
        dripping(head) as url,
        HttpBlobs(url, timeout_s=0.3, retry_pauses_s=QUICK, least_bytes_per_s=4 * len(DATA)) as store,
    ):
        with anyio.fail_after(60):
            for call in (
                store.get(REF, max_bytes=BIG),
                store.fetch(REF, tmp_path / "dest", max_bytes=BIG),
                store.put(b"x" * 1000) if not head else store.get(REF, max_bytes=BIG),
            ):
                with pytest.raises(GessoError):
                    await call
    assert not (tmp_path / "dest").exists()
