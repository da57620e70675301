"""The status API: read only, on loopback only. What it shows is the same read model that the command line prints."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.typedefs import Handler

from gesso_node.auditing.report import AuditsReport
from gesso_node.metrics import Metrics
from gesso_node.operator.doctor import Finding
from gesso_node.operator.status import NodeStatus
from gesso_protocol.errors import ConfigError

LOOPBACK = "127.0.0.1"
IDLE_S = 75.0
"""A connection without a whole request for so long is closed."""


@asynccontextmanager
async def open_api(
    port: int,
    status: Callable[[], Awaitable[NodeStatus]],
    doctor: Callable[[], Awaitable[tuple[Finding, ...]]],
    metrics: Metrics,
    audits: Callable[[], Awaitable[AuditsReport]],
) -> AsyncIterator[str]:
    """Serve until left; gives the base URL. Port 0 takes a free one. Raises ConfigError when the port is taken."""

    async def show_status(_: web.Request) -> web.Response:
        return web.json_response(text=(await status()).model_dump_json())

    async def show_summary(_: web.Request) -> web.Response:
        return web.Response(text=(await status()).summary() + "\n")

    async def show_health(_: web.Request) -> web.Response:
        healthy = (await status()).healthy
        return web.json_response({"healthy": healthy}, status=200 if healthy else 503)

    async def show_metrics(_: web.Request) -> web.Response:
        await status()  # sets the gauges
        return web.Response(body=metrics.exposition(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def show_doctor(_: web.Request) -> web.Response:
        findings = await doctor()
        return web.json_response({"findings": [finding.model_dump() for finding in findings]})

    async def show_audits(_: web.Request) -> web.Response:
        return web.json_response(text=(await audits()).model_dump_json())

    app = web.Application(middlewares=[_local_only], client_max_size=1024)
    app.add_routes(
        [
            web.get("/", show_summary),
            web.get("/v1/status", show_status),
            web.get("/v1/health", show_health),
            web.get("/v1/doctor", show_doctor),
            web.get("/v1/audits", show_audits),
            web.get("/metrics", show_metrics),
        ]
    )
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=IDLE_S)
    await runner.setup()
    try:
        site = web.TCPSite(runner, LOOPBACK, port)
        try:
            await site.start()
        except OSError as error:
            raise ConfigError(f"status port {port} cannot be used: {error.strerror}", hint="set status_port") from error
        yield f"http://{LOOPBACK}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@web.middleware
async def _local_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    # A web page in the operator's browser can reach loopback under a name of its own; it must not read us.
    host = (request.host or "").rpartition(":")[0] or request.host
    if host not in (LOOPBACK, "localhost"):
        raise web.HTTPForbidden(text="this address is for this machine only\n")
    return await handler(request)
