"""The index: the same chain makes the same index, whatever forks and crashes lie on the way."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from gesso.chain.cursor import Cursor
from gesso_relay.index import tables
from gesso_relay.index.database import Database
from gesso_relay.index.entries import Entry
from gesso_relay.index.market import MarketQueries, Search
from gesso_relay.index.queries import Queries, TaskFilter
from gesso_relay.index.writer import Writer
from gesso_relay.presence import Presence
from gesso_relay.routes.network import with_presence

from .chainlog import (
    ALICE,
    BOB,
    audited,
    block_hash,
    claimed,
    entry,
    listed,
    royalty,
    settled,
    submitted,
    task_key,
)

pytestmark = pytest.mark.anyio

NETWORK = "31337/board"


async def contents(database: Database) -> dict[str, list[object]]:
    async with database.read() as db:
        return {
            table.name: [tuple(row) for row in await db.execute(select(table).order_by(*table.primary_key))]
            for table in tables.metadata.sorted_tables
        }


def mark(block: int, fork: int = 0) -> Cursor:
    return Cursor.before(0).advanced(block, block_hash(block, fork))


async def test_a_task_from_submit_to_settle(database: Database) -> None:
    writer, queries = Writer(database, NETWORK), Queries(database)
    assert await writer.cursor() is None
    await writer.apply([submitted(1, 7)], mark(1))
    first = await queries.task(task_key(7))
    assert first is not None
    assert (first["state"], first["node"], first["requester"]) == ("submitted", None, ALICE)
    await writer.apply([claimed(2, 7), settled(3, 7)], mark(5))
    last = await queries.task(task_key(7))
    assert last is not None
    assert (last["state"], last["node"], last["paid"], last["settled_at"]) == ("settled", BOB, "18", 1003)
    assert set(last["transactions"]) == {"submitted", "claimed", "settled"}  # type: ignore[arg-type]
    assert [event.name for event in await queries.history("task", task_key(7))] == ["submitted", "claimed", "settled"]
    assert await writer.cursor() == mark(5)
    assert await queries.task_counts() == {"settled": 1}
    assert await queries.settled_by([BOB, ALICE]) == {BOB: 1}


async def test_the_same_events_twice_change_nothing(database: Database) -> None:
    writer = Writer(database, NETWORK)
    events = [submitted(1, 1), claimed(2, 1)]
    assert len(await writer.apply(events, mark(2))) == 2
    before = await contents(database)
    assert await writer.apply(events, mark(2)) == ()
    assert await contents(database) == before


async def test_a_roll_back_takes_back_what_the_fork_said(database: Database) -> None:
    writer, queries = Writer(database, NETWORK), Queries(database)
    await writer.apply([submitted(1, 1), submitted(3, 2), claimed(3, 1, index=1)], mark(3))
    touched = await writer.roll_back(mark(1))
    assert set(touched) == {("task", task_key(1)), ("task", task_key(2))}
    assert await queries.task(task_key(2)) is None
    again = await queries.task(task_key(1))
    assert again is not None
    assert (again["state"], again["node"]) == ("submitted", None)
    assert await writer.cursor() == mark(1)


async def test_another_network_starts_afresh(database: Database) -> None:
    await Writer(database, NETWORK).apply([submitted(1, 1)], mark(1))
    other = Writer(database, "1/another")
    assert await other.cursor() is None
    assert await other.count() == 0


async def test_nodes_and_models(database: Database) -> None:
    writer, queries = Writer(database, NETWORK), Queries(database)
    await writer.apply(
        [
            entry(1, 0, "node", BOB, "registered", {"stake": "5", "peer_id": "16U"}),
            listed(1, 1, index=1),
            listed(1, 2, index=2, version=2),
            entry(2, 0, "node", BOB, "paused"),
            entry(2, 1, "model", "2", "yanked", {"yanked": True}),
            entry(2, 2, "node", ALICE, "paused"),
        ],
        mark(2),
    )
    node = await queries.node(BOB)
    assert node is not None
    assert (node["state"], node["stake"], node["standing"]) == ("paused", "5", 100)
    assert await queries.node(ALICE) is None
    market = MarketQueries(database)
    latest, second = await market.one("tiny", None), await market.one("tiny", 2)
    assert latest is not None
    assert second is not None
    assert (latest["version"], second["yanked"]) == (1, True)
    assert len((await market.search(Search(), limit=10)).items) == 1
    assert len((await market.search(Search(yanked=True), limit=10)).items) == 2
    assert (await queries.nodes(state="active", limit=10)).items == ()


async def test_standing_is_what_the_registry_would_answer(database: Database) -> None:
    """Full at first, also of who comes again; what an expiry cost comes back by the hour."""
    writer, queries = Writer(database, NETWORK), Queries(database)
    await writer.apply(
        [
            entry(1, 0, "node", BOB, "registered", {"stake": "5"}),
            entry(2, 0, "node", BOB, "standing", {"standing": 60}),
        ],
        mark(2),
    )
    node = await queries.node(BOB)
    assert node is not None
    (shown,) = await with_presence(queries, Presence(), ({**node, "standing_at": int(time.time()) - 7200},))
    assert shown["standing"] == 62
    await writer.apply(
        [entry(3, 0, "node", BOB, "left", {"stake": "0"}), entry(4, 0, "node", BOB, "registered", {"stake": "5"})],
        mark(4),
    )
    again = await queries.node(BOB)
    assert again is not None
    (shown,) = await with_presence(queries, Presence(), (again,))
    assert shown["standing"] == again["standing"] == 100


async def test_pages_neither_skip_nor_repeat_while_tasks_arrive(database: Database) -> None:
    writer, queries = Writer(database, NETWORK), Queries(database)
    await writer.apply([submitted(1, number, index=number) for number in range(25)], mark(1))
    seen: list[object] = []
    before: int | None = None
    for turn in range(10):
        page = await queries.tasks(TaskFilter(requester=ALICE), limit=7, before=before)
        seen += [item["id"] for item in page.items]
        await writer.apply([submitted(2 + turn, 100 + turn)], mark(2 + turn))
        if page.next is None:
            break
        before = page.next
    assert seen == [task_key(number) for number in reversed(range(25))]


async def test_filters_combine(database: Database) -> None:
    writer, queries = Writer(database, NETWORK), Queries(database)
    await writer.apply(
        [submitted(1, 1), submitted(1, 2, index=1, requester=BOB), claimed(2, 1), submitted(2, 3, index=1, model="9")],
        mark(2),
    )

    async def ids(**wanted: str) -> list[object]:
        return [item["id"] for item in (await queries.tasks(TaskFilter(**wanted), limit=10)).items]

    assert await ids(state="submitted") == [task_key(3), task_key(2)]
    assert await ids(node=BOB) == [task_key(1)]
    assert await ids(requester=ALICE, state="submitted") == [task_key(3)]
    assert await ids(model="9") == [task_key(3)]
    assert await ids(state="nonsense") == []


# One step of a made-up life: how many blocks to add with which events, or how far to fork back.
steps = st.lists(
    st.one_of(
        st.tuples(st.just("grow"), st.lists(st.integers(0, 7), max_size=4)),
        st.tuples(st.just("fork"), st.integers(0, 5)),
        st.tuples(st.just("again"), st.just(0)),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
async def test_any_life_with_forks_equals_a_rebuild_from_the_last_chain(
    database: Database, steps: list[tuple[str, object]]
) -> None:
    writer = Writer(database, NETWORK)
    await writer.drop()
    chain: list[list[Entry]] = [[]]
    stage: dict[int, int] = {}
    fork = 0
    for what, how in steps:
        if what == "grow":
            assert isinstance(how, list)
            block = len(chain)
            made = [next_event(block, index, number, stage, fork) for index, number in enumerate(how)]
            chain.append(made)
            await writer.apply(made, mark(block, fork))
        elif what == "fork":
            assert isinstance(how, int)
            keep = max(1, len(chain) - how)
            del chain[keep:]
            fork += 1
            stage = dict.fromkeys(range(8), 0)
            await writer.roll_back(mark(keep - 1))
        else:
            await writer.apply([event for block_events in chain for event in block_events], mark(len(chain) - 1))
    await writer.apply([], mark(len(chain) - 1))
    lived = await contents(database)
    await writer.drop()
    await writer.apply([event for block_events in chain for event in block_events], mark(len(chain) - 1))
    assert await contents(database) == lived


def next_event(block: int, index: int, number: int, stage: dict[int, int], fork: int) -> Entry:
    if number > 4:
        return next_of_market(block, index, stage, fork)
    kinds = (submitted, claimed, settled)
    turn = stage.get(number, 0)
    stage[number] = turn + 1
    if turn >= len(kinds) or number == 4:
        return audited(block, number, turn, index=index, fork=fork)
    if turn == 0:
        return submitted(block, number, index=index, fork=fork, model=str(number % 3 + 1))
    made = kinds[turn]
    return made(block, number, index=index, fork=fork)


def next_of_market(block: int, index: int, stage: dict[int, int], fork: int) -> Entry:
    """Three listings, each made from the one before, and then what they earn, withdrawals and new owners."""
    turn = stage.get(5, 0)
    stage[5] = turn + 1
    if turn < 3:
        return listed(block, turn + 1, index=index, parent=turn or None, fork=fork)
    number = turn % 3 + 1
    if turn % 4 == 0:
        return entry(block, index, "model", str(number), "yanked", {"yanked": turn % 8 == 0}, fork)
    if turn % 4 == 1:
        return entry(block, index, "model", str(number), "transferred", {"owner": BOB}, fork)
    return royalty(block, number, turn, index=index, fork=fork)
