"""The explorer: overview, tasks, nodes, audits. It shows no prompts and no results. Models: see `market`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from gesso_protocol.money import format_amount
from gesso_relay.index.entries import Document, Entry, Json
from gesso_relay.index.market import MarketQueries, Search
from gesso_relay.index.project import TASK_STATES
from gesso_relay.index.queries import Queries, TaskFilter
from gesso_relay.presence import Presence
from gesso_relay.replies import Problem
from gesso_relay.results import Results
from gesso_relay.routes import params
from gesso_relay.routes.network import AUDIT_STATES, with_presence

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; base-uri 'none'; form-action 'self'"
    ),
    "Cache-Control": "no-cache",
    "X-Frame-Options": "DENY",
}
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#a8452c"/>'
    '<text x="16" y="22" text-anchor="middle" font-family="Georgia,serif" font-style="italic" font-weight="600" '
    'font-size="22" fill="#fffdf9">g</text></svg>'
)
_ICON_HEADERS = {"Content-Security-Policy": "default-src 'none'", "Cache-Control": "public, max-age=86400"}
_LATEST = 8
_PAGE = 50


class Explorer:
    """Routes of the pages."""

    def __init__(
        self,
        queries: Queries,
        market: MarketQueries,
        results: Results,
        presence: Presence,
        *,
        network: Callable[[], Document],
        health: Callable[[], Document],
    ) -> None:
        self._queries = queries
        self._market = market
        self._results = results
        self._presence = presence
        self._network = network
        self._health = health
        self._templates = Environment(
            loader=PackageLoader("gesso_relay.explorer"),
            autoescape=select_autoescape(default=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(
            amount=amount, short=short, ago=ago, moment=moment, percent=percent, said=said, bytes=size, work=work
        )

    def table(self) -> list[web.RouteDef]:
        return [
            web.get("/", self.overview),
            web.get("/tasks", self.tasks),
            web.get("/tasks/{task}", self.task),
            web.get("/nodes", self.nodes),
            web.get("/nodes/{node}", self.node),
            web.get("/audits", self.audits),
            web.get("/icon.svg", self.icon),
        ]

    async def overview(self, request: web.Request) -> web.StreamResponse:
        params.known(request)
        tasks = await self._queries.tasks(TaskFilter(), limit=_LATEST)
        nodes = await self._queries.nodes(state=None, limit=_LATEST)
        models = await self._market.search(Search(), limit=_LATEST)
        return self.page(
            "overview.html",
            here="overview",
            task_counts=await self._queries.task_counts(),
            node_counts=await self._queries.node_counts(),
            states=tuple(TASK_STATES),
            tasks=tasks.items,
            labels=await self._labels(tasks.items),
            nodes=await with_presence(self._queries, self._presence, nodes.items),
            models=models.items,
            network=self._network(),
        )

    async def tasks(self, request: web.Request) -> web.StreamResponse:
        params.known(request, "state", "requester", "node", "before")
        wanted = TaskFilter(
            state=params.one_of(request, "state", tuple(TASK_STATES)),
            requester=params.address(request, "requester"),
            node=params.address(request, "node"),
        )
        page = await self._queries.tasks(wanted, limit=_PAGE, before=params.before(request))
        keep = {name: value for name, value in request.query.items() if name != "before"}
        older = None if page.next is None else str(request.rel_url.with_query({**keep, "before": str(page.next)}))
        return self.page(
            "tasks.html",
            here="tasks",
            tasks=page.items,
            labels=await self._labels(page.items),
            older=older,
            states=tuple(TASK_STATES),
            wanted=wanted,
            link=lambda **state: str(request.rel_url.with_query({**without(keep, "state"), **state})),
        )

    async def task(self, request: web.Request) -> web.StreamResponse:
        params.known(request)
        task = params.task_in_path(request)
        found = await self._queries.task(str(task))
        if found is None:
            raise web.HTTPNotFound(reason="this relay has seen no such task")
        history = await self._queries.history("task", str(task), "audit")
        result = await self._results.of(found)
        audit = await self._queries.audit(str(task))
        return self.page(
            "task.html",
            here="tasks",
            task=found,
            labels=await self._labels((found,)),
            history=history,
            result=result,
            audit=audit,
        )

    async def nodes(self, request: web.Request) -> web.StreamResponse:
        params.known(request, "before")
        page = await self._queries.nodes(state=None, limit=_PAGE, before=params.before(request))
        older = None if page.next is None else f"/nodes?before={page.next}"
        nodes = await with_presence(self._queries, self._presence, page.items)
        return self.page("nodes.html", here="nodes", nodes=nodes, older=older)

    async def node(self, request: web.Request) -> web.StreamResponse:
        params.known(request, "before")
        address = params.address_in_path(request, "node")
        found = await self._queries.node(address)
        if found is None:
            raise web.HTTPNotFound(reason="this relay has seen no such node")
        (shown,) = await with_presence(self._queries, self._presence, (found,))
        page = await self._queries.audits(node=address, state=None, limit=_PAGE, before=params.before(request))
        return self.page(
            "node.html",
            here="nodes",
            node=shown,
            audited=await self._queries.audited(address),
            seat_counts=await self._queries.seat_counts(address),
            seats=await self._queries.seats(address, limit=_PAGE),
            audits=page.items,
            older=None if page.next is None else f"/nodes/{address}?before={page.next}",
        )

    async def audits(self, request: web.Request) -> web.StreamResponse:
        params.known(request, "before", "state")
        state = params.one_of(request, "state", AUDIT_STATES)
        page = await self._queries.audits(node=None, state=state, limit=_PAGE, before=params.before(request))
        keep = {name: value for name, value in request.query.items() if name != "before"}
        older = None if page.next is None else str(request.rel_url.with_query({**keep, "before": str(page.next)}))
        return self.page(
            "audits.html", here="audits", audits=page.items, older=older, states=AUDIT_STATES, wanted=state
        )

    async def icon(self, request: web.Request) -> web.StreamResponse:
        params.known(request)
        return web.Response(text=_ICON, content_type="image/svg+xml", headers=_ICON_HEADERS)

    def problem(self, found: Problem) -> web.Response:
        """Why a reader does not get a page, as one."""
        hint = "the address may be mistyped, or this relay has not read so far" if found.status == 404 else found.hint
        told = {"code": found.code, "message": found.message, "hint": hint}
        drawn = self.page("problem.html", here="", status=found.status, **told)
        drawn.set_status(found.status)
        drawn.headers.update(found.headers)
        return drawn

    async def _labels(self, tasks: Iterable[Document]) -> dict[str, list[str]]:
        """Names of the models that tasks use."""
        return await self._market.names(str(task["model"]) for task in tasks)

    def page(self, template: str, **values: object) -> web.Response:
        """A template with its values, the state of the index and the time."""
        health = self._health()
        html = self._templates.get_template(template).render(health=health, now=int(time.time()), **values)
        return web.Response(text=html, content_type="text/html", headers=_HEADERS)


def without(query: Mapping[str, str], name: str) -> dict[str, str]:
    """The query with one parameter left out."""
    return {other: value for other, value in query.items() if other != name}


def amount(value: Json) -> str:
    """Base units as whole tokens, at most six decimals."""
    if value is None:
        return "–"
    whole, _, part = format_amount(int(str(value))).partition(".")
    part = part[:6].rstrip("0")
    return f"{int(whole):,}{'.' + part if part else ''}"


def size(value: Json) -> str:
    """A number of bytes in the largest unit that fits."""
    count = float(str(value))
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def short(value: Json) -> str:
    """Beginning and end of a long name."""
    text = "–" if value is None else str(value)
    return f"{text[:10]}…{text[-4:]}" if len(text) > 18 else text


def said(event: Entry) -> str:
    """What an event of a story adds to its name: who, and what came of it."""
    data = event.data
    who = next((data[name] for name in ("auditor", "juror", "by", "requester") if name in data), None)
    words = [] if who is None or event.subject != "audit" else [short(who)]
    words += [str(data[name]) for name in ("said", "outcome") if data.get(name) is not None]
    if "amount" in data:
        words.append(amount(data["amount"]))
    if "done_bps" in data:
        words.append(percent(data["done_bps"]))
    if "upheld" in data:
        words.append("node upheld" if data["upheld"] else "node not upheld")
    return " · ".join(words)


def percent(bps: Json) -> str:
    """Basis points as people read them."""
    return f"{bps / 100:g} %" if isinstance(bps, int) else "–"


def ago(then: Json, now: int) -> str:
    """How long ago, in the largest unit that fits."""
    if not isinstance(then, int):
        return "–"
    passed = max(0, now - then)
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if passed >= length:
            return f"{passed // length} {unit} ago"
    return f"{passed} s ago"


def moment(then: Json) -> str:
    """A chain time as date and clock, in UTC."""
    if not isinstance(then, int) or not 0 <= then < 253_402_300_800:
        return "–"
    at = datetime.fromtimestamp(then, UTC)
    return Markup('<time datetime="{}">{} UTC</time>').format(at.isoformat(), at.strftime("%Y-%m-%d %H:%M:%S"))


def work(kind: Json) -> str:
    """What a task orders, by its kind's number on chain."""
    return {1: "pictures", 2: "a training"}.get(kind, f"kind {kind}") if isinstance(kind, int) else "–"
