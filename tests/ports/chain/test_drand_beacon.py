"""A published round of drand's quicknet is verified by every chain that gesso runs on: both have EIP-2537."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from gesso.chain.abi import constructor_data, function
from gesso.chain.sender import Sender
from gesso_contracts import DRAND_BEACON
from gesso_protocol import drand
from gesso_protocol.errors import ChainReverted

from .networks import DEPLOYER, Network

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "drand.json").read_text())
ROUND = int(VECTORS["round"][0], 16)
SIGNATURE = bytes.fromhex(VECTORS["signature"][0][2:])
LIMIT_S = 100
LAG_S = 30


@pytest.fixture
async def beacon(market: Network) -> str:
    sender = Sender(market.tools, market.wallet(DEPLOYER), await market.tools.chain_id(), market.settings())
    try:
        mined = await sender.send(None, constructor_data(DRAND_BEACON, LAG_S))
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
        assert number == drand.round_at(time_s, LAG_S)
        if number:
            assert await ask(market, beacon, "startOf", number) == drand.published_at(number) - LAG_S
