"""`/v1/progress`: hints of nodes to users without a peer of their own."""

from __future__ import annotations

import anyio
from aiohttp import web

from gesso_protocol.errors import MessageTooLarge, Unreachable, UsageError
from gesso_protocol.messages import MAX_PROGRESS_BYTES, ProgressEvent
from gesso_relay.audience import Audience
from gesso_relay.checkpoints import Checkpoints
from gesso_relay.gate import CLIENT
from gesso_relay.index.queries import Queries
from gesso_relay.replies import json_reply, stream_events
from gesso_relay.results import Results
from gesso_relay.routes import params
from gesso_relay.settings import Limits
from gesso_relay.streams import ProgressHub, followed_s, progress_events

_BODY_S = 10.0


class HintRoutes:
    """Nothing here is trusted or kept: nodes read tasks from the chain, and progress decides nothing."""

    def __init__(
        self,
        queries: Queries,
        results: Results,
        checkpoints: Checkpoints,
        hub: ProgressHub,
        audience: Audience,
        limits: Limits,
    ) -> None:
        self._queries = queries
        self._results = results
        self._checkpoints = checkpoints
        self._hub = hub
        self._audience = audience
        self._limits = limits

    def table(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/progress/{task}", self.tell),
            web.get("/v1/progress/{task}", self.follow),
        ]

    async def tell(self, request: web.Request) -> web.StreamResponse:
        """Pass a node's progress on to whoever follows the task."""
        task = params.task_in_path(request)
        event = ProgressEvent.decode(await body(request, MAX_PROGRESS_BYTES))
        if event.task != task:
            raise UsageError("the event is about another task than the address")
        known = await self._queries.task(str(task))
        if known is not None and known["node"] not in (None, str(event.node)):
            raise UsageError("another node has this task")
        self._checkpoints.note(event, known)
        self._results.note(event, request[CLIENT])
        self._hub.publish(str(task), event)
        if known is not None and event.stage == "committed":
            await self._results.of(known)
        return json_reply({"task": str(task)}, status=202)

    async def follow(self, request: web.Request) -> web.StreamResponse:
        """The task's progress as server-sent events; each `data` is one progress event in canonical form."""
        params.known(request)
        task = params.task_in_path(request)
        stream_s = await followed_s(self._queries, task, self._limits)
        with self._audience.seat(request[CLIENT]) as seat:
            return await stream_events(
                request,
                progress_events(self._hub, task),
                seat,
                heartbeat_s=self._limits.heartbeat_s,
                stream_s=stream_s,
            )


async def body(request: web.Request, max_bytes: int) -> bytes:
    """The request's body. Raises MessageTooLarge without reading more than the limit."""
    if (request.content_length or 0) > max_bytes:
        raise MessageTooLarge(f"at most {max_bytes} bytes are taken here")
    data = bytearray()
    try:
        with anyio.fail_after(_BODY_S):
            async for piece in request.content.iter_any():
                data += piece
                if len(data) > max_bytes:
                    raise MessageTooLarge(f"at most {max_bytes} bytes are taken here")
    except TimeoutError:
        raise Unreachable("the request took too long to arrive") from None
    return bytes(data)
