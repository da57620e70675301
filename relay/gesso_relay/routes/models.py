"""`/v1/models`: the marketplace to search in, and one listing with its lineage, card, uses and income."""

from __future__ import annotations

import re
from typing import cast

from aiohttp import web

from gesso_protocol.errors import UsageError
from gesso_protocol.fields import MODEL_NAME, MODEL_VERSION
from gesso_protocol.ids import ListingId
from gesso_protocol.manifest import LISTING_KINDS
from gesso_relay.cards import Cards
from gesso_relay.index.entries import Document
from gesso_relay.index.market import MAX_TEXT_CHARS, SORTS, MarketQueries, Search, Sort
from gesso_relay.replies import json_reply
from gesso_relay.routes import params

MAX_CHILDREN = 20
_REF = re.compile(rf"({MODEL_NAME})(?:@({MODEL_VERSION}))?\Z")


class ModelRoutes:
    """Reading listings."""

    def __init__(self, market: MarketQueries, cards: Cards) -> None:
        self._market = market
        self._cards = cards

    def table(self) -> list[web.RouteDef]:
        return [web.get("/v1/models", self.models), web.get("/v1/models/{model:.+}", self.model)]

    async def models(self, request: web.Request) -> web.StreamResponse:
        params.known(request, "text", "kind", "base", "owner", "sort", "yanked", "limit", "before")
        page = await self._market.search(
            search_of(request), limit=params.limit(request), before=request.query.get("before")
        )
        return json_reply({"models": list(page.items), "next": page.next})

    async def model(self, request: web.Request) -> web.StreamResponse:
        """By listing id, by name (the latest version), or by name@version."""
        params.known(request)
        found = await listing_in_path(request, self._market)
        return json_reply(await described(found, self._market, self._cards))


def search_of(request: web.Request) -> Search:
    """What the parameters of a request look for. Raises UsageError."""
    text = request.query.get("text", "")
    if len(text) > MAX_TEXT_CHARS or "\0" in text:  # which PostgreSQL takes in no text
        raise UsageError(f"text has at most {MAX_TEXT_CHARS} characters, none of them zero")
    base = params.number(request, "base", low=1, high=2**63 - 1)
    return Search(
        text=text,
        kind=params.one_of(request, "kind", LISTING_KINDS),
        base=None if base is None else str(base),
        owner=params.address(request, "owner"),
        yanked=params.flag(request, "yanked"),
        sort=cast(Sort, params.one_of(request, "sort", SORTS) or "new"),
    )


async def listing_in_path(request: web.Request, market: MarketQueries) -> Document:
    """The listing that the path names. Raises UsageError for what is no name, HTTPNotFound for one not seen here."""
    text = request.match_info["model"]
    if text.isascii() and text.isdigit():
        found = await market.by_id(str(ListingId.validate(text)))
    else:
        parts = _REF.match(text)
        if parts is None or len(text) > 128:
            raise UsageError("a model is named by its number, its name, or name@version")
        found = await market.one(parts[1], int(parts[2]) if parts[2] else None)
    if found is None:
        raise web.HTTPNotFound(reason="this relay has seen no such model")
    return found


async def described(listing: Document, market: MarketQueries, cards: Cards) -> Document:
    """A listing with its lineage, what was made from it, and its card (None while nobody gave us its manifest)."""
    children = await market.children(str(listing["id"]), limit=MAX_CHILDREN)
    return {
        **listing,
        "lineage": [*await market.lineage(listing)],
        "children": [*children],
        "card": await cards.of(str(listing["manifest"])),
    }
