"""The course of one task as the board's log tells it, found from the newest block backwards.

For whoever has not followed the board since then: the log is asked for this task alone, range by range, until the
submission is there. Bounded, because anybody may name a task that never was.
"""

from __future__ import annotations

from gesso.chain.events import ContractEvent, EventDecoder, TaskSubmitted
from gesso.chain.post import AnswerTooLong
from gesso.chain.rpc import RawLog, Rpc, RpcRefused
from gesso_protocol.ids import TaskId

MAX_RANGES = 64
"""With ranges of 2,000 blocks: eighteen days of a chain with a block in twelve seconds."""


async def read_course(
    rpc: Rpc, decoder: EventDecoder, board: str, task: TaskId, *, max_range: int
) -> tuple[ContractEvent, ...]:
    """Oldest first; empty when the submission is not within `MAX_RANGES` ranges. Raises Unreachable, ChainError."""
    last, reach, found = (await rpc.latest()).number, max_range, list[ContractEvent]()
    for _ in range(MAX_RANGES):
        if last < 0:
            break
        reach, logs = await logs_up_to(rpc, board, task.value, last, reach)
        logs.sort(key=lambda log: (log.block, log.index))
        found[:0] = [event for event in map(decoder.decode, logs) if event is not None]
        if any(isinstance(event, TaskSubmitted) for event in found):
            return tuple(found)
        last -= reach
    return ()


async def logs_up_to(rpc: Rpc, board: str, about: bytes, last: int, reach: int) -> tuple[int, list[RawLog]]:
    """Logs with this first indexed value of the blocks up to `last`, and of how many blocks: endpoints limit ranges,
    each in its own words, so they are halved until one is accepted."""
    while True:
        try:
            return reach, await rpc.logs([board], first=max(0, last - reach + 1), last=last, about=about)
        except (RpcRefused, AnswerTooLong):
            if reach == 1:
                raise
            reach //= 2
