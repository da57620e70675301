"""What the journal keeps of audits and votes: seals before they are sent, verdicts before they are told, money once.

A seat whose seal is lost cannot be revealed and costs its penalty, so nothing is sent before it is on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from gesso_node.state.journal import Journal
from gesso_protocol.audit.outcomes import AuditVerdict, Vote
from gesso_protocol.ids import Address, BlobRef, TaskId
from gesso_protocol.money import Wei

Row = TypeVar("Row", "AuditEntry", "VoteEntry")
KEPT_CLOSED = 10_000
PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One audit that this node takes part in. Times are chain seconds."""

    task: TaskId
    node: Address
    challenge: bytes
    heard_at: int
    failures: int = 0
    salt: bytes | None = None
    projection: bytes | None = None
    """128 bytes as they go on chain; with the salt, what was sealed."""
    verdict: AuditVerdict | None = None
    reasons: str = ""
    error_ppm: int | None = None
    """Largest measured error in millionths of its limit."""
    evidence: BlobRef | None = None
    profile: str = ""
    commit_sent_at: int | None = None
    reveal_sent_at: int | None = None
    close_sent_at: int | None = None
    closed: str | None = None
    closed_at: int | None = None

    @property
    def sealed(self) -> bool:
        """Whether projection and salt are on disk."""
        return self.salt is not None and self.projection is not None


@dataclass(frozen=True, slots=True)
class VoteEntry:
    """One level of one dispute that this node takes part in: as juror, or as a party that moves it on."""

    task: TaskId
    level: int
    round: int
    heard_at: int
    failures: int = 0
    salt: bytes | None = None
    vote: Vote | None = None
    reasons: str = ""
    commit_sent_at: int | None = None
    reveal_sent_at: int | None = None
    tally_sent_at: int | None = None
    appeal_sent_at: int | None = None
    execute_sent_at: int | None = None
    closed: str | None = None
    closed_at: int | None = None


_READ: dict[str, Callable[[Any], Any]] = {
    "task": TaskId.parse,
    "node": Address,
    "verdict": AuditVerdict,
    "evidence": BlobRef.parse,
    "vote": Vote.of,
}
_AUDIT = tuple(field.name for field in fields(AuditEntry))
_VOTE = tuple(field.name for field in fields(VoteEntry))


class AuditRecords:
    """The journal's tables of audits, votes and what they brought."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def audits(self, *, open_only: bool = True, limit: int = KEPT_CLOSED) -> list[AuditEntry]:
        """Audits, newest first; those that are not closed unless asked otherwise."""
        where = "WHERE closed IS NULL " if open_only else ""
        query = f"SELECT {', '.join(_AUDIT)} FROM audit {where}ORDER BY heard_at DESC, rowid DESC LIMIT ?"
        return [AuditEntry(**_values(_AUDIT, row)) for row in await self._journal.select(query, (limit,))]

    async def votes(self, *, open_only: bool = True, limit: int = KEPT_CLOSED) -> list[VoteEntry]:
        """Votes, newest first; those that are not closed unless asked otherwise."""
        where = "WHERE closed IS NULL " if open_only else ""
        query = f"SELECT {', '.join(_VOTE)} FROM vote {where}ORDER BY heard_at DESC, rowid DESC LIMIT ?"
        return [VoteEntry(**_values(_VOTE, row)) for row in await self._journal.select(query, (limit,))]

    async def begin_audit(self, entry: AuditEntry) -> None:
        """Write an audit down anew; an older entry of the task is forgotten (its challenge is not of this chain)."""
        values = tuple(_stored(getattr(entry, name)) for name in _AUDIT)
        marks = ", ".join("?" * len(_AUDIT))
        insert = f"INSERT OR REPLACE INTO audit ({', '.join(_AUDIT)}) VALUES ({marks})"
        await self._journal.write("audit-begin", (insert, values))

    async def begin_vote(self, entry: VoteEntry) -> None:
        """Write a level of a dispute down anew."""
        values = tuple(_stored(getattr(entry, name)) for name in _VOTE)
        marks = ", ".join("?" * len(_VOTE))
        insert = f"INSERT OR REPLACE INTO vote ({', '.join(_VOTE)}) VALUES ({marks})"
        await self._journal.write("vote-begin", (insert, values))

    async def change_audit(self, entry: AuditEntry, label: str, **changes: Any) -> AuditEntry:
        """Journal changed fields, then return the entry with them."""
        statement, values = _update("audit", changes)
        await self._journal.write(label, (f"{statement} WHERE task = ?", (*values, str(entry.task))))
        return replace(entry, **changes)

    async def change_vote(self, entry: VoteEntry, label: str, **changes: Any) -> VoteEntry:
        """Journal changed fields, then return the entry with them."""
        statement, values = _update("vote", changes)
        where = f"{statement} WHERE task = ? AND level = ?"
        await self._journal.write(label, (where, (*values, str(entry.task), entry.level)))
        return replace(entry, **changes)

    async def money(self, place: tuple[str, int, int], kind: str, amount: Wei) -> None:
        """Earned or lost, by its place on chain (block hash, log index, block); taken twice it counts once."""
        insert = "INSERT OR IGNORE INTO audit_money (block_hash, log_index, block, kind, amount) VALUES (?, ?, ?, ?, ?)"
        await self._journal.write("audit-money", (insert, (*place, kind, str(int(amount)))))

    async def undo_money(self, above: int) -> None:
        """Blocks above this one did not happen."""
        await self._journal.write("audit-money-undone", ("DELETE FROM audit_money WHERE block > ?", (above,)))

    async def totals(self) -> dict[str, Wei]:
        """All money by kind, in base units."""
        found: dict[str, Wei] = {}
        for kind, amount in await self._journal.select("SELECT kind, amount FROM audit_money"):
            found[kind] = Wei(found.get(kind, Wei(0)) + int(amount))
        return found

    async def forget_oldest(self) -> None:
        """Keep the tables bounded."""
        for table in ("audit", "vote"):
            query = (
                f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE closed IS NOT NULL "
                "ORDER BY closed_at DESC LIMIT -1 OFFSET ?)"
            )
            await self._journal.write("audit-forget", (query, (KEPT_CLOSED,)))


def _update(table: str, changes: dict[str, Any]) -> tuple[str, tuple[Any, ...]]:
    names = ", ".join(f"{name} = ?" for name in changes)  # names are ours, never from outside
    return f"UPDATE {table} SET {names}", tuple(_stored(value) for value in changes.values())


def _stored(value: Any) -> Any:
    if isinstance(value, Vote):
        return value.code
    if value is None or isinstance(value, bytes):
        return value
    return int(value) if isinstance(value, int) else str(value)


def _values(names: Sequence[str], row: tuple[Any, ...]) -> dict[str, Any]:
    return {
        name: _READ[name](value) if name in _READ and value is not None else value
        for name, value in zip(names, row, strict=True)
    }
