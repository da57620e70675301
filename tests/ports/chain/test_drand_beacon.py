"""A published round of drand's quicknet is fetched, verified and written down on every chain that gesso runs on: both
have EIP-2537."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web

from gesso.chain import Chain, DeploySettings
from gesso.chain.abi import constructor_data, function
from gesso.chain.deploy import deploy
from gesso.chain.sender import Sender
from gesso_contracts import DRAND_BEACON
from gesso_devnet.genesis import BUSY_WINDOW_S, unhurried
from gesso_protocol import drand
from gesso_protocol.errors import ChainReverted
from gesso_protocol.ids import Address

from .networks import DEPLOYER, NODE, Network

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "drand.json").read_text())
ROUND = int(VECTORS["round"][0], 16) // 10
SIGNATURE = bytes.fromhex(VECTORS["signature"][0][2:])
LIMIT_S = 100
LAG_S = 30
STRIDE = 10


@pytest.fixture
async def beacon(market: Network) -> str:
    sender = Sender(market.tools, market.wallet(DEPLOYER), await market.tools.chain_id(), market.settings())
    try:
        mined = await sender.send(None, constructor_data(DRAND_BEACON, LAG_S, STRIDE))
    finally:
        await sender.close()
    assert mined.created is not None
    return mined.created


async def ask(network: Network, beacon: str, name: str, *arguments: object) -> Any:
    """A call, not a transaction: the embedded chain computes pairings in Python, a second each."""
    encoder = function(DRAND_BEACON, name)
    call = {"to": beacon, "data": "0x" + encoder.encode(*arguments).hex(), "gas": hex(400_000)}
    answer: Any = await network.tools.request("eth_call", call, "latest")
    return encoder.decode(bytes.fromhex(answer[2:]))[0]


@pytest.mark.anyio
async def test_a_published_round_gives_its_randomness(market: Network, beacon: str) -> None:
    with anyio.fail_after(LIMIT_S):
        seed = await ask(market, beacon, "prove", ROUND, drand.uncompress(SIGNATURE))
    assert seed == drand.seed_of(SIGNATURE)


@pytest.mark.anyio
async def test_a_signature_is_refused_for_another_round(market: Network, beacon: str) -> None:
    with anyio.fail_after(LIMIT_S), pytest.raises(ChainReverted, match="SignatureRefused"):
        await ask(market, beacon, "prove", ROUND + 1, drand.uncompress(SIGNATURE))


@pytest.mark.anyio
async def test_both_sides_count_rounds_alike(market: Network, beacon: str) -> None:
    for time_s in (0, drand.GENESIS - LAG_S - 1, drand.GENESIS - LAG_S, drand.GENESIS, 1_800_000_001, 2**40 - 1):
        number = await ask(market, beacon, "roundAt", time_s)
        assert number == drand.round_at(time_s, LAG_S, STRIDE)
        if number:
            assert await ask(market, beacon, "startOf", number) == drand.published_at(number * STRIDE) - LAG_S


@asynccontextmanager
async def servers() -> AsyncIterator[tuple[str, str]]:
    """One that gives another round's signature as this one's, and one that gives what was published."""

    async def handle(request: web.Request) -> web.Response:
        number, lies = int(request.match_info["number"]), request.match_info["way"] == "lies"
        signature = bytes.fromhex(VECTORS["signature"][1 if lies else 0][2:])
        return web.json_response({"round": number, "signature": signature.hex()})

    app = web.Application()
    app.router.add_get(f"/{{way}}/{drand.CHAIN_HASH}/public/{{number:\\d+}}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}/lies", f"http://{host}:{port}/tells"
    finally:
        await runner.cleanup()


def drawn_by(market: Network, beacon: str) -> dict[str, Any]:
    """Settings of the same network with this beacon; nothing here calls the arbiter itself."""
    homes = {"arbiter": market.contracts.task_board, "beacon": Address(beacon)}
    return {"contracts": market.contracts.model_copy(update=homes)}


@pytest.mark.anyio
async def test_a_round_is_heard_for_nothing_and_written_down_once(market: Network, beacon: str) -> None:
    async with servers() as urls, market.open(NODE, drand_urls=urls, **drawn_by(market, beacon)) as chain:
        arbiter = chain.arbiter
        assert arbiter is not None
        coin = await balance(market, chain)
        with anyio.fail_after(LIMIT_S):
            assert (await arbiter.clock()).lag_s == LAG_S
            assert await arbiter.listen(ROUND) == drand.seed_of(SIGNATURE)
            assert await arbiter.seed_on_chain(ROUND) is None
            assert await balance(market, chain) == coin
            await arbiter.fix(ROUND)
            assert await arbiter.seed_on_chain(ROUND) == drand.seed_of(SIGNATURE)
            paid = coin - await balance(market, chain)
            await arbiter.fix(ROUND)
        assert coin - await balance(market, chain) == paid > 0


async def balance(market: Network, chain: Chain) -> int:
    return await market.tools.balance(chain.address)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "shipped",
    [
        DeploySettings(),
        DeploySettings.devnet(),
        unhurried(DeploySettings.devnet()),
        unhurried(DeploySettings.devnet(), BUSY_WINDOW_S),
    ],
)
async def test_shipped_rules_can_be_deployed(market: Network, shipped: DeploySettings) -> None:
    """The contracts hold rules to each other; a network that ships with rules they refuse would never start."""
    contracts = await deploy(market.chain.rpc_url, market.wallet(DEPLOYER), shipped)
    async with market.open(None, contracts=contracts) as chain:
        assert chain.arbiter is not None
        assert await chain.arbiter.is_drand() is (shipped.beacon == "drand")
        assert await chain.arbiter.rules() == shipped.audits
