"""The rows of listings beside their documents: what they cost with their parents, and how often they were used.

`uses` of a listing are the settled tasks that name it, and those of every listing made from it. It is kept up by
differences and always equals that sum, in whatever order events, forks and rebuilds come.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gesso_protocol.money import MAX_LINEAGE
from gesso_relay.index import tables
from gesso_relay.index.entries import Document

_COLUMN = tables.models.c
_PLAIN = ("name", "version", "yanked", "kind", "owner", "manifest", "parent")


async def task_row(db: AsyncConnection, task: str) -> tuple[str, bool] | None:
    """The listing that a task names, and whether it is settled, as the index has it now."""
    column = tables.tasks.c
    row = (await db.execute(select(column.model, column.state).where(column.key == task))).first()
    return None if row is None else (row.model, row.state == "settled")


async def task_changed(db: AsyncConnection, before: tuple[str, bool] | None, after: tuple[str, bool] | None) -> None:
    """Count the use that came or went with a task's row."""
    for row, step in ((before, -1), (after, 1)):
        if row is not None and row[1] and before != after:
            await _count(db, row[0], step)


async def columns_of(
    db: AsyncConnection, key: str, document: Document, old: Row[tuple[object, ...]] | None
) -> Document:
    """What a listing's row holds beside its document; for a new row its uses are counted, and told to its parents."""
    parent = document.get("parent")
    above = None if parent is None else await _row(db, str(parent))
    columns: Document = {name: document[name] for name in _PLAIN}
    columns["base"] = key if above is None else above.base
    columns["price_bps"] = int(str(document["royalty_bps"])) + (0 if above is None else above.price_bps)
    if old is not None:
        return {**columns, "uses": old.uses}
    uses = await _direct(db, key)
    if uses and parent is not None:
        await _count(db, str(parent), uses)
    return {**columns, "uses": uses}


async def row_gone(db: AsyncConnection, document: Document, uses: int) -> None:
    """A listing that a fork took back: its parents lose what they had through it."""
    parent = document.get("parent")
    if uses and parent is not None:
        await _count(db, str(parent), -uses)


async def _row(db: AsyncConnection, key: str) -> Any:
    query = select(_COLUMN.base, _COLUMN.parent, _COLUMN.price_bps).where(_COLUMN.key == key)
    return (await db.execute(query)).first()


async def _count(db: AsyncConnection, key: str, step: int) -> None:
    number: str | None = key
    for _ in range(MAX_LINEAGE):
        if number is None:
            return
        row = await _row(db, number)
        if row is None:
            return
        await db.execute(update(tables.models).where(_COLUMN.key == number).values(uses=_COLUMN.uses + step))
        number = row.parent


async def _direct(db: AsyncConnection, key: str) -> int:
    tasks = tables.tasks.c
    query = select(func.count()).select_from(tables.tasks).where(tasks.model == key, tasks.state == "settled")
    return (await db.execute(query)).scalar_one()
