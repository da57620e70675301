"""The loop from the chain to the index: read a page, write it with its cursor, tell who listens.

The loop is the only retry. An endpoint that fails is asked again, ever more slowly; nothing is lost by waiting,
because the cursor says exactly what has been read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import anyio
import structlog
from sqlalchemy.exc import SQLAlchemyError

from gesso.chain.cursor import Cursor, Page
from gesso_protocol.errors import GessoError
from gesso_relay.index.entries import Entry, Subject
from gesso_relay.index.facts import entry_of
from gesso_relay.index.writer import Writer

_SLOWEST_S = 30.0


class Source(Protocol):
    """Where the index reads the chain. The chain adapter fits; tests bring a chain of their own."""

    async def read(self, cursor: Cursor) -> Page | None:
        """The next page after the cursor, or None at the head."""
        ...

    async def block_time(self, block: int) -> int:
        """The time of a block, in unix seconds."""
        ...


@dataclass(frozen=True, slots=True)
class Rewound:
    """A subject some of whose events did not happen after all."""

    subject: Subject
    key: str
    to_block: int


News = Entry | Rewound
OnNews = Callable[[News], None]


@dataclass(slots=True)
class FollowState:
    """What health tells about the loop. `at_head`: the last read found nothing more."""

    block: int = -1
    at_head: bool = False
    failures: int = 0
    last_error: str | None = None
    rewinds: int = 0
    caught_up: anyio.Event = field(default_factory=anyio.Event)


class Follower:
    """Keeps one index up with one chain."""

    def __init__(self, source: Source, writer: Writer, *, start_block: int, poll_s: float, on_news: OnNews) -> None:
        self._source = source
        self._writer = writer
        self._start = Cursor.before(start_block)
        self._poll_s = poll_s
        self._on_news = on_news
        self._log = structlog.get_logger("gesso.relay.index")
        self.state = FollowState()

    async def run(self) -> None:
        """Until cancelled."""
        cursor: Cursor | None = None
        while True:
            try:
                if cursor is None:
                    cursor = await self._writer.cursor() or self._start
                cursor, more = await self.step(cursor)
            except GessoError as error:
                more = False
                self._failed(error.code, error.message)
            except SQLAlchemyError as error:
                more = False
                self._failed("database", type(error).__name__)
            if not more:
                await anyio.sleep(self._pause_s())

    async def step(self, cursor: Cursor) -> tuple[Cursor, bool]:
        """Read and write one page; the new cursor, and whether there may be more at once."""
        self.state.block = cursor.block
        page = await self._source.read(cursor)
        if page is None:
            self._recovered()
            self.state.at_head = True
            self.state.caught_up.set()
            return cursor, False
        self.state.at_head = False
        if page.reorged_to is not None:
            if page.cursor.block < self._start.block:  # nothing of ours is below, and the chain is long
                page = replace(page, cursor=self._start)
            await self._undo(page)
        else:
            await self._take(page)
        self._recovered()
        self.state.block = page.cursor.block
        return page.cursor, True

    async def _take(self, page: Page) -> None:
        times = {block: await self._source.block_time(block) for block in {event.block for event in page.events}}
        entries = [entry for event in page.events if (entry := entry_of(event, times[event.block])) is not None]
        for entry in await self._writer.apply(entries, page.cursor):
            self._on_news(entry)

    async def _undo(self, page: Page) -> None:
        self.state.rewinds += 1
        self._log.warning("index.rewound", to_block=page.cursor.block)
        for subject, key in await self._writer.roll_back(page.cursor):
            self._on_news(Rewound(subject, key, page.cursor.block))

    def _failed(self, code: str, message: str) -> None:
        self.state.failures += 1
        self.state.last_error = code
        self._log.warning("index.waiting", reason=message, failures=self.state.failures)

    def _recovered(self) -> None:
        self.state.failures = 0
        self.state.last_error = None

    def _pause_s(self) -> float:
        if not self.state.failures:
            return self._poll_s
        return min(_SLOWEST_S, self._poll_s * 2.0 ** min(self.state.failures, 10))
