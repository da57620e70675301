"""`/v1/tasks`: what the chain says about tasks, as pages, as one document, and as a stream of events."""

from __future__ import annotations

from aiohttp import web

from gesso_protocol.errors import UsageError
from gesso_relay.audience import Audience
from gesso_relay.checkpoints import Checkpoints
from gesso_relay.gate import CLIENT
from gesso_relay.index.project import TASK_STATES
from gesso_relay.index.queries import Page, Queries, TaskFilter
from gesso_relay.replies import json_reply, stream_events
from gesso_relay.results import Results
from gesso_relay.routes import params
from gesso_relay.settings import Limits
from gesso_relay.streams import TaskHub, followed_s, task_events


class TaskRoutes:
    """Reading tasks."""

    def __init__(
        self,
        queries: Queries,
        results: Results,
        checkpoints: Checkpoints,
        hub: TaskHub,
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
            web.get("/v1/tasks", self.list),
            web.get("/v1/tasks/{task}", self.show),
            web.get("/v1/tasks/{task}/events", self.events),
        ]

    async def list(self, request: web.Request) -> web.StreamResponse:
        params.known(request, "state", "requester", "node", "model", "limit", "before")
        model = params.number(request, "model", low=0, high=2**64 - 1)
        wanted = TaskFilter(
            state=params.one_of(request, "state", tuple(TASK_STATES)),
            requester=params.address(request, "requester"),
            node=params.address(request, "node"),
            model=None if model is None else str(model),
        )
        page = await self._queries.tasks(wanted, limit=params.limit(request), before=params.before(request))
        return page_reply("tasks", page)

    async def show(self, request: web.Request) -> web.StreamResponse:
        params.known(request)
        task = params.task_in_path(request)
        found = await self._queries.task(str(task))
        if found is None:
            raise web.HTTPNotFound(reason="this relay has seen no such task")
        audit = await self._queries.audit(str(task))
        said = {"result": await self._results.of(found), "checkpoint": self._checkpoints.of(found)}
        return json_reply({**found, **said, "audit": audit})

    async def events(self, request: web.Request) -> web.StreamResponse:
        params.known(request)
        task = params.task_in_path(request)
        after = _event_id(request.headers.get("Last-Event-ID"))
        stream_s = await followed_s(self._queries, task, self._limits)
        with self._audience.seat(request[CLIENT]) as seat:
            return await stream_events(
                request,
                task_events(self._queries, self._hub, task, after),
                seat,
                heartbeat_s=self._limits.heartbeat_s,
                stream_s=stream_s,
            )


def page_reply(name: str, page: Page) -> web.Response:
    """A page as `{name: [...], "next": text or null}`; `next` goes into `before` for the page after it."""
    return json_reply({name: list(page.items), "next": None if page.next is None else str(page.next)})


def _event_id(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise UsageError("Last-Event-ID is not an id of this stream")
    return int(text)
