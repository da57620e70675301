"""The course of one task as the board's log tells it, found from the newest block backwards.

For whoever has not followed the board since then: the log is asked for this task alone, range by range, until the
submission is there.
"""

from __future__ import annotations

from contextlib import aclosing

from gesso.chain.backwards import backwards
from gesso.chain.events import ContractEvent, EventDecoder, TaskSubmitted
from gesso.chain.reach import Reach
from gesso.chain.rpc import Rpc
from gesso_protocol.ids import TaskId


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
