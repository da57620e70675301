"""The journal: what was written is there after a crash, money adds up, old files grow up and new ones are refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gesso_node.state.journal import MIGRATIONS, Entry, Journal, JournalFailedError
from gesso_protocol.errors import ConfigError
from gesso_protocol.ids import Root, TaskId
from gesso_protocol.lifecycle import Why
from gesso_protocol.money import Wei
from gesso_protocol.policy import Refusal
from gesso_protocol.spec import spec_ref
from gesso_protocol.terms import Terms

from ..conftest import SPEC
from ..doubles import REQUESTER

pytestmark = pytest.mark.anyio

TERMS = Terms(
    requester=REQUESTER, fee=Wei(10**16), spec=spec_ref(SPEC), kind=1, claim_window_s=60, commit_window_s=60, nonce=1
)


def entry(number: int = 1, **changes: object) -> Entry:
    return Entry(TaskId(bytes([number]) * 32), TERMS, 100, 99, SPEC, **changes)  # type: ignore[arg-type]


async def test_everything_survives_a_new_opening(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    async with Journal(path) as journal:
        await journal.add(entry())
        roots = {"result_root": Root(b"\x01" * 32), "trace_root": Root(b"\x02" * 32)}
        await journal.update(entry().task, "x", claim_sent_at=7, secret=b"s" * 32, failures=1, **roots)
    async with Journal(path) as journal:
        (found,) = await journal.open_entries()
    assert found == entry(claim_sent_at=7, secret=b"s" * 32, failures=1, **roots)


async def test_adding_twice_changes_nothing(tmp_path: Path) -> None:
    async with Journal(tmp_path / "j") as journal:
        await journal.add(entry(claim_sent_at=5))
        await journal.add(entry())
        found = await journal.entry(entry().task)
    assert found is not None
    assert found.claim_sent_at == 5


async def test_refusals_and_endings_are_counted_with_the_row(tmp_path: Path) -> None:
    async with Journal(tmp_path / "j") as journal:
        for number in range(3):
            await journal.add(entry(number, refusal=Refusal.TOO_LARGE, closed=Why.REFUSED, closed_at=5))
        assert await journal.open_entries() == []
        assert await journal.tally("refused") == {"too-large": 3}
        assert await journal.tally("ended") == {"refused": 3}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payments=st.lists(st.integers(0, 2**96), max_size=6))
async def test_earnings_are_the_exact_sum_also_when_some_are_taken_back(
    tmp_path_factory: pytest.TempPathFactory, payments: list[int]
) -> None:
    async with Journal(tmp_path_factory.mktemp("j") / "j") as journal:
        for number, amount in enumerate(payments):
            await journal.add(entry(number))
            await journal.close_entry(entry(number).task, Why.SETTLED, 100 + number, paid=Wei(amount))
        assert await journal.earned() == sum(payments)
        undone = await journal.closed_since(103)
        for taken_back in undone:
            await journal.reopen(taken_back)
        assert await journal.earned() == sum(payments[:3])
        assert len(await journal.open_entries()) == len(undone)


async def test_a_write_that_fails_leaves_nothing_half_written(tmp_path: Path) -> None:
    def refuse(label: str, when: str) -> None:
        if (label, when) == ("boom", "before"):
            raise OSError("the disk is gone")

    async with Journal(tmp_path / "j", on_write=refuse) as journal:
        await journal.add(entry())
        with pytest.raises(OSError, match="disk"):
            await journal.update(entry().task, "boom", failures=9)
        found = await journal.entry(entry().task)
    assert found == entry()


async def test_a_journal_of_a_newer_version_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "j"
    raw = sqlite3.connect(path)
    raw.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    raw.close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=f"newer gesso .format {len(MIGRATIONS) + 1}; this one knows"):
        await Journal(path).__aenter__()
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
async def test_an_older_journal_grows_up_with_all_that_it_holds_and_it_is_said(tmp_path: Path, version: int) -> None:
    path = tmp_path / "journal.sqlite"
    async with Journal(path) as journal:
        await journal.add(entry(claim_sent_at=7, secret=b"s" * 32))
        columns = [row[1] for row in await journal.select("PRAGMA table_info(task)")]
    old = sqlite3.connect(tmp_path / "old.sqlite")
    for script in MIGRATIONS[:version]:
        old.executescript(script)
    known = [row[1] for row in old.execute("PRAGMA table_info(task)")]
    assert set(known) <= set(columns)
    names = ", ".join(known)
    old.execute("ATTACH ? AS new", (str(path),))
    old.execute(f"INSERT INTO task ({names}) SELECT {names} FROM new.task")
    old.execute("INSERT INTO note VALUES ('earned', '12')")
    old.execute(f"PRAGMA user_version = {version}")
    old.commit()
    old.close()
    for times in (1, 0):
        with capture_logs() as told:
            async with Journal(tmp_path / "old.sqlite") as journal:
                assert await journal.open_entries() == [entry(claim_sent_at=7, secret=b"s" * 32)]
                assert await journal.earned() == 12
        said = [(line["was"], line["now"]) for line in told if line["event"] == "journal.migrated"]
        assert said == [(version, len(MIGRATIONS))] * times


async def test_two_that_open_an_older_journal_at_once_bring_it_up_once(tmp_path: Path) -> None:
    path = tmp_path / "j"
    old = sqlite3.connect(path)
    for script in MIGRATIONS[:2]:
        old.executescript(script)
    old.execute("PRAGMA user_version = 2")
    old.close()

    async def come() -> None:
        async with Journal(path) as journal:
            await journal.add(entry())

    with capture_logs() as told:
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(come)
    async with Journal(path) as journal:
        assert await journal.select("PRAGMA user_version") == [(len(MIGRATIONS),)]
        assert await journal.open_entries() == [entry()]
    assert [line["was"] for line in told if line["event"] == "journal.migrated"] != []


async def test_who_only_looks_changes_nothing_and_waits_for_the_node_to_bring_its_journal_up(tmp_path: Path) -> None:
    path = tmp_path / "j"
    old = sqlite3.connect(path)
    for script in MIGRATIONS[:-1]:
        old.executescript(script)
    old.execute(f"PRAGMA user_version = {len(MIGRATIONS) - 1}")
    old.close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="older gesso"):
        await Journal(path, only_reads=True).__aenter__()
    assert path.read_bytes() == before
    async with Journal(path) as journal, Journal(path, only_reads=True) as looking:
        await journal.add(entry())
        assert await looking.open_entries() == [entry()]
        with pytest.raises(JournalFailedError):
            await looking.set_note("a", "b")


async def test_an_interrupted_migration_starts_over(tmp_path: Path) -> None:
    path = tmp_path / "j"
    raw = sqlite3.connect(path)
    raw.executescript("BEGIN; CREATE TABLE task (task TEXT);")
    raw.close()  # never committed
    async with Journal(path) as journal:
        await journal.add(entry())
        assert len(await journal.open_entries()) == 1


async def test_a_full_disk_is_a_typed_error_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    async with Journal(path) as journal:
        await journal.add(entry())
        (pages,) = (await journal.select("PRAGMA page_count"))[0]
        await journal.select(f"PRAGMA max_page_count = {pages}")

        async def fill() -> None:
            for number in range(100):
                await journal.set_note(f"note {number}", "x" * 2000)

        with pytest.raises(JournalFailedError, match="full"):
            await fill()
        assert await journal.entry(entry().task) == entry()
        kept = [await journal.note(f"note {number}") for number in range(100)]
        assert kept == [*[kept[0]] * (100 - kept.count(None)), *[None] * kept.count(None)]
        await journal.select("PRAGMA max_page_count = 1000000")
        await journal.set_note("after", "it")
    async with Journal(path) as journal:
        assert await journal.note("after") == "it"


async def test_a_journal_that_somebody_else_holds_is_a_typed_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gesso_node.state.journal.BUSY_MS", 10)
    async with Journal(tmp_path / "journal.sqlite") as journal:
        other = sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalFailedError, match="locked"):
            await journal.add(entry())
        other.execute("ROLLBACK")
        other.close()
        await journal.add(entry())
        assert await journal.entry(entry().task) == entry()


async def test_a_file_that_is_no_journal_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(JournalFailedError):
        await Journal(tmp_path / "journal.sqlite").__aenter__()


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        ("INSERT INTO nothing VALUES (1)", ()),
        ("INSERT INTO note (name) VALUES (?)", ()),
        ("INSERT INTO note (name, value) VALUES (?, NULL)", ("a",)),
        ("NO SQL", ()),
    ],
)
async def test_a_mistake_of_ours_is_not_called_a_full_disk(
    tmp_path: Path, statement: str, values: tuple[str, ...]
) -> None:
    """It would be tried again for ever, and nobody would ever see where it is."""
    async with Journal(tmp_path / "journal.sqlite") as journal:
        with pytest.raises(sqlite3.DatabaseError):
            await journal.write("wrong", (statement, values))
        await journal.add(entry())
        assert await journal.entry(entry().task) == entry()
