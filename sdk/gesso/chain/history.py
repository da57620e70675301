"""Time and events: where the chain is, and what its log says."""

from __future__ import annotations

from collections.abc import AsyncIterator

from gesso.chain.calls import Calls
from gesso.chain.course import read_course, read_submission
from gesso.chain.cursor import Cursor, EventReader, Page
from gesso.chain.events import ChainEvent, ContractEvent, Reorged, TaskSubmitted
from gesso.chain.income import Income, read_income
from gesso.chain.pending import interval_s
from gesso.chain.rpc import Header, number
from gesso_protocol.errors import ChainError
from gesso_protocol.ids import ListingId, TaskId


class History(Calls):
    """Reads only; a wallet is of no use here."""

    async def block_number(self) -> int:
        return await self._rpc.block_number()

    async def block_interval_s(self) -> float:
        """Seconds from block to block, over the last few; infinitely many while there are none."""
        return await interval_s(self._rpc)

    async def gas_used(self, tx_hash: str) -> int | None:
        """Gas units of a mined transaction, whoever sent it; None when the chain does not know it, or not to say."""
        receipt = await self._rpc.receipt(tx_hash)
        try:
            return None if receipt is None else number(receipt["gasUsed"])
        except (KeyError, TypeError, ChainError):
            return None

    async def pages(self, start: Cursor | int, *, poll_s: float = 0.5) -> AsyncIterator[Page]:
        """Events by the page, each with the cursor to store beside what was made of it. Runs for ever."""
        cursor = Cursor.before(start) if isinstance(start, int) else start
        async for page in self._reader().pages(cursor, poll_s=poll_s):
            yield page

    async def head(self) -> Header:
        """The newest block, for `read_page` too: its time is the chain's."""
        return await self._reader().head()

    async def read_page(self, cursor: Cursor, head: Header | None = None) -> Page | None:
        """One page after `cursor`, None when there is nothing new, as far as `head` where that was asked for before."""
        return await self._reader().read(cursor, head)

    async def course_of(self, task: TaskId) -> tuple[ContractEvent, ...]:
        """What the board's log says of one task, in order; empty when it was not submitted within the last blocks that
        are looked through (see `gesso.chain.backwards`)."""
        board = str(self._contracts.task_board)
        return await read_course(self._rpc, self._decoder, board, task, reach=self.connection.reach)

    async def submission_of(self, task: TaskId, *, at: int) -> TaskSubmitted | None:
        """The submission of a task that is said to have been at this second, however long ago; None where it was not.
        Raises Unreachable, ChainError."""
        return await read_submission(self._rpc, self._decoder, str(self._contracts.task_board), task, at=at)

    async def income_of(self, listing: ListingId) -> Income:
        """What a listing has earned, by the board's log (see `gesso.chain.backwards`)."""
        board = str(self._contracts.task_board)
        return await read_income(self._rpc, self._decoder, board, listing, reach=self.connection.reach)

    async def events(self, start: Cursor | int, *, poll_s: float = 0.5) -> AsyncIterator[ChainEvent]:
        """Events in order, for ever; a `Reorged` comes before what replaces the blocks that were taken back."""
        async for page in self.pages(start, poll_s=poll_s):
            if page.reorged_to is not None:
                yield Reorged(to_block=page.reorged_to)
            for event in page.events:
                yield event

    def _reader(self) -> EventReader:
        ours = self.connection
        return EventReader(self._rpc, self._decoder, reach=ours.reach, logs=ours.logs, on_head=ours.inclusion.show)
