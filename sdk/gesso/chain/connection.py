"""One endpoint of one network, and what all wallets on it share: posts, prices, gas, logs, the watch for blocks."""

from __future__ import annotations

import anyio

from gesso.chain.blocks import BlockLogs
from gesso.chain.events import EventDecoder
from gesso.chain.fees import FeeOracle
from gesso.chain.gas import GasLimits
from gesso.chain.inclusion import Inclusion
from gesso.chain.reach import Reach
from gesso.chain.rpc import Rpc
from gesso.chain.sender import Sender
from gesso.chain.settings import ChainSettings
from gesso.chain.wallet import Wallet


class Connection:
    """Close it before its `rpc`."""

    def __init__(self, settings: ChainSettings, rpc: Rpc, chain_id: int) -> None:
        self.settings = settings
        self.rpc = rpc
        self.chain_id = chain_id
        self.decoder = EventDecoder(settings.contracts)
        self.logs = BlockLogs(rpc, self.decoder.addresses)
        self.reach = Reach(settings.max_log_range)
        self.fees = FeeOracle(rpc, most=settings.max_gas_price_wei)
        self.gas = GasLimits(rpc, settings.max_gas)
        self.inclusion = Inclusion(rpc, settings.receipt_poll_s, self.logs)
        self._senders: list[Sender] = []

    def sender(self, wallet: Wallet) -> Sender:
        """All sending of one wallet."""
        sender = Sender(
            self.rpc, wallet, self.chain_id, self.settings, fees=self.fees, gas=self.gas, inclusion=self.inclusion
        )
        self._senders.append(sender)
        return sender

    async def close(self) -> None:
        """Leaves nothing running, whoever is cancelled meanwhile."""
        with anyio.CancelScope(shield=True):
            for sender in self._senders:
                await sender.close()
            await self.inclusion.close()
            await self.logs.close()
