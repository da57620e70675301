"""`/v1/tasks/{id}/openings`: asks the node of a task to open it, for users who are no peers, and for auditors and
jurors to whom alone a node might be silent. The answer proves itself, and is proved before it is kept."""

from __future__ import annotations

import time

from aiohttp import web

from gesso.transport.port import PeerId, Transport
from gesso_protocol.errors import GessoError, PeerUnreachable, Unreachable
from gesso_protocol.ids import Address, BlobRef, Root, TaskId
from gesso_protocol.money import BPS
from gesso_protocol.terms import Terms
from gesso_protocol.trace import Run
from gesso_relay.chain import ChainView
from gesso_relay.gate import CLIENT
from gesso_relay.index.entries import Document
from gesso_relay.index.queries import Queries
from gesso_relay.openings import Openings
from gesso_relay.presence import Presence
from gesso_relay.proofs import Phase, Question
from gesso_relay.replies import json_reply
from gesso_relay.routes import params

MAX_DIALS = 4


class OpeningRoutes:
    """Openings over HTTP. Without a transport the relay is no peer and can ask nobody."""

    def __init__(
        self, queries: Queries, presence: Presence, chain: ChainView, board: Address, transport: Transport | None,
        openings: Openings | None,
    ) -> None:  # fmt: skip
        self._queries = queries
        self._presence = presence
        self._chain = chain
        self._board = board
        self._transport = transport
        self._openings = openings

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
        if self._transport is None or self._openings is None:
            raise Unreachable("this relay is no peer, so it cannot ask the node", hint="GESSO_TRANSPORT=libp2p asks it")
        transport, node = self._transport, str(found["node"])

        async def find() -> PeerId:
            return await self._connected(transport, node)

        with self._openings.seat(request[CLIENT]):
            asked = await self._question(task, found, phase)
            ref = await self._openings.ask(asked, BlobRef.parse(str(found["spec"])), find)
        return json_reply({"task": str(task), "bundle": str(ref)})

    async def _question(self, task: TaskId, found: Document, phase: Phase) -> Question:
        node = Address(str(found["node"]))
        roots = Root.parse(str(found["result_root"])), Root.parse(str(found["trace_root"]))
        terms, done = Terms.model_validate(found["terms"], strict=False), found.get("done_bps")
        drawn = await self._chain.drawn(task, terms, node, roots)
        return Question(
            run=Run(self._chain.chain_id, self._board, task, node),
            trace_root=roots[1],
            phase=phase,
            challenge=None if drawn is None else drawn.challenge,
            large=drawn is not None and drawn.large,
            share_bps=BPS if done is None else int(str(done)),
            audited=drawn is not None and drawn.audited,
        )

    async def _connected(self, transport: Transport, wallet: str) -> PeerId:
        peer = await self._queries.peer_of(wallet)
        if peer is None:
            raise PeerUnreachable("the node has registered no peer")
        if any(known.peer == peer for known in transport.peers()):
            return PeerId(peer)
        advert = self._presence.of(wallet, peer, time.monotonic())
        for address in () if advert is None else advert.addresses[:MAX_DIALS]:
            try:
                if await transport.connect(address) == peer:
                    return PeerId(peer)
            except GessoError:
                continue
        raise PeerUnreachable("the node was not heard lately, or does not answer")
