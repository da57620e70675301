"""`/v1/blobs/{ref}`: content by hash. Uploads are verified before they are kept; downloads know byte ranges."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator

import anyio
from aiohttp import web

from gesso.blobs.port import CHUNK_BYTES
from gesso_protocol.errors import BlobMissing, BlobTooLarge, ConfigError, Unreachable, UsageError
from gesso_protocol.ids import BlobRef
from gesso_relay.blobs import BlobCache
from gesso_relay.gate import CLIENT
from gesso_relay.limits import Seats
from gesso_relay.replies import FileReply, json_reply
from gesso_relay.settings import Limits

_FOREVER = "public, max-age=31536000, immutable"


class BlobRoutes:
    """GET, HEAD, PUT and the chunk list of blobs."""

    def __init__(self, cache: BlobCache, limits: Limits, token: str | None) -> None:
        self._cache = cache
        self._limits = limits
        self._token = token
        self._uploads = Seats("uploads", limits.max_uploads, max(1, limits.max_uploads // 2))

    def table(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/blobs/{ref}", self.download),
            web.put("/v1/blobs/{ref}", self.upload),
            web.get("/v1/blobs/{ref}/chunks", self.chunks),
        ]

    async def download(self, request: web.Request) -> web.StreamResponse:
        """The content, or the range of it that was asked for. HEAD tells the size."""
        ref = _ref(request)
        path = self._cache.path(ref)
        if path is None:
            raise BlobMissing(f"{ref.short} is not in this relay's cache")
        headers = {"Content-Type": "application/octet-stream", "Cache-Control": _FOREVER}
        send_s = self._limits.stalled_s + path.stat().st_size / self._limits.download_bytes_per_s
        return FileReply(path, headers, send_s)

    async def upload(self, request: web.Request) -> web.StreamResponse:
        """Keep the content if it hashes to the name in the address."""
        ref = _ref(request)
        self._admit(request)
        size = request.content_length
        if size is None:
            raise web.HTTPLengthRequired(reason="an upload needs a Content-Length")
        if size > self._cache.max_blob_bytes:
            raise BlobTooLarge(f"a blob may have {self._cache.max_blob_bytes} bytes here, this one has {size}")
        if self._cache.path(ref) is not None:
            self._cache.want(ref)
            return json_reply({"ref": str(ref), "size": size, "new": False})
        with self._uploads.seat(request[CLIENT]):
            await self._cache.put(ref, size, self._body(request, size))
        return json_reply({"ref": str(ref), "size": size, "new": True}, status=201)

    async def chunks(self, request: web.Request) -> web.StreamResponse:
        """The chunk list, in its canonical bytes."""
        ref = _ref(request)
        if self._cache.path(ref) is None:
            raise BlobMissing(f"{ref.short} is not in this relay's cache")
        listed = await self._cache.chunk_list(ref)
        return web.Response(body=listed.encode(), content_type="application/json", headers={"Cache-Control": _FOREVER})

    def _admit(self, request: web.Request) -> None:
        if self._token is None:
            return
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            raise ConfigError("this relay takes uploads only with its token", hint="ask its operator for one")

    async def _body(self, request: web.Request, size: int) -> AsyncIterator[bytes]:
        # A byte now and then would hold a seat, and the room for all that was promised, for ever. The pace is held at
        # every piece, not only at the end: whoever promises gigabytes would have days until then.
        limits = self._limits
        rate = max(limits.upload_bytes_per_s, size / limits.upload_s)
        began_s, arrived = anyio.current_time(), 0
        while True:
            late_s = began_s + limits.upload_idle_s + arrived / rate
            try:
                with anyio.fail_after(min(limits.upload_idle_s, late_s - anyio.current_time())):
                    piece = await request.content.read(CHUNK_BYTES)
            except TimeoutError:
                raise Unreachable("the upload stopped in the middle, or is too slow") from None
            if not piece:
                return
            arrived += len(piece)
            yield piece


def _ref(request: web.Request) -> BlobRef:
    text = request.match_info["ref"].removeprefix(BlobRef.PREFIX)
    if len(text) != 64:
        raise UsageError("a blob is named by 64 hex digits")
    return BlobRef.parse(f"{BlobRef.PREFIX}{text}")
