"""Our contracts' logs of whole blocks, asked for once by all who watch on one connection.

Whoever reads events and whoever waits for transactions wants the same of each new block. A block's hash names its logs
for ever, so what was asked for by hash never grows old.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress

from gesso.chain.rpc import RawLog, Rpc

KEPT = 4
"""Blocks; those who watch the head of the chain are never further apart."""


class BlockLogs:
    """Logs of these contracts, in the order in which they were written."""

    def __init__(self, rpc: Rpc, addresses: Sequence[str]) -> None:
        self._rpc = rpc
        self._addresses = addresses
        self._asked: OrderedDict[str, asyncio.Task[tuple[RawLog, ...]]] = OrderedDict()

    async def of(self, block_hash: str) -> tuple[RawLog, ...]:
        """Raises RpcRefused for a block that was taken back, Unreachable, ChainError."""
        asked = self._asked.get(block_hash)
        if asked is None:
            asked = self._asked[block_hash] = asyncio.create_task(self._ask(block_hash), name="gesso chain block logs")
            while len(self._asked) > KEPT:
                self._asked.popitem(last=False)
        # Shielded: whoever gives up must not leave the others without an answer.
        return await asyncio.shield(asked)

    async def close(self) -> None:
        """Leaves no question behind."""
        asked, self._asked = list(self._asked.values()), OrderedDict()
        for task in asked:
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task

    async def _ask(self, block_hash: str) -> tuple[RawLog, ...]:
        try:
            logs = await self._rpc.logs(self._addresses, block_hash=block_hash)
        except BaseException:
            self._asked.pop(block_hash, None)  # the next one asks again
            raise
        return tuple(sorted(logs, key=lambda log: log.index))
