"""Changes of the index. Each is one transaction that ends with the cursor, so a crash leaves a whole state behind."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Table, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gesso.chain.cursor import Cursor
from gesso_relay.index import listings, tables
from gesso_relay.index.audits import BEGINNINGS, seats_of
from gesso_relay.index.database import Database
from gesso_relay.index.entries import Document, Entry, Subject
from gesso_relay.index.project import advance, project

_TABLES: dict[Subject, Table] = {
    "task": tables.tasks,
    "node": tables.nodes,
    "model": tables.models,
    "bundle": tables.bundles,
    "audit": tables.audits,
}
_BEGINNINGS = ("submitted", "registered", "published", "bundled", *BEGINNINGS)
_TAKEN_BACK: dict[Subject, int] = {"model": 1, "bundle": 1}
"""After all others: the uses that go with tasks are counted back along listings and bundles that may go too."""


class Writer:
    """The only one who changes the index of a network. `network` names chain and board; another one starts afresh."""

    def __init__(self, database: Database, network: str) -> None:
        self._database = database
        self._network = network

    async def cursor(self) -> Cursor | None:
        """Where to go on, or None at the beginning. An index of another network is dropped first."""
        async with self._database.write() as db:
            row = (await db.execute(select(tables.cursor))).first()
            if row is None:
                return None
            if row.network != self._network:
                await self._drop(db)
                return None
            return Cursor.model_validate({"block": row.block, "trail": row.trail})

    async def apply(self, entries: Sequence[Entry], cursor: Cursor) -> tuple[Entry, ...]:
        """Take in events and move the cursor. Events that are here already change nothing; gives back the new ones."""
        async with self._database.write() as db:
            fresh = await self._only_new(db, entries)
            if fresh:
                await db.execute(insert(tables.entries), [_row(entry) for entry in fresh])
            changed: dict[tuple[Subject, str], list[Entry]] = {}
            for entry in fresh:
                changed.setdefault((entry.subject, entry.key), []).append(entry)
            for (subject, key), mine in changed.items():
                if subject != "model" or not await self._advance(db, key, mine):
                    await self._rebuild(db, subject, key)
            await self._move(db, cursor)
        return fresh

    async def roll_back(self, cursor: Cursor) -> tuple[tuple[Subject, str], ...]:
        """Forget every event after the cursor's block. Gives back whom they were about."""
        async with self._database.write() as db:
            gone = tables.entries.c.block > cursor.block
            touched = [
                (row.subject, row.key)
                for row in await db.execute(
                    select(tables.entries.c.subject, tables.entries.c.key).where(gone).distinct()
                )
            ]
            await db.execute(delete(tables.entries).where(gone))
            for subject, key in sorted(touched, key=lambda one: _TAKEN_BACK.get(one[0], 0)):
                await self._rebuild(db, subject, key)
            await self._move(db, cursor)
        return tuple(touched)

    async def drop(self) -> None:
        """Forget everything; the next `cursor` is None and the chain is read from the beginning."""
        async with self._database.write() as db:
            await self._drop(db)

    async def _only_new(self, db: AsyncConnection, entries: Sequence[Entry]) -> tuple[Entry, ...]:
        unique = {entry.position: entry for entry in entries}
        if not unique:
            return ()
        low, high = min(unique), max(unique)
        column = tables.entries.c.position
        known = set((await db.execute(select(column).where(column.between(low, high)))).scalars())
        return tuple(unique[position] for position in sorted(unique) if position not in known)

    async def _rebuild(self, db: AsyncConnection, subject: Subject, key: str) -> None:
        """The document of one subject from all its events: a handful, so nothing incremental can go wrong."""
        of = (tables.entries.c.subject == subject) & (tables.entries.c.key == key)
        rows = await db.execute(select(tables.entries).where(of).order_by(tables.entries.c.position))
        events = [Entry(**{name: row[name] for name in _ENTRY_FIELDS}) for row in rows.mappings()]
        table, document = _TABLES[subject], project(subject, events)
        before = await listings.task_row(db, key) if subject == "task" else None
        old = (await db.execute(select(table).where(table.c.key == key))).first() if subject == "model" else None
        await db.execute(delete(table).where(table.c.key == key))
        if document is not None and subject == "audit":
            document = {**document, "node": await self._worker(db, key)}
        if document is not None:
            first = next(entry for entry in events if entry.name in _BEGINNINGS)
            values = {"key": key, "position": first.position, "document": document}
            columns = (
                await listings.columns_of(db, key, document, old) if subject == "model" else _columns(subject, document)
            )
            await db.execute(insert(table).values(**values, **columns))
        elif old is not None:
            await listings.row_gone(db, old.document, old.uses)
        if subject == "task":
            await listings.task_changed(db, before, await listings.task_row(db, key))
        if subject == "audit":
            await self._seat(db, key, document, events)

    async def _worker(self, db: AsyncConnection, task: str) -> str | None:
        """Who committed the task: an audit's own events do not say it again."""
        entries = tables.entries
        of = (entries.c.subject == "task") & (entries.c.key == task) & (entries.c.name == "committed")
        found = await db.scalar(select(entries.c.data).where(of).order_by(entries.c.position.desc()).limit(1))
        return None if found is None else str(found["node"])

    async def _advance(self, db: AsyncConnection, key: str, fresh: Sequence[Entry]) -> bool:
        """A known listing, moved on by its new events: it has one for every settlement, too many to read again."""
        row = (await db.execute(select(tables.models.c.document).where(tables.models.c.key == key))).first()
        if row is None:
            return False
        document: Document | None = row.document
        for entry in fresh:
            document = advance("model", document, entry)
        assert document is not None
        changed = {name: document[name] for name in ("yanked", "owner")}
        await db.execute(update(tables.models).where(tables.models.c.key == key).values(document=document, **changed))
        return True

    async def _seat(self, db: AsyncConnection, key: str, document: Document | None, events: Sequence[Entry]) -> None:
        """Who sits in an audit, from its document: made anew each time, like the document itself."""
        seats = tables.seats
        await db.execute(delete(seats).where(seats.c.audit == key))
        if document is not None:
            last = events[-1].position
            names = ("role", "account", "level", "said")
            rows = [
                {"audit": key, "position": last, **dict(zip(names, seat, strict=True))} for seat in seats_of(document)
            ]
            if rows:
                await db.execute(insert(seats), rows)

    async def _move(self, db: AsyncConnection, cursor: Cursor) -> None:
        trail = cursor.model_dump(mode="json")["trail"]
        values = {"network": self._network, "block": cursor.block, "trail": trail}
        moved = await db.execute(update(tables.cursor).where(tables.cursor.c.id == 1).values(**values))
        if moved.rowcount == 0:
            await db.execute(insert(tables.cursor).values(id=1, **values))

    async def _drop(self, db: AsyncConnection) -> None:
        for table in (tables.cursor, tables.entries, tables.seats, *_TABLES.values()):
            await db.execute(delete(table))

    async def count(self) -> int:
        """How many events the index holds."""
        async with self._database.read() as db:
            return (await db.execute(select(func.count()).select_from(tables.entries))).scalar_one()


_ENTRY_FIELDS = ("block", "block_hash", "log_index", "tx", "at", "subject", "key", "name", "data")


def _row(entry: Entry) -> dict[str, object]:
    return {"position": entry.position, **{name: getattr(entry, name) for name in _ENTRY_FIELDS}}


def _columns(subject: Subject, document: Document) -> dict[str, object]:
    if subject == "task":
        return {name: document.get(name) for name in ("state", "requester", "node", "model")}
    if subject == "audit":
        return {"state": document["state"], "node": document["node"]}
    if subject == "bundle":
        return {}
    return {"state": document["state"]}
