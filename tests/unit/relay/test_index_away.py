"""A database that is away for a while: PostgreSQL's driver has errors of its own for it, and of the system's."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import anyio
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from gesso_protocol.errors import ConfigError
from gesso_relay.index.database import Database, IndexAwayError, open_database
from gesso_relay.index.follow import Follower

from .fakechain import FakeChain, submitted, task_of
from .running import running

pytestmark = pytest.mark.anyio


class CannotConnectNowError(Exception):
    """What asyncpg says while a server starts; it is none of SQLAlchemy's."""


def away(error: Exception) -> Any:
    def connect(*_: object) -> NoReturn:
        raise error

    return connect


@pytest.mark.parametrize("error", [ConnectionRefusedError(111, "refused"), CannotConnectNowError("starting up")])
async def test_a_server_that_is_away_is_a_typed_error(error: Exception, tmp_path: Path) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/index", async_creator=away(error))
    database = Database(engine)
    for use in (database.read, database.write):
        with pytest.raises(IndexAwayError):
            async with use():
                raise AssertionError
    await engine.dispose()


async def test_an_index_of_a_newer_version_is_refused_and_says_what_to_do(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/index"
    async with open_database(url) as database, database.write() as db:
        await db.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigError, match="newer gesso") as caught:
        await open_database(url).__aenter__()
    assert "rebuilt from the chain" in caught.value.hint


async def test_a_block_s_own_error_keeps_its_name(tmp_path: Path) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/index")
    with pytest.raises(ConnectionRefusedError):
        async with Database(engine).write():
            raise ConnectionRefusedError
    await engine.dispose()


async def test_a_relay_begins_when_its_database_is_back() -> None:
    """The first thing that a relay asks of it is where it stopped."""
    asked = 0

    async def cursor() -> None:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise IndexAwayError

    async def nothing(_: object) -> None:
        return None

    source: Any = SimpleNamespace(read=nothing)
    writer: Any = SimpleNamespace(cursor=cursor)
    follower = Follower(source, writer, start_block=0, poll_s=0.001, on_news=lambda _: None)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follower.run)
            await follower.state.caught_up.wait()
            tasks.cancel_scope.cancel()
    assert asked == 3


async def test_a_page_says_that_the_database_is_away_and_the_relay_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = FakeChain()
    chain.mine([submitted(1)])
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
        with monkeypatch.context() as patch:
            patch.setattr("sqlalchemy.ext.asyncio.AsyncEngine.connect", away(ConnectionRefusedError(111, "refused")))
            chain.mine([submitted(2)])
            reply = await relay.client.get(f"/v1/tasks/{task_of(1)}")
            assert (reply.status_code, reply.json()["code"]) == (503, "index-away")
            assert reply.headers["Retry-After"] == "1"
        await relay.indexed()
        assert (await relay.json(f"/v1/tasks/{task_of(2)}"))["state"] == "submitted"
