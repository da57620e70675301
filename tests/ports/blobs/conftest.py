"""Every adapter of the blob port, ready to use, over real files and real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import web

from gesso.blobs import BlobStore, HttpBlobs, LayeredBlobs, LocalBlobs
from gesso_relay.blobs import BlobCache
from gesso_relay.gate import gate
from gesso_relay.routes.blobs import BlobRoutes
from gesso_relay.settings import Limits

from .servers import serving

MAX_BLOB = 6 << 20
QUICK = (0.0, 0.0, 0.0)


def relay_app(
    root: Path, *, quota: int = 64 << 20, token: str | None = None, limits: Limits | None = None
) -> web.Application:
    """The relay's blob routes behind its gate, over an empty cache."""
    limits = limits or Limits(requests_per_s=10_000, request_burst=10_000)
    app = web.Application(middlewares=[gate(limits, trust_forwarded_for=False)])
    cache = BlobCache.open(root, quota_bytes=quota, max_blob_bytes=MAX_BLOB)
    app.add_routes(BlobRoutes(cache, limits, token).table())
    return app


@pytest.fixture(params=["local", "http", "layered"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BlobStore]:
    local = LocalBlobs(tmp_path / "local", max_bytes=MAX_BLOB)
    if request.param == "local":
        yield local
        return
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(relay_app(tmp_path / "relay")))
        remote = await stack.enter_async_context(HttpBlobs(url, retry_pauses_s=QUICK))
        yield remote if request.param == "http" else LayeredBlobs([local, remote])


@pytest.fixture
def corrupt(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], int]:
    """Flip one byte in every stored object on disk, behind the adapter's back; says how many were hit."""

    def flip() -> int:
        hit = 0
        for path in tmp_path.glob("*/objects/??/*"):
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 0xFF
            path.write_bytes(data)
            hit += 1
        return hit

    return flip
