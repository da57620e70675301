"""The course of one task as the board's log tells it, found from the newest block backwards; or its submission, found
by when it was.

For whoever has not followed the board since then: the log is asked for this task alone, range by range, until the
submission is there. An old chain has more ranges than anybody wants to ask for; who knows the second of the submission
finds its block in as many questions as the number of blocks has bits.
"""

from __future__ import annotations

from contextlib import aclosing

from gesso.chain.backwards import backwards
from gesso.chain.events import ContractEvent, EventDecoder, TaskSubmitted
from gesso.chain.reach import Reach
from gesso.chain.rpc import Header, Rpc
from gesso_protocol.errors import ChainError
from gesso_protocol.ids import TaskId

SAME_SECOND = 100
"""How many blocks of one second are looked through."""


async def read_course(
    rpc: Rpc, decoder: EventDecoder, board: str, task: TaskId, *, reach: Reach
) -> tuple[ContractEvent, ...]:
    """Oldest first; empty when the submission is not within the ranges that are looked through. Raises Unreachable,
    ChainError."""
    found = list[ContractEvent]()
    async with aclosing(backwards(rpc, board, task.value, reach=reach)) as pages:
        async for _, logs in pages:
            logs.sort(key=lambda log: (log.block, log.index))
            found[:0] = [event for event in map(decoder.decode, logs) if event is not None]
            if any(isinstance(event, TaskSubmitted) for event in found):
                return tuple(found)
    return ()


async def read_submission(
    rpc: Rpc, decoder: EventDecoder, board: str, task: TaskId, *, at: int
) -> TaskSubmitted | None:
    """The submission of a task that is said to have been at this second; None where the log does not have it there.
    Raises Unreachable, ChainError."""
    head = await rpc.latest()
    block = await _first_since(rpc, at, head)
    logs = await rpc.logs([board], first=block, last=min(block + SAME_SECOND, head.number), about=task.value)
    found = [event for event in map(decoder.decode, logs) if isinstance(event, TaskSubmitted)]
    return found[0] if found else None


async def _first_since(rpc: Rpc, at: int, head: Header) -> int:
    """The first block that is not before a second; the newest where all are."""
    low, high = 0, head.number
    while low < high:
        middle = (low + high) // 2
        header = await rpc.header(middle)
        if header is None:
            raise ChainError(f"the chain has no block {middle}, and newer ones")
        low, high = (low, middle) if header.timestamp >= at else (middle + 1, high)
    return low
