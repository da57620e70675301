"""Loopback servers that speak as drand's do, or try to do harm."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from gesso_protocol import drand

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "drand.json").read_text())
PUBLISHED = {
    int(number, 16): bytes.fromhex(signature[2:])
    for number, signature in zip(VECTORS["round"], VECTORS["signature"], strict=True)
}
Answer = Callable[[web.Request, int], Awaitable[web.StreamResponse]]


def document(number: int, signature: bytes) -> bytes:
    """As api.drand.sh prints it."""
    said = {"round": number, "randomness": drand.seed_of(signature).hex(), "signature": signature.hex()}
    return json.dumps(said).encode()


async def honest(_: web.Request, number: int) -> web.StreamResponse:
    """What was published, and an error for what was not."""
    if number not in PUBLISHED:
        return web.Response(status=404, text="EOF")
    return web.Response(body=document(number, PUBLISHED[number]), content_type="application/json")


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    """Its address. Only quicknet's own path is served."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return await answer(request, int(request.match_info["number"]))

    app = web.Application()
    app.router.add_get(f"/{drand.CHAIN_HASH}/public/{{number:\\d+}}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
