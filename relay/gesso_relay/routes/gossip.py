"""`/v1/gossip`: the network's topics for users who have only HTTP. What passes is signed by its author, not by us."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator

from aiohttp import web

from gesso.transport.signed import MAX_SIGNED_BYTES, Signed
from gesso_protocol.errors import Unreachable, UsageError
from gesso_relay.audience import Audience
from gesso_relay.gate import CLIENT
from gesso_relay.gossip import GossipBridge, Topics
from gesso_relay.limits import RateLimit
from gesso_relay.replies import ServerEvent, json_reply, stream_events
from gesso_relay.routes import params
from gesso_relay.routes.hints import body
from gesso_relay.settings import Limits


class GossipRoutes:
    """`bridge` is None in a relay that is no peer."""

    def __init__(self, bridge: GossipBridge | None, topics: Topics, audience: Audience, limits: Limits) -> None:
        self._bridge = bridge
        self._topics = topics
        self._audience = audience
        self._limits = limits
        self._rate = RateLimit(limits.gossip_per_s, limits.gossip_burst, limits.clients_remembered)

    def table(self) -> list[web.RouteDef]:
        return [web.post("/v1/gossip", self.say), web.get("/v1/gossip", self.hear)]

    async def say(self, request: web.Request) -> web.StreamResponse:
        """Put one signed message on the air; `new` is false when the same was said a moment ago."""
        params.known(request)
        message = Signed.decode(await body(request, MAX_SIGNED_BYTES))
        self._rate.take(request[CLIENT], time.monotonic())
        self._topic(message.topic)
        new = await self._peer().say(message, request[CLIENT])
        return json_reply({"topic": message.topic, "new": new}, status=202)

    async def hear(self, request: web.Request) -> web.StreamResponse:
        """What is said on a topic from now on, as server-sent events; each `data` is one signed message in base64."""
        params.known(request, "topic")
        topic = self._topic(request.query.get("topic", ""))
        bridge = self._peer()
        with self._audience.seat(request[CLIENT]) as seat:
            return await stream_events(
                request,
                _events(bridge, topic),
                seat,
                heartbeat_s=self._limits.heartbeat_s,
                stream_s=self._limits.stream_s,
            )

    def _topic(self, name: str) -> str:
        if name not in self._topics:
            raise UsageError(f"this relay takes part in these topics: {', '.join(self._topics)}")
        return name

    def _peer(self) -> GossipBridge:
        if self._bridge is None:
            raise Unreachable("this relay takes no part in gossip", hint="nodes will find the task on the chain")
        return self._bridge


async def _events(bridge: GossipBridge, topic: str) -> AsyncIterator[ServerEvent]:
    with bridge.heard.listen(topic) as heard:
        while True:
            message = await heard.next()
            yield ServerEvent("message", base64.b64encode(message.signed).decode())
