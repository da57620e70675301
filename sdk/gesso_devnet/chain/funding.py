"""Money for a devnet: coin for gas from a test account, fee tokens out of nothing. Live chains have no such thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import anyio

from gesso.chain.abi import function
from gesso.chain.rpc import Rpc
from gesso.chain.sender import Sender
from gesso.chain.settings import ChainSettings, ContractAddresses
from gesso.chain.wallet import Wallet
from gesso_contracts import DEV_TOKEN
from gesso_protocol.ids import Address
from gesso_protocol.money import Wei

ONE = 10**18
SOME_COIN = Wei(10 * ONE)
SOME_TOKENS = Wei(1_000 * ONE)


@dataclass(frozen=True)
class Funds:
    """What one account gets: `coin` of the chain for gas, `tokens` of the fee token, both in base units."""

    coin: Wei = SOME_COIN
    tokens: Wei = SOME_TOKENS


async def fund(rpc_url: str, contracts: ContractAddresses, giver: Wallet, gifts: Mapping[Address, Funds]) -> None:
    """Send coin and mint tokens. `giver` is the deployer of the DevToken and a rich test account."""
    settings = ChainSettings(rpc_url=rpc_url, contracts=contracts)
    async with Rpc(rpc_url, timeout_s=settings.request_timeout_s) as rpc:
        sender = Sender(rpc, giver, await rpc.chain_id(), settings)
        mint = function(DEV_TOKEN, "mint")
        try:
            async with anyio.create_task_group() as group:
                for address, funds in gifts.items():
                    if funds.coin:
                        group.start_soon(_give_coin, sender, address, funds.coin)
                    if funds.tokens:
                        group.start_soon(sender.send, contracts.token, mint.encode(str(address), int(funds.tokens)))
        finally:
            await sender.close()


async def _give_coin(sender: Sender, address: Address, amount: Wei) -> None:
    await sender.send(address, b"", value=int(amount))
