"""Servers for the blob tests: a real one, a TCP proxy that cuts, and ones that lie."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import anyio
from aiohttp import web
from anyio.abc import SocketAttribute, SocketStream


@asynccontextmanager
async def serving(app: web.Application, *, patience_s: float = 0.5) -> AsyncIterator[str]:
    """The app on a free loopback port; gives its URL. Its handlers have so long to end by themselves."""
    runner = web.AppRunner(app, shutdown_timeout=patience_s)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@dataclass
class CuttingProxy:
    """Forwards TCP. While `cuts` has entries, a connection is dropped after so many bytes from the server."""

    upstream: tuple[str, int]
    cuts: list[int] = field(default_factory=list)
    url: str = ""
    connections: int = 0
    bytes_from_server: int = 0

    @classmethod
    @asynccontextmanager
    async def before(cls, url: str) -> AsyncIterator[CuttingProxy]:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        proxy = cls((parts.hostname, parts.port))
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(SocketAttribute.local_port)
        proxy.url = f"http://127.0.0.1:{port}"
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, proxy._connection)
            yield proxy
            group.cancel_scope.cancel()

    async def _connection(self, client: SocketStream) -> None:
        self.connections += 1
        async with client, await anyio.connect_tcp(*self.upstream) as server, anyio.create_task_group() as group:
            group.start_soon(self._upwards, client, server)
            await self._downwards(server, client)
            group.cancel_scope.cancel()

    async def _upwards(self, client: SocketStream, server: SocketStream) -> None:
        try:
            async for data in client:
                await server.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass

    async def _downwards(self, server: SocketStream, client: SocketStream) -> None:
        sent = 0
        try:
            async for data in server:
                if self.cuts and sent + len(data) > self.cuts[0]:
                    await client.send(data[: max(0, self.cuts.pop(0) - sent)])
                    return
                sent += len(data)
                self.bytes_from_server += len(data)
                await client.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass


Script = Callable[[str, str, dict[str, str]], bytes]


@asynccontextmanager
async def raw_server(script: Script) -> AsyncIterator[str]:
    """Answers each request with exactly the bytes that `script(method, path, headers)` returns, then closes."""

    async def answer(stream: SocketStream) -> None:
        async with stream:
            head = b""
            try:
                while b"\r\n\r\n" not in head and len(head) < 65536:
                    head += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return
            lines = head.split(b"\r\n\r\n")[0].decode().split("\r\n")
            method, path, _ = lines[0].split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            try:
                await stream.send(script(method, path, headers))
            except anyio.BrokenResourceError:
                return

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, answer)
        yield f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        group.cancel_scope.cancel()


def answer(status: str, body: bytes = b"", **headers: str) -> bytes:
    """An HTTP answer; a header given as an argument replaces the honest one, `Content_Length=""` leaves it out."""
    fields = {"Content-Length": str(len(body)), "Connection": "close"}
    fields.update({name.replace("_", "-"): value for name, value in headers.items()})
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body
