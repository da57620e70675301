"""Questions about the marketplace: listings by word, kind and base; newest, most used or cheapest first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sqlalchemy import ColumnElement, Row, Select, and_, or_, select

from gesso_protocol.errors import UsageError
from gesso_protocol.money import MAX_LINEAGE
from gesso_relay.index import tables
from gesso_relay.index.database import Database
from gesso_relay.index.entries import Document
from gesso_relay.index.queries import MAX_PAGE

Sort: TypeAlias = Literal["new", "use", "price"]
SORTS: tuple[Sort, ...] = ("new", "use", "price")
MAX_WORDS = 8
MAX_TEXT_CHARS = 100
MAX_INT, MAX_BIGINT = 2**31 - 1, 2**63 - 1
"""What databases take for a column of this kind."""
_BEFORE = re.compile(r"(?:([0-9]{1,18})-)?([0-9]{1,19})\Z")
_COLUMN, _CARD = tables.models.c, tables.cards.c


@dataclass(frozen=True, slots=True)
class Search:
    """Which listings; None means any. `base` is the number of a listing that they were made from."""

    text: str = ""
    kind: str | None = None
    base: str | None = None
    owner: str | None = None
    yanked: bool = False
    sort: Sort = "new"


@dataclass(frozen=True, slots=True)
class ListingPage:
    """Some listings, and what `before` is for the page after it (None at the end)."""

    items: tuple[Document, ...]
    next: str | None


class MarketQueries:
    """Read-only view of the listings."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def search(self, wanted: Search, *, limit: int, before: str | None = None) -> ListingPage:
        """Raises UsageError for a `before` that no page gave out."""
        limit = max(1, min(limit, MAX_PAGE))
        query = _shown().where(*_conditions(wanted))
        if before is not None:
            query = query.where(_after(wanted.sort, before))
        async with self._database.read() as db:
            rows = (await db.execute(query.order_by(*_order(wanted.sort)).limit(limit + 1))).all()
        return ListingPage(tuple(_document(row) for row in rows[:limit]), _next(wanted.sort, rows, limit))

    async def one(self, name: str, version: int | None) -> Document | None:
        """By name; without a version the latest that is not yanked."""
        query = _shown().where(_COLUMN.name == name).order_by(_COLUMN.version.desc()).limit(1)
        query = query.where(_COLUMN.yanked.is_(False)) if version is None else query.where(_COLUMN.version == version)
        return await self._first(query)

    async def by_id(self, key: str) -> Document | None:
        return await self._first(_shown().where(_COLUMN.key == key))

    async def names(self, numbers: Iterable[str]) -> dict[str, list[str]]:
        """`name@version` of what tasks name: of a listing, or of each member of a bundle. What the index does not know
        is left out."""
        wanted, bundled = sorted(set(numbers)), tables.bundles.c
        async with self._database.read() as db:
            rows = (await db.execute(select(bundled.key, bundled.document).where(bundled.key.in_(wanted)))).all()
            members = {number: [number] for number in wanted}
            members |= {row.key: [str(one) for one in row.document["members"]] for row in rows}
            keys = sorted({key for found in members.values() for key in found})
            query = select(_COLUMN.key, _COLUMN.name, _COLUMN.version).where(_COLUMN.key.in_(keys))
            names = {row.key: f"{row.name}@{row.version}" for row in (await db.execute(query)).all()}
        return {number: [names[key] for key in found if key in names] for number, found in members.items()}

    async def lineage(self, listing: Document) -> list[Document]:
        """A listing and its parents, itself first."""
        found = [listing]
        while (parent := found[-1].get("parent")) is not None and len(found) < MAX_LINEAGE:
            above = await self.by_id(str(parent))
            if above is None:
                break
            found.append(above)
        return found

    async def children(self, key: str, *, limit: int) -> tuple[Document, ...]:
        """What was made from a listing, most used first; withdrawn ones are left out."""
        wanted = _shown().where(_COLUMN.parent == key, _COLUMN.yanked.is_(False))
        async with self._database.read() as db:
            rows = (await db.execute(wanted.order_by(*_order("use")).limit(limit))).all()
        return tuple(_document(row) for row in rows)

    async def versions(self, name: str, *, limit: int) -> tuple[Document, ...]:
        """All versions of a name, newest first."""
        query = _shown().where(_COLUMN.name == name).order_by(_COLUMN.version.desc()).limit(limit)
        async with self._database.read() as db:
            return tuple(_document(row) for row in (await db.execute(query)).all())

    async def _first(self, query: Select[Any]) -> Document | None:
        async with self._database.read() as db:
            row = (await db.execute(query)).first()
        return None if row is None else _document(row)


def _shown() -> Select[Any]:
    columns = (_COLUMN.position, _COLUMN.document, _COLUMN.uses, _COLUMN.price_bps, _COLUMN.base, _CARD.summary)
    joined = tables.models.outerjoin(tables.cards, _CARD.manifest == _COLUMN.manifest)
    return select(*columns).select_from(joined)


def _document(row: Row[Any]) -> Document:
    document: Document = row.document
    return {**document, "uses": row.uses, "price_bps": row.price_bps, "base": row.base, "summary": row.summary or ""}


def _conditions(wanted: Search) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [] if wanted.yanked else [_COLUMN.yanked.is_(False)]
    if wanted.kind is not None:
        found.append(_COLUMN.kind == wanted.kind)
    if wanted.base is not None:
        found += [_COLUMN.base == wanted.base, _COLUMN.key != wanted.base]
    if wanted.owner is not None:
        found.append(_COLUMN.owner == wanted.owner)
    for word in wanted.text.lower().split()[:MAX_WORDS]:
        found.append(or_(_COLUMN.name.contains(word, autoescape=True), _CARD.words.contains(word, autoescape=True)))
    return found


def _order(sort: Sort) -> Sequence[ColumnElement[Any]]:
    newest = _COLUMN.position.desc()
    return {"new": (newest,), "use": (_COLUMN.uses.desc(), newest), "price": (_COLUMN.price_bps, newest)}[sort]


def _after(sort: Sort, before: str) -> ColumnElement[bool]:
    parts = _BEFORE.match(before)
    if parts is None or (parts[1] is None) is not (sort == "new"):
        raise UsageError("before is the `next` of a page of this order")
    position, value = int(parts[2]), int(parts[1] or 0)
    if position > MAX_BIGINT or value > (MAX_INT if sort == "price" else MAX_BIGINT):
        raise UsageError("before is the `next` of a page of this order")
    older = _COLUMN.position < position
    if sort == "new":
        return older
    column = _COLUMN.uses if sort == "use" else _COLUMN.price_bps
    further = column < value if sort == "use" else column > value
    return or_(further, and_(column == value, older))


def _next(sort: Sort, rows: Sequence[Row[Any]], limit: int) -> str | None:
    if len(rows) <= limit:
        return None
    last = rows[limit - 1]
    return {"new": "", "use": f"{last.uses}-", "price": f"{last.price_bps}-"}[sort] + str(last.position)
