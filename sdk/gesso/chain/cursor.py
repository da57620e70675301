"""Reading events in order, exactly up to where the chain is, and noticing when it takes blocks back.

A reader keeps a `Cursor`: the last block it has finished, with the hashes of a few older ones, ever further apart.
When the chain no longer has the cursor's block, the newest of those that it still has is where reading goes on, and
the reader is told to undo everything above it. Nothing is assumed about how deep a reorganisation can be.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import anyio
from pydantic import BaseModel, ConfigDict, Field

from gesso.chain.blocks import BlockLogs
from gesso.chain.events import ContractEvent, EventDecoder
from gesso.chain.post import AnswerTooLong
from gesso.chain.reach import Reach
from gesso.chain.rpc import Header, RawLog, Rpc, RpcRefused
from gesso_protocol.errors import Unreachable

MAX_TRAIL = 80
RECENT = 8
NOTHING_READ = -1


class Checkpoint(BaseModel):
    """A block that was on the chain when we looked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    block: int = Field(ge=0)
    hash: str = Field(pattern=r"^0x[0-9a-f]{64}$")


class Cursor(BaseModel):
    """Where a reader of events stands. Store it together with what was learnt up to it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    block: int = Field(ge=NOTHING_READ, description="the last block that was read")
    trail: tuple[Checkpoint, ...] = Field(default=(), max_length=MAX_TRAIL, description="newest first")

    @classmethod
    def before(cls, block: int) -> Cursor:
        """A reader that has read nothing and starts at `block`."""
        return cls(block=max(block, 0) - 1)

    def advanced(self, block: int, block_hash: str) -> Cursor:
        """After reading up to `block`. Keeps the newest few checkpoints, then two for each doubling of the distance,
        so that a reorganisation of any depth costs re-reading a small multiple of that depth."""
        older = [old for old in self.trail if old.block < block]
        recent, rest = older[: RECENT - 1], older[RECENT - 1 :]
        kept = [Checkpoint(block=block, hash=block_hash), *recent]
        for place, old in enumerate(rest):
            scale = _scale(block, old)
            first = place == 0 or _scale(block, rest[place - 1]) != scale
            last = place + 1 == len(rest) or _scale(block, rest[place + 1]) != scale
            if first or last:
                kept.append(old)
        return Cursor(block=block, trail=tuple(kept[: MAX_TRAIL - 1] + kept[MAX_TRAIL - 1 :][-1:]))


def _scale(block: int, old: Checkpoint) -> int:
    return (block - old.block).bit_length()


@dataclass(frozen=True, slots=True)
class Page:
    """What one read brought. Undo everything above `reorged_to` first, when it is given; then take the events."""

    events: tuple[ContractEvent, ...]
    cursor: Cursor
    reorged_to: int | None = None


class EventReader:
    """Reads pages of one network's events from one endpoint. Bounded: at most as many blocks a page as `reach` says."""

    def __init__(
        self,
        rpc: Rpc,
        decoder: EventDecoder,
        *,
        reach: Reach,
        logs: BlockLogs | None = None,
        on_head: Callable[[Header], None] = lambda _: None,
    ) -> None:
        """`on_head` is told the newest block whenever it was asked for."""
        self._on_head = on_head
        self._rpc = rpc
        self._decoder = decoder
        self._logs = logs or BlockLogs(rpc, decoder.addresses)
        self._reach = reach

    async def pages(
        self, cursor: Cursor, *, poll_s: float, pause: Callable[[float], Awaitable[None]] = anyio.sleep
    ) -> AsyncIterator[Page]:
        """Pages for ever, waiting `poll_s` whenever there is nothing new."""
        while True:
            page = await self.read(cursor)
            if page is None:
                await pause(poll_s)
                continue
            cursor = page.cursor
            yield page

    async def head(self) -> Header:
        """The newest block. Whoever has it already may hand it to `read`."""
        head = await self._rpc.latest()
        self._on_head(head)
        return head

    async def read(self, cursor: Cursor, head: Header | None = None) -> Page | None:
        """The next page after `cursor`, or None when the cursor is at the chain's head."""
        head = head or await self.head()
        if not await self._still_there(cursor, head):
            return await self._rewound(cursor)
        if head.number <= cursor.block:
            return None
        return await self._forward(cursor, head)

    async def _still_there(self, cursor: Cursor, head: Header) -> bool:
        if not cursor.trail:
            return True
        last = cursor.trail[0]
        if (head.number, head.hash) == (last.block, last.hash) or head.parent == last.hash:
            return True
        return await self._has(last)

    async def _has(self, checkpoint: Checkpoint) -> bool:
        found = await self._rpc.header(checkpoint.block)
        return found is not None and found.hash == checkpoint.hash

    async def _rewound(self, cursor: Cursor) -> Page:
        for place, checkpoint in enumerate(cursor.trail):
            if await self._has(checkpoint):
                back = Cursor(block=checkpoint.block, trail=cursor.trail[place:])
                return Page(events=(), cursor=back, reorged_to=checkpoint.block)
        return Page(events=(), cursor=Cursor(block=NOTHING_READ), reorged_to=NOTHING_READ)

    async def _forward(self, cursor: Cursor, head: Header) -> Page | None:
        if cursor.trail and head.parent == cursor.trail[0].hash:
            return await self._one_block(cursor, head)
        last = min(head.number, cursor.block + self._reach.blocks)
        before, logs = await self._range(cursor.block + 1, last, head)
        after = None if before is None else await self._rpc.header(before.number)
        moved = before is None or after is None or after.hash != before.hash
        if after is None or moved or (cursor.trail and not await self._has(cursor.trail[0])):
            return None  # the chain changed under the query: read again
        return self._page(cursor, after, logs)

    async def _one_block(self, cursor: Cursor, head: Header) -> Page | None:
        try:
            return self._page(cursor, head, await self._logs.of(head.hash))
        except RpcRefused:
            return None  # the block was taken back in between

    def _page(self, cursor: Cursor, tip: Header, logs: Sequence[RawLog]) -> Page:
        ordered = sorted(logs, key=lambda log: (log.block, log.index))
        events = tuple(event for event in map(self._decoder.decode, ordered) if event is not None)
        return Page(events=events, cursor=cursor.advanced(tip.number, tip.hash))

    async def _range(self, first: int, last: int, head: Header) -> tuple[Header | None, list[RawLog]]:
        """The logs of as many blocks as the endpoint gives at once, and the last one's header from before the query:
        what comes after it must be compared with that. None when there is no such block any more."""
        while True:
            before = head if last == head.number else await self._rpc.header(last)
            if before is None:
                return None, []
            try:
                logs = await self._rpc.logs(self._decoder.addresses, first=first, last=last)
            except (RpcRefused, AnswerTooLong):
                # Endpoints limit ranges and results, each in its own words, and so do we: halve until it is accepted.
                if last == first:
                    raise
                last = first + (last - first) // 2
            except Unreachable:
                self._reach.too_slow(last - first + 1)
                raise
            else:
                self._reach.came(last - first + 1)
                return before, logs
