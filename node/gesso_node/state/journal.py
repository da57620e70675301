"""The node's memory on disk: what it heard, sent, made and is owed. Written before anything is published.

One row a task, one transaction a write. Killed at any write, the node wakes up with either the row before or the row
after, and the lifecycle's rules make both safe. Blocking work happens in one thread, never on the event loop.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import anyio
import anyio.to_thread
import structlog

from gesso_protocol.encoding import Document
from gesso_protocol.errors import ConfigError, GessoError
from gesso_protocol.ids import BlobRef, Root, TaskId
from gesso_protocol.lifecycle import Why
from gesso_protocol.money import BPS, Wei
from gesso_protocol.policy import Refusal
from gesso_protocol.result import ResultManifest
from gesso_protocol.spec import Spec, parse_any_spec
from gesso_protocol.terms import Terms

log = structlog.get_logger("gesso.node.journal")
T = TypeVar("T")
WriteHook = Callable[[str, Literal["before", "after"]], None]
"""Told of every write, by its label; tests end the process here."""

KEPT_CLOSED = 10_000
"""Closed rows beyond this many are forgotten, the oldest first; what we earned is kept as a sum."""

MIGRATIONS = (
    """
    CREATE TABLE task (
        task TEXT PRIMARY KEY,
        terms BLOB NOT NULL,
        heard_at INTEGER NOT NULL,
        submitted_at INTEGER NOT NULL,
        spec BLOB,
        manifest TEXT,
        secret BLOB,
        refusal TEXT,
        hold_back_steps INTEGER NOT NULL DEFAULT 0,
        claim_sent_at INTEGER,
        failures INTEGER NOT NULL DEFAULT 0,
        last_failure TEXT NOT NULL DEFAULT '',
        result BLOB,
        result_root TEXT,
        trace_root TEXT,
        commit_sent_at INTEGER,
        settle_sent_at INTEGER,
        expire_sent_at INTEGER,
        paid TEXT,
        closed TEXT,
        closed_at INTEGER
    ) STRICT;
    CREATE INDEX task_open ON task (heard_at) WHERE closed IS NULL;
    CREATE TABLE note (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE tally (
        kind TEXT NOT NULL, name TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (kind, name)
    ) STRICT;
    """,
    """
    CREATE TABLE audit (
        task TEXT PRIMARY KEY,
        node TEXT NOT NULL,
        challenge BLOB NOT NULL,
        heard_at INTEGER NOT NULL,
        failures INTEGER NOT NULL DEFAULT 0,
        salt BLOB,
        projection BLOB,
        verdict INTEGER,
        reasons TEXT NOT NULL DEFAULT '',
        error_ppm INTEGER,
        evidence TEXT,
        profile TEXT NOT NULL DEFAULT '',
        commit_sent_at INTEGER,
        reveal_sent_at INTEGER,
        close_sent_at INTEGER,
        closed TEXT,
        closed_at INTEGER
    ) STRICT;
    CREATE INDEX audit_open ON audit (heard_at) WHERE closed IS NULL;
    CREATE TABLE vote (
        task TEXT NOT NULL,
        level INTEGER NOT NULL,
        round INTEGER NOT NULL,
        heard_at INTEGER NOT NULL,
        failures INTEGER NOT NULL DEFAULT 0,
        salt BLOB,
        vote INTEGER,
        reasons TEXT NOT NULL DEFAULT '',
        commit_sent_at INTEGER,
        reveal_sent_at INTEGER,
        tally_sent_at INTEGER,
        appeal_sent_at INTEGER,
        execute_sent_at INTEGER,
        closed TEXT,
        closed_at INTEGER,
        PRIMARY KEY (task, level)
    ) STRICT;
    CREATE TABLE audit_money (
        block_hash TEXT NOT NULL,
        log_index INTEGER NOT NULL,
        block INTEGER NOT NULL,
        kind TEXT NOT NULL,
        amount TEXT NOT NULL,
        PRIMARY KEY (block_hash, log_index)
    ) STRICT;
    """,
    "ALTER TABLE task ADD COLUMN done_bps INTEGER NOT NULL DEFAULT 10000;",
    """
    ALTER TABLE audit RENAME TO audit_of_task;
    DROP INDEX audit_open;
    CREATE TABLE audit (
        task TEXT NOT NULL,
        node TEXT NOT NULL,
        challenge BLOB NOT NULL,
        heard_at INTEGER NOT NULL,
        failures INTEGER NOT NULL DEFAULT 0,
        salt BLOB,
        projection BLOB,
        verdict INTEGER,
        reasons TEXT NOT NULL DEFAULT '',
        error_ppm INTEGER,
        evidence TEXT,
        profile TEXT NOT NULL DEFAULT '',
        commit_sent_at INTEGER,
        reveal_sent_at INTEGER,
        close_sent_at INTEGER,
        closed TEXT,
        closed_at INTEGER,
        PRIMARY KEY (task, challenge)
    ) STRICT;
    CREATE INDEX audit_open ON audit (heard_at) WHERE closed IS NULL;
    INSERT INTO audit SELECT * FROM audit_of_task ORDER BY rowid;
    DROP TABLE audit_of_task;
    ALTER TABLE vote RENAME TO vote_of_level;
    CREATE TABLE vote (
        task TEXT NOT NULL,
        level INTEGER NOT NULL,
        about BLOB NOT NULL,
        round INTEGER NOT NULL,
        heard_at INTEGER NOT NULL,
        failures INTEGER NOT NULL DEFAULT 0,
        salt BLOB,
        vote INTEGER,
        reasons TEXT NOT NULL DEFAULT '',
        commit_sent_at INTEGER,
        reveal_sent_at INTEGER,
        tally_sent_at INTEGER,
        appeal_sent_at INTEGER,
        execute_sent_at INTEGER,
        closed TEXT,
        closed_at INTEGER,
        PRIMARY KEY (task, level, about)
    ) STRICT;
    INSERT INTO vote SELECT task, level, x'', round, heard_at, failures, salt, vote, reasons, commit_sent_at,
        reveal_sent_at, tally_sent_at, appeal_sent_at, execute_sent_at, closed, closed_at
        FROM vote_of_level ORDER BY rowid;
    DROP TABLE vote_of_level;
    """,
)
BUSY_MS = 5000
"""So long another process may hold the file."""


@dataclass(frozen=True, slots=True)
class Entry:
    """All that the journal knows of one task. Times are chain seconds."""

    task: TaskId
    terms: Terms
    heard_at: int
    submitted_at: int
    spec: Spec | None = None
    manifest: BlobRef | None = None
    secret: bytes | None = None
    """Salts the trace's leaves; made before the first run and kept, or the trace could never be opened."""
    refusal: Refusal | None = None
    hold_back_steps: int = 0
    claim_sent_at: int | None = None
    failures: int = 0
    last_failure: str = ""
    result: ResultManifest | None = None
    result_root: Root | None = None
    trace_root: Root | None = None
    done_bps: int = BPS
    """How much of the work the result is; less than 10,000 for a training that ended early."""
    commit_sent_at: int | None = None
    settle_sent_at: int | None = None
    expire_sent_at: int | None = None
    paid: Wei | None = None
    closed: Why | None = None
    closed_at: int | None = None


_COLUMNS = tuple(field.name for field in fields(Entry))
_READ: dict[str, Callable[[Any], Any]] = {
    "task": TaskId.parse,
    "terms": Terms.decode,
    "spec": parse_any_spec,
    "manifest": BlobRef.parse,
    "refusal": Refusal,
    "result": ResultManifest.decode,
    "result_root": Root.parse,
    "trace_root": Root.parse,
    "paid": lambda text: Wei(int(text)),
    "closed": Why,
}


class JournalFailedError(GessoError):
    """The journal cannot be read or written now. What could not be written down was not done either."""

    code = "journal-failed"
    default_message = "the journal cannot be used"
    default_hint = "see that the disk has room and works, and that no other process has the file; it is tried again"
    exit_code = 5


class Journal:
    """One SQLite file. An async context manager; safe to use from several tasks of one event loop. Everything raises
    JournalFailedError when the disk is full or broken, or somebody else holds the file."""

    def __init__(self, path: Path, *, on_write: WriteHook | None = None, only_reads: bool = False) -> None:
        """`only_reads`: for whoever looks at the journal of a node that runs, perhaps an older one."""
        self._path = path
        self._on_write = on_write
        self._only_reads = only_reads
        self._thread = anyio.CapacityLimiter(1)
        self._connection: sqlite3.Connection | None = None

    async def __aenter__(self) -> Self:
        await self._run(self._open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._run(self._db.close)

    @property
    def _db(self) -> sqlite3.Connection:
        assert self._connection is not None, "the journal is not open"
        return self._connection

    async def entry(self, task: TaskId) -> Entry | None:
        """What is known of this task."""
        found = await self._run(lambda: self._select("WHERE task = ?", (str(task),)))
        return found[0] if found else None

    async def open_entries(self) -> list[Entry]:
        """Every task that is not closed, in the order they were heard of."""
        return await self._run(lambda: self._select("WHERE closed IS NULL ORDER BY heard_at, rowid"))

    async def closed_since(self, since: int) -> list[Entry]:
        """Tasks that were settled, or that we had sent a claim of, and that ended at chain second `since` or later."""
        ended = "WHERE closed_at >= ? AND (closed = ? OR (closed IS NOT NULL AND claim_sent_at IS NOT NULL))"
        return await self._run(lambda: self._select(ended, (since, str(Why.SETTLED))))

    async def recent(self, limit: int = 20) -> list[Entry]:
        """The last closed tasks, newest first."""
        return await self._run(
            lambda: self._select("WHERE closed IS NOT NULL ORDER BY closed_at DESC, rowid DESC LIMIT ?", (limit,))
        )

    async def add(self, entry: Entry) -> None:
        """Write a task down for the first time; a second time changes nothing."""
        values = tuple(_stored(getattr(entry, name)) for name in _COLUMNS)
        tally = [("refused", str(entry.refusal))] if entry.refusal else []
        tally += [("ended", str(entry.closed))] if entry.closed else []
        await self._write("add", [(_INSERT, values), *map(_count, tally)])

    async def update(self, task: TaskId, label: str, **changes: Any) -> None:
        """Write changed fields of one task. `label` names the write for fault tests."""
        await self.update_all([task], label, **changes)

    async def update_all(self, tasks: Iterable[TaskId], label: str, **changes: Any) -> None:
        """`update` for several tasks in one transaction."""
        names = ", ".join(f"{name} = ?" for name in changes)  # names are ours, never from outside
        values = tuple(_stored(value) for value in changes.values())
        change = f"UPDATE task SET {names} WHERE task = ?"
        await self._write(label, [(change, (*values, str(task))) for task in tasks])

    async def close_entry(self, task: TaskId, why: Why, now: int, *, paid: Wei | None = None) -> None:
        """The task needs nothing more from us. Counts how it ended, and adds up what it paid."""
        statements: list[tuple[str, tuple[Any, ...]]] = [
            (
                "UPDATE task SET closed = ?, closed_at = ?, paid = coalesce(?, paid) WHERE task = ? AND closed IS NULL",
                (str(why), now, None if paid is None else str(paid), str(task)),
            ),
            _count(("ended", str(why))),
            (_FORGET_OLDEST, (KEPT_CLOSED,)),
        ]
        if paid is not None:
            statements.append(_add_to_note("earned", int(paid), await self.earned()))
        await self._write("close", statements)

    async def reopen(self, entry: Entry) -> Entry:
        """The chain took back how the task ended: it is open again, and what it paid was not earned yet."""
        undone = "UPDATE task SET closed = NULL, closed_at = NULL, paid = NULL, settle_sent_at = NULL WHERE task = ?"
        statements: list[tuple[str, tuple[Any, ...]]] = [(undone, (str(entry.task),))]
        if entry.paid is not None:
            statements.append(_add_to_note("earned", -int(entry.paid), await self.earned()))
        await self._write("reopen", statements)
        return replace(entry, closed=None, closed_at=None, paid=None, settle_sent_at=None)

    async def count(self, kind: str, name: str) -> None:
        """One more of something worth counting."""
        await self._write("count", [_count((kind, name))])

    async def tally(self, kind: str) -> dict[str, int]:
        """All counts of one kind (`refused`, `ended`, `failed`), largest first."""
        query = "SELECT name, count FROM tally WHERE kind = ? ORDER BY count DESC, name"
        return dict(await self._run(lambda: self._db.execute(query, (kind,)).fetchall()))

    async def earned(self) -> Wei:
        """Everything that settled tasks have paid this node, in base units."""
        return Wei(int(await self.note("earned") or "0"))

    async def note(self, name: str) -> str | None:
        """A small named value."""
        row = await self._run(lambda: self._db.execute("SELECT value FROM note WHERE name = ?", (name,)).fetchone())
        return str(row[0]) if row else None

    async def set_note(self, name: str, value: str) -> None:
        """Keep a small named value."""
        await self._write("note", [(_SET_NOTE, (name, value))])

    async def select(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Rows of the tables that other modules keep here; the query is the module's own text."""
        return await self._run(lambda: self._db.execute(query, values).fetchall())

    async def write(self, label: str, *statements: tuple[str, tuple[Any, ...]]) -> None:
        """One transaction on those tables. `label` names the write for fault tests."""
        await self._write(label, list(statements))

    async def _write(self, label: str, statements: list[tuple[str, tuple[Any, ...]]]) -> None:
        def write() -> None:
            if self._on_write:
                self._on_write(label, "before")
            with self._db:
                for statement, values in statements:
                    self._db.execute(statement, values)
            if self._on_write:
                self._on_write(label, "after")

        await self._run(write)

    def _select(self, where: str, values: tuple[Any, ...] = ()) -> list[Entry]:
        rows = self._db.execute(f"SELECT {', '.join(_COLUMNS)} FROM task {where}", values)
        return [_entry(row) for row in rows]

    def _open(self) -> None:
        if self._only_reads:
            place = f"{self._path.absolute().as_uri()}?mode=ro"
            self._connection = sqlite3.connect(place, uri=True, check_same_thread=False)
        else:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self._path, check_same_thread=False, isolation_level="IMMEDIATE")
        try:
            self._migrate()
        except BaseException:
            self._db.close()
            raise

    def _migrate(self) -> None:
        self._db.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        newest = len(MIGRATIONS)
        if version > newest:
            raise ConfigError(
                f"{self._path} was written by a newer gesso (format {version}; this one knows {newest})",
                hint="update gesso on this machine; the journal was not changed",
            )
        if self._only_reads:
            if version < newest:
                raise ConfigError(
                    f"{self._path} is of an older gesso (format {version}; this one reads {newest})",
                    hint="start the node again: it brings its journal up to date",
                )
            return
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        steps = [self._step() for _ in range(version, newest)]
        if version and any(steps):
            log.info("journal.migrated", path=str(self._path), was=version, now=newest)

    def _step(self) -> bool:
        """One format further, or nothing where somebody else who has the file open has done it meanwhile."""
        self._db.execute("BEGIN IMMEDIATE")
        with self._db:
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version >= len(MIGRATIONS):
                return False
            for statement in MIGRATIONS[version].split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {version + 1:d}")
        return True

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._thread)
        except sqlite3.DatabaseError as error:
            if _is_a_mistake(error):
                raise
            raise JournalFailedError(f"{self._path.name} cannot be used: {error}") from error


def _is_a_mistake(error: sqlite3.DatabaseError) -> bool:
    """Of ours, which no waiting mends: a wrong statement, a value that has no place, a file that was closed. Whatever
    the disk, another process or a broken file does has a code of its own."""
    ours = not isinstance(error, sqlite3.OperationalError) and type(error) is not sqlite3.DatabaseError
    return ours or getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF == sqlite3.SQLITE_ERROR


_INSERT = f"INSERT OR IGNORE INTO task ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
_FORGET_OLDEST = """
    DELETE FROM task WHERE rowid IN
        (SELECT rowid FROM task WHERE closed IS NOT NULL ORDER BY closed_at DESC LIMIT -1 OFFSET ?)
"""
_COUNT = """
    INSERT INTO tally (kind, name, count) VALUES (?, ?, 1)
    ON CONFLICT (kind, name) DO UPDATE SET count = count + 1
"""
_SET_NOTE = "INSERT INTO note (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"


def _add_to_note(name: str, amount: int, before: int) -> tuple[str, tuple[Any, ...]]:
    # Amounts exceed SQLite's integers, so the sum is made here; all writes come from one loop.
    return (_SET_NOTE, (name, str(before + amount)))


def _count(which: tuple[str, str]) -> tuple[str, tuple[Any, ...]]:
    return _COUNT, which


def _stored(value: Any) -> Any:
    if isinstance(value, Document):
        return value.encode()
    if value is None or (isinstance(value, int | bytes) and not isinstance(value, Wei)):
        return value
    return str(value)


def _entry(row: tuple[Any, ...]) -> Entry:
    values = {
        name: _READ[name](value) if name in _READ and value is not None else value
        for name, value in zip(_COLUMNS, row, strict=True)
    }
    return Entry(**values)
