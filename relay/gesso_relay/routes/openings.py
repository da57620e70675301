"""`/v1/tasks/{id}/openings`: asks the node of a task to open it, for users who are no peers, and for auditors and
jurors to whom alone a node might be silent. The answer proves itself.

The relay keeps the bundle as a blob, so that the next one who asks costs the node nothing.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Literal

from aiohttp import web

from gesso.audits.openings import ask_bundle
from gesso.transport.port import PeerId, Transport
from gesso_protocol.errors import GessoError, PeerUnreachable, Unreachable
from gesso_protocol.ids import BlobRef
from gesso_relay.blobs import BlobCache
from gesso_relay.evidence import MAX_BYTES
from gesso_relay.gate import CLIENT
from gesso_relay.index.queries import Queries
from gesso_relay.limits import Seats
from gesso_relay.presence import Presence
from gesso_relay.replies import json_reply
from gesso_relay.routes import params

Phase = Literal["inputs", "outputs"]
MAX_AT_ONCE = 4
MAX_A_CLIENT = 2
MAX_REMEMBERED = 4096


class OpeningRoutes:
    """Openings over HTTP."""

    def __init__(self, queries: Queries, presence: Presence, cache: BlobCache, transport: Transport | None) -> None:
        self._queries = queries
        self._presence = presence
        self._cache = cache
        self._transport = transport
        self._seats = Seats("openings", MAX_AT_ONCE, MAX_A_CLIENT)
        self._known: OrderedDict[tuple[str, Phase], BlobRef] = OrderedDict()

    def table(self) -> list[web.RouteDef]:
        return [web.get("/v1/tasks/{task}/openings", self.openings)]

    async def openings(self, request: web.Request) -> web.StreamResponse:
        """The blob that holds what the node opens of the task; an error where it opens nothing."""
        params.known(request, "phase")
        task = params.task_in_path(request)
        phase: Phase = "inputs" if params.one_of(request, "phase", ("inputs", "outputs")) == "inputs" else "outputs"
        found = await self._queries.task(str(task))
        if found is None or not isinstance(found.get("trace_root"), str):
            raise web.HTTPNotFound(reason="this relay has seen no commit of this task")
        known = self._known.get((str(task), phase))
        if known is not None and self._cache.path(known) is not None:
            return json_reply({"task": str(task), "bundle": str(known)})
        if self._transport is None:
            raise Unreachable("this relay is no peer, so it cannot ask the node", hint="GESSO_TRANSPORT=libp2p asks it")
        with self._seats.seat(request[CLIENT]):
            peer = await self._connected(self._transport, str(found["node"]))
            ref, data = await ask_bundle(self._transport, peer, task, max_bytes=MAX_BYTES, phase=phase)
            await self._cache.put(ref, len(data), _once(data))
        self._remember((str(task), phase), ref)
        return json_reply({"task": str(task), "bundle": str(ref)})

    async def _connected(self, transport: Transport, wallet: str) -> PeerId:
        node = await self._queries.node(wallet)
        peer = None if node is None else node.get("peer_id")
        if not isinstance(peer, str):
            raise PeerUnreachable("the node has registered no peer")
        if any(known.peer == peer for known in transport.peers()):
            return PeerId(peer)
        advert = self._presence.of(wallet, peer, time.monotonic())
        for address in () if advert is None else advert.addresses:
            try:
                if await transport.connect(address) == peer:
                    return PeerId(peer)
            except GessoError:
                continue
        raise PeerUnreachable("the node was not heard lately, or does not answer")

    def _remember(self, asked: tuple[str, Phase], ref: BlobRef) -> None:
        self._known[asked] = ref
        if len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
