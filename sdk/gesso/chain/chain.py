"""The chain as gesso speaks of it: one class, whose rooms are files of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gesso.chain.arbiter import Arbiter
from gesso.chain.board import Board
from gesso.chain.connection import Connection
from gesso.chain.drand import DrandServers
from gesso.chain.history import History
from gesso.chain.listings import Listings
from gesso.chain.purse import Purse
from gesso.chain.registry import Registry
from gesso.chain.rpc import Rpc
from gesso.chain.settings import ChainSettings
from gesso.chain.wallet import Wallet
from gesso_contracts import ARBITER
from gesso_protocol.errors import ConfigError
from gesso_protocol.money import Wei


class Chain(Purse, Board, Registry, Listings, History):
    """One gesso network on one endpoint. Make it with `Chain.open`; without a wallet it only reads.

    Every method raises Unreachable or ChainError when the endpoint fails. Writing methods wait until the transaction
    is mined and raise what the contract threw: ChainReverted with its name and values, or InsufficientFunds,
    FeeTooLow, DeadlinePassed where the name is well known.
    """

    def __init__(self, connection: Connection, wallet: Wallet | None) -> None:
        super().__init__(connection, wallet)
        self.arbiter: Arbiter | None = None
        """Audits and disputes; None on a network without an arbiter."""
        if self._contracts.arbiter is not None:
            servers = DrandServers(self.settings.drand_urls)
            self.arbiter = Arbiter(self._read, self._send, self._ready_for_bond, servers)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: ChainSettings, wallet: Wallet | None = None) -> AsyncIterator[Chain]:
        """Connect. Raises ConfigError for another chain than the settings name, or contracts that are not there."""
        async with Rpc(settings.rpc_url, timeout_s=settings.request_timeout_s) as rpc:
            chain_id = await rpc.chain_id()
            if settings.chain_id not in (None, chain_id):
                raise ConfigError(f"{settings.rpc_url} is chain {chain_id}, not {settings.chain_id}")
            if not await rpc.code(settings.contracts.task_board):
                raise ConfigError(f"there is no task board at {settings.contracts.task_board} on chain {chain_id}")
            connection = Connection(settings, rpc, chain_id)
            try:
                yield cls(connection, wallet)
            finally:
                await connection.close()

    def beside(self, wallet: Wallet) -> Chain:
        """Another wallet on the same connection, for as long as this one is open: it shares posts, prices,
        gas and the watch for blocks, which is most of what a client costs."""
        beside = Chain(self.connection, wallet)
        beside._params = self._params
        return beside

    async def _ready_for_bond(self, bond: Wei) -> None:
        await self._allow(self._home(ARBITER), bond)
