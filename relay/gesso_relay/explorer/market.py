"""The marketplace's pages: a search, and one model with its card, lineage, uses and income."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from gesso_protocol.manifest import LISTING_KINDS
from gesso_relay.cards import Cards
from gesso_relay.explorer.markdown import render
from gesso_relay.index.market import SORTS, MarketQueries
from gesso_relay.index.queries import Queries, TaskFilter
from gesso_relay.routes import params
from gesso_relay.routes.models import described, listing_in_path, search_of

_PAGE = 50
_TASKS = 10
_VERSIONS = 20
_PICTURE = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "public, max-age=86400",
    "Content-Disposition": "inline; filename=preview.png",
}
Page = Callable[..., web.Response]


class MarketPages:
    """Routes of the pages; `page` draws a template."""

    def __init__(self, market: MarketQueries, queries: Queries, cards: Cards, page: Page) -> None:
        self._market = market
        self._queries = queries
        self._cards = cards
        self._page = page

    def table(self) -> list[web.RouteDef]:
        return [
            web.get("/models", self.models),
            web.get("/models/{model}/previews/{number}", self.preview),
            web.get("/models/{model:.+}", self.model),
        ]

    async def models(self, request: web.Request) -> web.StreamResponse:
        params.known(request, "text", "kind", "base", "owner", "sort", "before")
        wanted = search_of(request)
        page = await self._market.search(wanted, limit=_PAGE, before=request.query.get("before"))
        keep = {name: value for name, value in request.query.items() if name != "before" and value}
        older = None if page.next is None else str(request.rel_url.with_query({**keep, "before": page.next}))
        base = None if wanted.base is None else await self._market.by_id(wanted.base)
        return self._page(
            "models.html",
            here="models",
            models=page.items,
            older=older,
            wanted=wanted,
            base=base,
            kinds=LISTING_KINDS,
            sorts=SORTS,
            link=lambda **changes: str(request.rel_url.with_query(_merged(keep, changes))),
        )

    async def model(self, request: web.Request) -> web.StreamResponse:
        params.known(request)
        found = await described(await listing_in_path(request, self._market), self._market, self._cards)
        tasks = await self._queries.tasks(TaskFilter(model=str(found["id"])), limit=_TASKS)
        card = found["card"]
        return self._page(
            "model.html",
            here="models",
            model=found,
            card=card,
            text=render(str(card["text"])) if isinstance(card, dict) else "",
            versions=await self._market.versions(str(found["name"]), limit=_VERSIONS),
            tasks=tasks.items,
            labels=await self._market.names(str(task["model"]) for task in tasks.items),
        )

    async def preview(self, request: web.Request) -> web.StreamResponse:
        """A preview picture of a listing, by the listing's number."""
        params.known(request)
        found = await listing_in_path(request, self._market)
        number = request.match_info["number"]
        at = int(number) if number.isascii() and number.isdigit() and len(number) < 3 else -1
        data = await self._cards.preview(str(found["manifest"]), at)
        return web.Response(body=data, content_type="image/png", headers=_PICTURE)


def _merged(keep: dict[str, str], changes: dict[str, str | None]) -> dict[str, str]:
    """A query with some parameters set, or left out where they are None."""
    return {name: value for name, value in {**keep, **changes}.items() if value is not None}
