"""`/v1/nodes`, `/v1/audits`, `/v1/network` and `/v1/health`: who is there, how to join, how we are."""

from __future__ import annotations

import time
from collections.abc import Callable

from aiohttp import web

from gesso_protocol.standing import standing_now
from gesso_relay.index.audits import OVER
from gesso_relay.index.entries import Document
from gesso_relay.index.queries import Queries
from gesso_relay.presence import Presence
from gesso_relay.replies import json_reply
from gesso_relay.routes import params
from gesso_relay.routes.tasks import page_reply

AUDIT_STATES = ("open", "disputed", *OVER)
NODE_STATES = ("active", "paused", "unbonding", "left")


class NetworkRoutes:
    """Reading everything but tasks. `network` and `health` make their documents anew for each request."""

    def __init__(
        self,
        queries: Queries,
        presence: Presence,
        *,
        network: Callable[[], Document],
        health: Callable[[], Document],
    ) -> None:
        self._queries = queries
        self._presence = presence
        self._network = network
        self._health = health

    def table(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/nodes", self.nodes),
            web.get("/v1/nodes/{node}", self.node),
            web.get("/v1/audits", self.audits),
            web.get("/v1/network", self.network),
            web.get("/v1/health", self.health),
        ]

    async def nodes(self, request: web.Request) -> web.StreamResponse:
        params.known(request, "state", "limit", "before")
        state = params.one_of(request, "state", NODE_STATES)
        page = await self._queries.nodes(state=state, limit=params.limit(request), before=params.before(request))
        return json_reply(
            {
                "nodes": await with_presence(self._queries, self._presence, page.items),
                "next": None if page.next is None else str(page.next),
            }
        )

    async def node(self, request: web.Request) -> web.StreamResponse:
        """One node: its record, the audits of its work by outcome, and where it sat as auditor or juror."""
        params.known(request)
        address = params.address_in_path(request, "node")
        found = await self._queries.node(address)
        if found is None:
            raise web.HTTPNotFound(reason="this relay has seen no such node")
        (shown,) = await with_presence(self._queries, self._presence, (found,))
        shown["audited"] = {**await self._queries.audited(address)}
        shown["seats"] = {**await self._queries.seat_counts(address)}
        shown["latest_seats"] = list(await self._queries.seats(address, limit=params.DEFAULT_PAGE))
        return json_reply(shown)

    async def audits(self, request: web.Request) -> web.StreamResponse:
        """Audits, newest first."""
        params.known(request, "node", "state", "limit", "before")
        page = await self._queries.audits(
            node=params.address(request, "node"),
            state=params.one_of(request, "state", AUDIT_STATES),
            limit=params.limit(request),
            before=params.before(request),
        )
        return page_reply("audits", page)

    async def network(self, request: web.Request) -> web.StreamResponse:
        params.known(request)
        return json_reply(self._network())

    async def health(self, request: web.Request) -> web.StreamResponse:
        params.known(request)
        return json_reply(self._health())


async def with_presence(queries: Queries, presence: Presence, nodes: tuple[Document, ...]) -> list[Document]:
    """Node documents with what they did and, when they were heard lately, what they say that they offer."""
    settled = await queries.settled_by([str(node["address"]) for node in nodes])
    now_s = time.monotonic()
    now = int(time.time())
    shown: list[Document] = []
    for node in nodes:
        address, peer = str(node["address"]), node.get("peer_id")
        advert = presence.of(address, peer if isinstance(peer, str) else None, now_s)
        shown.append(
            {
                **node,
                "standing": standing_now(int(str(node["standing"])), int(str(node["standing_at"])), now),
                "settled_tasks": settled.get(address, 0),
                "online": advert is not None,
                "advert": None if advert is None else advert.model_dump(mode="json"),
            }
        )
    return shown
