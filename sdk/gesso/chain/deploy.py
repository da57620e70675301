"""The one deployer: the same steps for a devnet, a test and a live network."""

from __future__ import annotations

from typing import Literal

import rlp  # type: ignore[import-untyped]  # ships none
from pydantic import BaseModel, ConfigDict, Field

from gesso.chain.abi import constructor_data, function
from gesso.chain.rpc import Rpc
from gesso.chain.sender import Sender
from gesso.chain.settings import ChainSettings, ContractAddresses
from gesso.chain.wallet import Wallet
from gesso_contracts import (
    ARBITER,
    BLOCK_BEACON,
    DEV_TOKEN,
    DRAND_BEACON,
    MARKETPLACE,
    NODE_REGISTRY,
    TASK_BOARD,
    Contract,
)
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.audit.soundness import Stakes, unsound
from gesso_protocol.errors import ChainError, UsageError
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import Address
from gesso_protocol.money import DECIMALS, Wei

ONE_TOKEN = 10**18
PLACEHOLDER = Address("0x" + "00" * 20)


PRODUCTION_AUDITS = AuditRules(
    auditor_fee=Wei(3 * ONE_TOKEN // 1_000),
    juror_fee=Wei(12 * ONE_TOKEN // 1_000),
    auditor_penalty=Wei(ONE_TOKEN),
    juror_penalty=Wei(ONE_TOKEN // 2),
    challenge_bond=Wei(ONE_TOKEN),
    burn_bps=6_000,
    requester_bps=2_000,
    reserve=Wei(10_000 * ONE_TOKEN),
)
DEVNET_AUDITS = PRODUCTION_AUDITS.model_copy(
    update={
        "vetting_audits": 5,
        "trusted_audits": 20,
        "auditor_fee": Wei(ONE_TOKEN // 1_000),
        "juror_fee": Wei(ONE_TOKEN // 1_000),
        "audit_step_s": 1,
        # among a handful of nodes everybody is drawn at once
        "lot_doublings": 255,
        "audit_commit_window_s": 14,
        "audit_reveal_window_s": 10,
        "jurors": 3,
        "quorum": 2,
        "appeal_jurors": 3,
        "appeal_quorum": 2,
        "jury_step_s": 1,
        "vote_commit_window_s": 10,
        "vote_reveal_window_s": 10,
        "appeal_window_s": 6,
        "grace_s": 5,
        "burn_bps": 5_000,
        "requester_bps": 3_000,
    }
)
"""Windows close as soon as all seats are taken and all is revealed; only the appeal window is always waited for."""


class DeploySettings(BaseModel):
    """Rules of a new network; they are fixed for its life. Times are seconds, money is base units."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token: Address | None = Field(default=None, description="an existing ERC-20; None deploys a DevToken")
    treasury: Address | None = Field(
        default=None, description="earns the protocol fee, or what the pool of audits does not need; None: the deployer"
    )
    challenge_window_s: int = 3_600
    sortition_step_s: int = 4
    hold_window_s: int = 3 * 86_400
    claims_per_weight: int = 8
    min_claim_window_s: int = 10
    max_claim_window_s: int = 86_400
    min_commit_window_s: int = 10
    max_commit_window_s: int = 86_400
    cancel_delay_s: int = Field(
        default=12,
        description="how long a new task cannot be cancelled: within its first half a node that nobody comes before "
        "hands over before its claim is mined, if that half is at least two blocks as nodes measure them. So about six "
        "blocks of your chain, and nothing goes ahead of a claim with fewer than four",
    )
    protocol_fee_bps: int = Field(default=300, description="pays auditors where there is an arbiter")
    max_royalty_bps: int = 1_000
    min_fee: Wei = Wei(ONE_TOKEN // 10_000)
    min_stake: Wei = Wei(100 * ONE_TOKEN)
    stake_per_weight: Wei = Wei(100 * ONE_TOKEN)
    unbonding_period_s: int = 7 * 86_400
    activation_delay_s: int = 86_400
    audit_fee: Wei = Field(
        default=Wei(6 * ONE_TOKEN // 1_000),
        description="what a sure audit costs beside the fee; at least what its auditors earn, or auditing one's own "
        "tasks would be a trade",
    )
    audits: AuditRules | None = Field(default=PRODUCTION_AUDITS, description="None: a network without an arbiter")
    beacon: Literal["drand", "blocks"] = Field(
        default="drand", description="what audits are drawn by; block hashes are for devnets"
    )
    drand_lag_s: int = Field(default=30, description="longest time by which the chain's clock may be late")
    drand_stride: int = Field(
        default=20, description="rounds of drand (3 s each) to a round of ours: who waits shares one"
    )
    beacon_period_s: int = Field(default=60, description="length of a round of the block beacon")

    def verified(self) -> DeploySettings:
        """Itself, if nobody gains by anything but honest work: for networks whose token is worth something. Raises
        UsageError."""
        if self.audits is None:
            raise UsageError("without audits nobody is held to honest work", hint="leave `audits` as it is")
        if faults := unsound(self.audits, Stakes(self.audit_fee, self.min_stake, self.protocol_fee_bps)):
            raise UsageError(f"these rules can be gamed: {'; '.join(faults)}", hint="see node/AUDITS.md, chapter 9")
        return self

    @classmethod
    def devnet(cls) -> DeploySettings:
        """Short windows, so that a laptop sees the whole life of a task, and of a dispute, within a minute or two."""
        return cls(
            challenge_window_s=8,
            sortition_step_s=1,
            hold_window_s=300,
            claims_per_weight=64,
            min_claim_window_s=2,
            min_commit_window_s=2,
            cancel_delay_s=6,
            unbonding_period_s=300,
            activation_delay_s=0,
            protocol_fee_bps=500,
            audit_fee=Wei(2 * ONE_TOKEN // 1_000),
            audits=DEVNET_AUDITS,
            beacon="blocks",
            beacon_period_s=2,
        )


async def deploy(rpc_url: str, deployer: Wallet, settings: DeploySettings) -> ContractAddresses:
    """Deploy the contracts and introduce them to each other. The deployer pays the gas and is admin: it names the
    arbiter, once, here if there is one, and may mint when the token is a DevToken; it has no other power. With a token
    of somebody else's the rules are held to `DeploySettings.verified` before anything is sent, and the token to the
    decimals that all amounts are counted in."""
    if settings.token is not None:
        settings.verified()
    blank = ContractAddresses(
        task_board=PLACEHOLDER, node_registry=PLACEHOLDER, marketplace=PLACEHOLDER, token=PLACEHOLDER
    )
    options = ChainSettings(rpc_url=rpc_url, contracts=blank)
    async with Rpc(rpc_url, timeout_s=options.request_timeout_s) as rpc:
        if settings.token is not None:
            await _counted(rpc, settings.token)
        sender = Sender(rpc, deployer, await rpc.chain_id(), options)
        try:
            return await _deploy(sender, rpc, deployer.address, settings)
        finally:
            await sender.close()


async def _counted(rpc: Rpc, token: Address) -> None:
    """Raises UsageError for a token with other units than ours: a price of 0.02 would be one of twenty billion."""
    codec = function(DEV_TOKEN, "decimals")
    decimals = codec.decode(await rpc.call(str(token), codec.encode()))[0]
    if decimals != DECIMALS:
        raise UsageError(
            f"the token {token} has {decimals} decimals, and amounts are counted in {DECIMALS}",
            hint=f"name one that has {DECIMALS}, such as DAI, or a wrapper of this one",
        )


async def _deploy(sender: Sender, rpc: Rpc, admin: Address, settings: DeploySettings) -> ContractAddresses:
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
        settings.cancel_delay_s,
        settings.protocol_fee_bps,
        settings.min_fee,
        settings.audit_fee,
    )
    houses = (token, registry, marketplace)
    treasury = settings.treasury or admin
    if settings.audits is None:
        board = await _create(sender, TASK_BOARD, *houses, treasury, admin, board_rules)
        contracts = _addresses(board, houses)
    else:
        contracts = await _with_arbiter(sender, rpc, admin, houses, board_rules, settings, settings.audits)
    await sender.send(registry, function(NODE_REGISTRY, "setBoard").encode(contracts.task_board))
    if contracts.arbiter is not None:
        for contract, home in ((TASK_BOARD, contracts.task_board), (NODE_REGISTRY, registry)):
            await sender.send(home, function(contract, "setArbiter").encode(contracts.arbiter))
    return contracts


async def _with_arbiter(
    sender: Sender,
    rpc: Rpc,
    admin: Address,
    houses: tuple[Address, Address, Address],
    board_rules: tuple[int, ...],
    settings: DeploySettings,
    rules: AuditRules,
) -> ContractAddresses:
    """Board and arbiter name each other for ever, so the board is told an address where nothing is yet."""
    token, registry, _ = houses
    beacon = await _create_beacon(sender, settings)
    # The beacon's own address says which transaction made it; an endpoint's count may lag behind its receipts.
    counted = await rpc.nonce(admin, pending=True)
    made_by = next((n for n in range(max(0, counted - 2), counted + 3) if contract_address(admin, n) == beacon), None)
    if made_by is None:
        raise ChainError("another transaction of the deployer came between", hint="deploy again, with nothing beside")
    arbiter = contract_address(admin, made_by + 2)
    board = await _create(sender, TASK_BOARD, *houses, arbiter, admin, board_rules)
    surplus_to = settings.treasury or admin
    made = await _create(sender, ARBITER, token, board, registry, beacon, surplus_to, rules.as_tuple())
    if made != arbiter:
        raise ChainError("another transaction of the deployer came between", hint="deploy again, with nothing beside")
    return _addresses(board, houses, arbiter, beacon)


def contract_address(creator: Address, nonce: int) -> Address:
    """Where the contract will be that `creator` makes with its transaction number `nonce`."""
    return Address("0x" + keccak256(rlp.encode([bytes.fromhex(creator[2:]), nonce]))[12:].hex())


def _addresses(
    board: Address,
    houses: tuple[Address, Address, Address],
    arbiter: Address | None = None,
    beacon: Address | None = None,
) -> ContractAddresses:
    token, registry, marketplace = houses
    return ContractAddresses(
        task_board=board,
        node_registry=registry,
        marketplace=marketplace,
        token=token,
        arbiter=arbiter,
        beacon=beacon,
    )


async def _create_beacon(sender: Sender, settings: DeploySettings) -> Address:
    """Raises ChainReverted CurveUnsupported for drand on a chain that cannot check its signatures."""
    if settings.beacon == "drand":
        return await _create(sender, DRAND_BEACON, settings.drand_lag_s, settings.drand_stride)
    return await _create(sender, BLOCK_BEACON, settings.beacon_period_s)


async def _create(sender: Sender, contract: Contract, *arguments: object) -> Address:
    mined = await sender.send(None, constructor_data(contract, *arguments))
    if mined.created is None:
        raise ChainError(f"the chain made no {contract.name}")
    return Address(mined.created)
