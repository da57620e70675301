"""The gossip part of the real relay, for topics of the tests', and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import httpx
from aiohttp import web

from gesso.transport import PeerId, Transport, Verdict
from gesso_relay.audience import Audience
from gesso_relay.gate import gate
from gesso_relay.gossip import GossipBridge, Topic
from gesso_relay.replies import Problem, end_streams_on_stop
from gesso_relay.routes.gossip import GossipRoutes
from gesso_relay.settings import Limits

TOPIC = "gesso/test/1"
OTHER_TOPIC = "gesso/other/1"
LIMITS = Limits(gossip_per_s=100, gossip_burst=200)


def accept(_peer: PeerId, _data: bytes) -> Verdict:
    return Verdict.ACCEPT


def no_page(_problem: Problem) -> web.Response:
    raise AssertionError("gossip has no pages")


@asynccontextmanager
async def bridging(transport: Transport, *, limits: Limits = LIMITS, port: int = 0) -> AsyncIterator[httpx.AsyncClient]:
    """A relay that speaks for its users as the peer `transport`; when this returns, it hears the topics."""
    topics = {name: Topic(accept, lambda data: data.hex()) for name in (TOPIC, OTHER_TOPIC)}
    bridge = GossipBridge(transport, topics)
    app = web.Application(middlewares=[gate(limits, trust_forwarded_for=False, draw=no_page)])
    end_streams_on_stop(app)
    app.add_routes(GossipRoutes(bridge, topics, Audience(100, 100, 100), limits).table())
    async with serving(app, port) as client, anyio.create_task_group() as group:
        group.start_soon(bridge.run)
        with anyio.fail_after(60):
            while topics.keys() != transport.health().topics.keys():
                await anyio.lowlevel.checkpoint()
        yield client
        group.cancel_scope.cancel()


@asynccontextmanager
async def serving(app: web.Application, port: int = 0) -> AsyncIterator[httpx.AsyncClient]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
            yield client
    finally:
        await runner.cleanup()
