"""The log about one thing, read from the newest block backwards, in ranges that the endpoint can answer.

Bounded, because anybody may ask about what never was, and a chain can be older than anybody wants to wait for.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from gesso.chain.post import AnswerTooLong
from gesso.chain.reach import MOST_IN_VAIN, Reach
from gesso.chain.rpc import RawLog, Rpc, RpcRefused
from gesso_protocol.errors import Unreachable

MAX_RANGES = 64
"""With ranges of 2,000 blocks: eighteen days of a chain with a block in twelve seconds."""


async def backwards(rpc: Rpc, address: str, about: bytes, *, reach: Reach) -> AsyncGenerator[tuple[int, list[RawLog]]]:
    """Pages of a contract's logs with this first indexed value, and the first block of each; the last page begins at
    block 0, or is the one after which nobody asks further. Raises Unreachable, ChainError."""
    last, blocks = (await rpc.latest()).number, reach.blocks
    for _ in range(MAX_RANGES):
        blocks, logs = await _logs_up_to(rpc, address, about, last, blocks, reach)
        first = max(0, last - blocks + 1)
        yield first, logs
        if first == 0:
            break
        # One crowded range does not make all the older ones narrow.
        last, blocks = first - 1, min(reach.blocks, blocks + max(1, blocks // 8))


async def _logs_up_to(
    rpc: Rpc, address: str, about: bytes, last: int, blocks: int, reach: Reach
) -> tuple[int, list[RawLog]]:
    """Logs of so many blocks up to `last`, or of fewer, and of how many. Endpoints limit ranges and results, each in
    its own words, and so do we: halved until one is accepted. What does not come in time is halved too, a few times:
    whoever asks once cannot wait for a loop to come round."""
    in_vain = 0
    while True:
        try:
            logs = await rpc.logs([address], first=max(0, last - blocks + 1), last=last, about=about)
        except (RpcRefused, AnswerTooLong):
            if blocks == 1:
                raise
        except Unreachable:
            reach.too_slow(blocks)
            in_vain += 1
            if in_vain > MOST_IN_VAIN:
                raise
        else:
            reach.came(blocks)
            return blocks, logs
        blocks = max(1, blocks // 2)
