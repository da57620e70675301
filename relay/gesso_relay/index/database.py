"""Open the index's database, SQLite or PostgreSQL, and bring its tables up to date."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import structlog
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from gesso_protocol.errors import ConfigError, GessoError

_WORK_S = 30.0
_MIGRATIONS = Path(__file__).parent / "migrations"


class IndexAwayError(GessoError):
    """The database does not answer, or cannot take more: its disk may be full."""

    code = "index-away"
    default_message = "the relay's database cannot be used now"
    default_hint = "try again later; its operator finds the reason in the log"
    exit_code = 7


class Database:
    """Connections for one short piece of work each.

    The work is shielded: a cancelled reader or a relay that stops waits the moment until it is done, because a
    connection that is torn away in the middle of a statement is never given back.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection to ask with."""
        with _typed(), anyio.fail_after(_WORK_S, shield=True):
            async with self._connected() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction: all of it is kept, or nothing when the block raises."""
        with _typed(), anyio.fail_after(_WORK_S, shield=True):
            async with self._connected() as connection, connection.begin():
                yield connection

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        """Drivers let their own errors and the system's out of here, as when a server is away or starts again."""
        async with AsyncExitStack() as stack:
            try:
                connection = await stack.enter_async_context(self._engine.connect())
            except Exception as error:  # each driver has its own, of no common base
                raise _away(error) from error
            yield connection


@contextmanager
def _typed() -> Iterator[None]:
    """Failures of the database become IndexAwayError; that a row is there already is the writer's to see."""
    try:
        yield
    except IntegrityError:
        raise
    except (DBAPIError, TimeoutError) as error:
        raise _away(error) from error


def _away(error: Exception) -> IndexAwayError:
    log = structlog.get_logger("gesso.relay.index")
    log.warning("index.away", kind=type(error).__name__, reason=str(error)[:200])
    return IndexAwayError()


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[Database]:
    """A database that is up to date. Raises ConfigError when the database cannot be used; the URL is not shown."""
    engine = create_async_engine(url, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", _tune_sqlite)
    try:
        try:
            async with engine.begin() as connection:
                await connection.run_sync(_migrate)
        except (DBAPIError, OSError) as error:
            raise ConfigError(
                f"the index database cannot be opened ({type(error).__name__})",
                hint="check database_url, and that its server runs and lets this user create tables",
            ) from error
        except CommandError as error:  # it names a revision that none of our migrations has
            raise ConfigError(
                "the index database was written by a newer gesso",
                hint="update gesso on this machine, or remove the database: the index is rebuilt from the chain",
            ) from error
        yield Database(engine)
    finally:
        with anyio.CancelScope(shield=True):
            await engine.dispose()


def _migrate(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _tune_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    # Readers must not wait for the indexer; a lost last second is fetched from the chain again.
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
