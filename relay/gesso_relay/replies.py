"""How the relay answers: JSON, errors as {code, message, hint}, and server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from gesso_protocol.errors import (
    BlobCorrupt,
    BlobMissing,
    BlobTooLarge,
    ConfigError,
    DiskFull,
    EncodingInvalid,
    GessoError,
    MessageTooLarge,
    RateLimited,
    UsageError,
)
from gesso_relay.audience import Seat
from gesso_relay.index.database import IndexAwayError

_STATUS: tuple[tuple[type[GessoError], int], ...] = (
    (BlobMissing, 404),
    (BlobTooLarge, 413),
    (MessageTooLarge, 413),
    (BlobCorrupt, 422),
    (DiskFull, 507),
    (RateLimited, 429),
    (UsageError, 400),
    (EncodingInvalid, 400),
    (ConfigError, 401),
    (IndexAwayError, 503),
)
_HTTP_CODES = {404: "not-found", 405: "method-not-allowed", 411: "length-required", 413: "too-large", 416: "bad-range"}


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One server-sent event; `data` holds no line break."""

    name: str
    data: str
    id: str | None = None

    def encode(self) -> bytes:
        head = f"id: {self.id}\n" if self.id is not None else ""
        return f"{head}event: {self.name}\ndata: {self.data}\n\n".encode()


def json_reply(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Compact JSON that any page may read."""
    body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return web.Response(body=body, status=status, content_type="application/json", charset="utf-8", headers=headers)


class FileReply(web.FileResponse):
    """A file, sent within `send_s`. Whoever takes longer is cut off, and can go on from there with a range."""

    def __init__(self, path: Path, headers: Mapping[str, str], send_s: float) -> None:
        super().__init__(path, chunk_size=256 * 1024, headers=headers)
        self._send_s = send_s

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        try:
            with anyio.fail_after(self._send_s):
                return await super().prepare(request)
        except TimeoutError:  # ours, or the system's for a connection that takes nothing
            if request.transport is not None:
                request.transport.abort()  # closed, it would wait for what lies in its buffer
            raise ConnectionResetError("the reader is too slow") from None


@dataclass(frozen=True, slots=True)
class Problem:
    """Why there is no answer, before it is known who asks: a program gets JSON, a reader a page."""

    status: int
    code: str
    message: str
    hint: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def reply(self) -> web.Response:
        """{code, message, hint}."""
        told = {"code": self.code, "message": self.message, "hint": self.hint}
        return json_reply(told, status=self.status, headers=self.headers)


def problem(error: GessoError) -> Problem:
    """A typed error and its status."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 502)
    return Problem(status, error.code, error.message, error.hint, {"Retry-After": "1"} if status in (429, 503) else {})


def http_problem(error: web.HTTPException) -> Problem:
    """What the server library itself refuses, in the same form."""
    code = _HTTP_CODES.get(error.status, "bad-request" if error.status < 500 else "internal")
    headers = {name: error.headers[name] for name in ("Allow", "Content-Range") if name in error.headers}
    return Problem(error.status, code, error.reason.lower(), "see relay/README.md for the endpoints", headers)


def internal_problem() -> Problem:
    """Our own bug: the details are in the log, not in the answer."""
    return Problem(500, "internal", "the relay could not answer this", "try again, or ask another relay")


_STOPPING = web.AppKey("stopping", anyio.Event)


def end_streams_on_stop(app: web.Application) -> None:
    """Whoever reads a stream of this application sees its end when the server stops, and no stop waits for readers."""
    app[_STOPPING] = anyio.Event()

    async def stop(_: web.Application) -> None:
        app[_STOPPING].set()

    app.on_shutdown.append(stop)


async def stream_events(
    request: web.Request, events: AsyncIterator[ServerEvent], seat: Seat, *, heartbeat_s: float, stream_s: float
) -> web.StreamResponse:
    """Send events until they end, the reader goes, the server stops, the seat is taken away, or `stream_s` is over; a
    comment a heartbeat keeps proxies awake."""
    reply = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
            "Access-Control-Allow-Origin": "*",
        }
    )
    await reply.prepare(request)
    writing = anyio.Lock()

    async def beat() -> None:
        while True:
            await anyio.sleep(heartbeat_s)
            async with writing:
                await reply.write(b": still here\n\n")

    async def send() -> None:
        async for event in events:
            seat.tells()
            async with writing:
                await reply.write(event.encode())
        group.cancel_scope.cancel()

    async def end(over: anyio.Event) -> None:
        await over.wait()
        group.cancel_scope.cancel()

    with anyio.move_on_after(stream_s):
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(beat)
                group.start_soon(send)
                group.start_soon(end, request.app[_STOPPING])
                group.start_soon(end, seat.ended)
        except* (ConnectionError, web.GracefulExit):
            pass
    return reply
