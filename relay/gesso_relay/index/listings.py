"""The rows of listings beside their documents: what they cost with their parents, and how often they were used.

`uses` of a listing are the settled tasks that name it, or a bundle with it, and those of every listing made from it; a
task counts once. It is kept up by differences and always equals that sum, in whatever order events, forks and rebuilds
come. A bundle counts for tasks that were submitted after it was made: none that means to use it comes earlier.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from sqlalchemy import Row, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gesso_protocol.ids import ListingId
from gesso_protocol.money import MAX_LINEAGE
from gesso_protocol.royalties import is_bundle
from gesso_relay.index import tables
from gesso_relay.index.entries import Document

_COLUMN = tables.models.c
_PLAIN = ("name", "version", "yanked", "kind", "owner", "manifest", "parent")


Named: TypeAlias = tuple[str, int, bool]
"""What a task names, its place on the chain, and whether it is settled."""


async def task_row(db: AsyncConnection, task: str) -> Named | None:
    """What a task names, as the index has it now."""
    column = tables.tasks.c
    query = select(column.model, column.position, column.state).where(column.key == task)
    row = (await db.execute(query)).first()
    return None if row is None else (row.model, row.position, row.state == "settled")


async def task_changed(db: AsyncConnection, before: Named | None, after: Named | None) -> None:
    """Count the use that came or went with a task's row."""
    for row, step in ((before, -1), (after, 1)):
        if row is not None and row[2] and before != after:
            await _count(db, await _members(db, row[0], row[1]), step)


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
        await _count(db, (str(parent),), uses)
    return {**columns, "uses": uses}


async def row_gone(db: AsyncConnection, document: Document, uses: int) -> None:
    """A listing that a fork took back: its parents lose what they had through it."""
    parent = document.get("parent")
    if uses and parent is not None:
        await _count(db, (str(parent),), -uses)


async def _row(db: AsyncConnection, key: str) -> Any:
    query = select(_COLUMN.base, _COLUMN.parent, _COLUMN.price_bps).where(_COLUMN.key == key)
    return (await db.execute(query)).first()


async def _members(db: AsyncConnection, named: str, position: int) -> Sequence[str]:
    """The listings that a task at this place of the chain uses: those of a bundle, or the one that it names."""
    if not is_bundle(ListingId(int(named))):
        return (named,)
    column = tables.bundles.c
    row = (await db.execute(select(column.document).where(column.key == named, column.position < position))).first()
    return () if row is None else [str(one) for one in row.document["members"]]


async def _count(db: AsyncConnection, keys: Sequence[str], step: int) -> None:
    """Count along these listings and their parents, each once."""
    counted: set[str] = set()
    for key in keys:
        number: str | None = key
        for _ in range(MAX_LINEAGE):
            if number is None or number in counted:
                break  # its parents are counted too
            row = await _row(db, number)
            if row is None:
                break
            await db.execute(update(tables.models).where(_COLUMN.key == number).values(uses=_COLUMN.uses + step))
            counted.add(number)
            number = row.parent


async def _direct(db: AsyncConnection, key: str) -> int:
    tasks = tables.tasks.c
    query = select(func.count()).select_from(tables.tasks).where(tasks.model == key, tasks.state == "settled")
    return (await db.execute(query)).scalar_one()
