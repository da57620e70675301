"""The first minutes of a local network: contracts, money for everyone, a model on the marketplace.

The one-process network of the tests and the processes of `gesso devnet` both begin here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gesso.blobs.port import BlobStore
from gesso.chain.chain import Chain
from gesso.chain.deploy import DeploySettings, deploy
from gesso.chain.settings import ChainSettings, ContractAddresses
from gesso.chain.wallet import Wallet
from gesso_devnet.chain.accounts import TestAccount
from gesso_devnet.chain.funding import Funds, fund
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
BUSY_WINDOW_S = 25
SLOW_WINDOW_S = 75
CHEAP_PRICE = Wei(NODE_PRICE // 2)
"""What a node asks that does half of the work, or none: so that it gets the next task for certain."""
ROYALTY_BPS = 300
BASE_KIND = 0


@dataclass(frozen=True, slots=True)
class Cast:
    """Who is who on a local network. All keys are the public test keys; never send them anything real."""

    deployer: Wallet
    submitter: Wallet
    publisher: Wallet
    nodes: tuple[Wallet, ...]
    """Workers first, then watchers: nodes that audit and judge and take no tasks."""

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
    tokens = Funds(coin=Wei(0), tokens=START_TOKENS)
    await fund(rpc_url, contracts, cast.deployer, dict.fromkeys(cast.addresses, tokens))
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


def rated(rules: DeploySettings, audit_rate: int | None) -> DeploySettings:
    """The same rules with one audit rate for every node, in basis points; unchanged for None."""
    if audit_rate is None or rules.audits is None:
        return rules
    names = ("vetting_rate_bps", "steady_rate_bps", "trusted_rate_bps")
    audits = rules.audits.model_copy(update=dict.fromkeys(names, audit_rate))
    return rules.model_copy(update={"audits": audits})


def unhurried(rules: DeploySettings, window_s: int = SLOW_WINDOW_S) -> DeploySettings:
    """The same rules with time for real models on a small machine, where six of them load and run at once;
    `BUSY_WINDOW_S` is enough for as many processes without models. Windows of audits and votes still close as soon as
    all is said; only the challenge window is always waited for."""
    if rules.audits is None:
        return rules
    windows = ("audit_commit_window_s", "audit_reveal_window_s", "vote_commit_window_s", "vote_reveal_window_s")
    audits = rules.audits.model_copy(update=dict.fromkeys(windows, window_s + rules.audits.grace_s))
    held = {"hold_window_s": 16 * window_s, "unbonding_period_s": 16 * window_s}
    return rules.model_copy(update={"audits": audits, "challenge_window_s": window_s, **held})
