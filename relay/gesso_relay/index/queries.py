"""Questions to the index. Lists are newest first and paged by key: `before` is the `next` of the page that came before,
so pages neither skip nor repeat while new tasks arrive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, Table, func, select

from gesso_relay.index import tables
from gesso_relay.index.database import Database
from gesso_relay.index.entries import Document, Entry, Subject

MAX_PAGE = 200


@dataclass(frozen=True, slots=True)
class Page:
    """Some documents, and where the next page begins (None at the end)."""

    items: tuple[Document, ...]
    next: int | None


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks; None means any."""

    state: str | None = None
    requester: str | None = None
    node: str | None = None
    model: str | None = None


class Queries:
    """Read-only view of the index."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def block(self) -> int | None:
        """The last block that the index has finished."""
        async with self._database.read() as db:
            return (await db.execute(select(tables.cursor.c.block))).scalar_one_or_none()

    async def tasks(self, wanted: TaskFilter, *, limit: int, before: int | None = None) -> Page:
        """Tasks, newest first."""
        column = tables.tasks.c
        conditions: list[ColumnElement[bool]] = [
            column[name] == value
            for name in ("state", "requester", "node", "model")
            if (value := getattr(wanted, name)) is not None
        ]
        return await self._page(tables.tasks, conditions, limit, before)

    async def nodes(self, *, state: str | None, limit: int, before: int | None = None) -> Page:
        """Nodes, latest registration first."""
        conditions = [] if state is None else [tables.nodes.c.state == state]
        return await self._page(tables.nodes, conditions, limit, before)

    async def task(self, key: str) -> Document | None:
        return await self._one(select(tables.tasks.c.document).where(tables.tasks.c.key == key))

    async def node(self, key: str) -> Document | None:
        return await self._one(select(tables.nodes.c.document).where(tables.nodes.c.key == key))

    async def peer_of(self, wallet: str) -> str | None:
        """The peer that a node has registered; None for a wallet that is no node."""
        found = await self.node(wallet)
        peer = None if found is None else found.get("peer_id")
        return peer if isinstance(peer, str) else None

    async def audit(self, task: str) -> Document | None:
        """The audit of a task, None when there was none."""
        return await self._one(select(tables.audits.c.document).where(tables.audits.c.key == task))

    async def audits(self, *, node: str | None, state: str | None, limit: int, before: int | None = None) -> Page:
        """Audits, newest first."""
        column = tables.audits.c
        wanted = {"node": node, "state": state}
        conditions = [column[name] == value for name, value in wanted.items() if value is not None]
        return await self._page(tables.audits, conditions, limit, before)

    async def audited(self, node: str) -> dict[str, int]:
        """How many audits of this node's work are in each state."""
        column = tables.audits.c
        query = select(column.state, func.count()).where(column.node == node).group_by(column.state)
        async with self._database.read() as db:
            return {str(state): int(count) for state, count in (await db.execute(query)).all()}

    async def seats(self, account: str, *, limit: int) -> tuple[Document, ...]:
        """Where this account sat as auditor or juror, latest first."""
        column = tables.seats.c
        query = select(column.audit, column.role, column.level, column.said).where(column.account == account)
        async with self._database.read() as db:
            rows = (await db.execute(query.order_by(column.position.desc(), column.audit).limit(limit))).all()
        return tuple({"task": row.audit, "role": row.role, "level": row.level, "said": row.said} for row in rows)

    async def seat_counts(self, account: str) -> dict[str, int]:
        """How many audits and juries this account took part in, by role."""
        column = tables.seats.c
        query = select(column.role, func.count()).where(column.account == account).group_by(column.role)
        async with self._database.read() as db:
            return {str(role): int(count) for role, count in (await db.execute(query)).all()}

    async def history(self, subject: Subject, key: str, *more: Subject) -> tuple[Entry, ...]:
        """Every event about one subject, oldest first; `more` are others under the same key, such as a task's audit."""
        column = tables.entries.c
        query = select(tables.entries).where(column.subject.in_((subject, *more)), column.key == key)
        query = query.order_by(column.position)
        async with self._database.read() as db:
            rows = (await db.execute(query)).mappings().all()
        return tuple(Entry(**{name: value for name, value in row.items() if name != "position"}) for row in rows)

    async def task_counts(self) -> dict[str, int]:
        """How many tasks are in each state."""
        return await self._counts(tables.tasks)

    async def node_counts(self) -> dict[str, int]:
        """How many nodes are in each state."""
        return await self._counts(tables.nodes)

    async def settled_by(self, nodes: Sequence[str]) -> dict[str, int]:
        """How many settled tasks each of these nodes has."""
        column = tables.tasks.c
        query = select(column.node, func.count()).where(column.state == "settled", column.node.in_(nodes))
        async with self._database.read() as db:
            rows = (await db.execute(query.group_by(column.node))).all()
        return {str(node): int(count) for node, count in rows}

    async def _counts(self, table: Table) -> dict[str, int]:
        async with self._database.read() as db:
            rows = (await db.execute(select(table.c.state, func.count()).group_by(table.c.state))).all()
        return {str(state): int(count) for state, count in rows}

    async def _page(
        self, table: Table, conditions: Sequence[ColumnElement[bool]], limit: int, before: int | None
    ) -> Page:
        limit = max(1, min(limit, MAX_PAGE))
        query = select(table.c.position, table.c.document).where(*conditions)
        if before is not None:
            query = query.where(table.c.position < before)
        async with self._database.read() as db:
            rows = (await db.execute(query.order_by(table.c.position.desc()).limit(limit + 1))).all()
        shown = rows[:limit]
        more = len(rows) > limit
        return Page(tuple(row.document for row in shown), shown[-1].position if more else None)

    async def _one(self, query: Select[tuple[Document]]) -> Document | None:
        async with self._database.read() as db:
            row = (await db.execute(query)).first()
        return None if row is None else row.document
