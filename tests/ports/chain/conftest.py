"""Every chain that gesso runs on locally, with the contracts deployed once and each test on a snapshot of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from gesso.chain import DeploySettings
from gesso.chain.deploy import deploy
from gesso.chain.rpc import Rpc
from gesso.chain.wallet import Wallet
from gesso_devnet.chain.anvil import HOW_TO_GET_IT, find_anvil
from gesso_devnet.chain.funding import Funds, fund
from gesso_devnet.chain.start import start_chain
from gesso_protocol.money import Wei

from .networks import NODE, ONE, OTHER, REQUESTER, STAKE, Network

LIMIT_S = 60
RULES = DeploySettings.devnet().model_copy(
    update={
        "challenge_window_s": 200,
        "cancel_delay_s": 60,
        "hold_window_s": 600,
        "unbonding_period_s": 900,
        "audits": None,
    }
)
"""Without an arbiter: what a board does by itself. What is too early is so on a busy machine, too; nobody waits."""


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """One event loop for the whole suite: the chains live as long as it does."""
    return "asyncio"


@pytest.fixture(scope="session", params=["embedded", "anvil"])
async def deployed(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[Network]:
    if request.param == "anvil" and find_anvil() is None:
        pytest.skip(HOW_TO_GET_IT)
    async with start_chain(request.param, block_time_s=0) as chain, Rpc(chain.rpc_url, timeout_s=LIMIT_S) as tools:
        giver = Wallet.from_key(chain.accounts[0].key)
        contracts = await deploy(chain.rpc_url, giver, RULES)
        gifts = {Wallet.from_key(account.key).address: Funds(coin=Wei(0)) for account in chain.accounts[1:7]}
        await fund(chain.rpc_url, contracts, giver, gifts)
        network = Network(chain, contracts, tools)
        await _open_market(network)
        yield network


async def _open_market(network: Network) -> None:
    async with network.open(REQUESTER) as requester:
        await requester.deposit(Wei(10 * ONE))
    for index in (NODE, OTHER):
        async with network.open(index) as node:
            await node.register_node(f"peer-{index}".encode(), bytes(32), STAKE)


@pytest.fixture
async def market(deployed: Network) -> AsyncIterator[Network]:
    """REQUESTER has 10 tokens deposited, NODE and OTHER are registered, NEWCOMER and NEW_NODE only hold tokens.
    What a test does is undone after it."""
    snapshot = await deployed.tools.request("evm_snapshot")
    with anyio.fail_after(LIMIT_S):
        yield deployed
    # anvil's snapshots leave the pool alone: what a test left waiting would be mined in a later one.
    await deployed.tools.request("anvil_dropAllTransactions")
    await deployed.automine(True)
    await deployed.tools.request("evm_revert", snapshot)
