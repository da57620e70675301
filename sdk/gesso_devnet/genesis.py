"""The first minutes of a local network: contracts, money for everyone, a model on the marketplace.

The one-process network of the tests and the processes of `gesso devnet` both begin here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import anyio

from gesso.blobs.port import BlobStore
from gesso.chain.abi import function
from gesso.chain.chain import Chain
from gesso.chain.deploy import DeploySettings, deploy
from gesso.chain.rpc import Rpc
from gesso.chain.sender import Sender
from gesso.chain.settings import ChainSettings, ContractAddresses
from gesso.chain.wallet import Wallet
from gesso_contracts import DEV_TOKEN
from gesso_devnet.chain.accounts import TestAccount
from gesso_devnet.seed import PackedModel, upload
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import Address, ListingId
from gesso_protocol.money import Wei

ONE = 10**18
START_TOKENS = Wei(10_000 * ONE)
START_DEPOSIT = Wei(1_000 * ONE)
NODE_STAKE = Wei(100 * ONE)
NODE_PRICE = Wei(96 * ONE // 10_000)
"""What a node wants to keep of a fee: with 3 % royalty and 1 % protocol fee a task costs 0.01 tokens."""
ROYALTY_BPS = 300
BASE_KIND = 0
GAS_MONEY = 10 * ONE


@dataclass(frozen=True, slots=True)
class Cast:
    """Who is who on a local network. All keys are the public test keys; never send them anything real."""

    deployer: Wallet
    submitter: Wallet
    publisher: Wallet
    nodes: tuple[Wallet, ...]

    @classmethod
    def of(cls, accounts: Sequence[TestAccount], nodes: int) -> Cast:
        """Account 0 deploys, 1 submits, 2 publishes, the rest are nodes."""
        wallets = [Wallet.from_key(account.key) for account in accounts[: 3 + nodes]]
        return cls(wallets[0], wallets[1], wallets[2], tuple(wallets[3:]))

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Everybody."""
        return tuple(wallet.address for wallet in (self.deployer, self.submitter, self.publisher, *self.nodes))


async def found(rpc_url: str, cast: Cast, rules: DeploySettings) -> ContractAddresses:
    """Deploy the contracts and give everyone fee tokens; the submitter's deposit is filled."""
    contracts = await deploy(rpc_url, cast.deployer, rules)
    await mint(rpc_url, contracts, cast.deployer, cast.addresses, START_TOKENS)
    async with Chain.open(ChainSettings(rpc_url=rpc_url, contracts=contracts), cast.submitter) as chain:
        await chain.deposit(START_DEPOSIT)
    return contracts


async def publish(chain: Chain, model: PackedModel, blobs: BlobStore) -> ListingId:
    """Upload a model and list it for its royalty; the chain's wallet becomes its owner."""
    manifest = await upload(model, blobs)
    licence = keccak256(model.manifest.licence.encode())
    return await chain.publish_listing(
        model.manifest.name, manifest, kind=BASE_KIND, royalty_bps=ROYALTY_BPS, licence=licence
    )


async def mint(
    rpc_url: str, contracts: ContractAddresses, owner: Wallet, accounts: Iterable[Address], amount: Wei
) -> None:
    """New fee tokens for these accounts, in base units; only the owner of a DevToken can do this."""
    codec = function(DEV_TOKEN, "mint")
    settings = ChainSettings(rpc_url=rpc_url, contracts=contracts)
    async with Rpc(rpc_url, timeout_s=settings.request_timeout_s) as rpc:
        sender = Sender(rpc, owner, await rpc.chain_id(), settings)
        try:
            async with anyio.create_task_group() as group:
                for account in accounts:
                    group.start_soon(sender.send, contracts.token, codec.encode(str(account), int(amount)))
        finally:
            await sender.close()


async def send_gas_money(rpc: Rpc, sender_key: Wallet, to: Address, amount: int = GAS_MONEY) -> None:
    """Some of the chain's own coin, so that the account can send transactions; amount in wei."""
    chain_id = await rpc.chain_id()
    nonce = await rpc.nonce(sender_key.address, pending=True)
    price = 2 * (await rpc.latest()).base_fee + 10**9
    fields = {"to": str(to), "data": b"", "gas": 21_000, "value": amount, "type": 2, "chainId": chain_id}
    fees = {"nonce": nonce, "maxFeePerGas": price, "maxPriorityFeePerGas": 10**9}
    await rpc.send_raw(sender_key.sign_transaction({**fields, **fees}).raw)
