"""The one deployer: the same steps for a devnet, a test and a live network."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from gesso.chain.abi import constructor_data, function
from gesso.chain.rpc import Rpc
from gesso.chain.sender import Sender
from gesso.chain.settings import ChainSettings, ContractAddresses
from gesso.chain.wallet import Wallet
from gesso_contracts import DEV_TOKEN, MARKETPLACE, NODE_REGISTRY, TASK_BOARD, Contract
from gesso_protocol.errors import ChainError
from gesso_protocol.ids import Address
from gesso_protocol.money import Wei

ONE_TOKEN = 10**18
PLACEHOLDER = Address("0x" + "00" * 20)


class DeploySettings(BaseModel):
    """Rules of a new network; they are fixed for its life. Times are seconds, money is base units."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token: Address | None = Field(default=None, description="an existing ERC-20; None deploys a DevToken")
    treasury: Address | None = Field(default=None, description="earns the protocol fee; None is the deployer")
    challenge_window_s: int = 600
    sortition_step_s: int = 4
    hold_window_s: int = 86_400
    claims_per_weight: int = 8
    min_claim_window_s: int = 10
    max_claim_window_s: int = 86_400
    min_commit_window_s: int = 10
    max_commit_window_s: int = 86_400
    protocol_fee_bps: int = 100
    max_royalty_bps: int = 1_000
    min_fee: Wei = Wei(ONE_TOKEN // 10_000)
    min_stake: Wei = Wei(100 * ONE_TOKEN)
    stake_per_weight: Wei = Wei(100 * ONE_TOKEN)
    unbonding_period_s: int = 7 * 86_400
    activation_delay_s: int = 86_400

    @classmethod
    def devnet(cls) -> DeploySettings:
        """Short windows, so that a laptop sees the whole life of a task within seconds."""
        return cls(
            challenge_window_s=3,
            sortition_step_s=1,
            hold_window_s=60,
            claims_per_weight=64,
            min_claim_window_s=2,
            min_commit_window_s=2,
            unbonding_period_s=10,
            activation_delay_s=0,
        )


async def deploy(rpc_url: str, deployer: Wallet, settings: DeploySettings) -> ContractAddresses:
    """Deploy the contracts and introduce them to each other. The deployer pays the gas and is admin: it may name an
    arbiter once, and mint when the token is a DevToken; it has no other power."""
    blank = ContractAddresses(
        task_board=PLACEHOLDER, node_registry=PLACEHOLDER, marketplace=PLACEHOLDER, token=PLACEHOLDER
    )
    options = ChainSettings(rpc_url=rpc_url, contracts=blank)
    async with Rpc(rpc_url, timeout_s=options.request_timeout_s) as rpc:
        sender = Sender(rpc, deployer, await rpc.chain_id(), options)
        try:
            return await _deploy(sender, deployer.address, settings)
        finally:
            await sender.close()


async def _deploy(sender: Sender, admin: Address, settings: DeploySettings) -> ContractAddresses:
    token = settings.token or await _create(sender, DEV_TOKEN, "Gesso Dev Token", "GDEV", admin)
    marketplace = await _create(sender, MARKETPLACE, settings.max_royalty_bps)
    registry_rules = (
        settings.min_stake,
        settings.stake_per_weight,
        settings.unbonding_period_s,
        settings.activation_delay_s,
    )
    registry = await _create(sender, NODE_REGISTRY, token, admin, registry_rules)
    board_rules = (
        settings.challenge_window_s,
        settings.sortition_step_s,
        settings.hold_window_s,
        settings.claims_per_weight,
        settings.min_claim_window_s,
        settings.max_claim_window_s,
        settings.min_commit_window_s,
        settings.max_commit_window_s,
        settings.protocol_fee_bps,
        settings.min_fee,
    )
    treasury = settings.treasury or admin
    board = await _create(sender, TASK_BOARD, token, registry, marketplace, treasury, admin, board_rules)
    await sender.send(registry, function(NODE_REGISTRY, "setBoard").encode(board))
    return ContractAddresses(task_board=board, node_registry=registry, marketplace=marketplace, token=token)


async def _create(sender: Sender, contract: Contract, *arguments: object) -> Address:
    mined = await sender.send(None, constructor_data(contract, *arguments))
    if mined.created is None:
        raise ChainError(f"the chain made no {contract.name}")
    return Address(mined.created)
