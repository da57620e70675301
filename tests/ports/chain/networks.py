"""A deployed gesso network on a local chain, and the hand tools that its tests need."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

import anyio

from gesso.chain import Chain, ChainSettings, ContractAddresses, Wallet
from gesso.chain.rpc import Rpc
from gesso_devnet.chain.start import RunningChain
from gesso_protocol.ids import NO_LISTING, BlobRef, ListingId, Root
from gesso_protocol.money import Wei
from gesso_protocol.terms import Terms

ONE = 10**18
FEE = Wei(ONE)
STAKE = Wei(100 * ONE)
RESULT = Root(b"\x01" * 32)
TRACE = Root(b"\x02" * 32)
DEPLOYER, REQUESTER, NODE, OTHER, PUBLISHER, NEWCOMER, NEW_NODE = range(7)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Ask until it is so; the test's own limit bounds it."""
    while True:
        if await condition():
            return
        await anyio.sleep(0.01)


@dataclass
class Network:
    """One local chain with our contracts; `tools` speaks to the chain directly."""

    chain: RunningChain
    contracts: ContractAddresses
    tools: Rpc
    nonces: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def wallet(self, index: int) -> Wallet:
        return Wallet.from_key(self.chain.accounts[index].key)

    def settings(self, **changes: Any) -> ChainSettings:
        values: dict[str, Any] = {
            "rpc_url": self.chain.rpc_url,
            "contracts": self.contracts,
            "receipt_poll_s": 0.02,
            "receipt_timeout_s": 20.0,
        }
        return ChainSettings(**(values | changes))

    def open(self, index: int | None, **changes: Any) -> AbstractAsyncContextManager[Chain]:
        return Chain.open(self.settings(**changes), None if index is None else self.wallet(index))

    def terms(self, *, fee: int = FEE, model: ListingId = NO_LISTING, **changes: Any) -> Terms:
        values: dict[str, Any] = {
            "requester": self.wallet(REQUESTER).address,
            "fee": Wei(fee),
            "spec": BlobRef.of(b"a lighthouse in a storm"),
            "model": model,
            "claim_window_s": 600,
            "commit_window_s": 600,
            "nonce": next(self.nonces),
        }
        return Terms(**(values | changes))

    async def mine(self) -> None:
        await self.tools.request("evm_mine")

    async def automine(self, on: bool) -> None:
        await self.tools.request("evm_setAutomine", on)

    async def warp(self, seconds: int) -> None:
        await self.tools.request("evm_increaseTime", seconds)
        await self.mine()

    async def reorg(self, depth: int) -> None:
        await self.tools.request("anvil_reorg", depth, [])

    async def waiting(self) -> int:
        """Transactions in the pool, ready ones and those behind a gap."""
        status = await self.tools.request("txpool_status")
        return int(status["pending"], 16) + int(status["queued"], 16)
