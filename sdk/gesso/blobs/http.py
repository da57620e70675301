"""Blobs on a relay, or on any server that answers GET, HEAD and PUT under `/v1/blobs/` and knows byte ranges.

The server is not trusted: lengths are bounded before anything is read, compressed answers are refused, chunks are
checked against its own list as they come, and the whole content against the ref before it gets its name.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar
from urllib.parse import urlsplit

import anyio
import httpx
from anyio import to_thread

from gesso.blobs.hashing import Digester, pieces
from gesso.blobs.partial import Partial
from gesso.blobs.port import CHUNK_BYTES, DEFAULT_MAX_BYTES, BlobSource, OnProgress
from gesso_protocol.errors import (
    BlobCorrupt,
    BlobMissing,
    BlobTooLarge,
    ConfigError,
    EncodingInvalid,
    GessoError,
    Unreachable,
)
from gesso_protocol.ids import BlobRef
from gesso_protocol.manifest import BlobManifest, chunk_count

T = TypeVar("T")

_LIST_BYTES_A_CHUNK = 80
_LIST_BYTES_FIXED = 4096
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_CONTENT_RANGE = re.compile(r"bytes (\d{1,15})-\d{1,15}/(\d{1,15})")


class HttpBlobs:
    """A store behind a URL. Use it as an async context manager, or call `close`.

    `timeout_s`: how long the server may be silent. `retry_pauses_s`: how long to wait before each further try; a fetch
    starts counting anew after every good chunk. `least_bytes_per_s`: a transfer that is slower on the whole, with all
    its tries, is given up, so that a server that sends a byte now and then holds nobody.
    """

    def __init__(
        self,
        base_url: str,
        token: str | None = None,
        *,
        timeout_s: float = 10.0,
        retry_pauses_s: tuple[float, ...] = (0.2, 0.8, 2.0),
        least_bytes_per_s: float = 8192.0,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{base_url!r} is not an http or https address of a blob store")
        self._pauses_s = retry_pauses_s
        self._timeout_s = timeout_s
        self._least_bytes_per_s = least_bytes_per_s
        headers = {"Accept-Encoding": "identity", "User-Agent": "gesso"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self._client = httpx.AsyncClient(
            base_url=base_url.rstrip("/"),
            headers=headers,
            timeout=timeout_s,
            follow_redirects=False,
            # A proxy for the outside world must not come between two processes of one machine.
            trust_env=parts.hostname not in _LOOPBACK,
        )

    async def __aenter__(self) -> HttpBlobs:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connections back. The store cannot be used afterwards."""
        await self._client.aclose()

    async def put(self, source: BlobSource, *, expect: BlobRef | None = None) -> BlobRef:
        """See `BlobStore.put`. Content that the server already has is not sent again."""
        if isinstance(source, bytes):
            ref = await to_thread.run_sync(BlobRef.of, source)
            await self._send(source, _expected(ref, expect), len(source))
            return ref
        if isinstance(source, Path):
            ref, size = await _digest(source)
            await self._send(source, _expected(ref, expect), size)
            return ref
        # The address contains the hash, so a stream has to end before the first byte can be sent.
        with tempfile.TemporaryDirectory(prefix="gesso-blob-") as folder:
            spool = Path(folder) / "content"
            await _spool(source, spool)
            return await self.put(spool, expect=expect)

    async def get(self, ref: BlobRef, *, max_bytes: int) -> bytes:
        """See `BlobStore.get`."""

        async def once() -> bytes:
            async with self._within(ref, 0) as scope, self._open("GET", ref) as answer:
                scope.deadline += min(_declared(answer, ref, or_else=0), max_bytes) / self._least_bytes_per_s
                return await _read(answer, ref, max_bytes)

        data = await self._retrying(once)
        if await to_thread.run_sync(BlobRef.of, data) != ref:
            raise BlobCorrupt(f"{ref.short}: the content that came has another hash")
        return data

    async def fetch(self, ref: BlobRef, dest: Path, *, max_bytes: int, progress: OnProgress | None = None) -> None:
        """See `BlobStore.fetch`."""
        size = await self.size(ref)
        if size > max_bytes:
            raise BlobTooLarge(f"{ref.short} has {size} bytes, {max_bytes} are allowed here")
        chunks = await self._chunks(ref, size) if size > CHUNK_BYTES else None
        partial = await to_thread.run_sync(Partial, ref, dest, size, chunks)
        with partial:
            async with self._within(ref, size):
                if partial.verified and await self._resumed(partial, ref, progress):
                    return
                await self._fill(partial, ref, progress)
                await to_thread.run_sync(partial.finish)

    async def has(self, ref: BlobRef) -> bool:
        """See `BlobStore.has`."""
        try:
            await self.size(ref)
        except BlobMissing:
            return False
        return True

    async def size(self, ref: BlobRef) -> int:
        """See `BlobStore.size`."""

        async def once() -> int:
            async with self._within(ref, 0), self._open("HEAD", ref) as answer:
                return _declared(answer, ref)

        return await self._retrying(once)

    async def _resumed(self, partial: Partial, ref: BlobRef, progress: OnProgress | None) -> bool:
        """Go on from an earlier cut. False when the old beginning turns out to be of something else."""
        await self._fill(partial, ref, progress)
        try:
            await to_thread.run_sync(partial.finish)
        except BlobCorrupt:
            return False
        return True

    async def _fill(self, partial: Partial, ref: BlobRef, progress: OnProgress | None) -> None:
        failures = 0
        while not partial.complete:
            before = partial.verified
            try:
                await self._pull(partial, ref, progress)
                continue
            except BlobMissing:
                raise
            except (Unreachable, BlobCorrupt) as error:
                partial.drop_pending()
                failures = 1 if partial.verified > before else failures + 1
                if failures > len(self._pauses_s):
                    raise error
            await anyio.sleep(self._pauses_s[failures - 1])

    async def _pull(self, partial: Partial, ref: BlobRef, progress: OnProgress | None) -> None:
        """One request for all that is missing; raises Unreachable when the answer ends early."""
        total = partial.size
        async with self._open("GET", ref, {"Range": f"bytes={partial.wanted}-"}) as answer:
            if answer.status_code == httpx.codes.PARTIAL_CONTENT:
                _check_range(answer, ref, partial.wanted, total)
            else:
                partial.restart()
            async for piece in answer.aiter_raw(CHUNK_BYTES):
                await to_thread.run_sync(partial.write, piece)
                if progress is not None:
                    progress(partial.verified, total)
        if not partial.complete:
            raise Unreachable(f"{ref.short}: the answer ended {total - partial.verified} bytes early")

    async def _chunks(self, ref: BlobRef, size: int) -> BlobManifest | None:
        """The server's chunk list when it has one that fits the blob's size."""
        bound = _LIST_BYTES_FIXED + chunk_count(size) * _LIST_BYTES_A_CHUNK

        async def once() -> bytes:
            async with self._within(ref, bound), self._open("GET", ref, path="/chunks") as answer:
                return await _read(answer, ref, bound)

        try:
            listed = BlobManifest.decode(await self._retrying(once))
        except BlobMissing:
            return None
        except (EncodingInvalid, BlobTooLarge) as error:
            raise BlobCorrupt(f"{ref.short}: the server's chunk list cannot be read") from error
        if (listed.blob, listed.size) != (ref, size):
            raise BlobCorrupt(f"{ref.short}: the server's chunk list is of another blob")
        return listed

    async def _send(self, source: bytes | Path, ref: BlobRef, size: int) -> None:
        if await self.has(ref):
            return

        async def once() -> None:
            headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
            async with (
                aclosing(pieces(source)) as content,
                self._within(ref, size),
                self._open("PUT", ref, headers, content=content),
            ):
                return

        await self._retrying(once)

    @asynccontextmanager
    async def _within(self, ref: BlobRef, size: int) -> AsyncIterator[anyio.CancelScope]:
        """Time for `size` bytes and for all the silences that are allowed; then Unreachable."""
        silences_s = self._timeout_s * (len(self._pauses_s) + 1) + sum(self._pauses_s)
        try:
            with anyio.fail_after(silences_s + size / self._least_bytes_per_s) as scope:
                yield scope
        except TimeoutError:
            raise Unreachable(f"{self._client.base_url} is too slow with {ref.short}") from None

    @asynccontextmanager
    async def _open(
        self,
        method: str,
        ref: BlobRef,
        headers: dict[str, str] | None = None,
        *,
        path: str = "",
        content: AsyncIterator[bytes] | None = None,
    ) -> AsyncIterator[httpx.Response]:
        url = f"/v1/blobs/{bytes(ref).hex()}{path}"
        try:
            async with self._client.stream(method, url, headers=headers, content=content) as answer:
                _raise_for(answer, ref)
                yield answer
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise Unreachable(
                f"the blob server at {str(self._client.base_url).rstrip('/')} does not answer ({type(error).__name__})",
                hint="see that it runs, or name another relay in the settings; on a devnet: gesso devnet status",
            ) from error

    async def _retrying(self, once: Callable[[], Awaitable[T]]) -> T:
        # A server that refuses is asked again at once; one that hangs has used up the patience with its first silence.
        patience_until_s = anyio.current_time() + self._timeout_s
        for pause_s in self._pauses_s:
            try:
                return await once()
            except BlobMissing:
                raise
            except Unreachable:
                if anyio.current_time() + pause_s >= patience_until_s:
                    raise
                await anyio.sleep(pause_s)
        return await once()


def _expected(ref: BlobRef, expect: BlobRef | None) -> BlobRef:
    if expect is not None and ref != expect:
        raise BlobCorrupt(f"the content is {ref.short}, not {expect.short}")
    return ref


async def _digest(source: Path) -> tuple[BlobRef, int]:
    digester = Digester(DEFAULT_MAX_BYTES)
    async with aclosing(pieces(source)) as given:
        async for piece in given:
            await to_thread.run_sync(digester.update, piece)
    return digester.finish()[0], digester.size


async def _spool(source: AsyncIterator[bytes], path: Path) -> None:
    size = 0
    with await to_thread.run_sync(path.open, "xb") as file:
        async for piece in source:
            size += len(piece)
            if size > DEFAULT_MAX_BYTES:
                raise BlobTooLarge(f"content is larger than {DEFAULT_MAX_BYTES} bytes")
            await to_thread.run_sync(file.write, piece)


async def _read(answer: httpx.Response, ref: BlobRef, max_bytes: int) -> bytes:
    """The body, refused before it is read when it says that it is too long, and cut when it lied."""
    if _declared(answer, ref, or_else=0) > max_bytes:
        raise BlobTooLarge(f"{ref.short} is larger than the {max_bytes} bytes allowed here")
    data = bytearray()
    async for piece in answer.aiter_raw(CHUNK_BYTES):
        data += piece
        if len(data) > max_bytes:
            raise BlobTooLarge(f"{ref.short} is larger than the {max_bytes} bytes allowed here")
    return bytes(data)


def _declared(answer: httpx.Response, ref: BlobRef, or_else: int | None = None) -> int:
    text = answer.headers.get("Content-Length")
    if text is not None and text.isascii() and text.isdigit() and len(text) <= 15:
        return int(text)
    if or_else is None:
        raise BlobCorrupt(f"{ref.short}: the server does not say how long it is")
    return or_else


def _check_range(answer: httpx.Response, ref: BlobRef, start: int, total: int) -> None:
    found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if found is None or (int(found[1]), int(found[2])) != (start, total):
        raise BlobCorrupt(f"{ref.short}: the server sent another range than it was asked for")


def _raise_for(answer: httpx.Response, ref: BlobRef) -> None:
    status = answer.status_code
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise BlobCorrupt(f"{ref.short}: the server compressed the content although it was asked not to")
    if status in (200, 201, 204, 206):
        return
    raise _refusal(status, ref)


def _refusal(status: int, ref: BlobRef) -> GessoError:
    if status in (404, 410):
        return BlobMissing(f"{ref.short} is not on this server")
    if status in (413, 507):
        return BlobTooLarge(f"{ref.short}: the server does not take so much")
    if status in (416, 422):
        return BlobCorrupt(f"{ref.short}: the server refused the content or its range ({status})")
    if status in (401, 403):
        return ConfigError(f"the blob server refused our token ({status})")
    return Unreachable(f"the blob server answered {status}")
