"""Notices when our transactions enter a block: one poller a client, however many transactions wait.

A new block's header lists its transactions, so nobody asks after one that is not there; whoever follows the log on the
same connection shows it the headers that it reads, and nobody asks twice. Of a crowd in one block the
logs of our contracts tell which succeeded, all in one answer that holds nobody else's transactions; receipts are asked
for by name of a few, and of those that left no log.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from gesso.chain.blocks import BlockLogs
from gesso.chain.mined import Mined, by_logs, by_receipt
from gesso.chain.rpc import Header, RawLog, Rpc, RpcRefused
from gesso_protocol.errors import ChainError, GessoError

FEW = 4
MAX_BLOCKS = 64


class Inclusion:
    """Register a hash before it is sent, then await its future. Polls only while somebody waits."""

    def __init__(self, rpc: Rpc, poll_s: float, logs: BlockLogs | None = None) -> None:
        """Without `logs` everybody is asked for by name."""
        self._rpc = rpc
        self._poll_s = poll_s
        self._logs = logs
        self._wanted: dict[str, asyncio.Future[Mined]] = {}
        self._listed: set[str] = set()
        """In a block by its header, while the endpoint does not give the receipt yet."""
        self._seen: Header | None = None
        self._shown: Header | None = None
        self._poller: asyncio.Task[None] | None = None
        self._kick = asyncio.Event()

    def expect(self, tx_hash: str, future: asyncio.Future[Mined]) -> None:
        """Fulfil `future` once this hash is in a block; several hashes may share one future."""
        self._wanted[tx_hash] = future
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(), name="gesso chain inclusion")

    def forget(self, hashes: Iterable[str]) -> None:
        for tx_hash in hashes:
            self._drop(tx_hash)

    def look_now(self) -> None:
        """A transaction was just sent; where blocks are made at once, it is there already."""
        if len(self._wanted) <= FEW:
            self._kick.set()

    def show(self, head: Header) -> None:
        """The newest block, as somebody else has just been told. What is no news, or an older answer that comes late,
        is left to our own looks."""
        if self._wanted and self._seen is not None and head.number > self._seen.number:
            self._shown = head
            self._kick.set()

    async def close(self) -> None:
        self._wanted.clear()
        if self._poller is not None:
            self._poller.cancel()
            with suppress(asyncio.CancelledError):
                await self._poller

    async def _poll(self) -> None:
        while self._wanted:
            shown, self._shown = self._shown, None
            try:
                head = shown or await self._rpc.latest()
                if self._listed or self._seen is None or head.hash != self._seen.hash:
                    await self._look(head)
                    self._seen = head
            except GessoError:
                self._seen = None  # look everywhere once the endpoint is back; the waiters have their own deadlines
            with suppress(TimeoutError):
                await asyncio.wait_for(self._kick.wait(), self._poll_s)
            self._kick.clear()

    async def _look(self, head: Header) -> None:
        """By the blocks since the last look where they follow on it and say what is in them, else by name."""
        blocks = await self._since(head)
        if blocks is None:
            self._listed.update(self._wanted)
        else:
            await self._by_blocks(blocks)
        names = list(self._listed)
        for tx_hash, receipt in zip(names, await asyncio.gather(*map(self._rpc.receipt, names)), strict=True):
            if receipt is not None:
                self._found_by_receipt(tx_hash, receipt)
            elif blocks is None:
                self._listed.discard(tx_hash)

    async def _since(self, head: Header) -> list[Header] | None:
        seen = self._seen
        # More blocks than transactions: asking for these is less.
        if seen is None or not 0 <= head.number - seen.number <= min(max(len(self._wanted), 1), MAX_BLOCKS):
            return None
        if head.hash == seen.hash:
            return []
        between = await asyncio.gather(*map(self._rpc.header, range(seen.number + 1, head.number)))
        blocks, parent = list[Header](), seen.hash
        for block in (*between, head):
            if block is None or block.parent != parent or block.transactions is None:
                return None
            blocks.append(block)
            parent = block.hash
        return blocks

    async def _by_blocks(self, blocks: Sequence[Header]) -> None:
        """Takes what logs tell of ours in these blocks, and notes who is to be asked for by name."""
        for block in blocks:
            ours = [tx_hash for tx_hash in block.transactions or () if tx_hash in self._wanted]
            logs = await self._logs_of(block) if len(ours) > FEW else {}
            for tx_hash in ours:
                if tx_hash in logs:
                    self._found(tx_hash, by_logs(tuple(logs[tx_hash])))
                else:
                    self._listed.add(tx_hash)

    async def _logs_of(self, block: Header) -> Mapping[str, list[RawLog]]:
        grouped: dict[str, list[RawLog]] = defaultdict(list)
        with suppress(RpcRefused):  # taken back in between: receipts will say where they are now
            for log in await self._logs.of(block.hash) if self._logs is not None else ():
                grouped[log.tx_hash].append(log)
        return grouped

    def _found_by_receipt(self, tx_hash: str, receipt: Mapping[str, Any]) -> None:
        try:
            self._found(tx_hash, by_receipt(tx_hash, receipt))
        except ChainError as error:
            future = self._drop(tx_hash)
            if future is not None and not future.done():
                future.set_exception(error)

    def _found(self, tx_hash: str, mined: Mined) -> None:
        future = self._drop(tx_hash)
        if future is not None and not future.done():
            future.set_result(mined)

    def _drop(self, tx_hash: str) -> asyncio.Future[Mined] | None:
        self._listed.discard(tx_hash)
        return self._wanted.pop(tx_hash, None)
