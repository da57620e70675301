"""What the journal keeps of audits and votes: seals before they are sent, verdicts before they are told, money once.

A seat whose seal is lost cannot be revealed and costs its penalty, so nothing is sent before it is on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from gesso_node.state.journal import Journal
from gesso_protocol.audit.outcomes import AuditVerdict, Vote
from gesso_protocol.ids import Address, BlobRef, TaskId
from gesso_protocol.money import Wei

KEPT_CLOSED = 10_000
PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One audit that this node takes part in, of the parts that `challenge` draws. Times are chain seconds."""

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
    """One level of one dispute that we take part in: as juror, or as a party that moves it on. A vote is `about`
    drawn parts and the auditors in their seats, whichever `round` drew the jury; in an older journal that is empty."""

    task: TaskId
    level: int
    about: bytes
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
_UNSEALED = "salt IS NULL"
_AUDIT_KEY = ("task", "challenge")
_VOTE_KEY = ("task", "level", "about")
_AUDIT = tuple(field.name for field in fields(AuditEntry))
_VOTE = tuple(field.name for field in fields(VoteEntry))


class AuditRecords:
    """The journal's tables of audits, votes and what they brought.

    There is one entry for each draw of a task: where a fork draws other parts, what was sealed for the first stays, and
    comes back with it. A seal is written once, since a chain may hold it without our knowing: whoever seals anew, after
    a restart, a reorganisation or twice at a time, is given what is there. All that change an entry return it as it is
    on disk then.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def audits(self, *, limit: int = KEPT_CLOSED) -> list[AuditEntry]:
        """Audits, newest first."""
        return await self._audits("ORDER BY heard_at DESC, rowid DESC LIMIT ?", (limit,))

    async def votes(self, *, limit: int = KEPT_CLOSED) -> list[VoteEntry]:
        """Votes, newest first."""
        return await self._votes("ORDER BY heard_at DESC, rowid DESC LIMIT ?", (limit,))

    async def audit_of(self, task: TaskId, challenge: bytes) -> AuditEntry | None:
        """Our audit of these parts."""
        found = await self._audits("WHERE task = ? AND challenge = ?", (str(task), challenge))
        return found[0] if found else None

    async def votes_of(self, task: TaskId, about: bytes) -> dict[int, VoteEntry]:
        """Our votes on these parts and auditors, by level."""
        found = await self._votes("WHERE task = ? AND about IN (?, x'') ORDER BY about", (str(task), about))
        return {entry.level: entry for entry in found}

    async def begin_audit(self, entry: AuditEntry) -> AuditEntry:
        """Write an audit down, unless it is."""
        await self._journal.write("audit-begin", _insert(entry))
        return await self._audit(entry)

    async def begin_vote(self, entry: VoteEntry) -> VoteEntry:
        """Write a level of a dispute down, unless we have voted there: what another jury's round left is over."""
        fresh = ", ".join(f"{name} = excluded.{name}" for name in _VOTE if name not in _VOTE_KEY)
        conflict = f"({', '.join(_VOTE_KEY)}) DO UPDATE SET {fresh} WHERE salt IS NULL"
        await self._journal.write("vote-begin", _insert(entry, conflict))
        return await self._vote(entry)

    async def change_audit(self, entry: AuditEntry, label: str, **changes: Any) -> AuditEntry:
        """Journal changed fields."""
        await self._change(entry, label, changes)
        return await self._audit(entry)

    async def change_vote(self, entry: VoteEntry, label: str, **changes: Any) -> VoteEntry:
        """Journal changed fields."""
        await self._change(entry, label, changes)
        return await self._vote(entry)

    async def seal_audit(self, entry: AuditEntry, projection: bytes, salt: bytes, reasons: str) -> AuditEntry:
        """Journal a seal, unless there is one for these parts. What failed on the way to it is over."""
        sealed = {"projection": projection, "salt": salt, "reasons": reasons, "failures": 0}
        await self._change(entry, "audit-seal", sealed, _UNSEALED)
        return await self._audit(entry)

    async def seal_vote(self, entry: VoteEntry, vote: Vote, salt: bytes, reasons: str) -> VoteEntry:
        """Journal a vote, unless there is one about the same."""
        await self._change(entry, "vote-seal", {"vote": vote, "salt": salt, "reasons": reasons}, _UNSEALED)
        return await self._vote(entry)

    async def unsend_audit(self, entry: AuditEntry, verb: str, at: int) -> AuditEntry:
        """What was noted as sent at chain second `at` was not; a later note stays."""
        await self._change(entry, f"audit-{verb}-undone", {f"{verb}_sent_at": None}, f"{verb}_sent_at = {at:d}")
        return await self._audit(entry)

    async def unsend_vote(self, entry: VoteEntry, verb: str, at: int) -> VoteEntry:
        """The same of a vote's transactions."""
        await self._change(entry, f"vote-{verb}-undone", {f"{verb}_sent_at": None}, f"{verb}_sent_at = {at:d}")
        return await self._vote(entry)

    async def _audits(self, where: str, values: tuple[Any, ...]) -> list[AuditEntry]:
        rows = await self._journal.select(f"SELECT {', '.join(_AUDIT)} FROM audit {where}", values)
        return [AuditEntry(**_values(_AUDIT, row)) for row in rows]

    async def _votes(self, where: str, values: tuple[Any, ...]) -> list[VoteEntry]:
        rows = await self._journal.select(f"SELECT {', '.join(_VOTE)} FROM vote {where}", values)
        return [VoteEntry(**_values(_VOTE, row)) for row in rows]

    async def _audit(self, entry: AuditEntry) -> AuditEntry:
        (found,) = await self._audits(*_place(entry))
        return found

    async def _vote(self, entry: VoteEntry) -> VoteEntry:
        (found,) = await self._votes(*_place(entry))
        return found

    async def _change(self, entry: AuditEntry | VoteEntry, label: str, changes: dict[str, Any], only: str = "") -> None:
        where, key = _place(entry)
        names = ", ".join(f"{name} = ?" for name in changes)  # names are ours, never from outside
        update = f"UPDATE {_table(entry)} SET {names} {where}" + (f" AND {only}" if only else "")
        values = tuple(_stored(value) for value in changes.values())
        # A closed entry may have been forgotten since: what is sealed or sent is on disk all the same.
        await self._journal.write(label, _insert(entry), (update, (*values, *key)))

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

    async def close_all(self, task: TaskId, why: str, now: int) -> None:
        """Nothing more is to be done about a task. Closed entries beyond so many are forgotten, the oldest first."""
        for table in ("audit", "vote"):
            close = f"UPDATE {table} SET closed = ?, closed_at = ? WHERE task = ? AND closed IS NULL"
            forget = (
                f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE closed IS NOT NULL "
                "ORDER BY closed_at DESC LIMIT -1 OFFSET ?)"
            )
            await self._journal.write(f"{table}-closed", (close, (why, now, str(task))), (forget, (KEPT_CLOSED,)))


def _table(entry: AuditEntry | VoteEntry) -> str:
    return "audit" if isinstance(entry, AuditEntry) else "vote"


def _place(entry: AuditEntry | VoteEntry) -> tuple[str, tuple[Any, ...]]:
    """The condition that names its row, with its values."""
    key = _AUDIT_KEY if isinstance(entry, AuditEntry) else _VOTE_KEY
    return f"WHERE {' AND '.join(f'{name} = ?' for name in key)}", tuple(_stored(getattr(entry, one)) for one in key)


def _insert(entry: AuditEntry | VoteEntry, conflict: str = "DO NOTHING") -> tuple[str, tuple[Any, ...]]:
    names = _AUDIT if isinstance(entry, AuditEntry) else _VOTE
    marks = ", ".join("?" * len(names))
    insert = f"INSERT INTO {_table(entry)} ({', '.join(names)}) VALUES ({marks}) ON CONFLICT {conflict}"
    return insert, tuple(_stored(getattr(entry, name)) for name in names)


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
