"""Notices when our transactions enter a block: one poller a client, however many transactions wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from gesso.chain.rpc import Header, Rpc
from gesso_protocol.errors import GessoError

Receipt = Mapping[str, Any]

FEW = 4
MAX_BLOCKS = 8


class Inclusion:
    """Register a hash before it is sent, then await its future. Polls only while somebody waits."""

    def __init__(self, rpc: Rpc, poll_s: float) -> None:
        self._rpc = rpc
        self._poll_s = poll_s
        self._wanted: dict[str, asyncio.Future[Receipt]] = {}
        self._poller: asyncio.Task[None] | None = None
        self._kick = asyncio.Event()

    def expect(self, tx_hash: str, future: asyncio.Future[Receipt]) -> None:
        """Fulfil `future` with the receipt of this hash; several hashes may share one future."""
        self._wanted[tx_hash] = future
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(), name="gesso chain inclusion")

    def forget(self, hashes: Iterable[str]) -> None:
        for tx_hash in hashes:
            self._wanted.pop(tx_hash, None)

    def look_now(self) -> None:
        """A transaction was just sent; where blocks are made at once, it is there already."""
        if len(self._wanted) <= FEW:
            self._kick.set()

    async def close(self) -> None:
        self._wanted.clear()
        if self._poller is not None:
            self._poller.cancel()
            with suppress(asyncio.CancelledError):
                await self._poller

    async def _poll(self) -> None:
        seen: Header | None = None
        while self._wanted:
            try:
                head = await self._rpc.latest()
                if seen is None or head.hash != seen.hash:
                    await self._look(head, seen)
                    seen = head
            except GessoError:
                seen = None  # look everywhere once the endpoint is back; the waiters have their own deadlines
            with suppress(TimeoutError):
                await asyncio.wait_for(self._kick.wait(), self._poll_s)
            self._kick.clear()

    async def _look(self, head: Header, seen: Header | None) -> None:
        """A crowd is looked for in whole blocks where these follow on what was seen, a few are asked for by name."""
        if len(self._wanted) > FEW and seen is not None and 0 < head.number - seen.number <= MAX_BLOCKS:
            blocks = range(seen.number + 1, head.number + 1)
            follows, *receipts = await asyncio.gather(
                self._follows(head, seen), *(self._rpc.block_receipts(block) for block in blocks)
            )
            if follows and None not in receipts:
                for receipt in (receipt for block in receipts for receipt in block or ()):
                    self._found(str(receipt["transactionHash"]), receipt)
                return
        wanted = list(self._wanted)
        for tx_hash, found in zip(wanted, await asyncio.gather(*map(self._rpc.receipt, wanted)), strict=True):
            if found is not None:
                self._found(tx_hash, found)

    async def _follows(self, head: Header, seen: Header) -> bool:
        first = head if head.number == seen.number + 1 else await self._rpc.header(seen.number + 1)
        return first is not None and first.parent == seen.hash

    def _found(self, tx_hash: str, receipt: Receipt) -> None:
        future = self._wanted.pop(tx_hash, None)
        if future is not None and not future.done():
            future.set_result(receipt)
