"""What a relay does when the chain changes its mind, goes away, or has gone on without it."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from gesso.chain.cursor import Cursor, Page

from .fakechain import (
    JURORS,
    FakeChain,
    cancelled,
    claimed,
    committed,
    guilty,
    passed,
    registered,
    settled,
    submitted,
    task_of,
)
from .running import running, stream

pytestmark = pytest.mark.anyio


async def test_a_fork_takes_an_audit_back_and_another_comes(tmp_path: Path) -> None:
    chain = FakeChain()
    chain.mine([registered(JURORS[0]), submitted(1), claimed(1), committed(1)])
    chain.mine(guilty(1))
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
        seen = await relay.json(f"/v1/nodes/{JURORS[0]}")
        assert (seen["seats"], seen["latest_seats"][0]["said"]) == ({"juror": 1}, "bad")
        chain.fork(1)
        chain.mine(passed(1))
        await relay.indexed()
        assert (await relay.json(f"/v1/tasks/{task_of(1)}"))["state"] == "committed"
        chain.mine([settled(1)])
        await relay.indexed()
        task = await relay.json(f"/v1/tasks/{task_of(1)}")
        assert (task["state"], task["audit"]["state"], task["audit"]["jurors"]) == ("settled", "passed", [])
        assert (await relay.json(f"/v1/nodes/{JURORS[0]}"))["seats"] == {}


async def test_a_stream_tells_of_a_fork_and_begins_anew(tmp_path: Path) -> None:
    chain = FakeChain()
    chain.mine([submitted(1)])
    chain.mine([claimed(1)])
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
        with anyio.fail_after(60):
            async with stream(relay.client, f"/v1/tasks/{task_of(1)}/events") as sent:
                assert [(await anext(sent)).name for _ in range(2)] == ["submitted", "claimed"]
                chain.fork(1)
                chain.mine([])
                chain.mine([cancelled(1)])
                names = [event.name async for event in sent]
    assert names[0] == "rewound"
    assert names[-2:] == ["submitted", "cancelled"]
    assert "claimed" not in names


async def test_the_index_survives_a_chain_that_is_away(tmp_path: Path) -> None:
    chain = FakeChain()
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
        chain.down = True
        with anyio.fail_after(60):
            while (await relay.json("/v1/health"))["status"] != "degraded":
                pass
        chain.down = False
        chain.mine([submitted(1)])
        await relay.indexed()
        assert (await relay.json(f"/v1/tasks/{task_of(1)}"))["state"] == "submitted"


async def test_a_relay_goes_on_where_it_stopped_and_can_be_rebuilt(tmp_path: Path) -> None:
    chain = FakeChain()
    chain.mine([submitted(1), registered()])
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
    chain.fork(1)
    chain.mine([submitted(2)])
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
        kept = await relay.json("/v1/tasks")
        assert [task["id"] for task in kept["tasks"]] == [str(task_of(2))]
        assert (await relay.json("/v1/nodes"))["nodes"] == []
    for file in (tmp_path / "relay").glob("index.sqlite3*"):
        file.unlink()
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
        assert await relay.json("/v1/tasks") == kept


async def test_a_fork_below_all_that_is_remembered_is_read_again_from_our_contracts_on(tmp_path: Path) -> None:
    chain = FakeChain(max_range=1)
    for nonce in range(6):
        chain.mine([submitted(nonce)])
    read: list[int] = []
    real = chain.read

    async def noted(cursor: Cursor) -> Page | None:
        read.append(cursor.block)
        return await real(cursor)

    chain.read = noted  # type: ignore[method-assign]
    async with running(tmp_path, chain, start_block=4) as relay:
        await relay.indexed()
        read.clear()
        chain.blocks = [(9, events) for _, events in chain.blocks]
        await relay.indexed()
        assert min(read) == 3
        assert len((await relay.json("/v1/tasks"))["tasks"]) == 3
