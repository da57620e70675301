"""What an endpoint says of gas is taken within limits; what we learnt ourselves is not asked for again."""

from __future__ import annotations

from typing import Any

import pytest

from gesso.chain.fees import BUMP_PERCENT, Fee, FeeOracle
from gesso.chain.gas import LEARNT_AFTER, LEAST_MARGIN, GasLimits
from gesso_protocol.errors import ChainError, ChainReverted

pytestmark = pytest.mark.anyio
MOST = 1_000_000


class Endpoint:
    """Names any price and any amount."""

    def __init__(self, *, gas: int = 100_000, base_fee: int = 10, tip: int = 1) -> None:
        self.gas, self.base_fee, self.tip = gas, base_fee, tip
        self.asked = 0

    async def estimate(self, _: object) -> int:
        self.asked += 1
        return self.gas

    async def request(self, method: str, *_: object) -> Any:
        if method == "eth_call":
            raise ChainReverted("UnexpectedState", ())
        return {"baseFeePerGas": [hex(self.base_fee)] * 6, "reward": [[hex(self.tip)]] * 5}


@pytest.mark.parametrize("gas", [MOST, 2**63, 2**255])
async def test_an_estimate_above_the_ceiling_is_an_error(gas: int) -> None:
    limits = GasLimits(Endpoint(gas=gas), MOST)  # type: ignore[arg-type]
    with pytest.raises(ChainError, match="at most 1000000"):
        await limits.of({}, least=0, kind=None)


@pytest.mark.parametrize(("base_fee", "tip"), [(10**30, 1), (1, 10**30), (2**255, 2**255)])
async def test_a_price_above_the_ceiling_is_an_error(base_fee: int, tip: int) -> None:
    oracle = FeeOracle(Endpoint(base_fee=base_fee, tip=tip), most=10**12)  # type: ignore[arg-type]
    with pytest.raises(ChainError, match="wei a unit"):
        await oracle.current()


async def test_replacing_a_stuck_transaction_stops_at_the_ceiling() -> None:
    oracle = FeeOracle(Endpoint(), most=1_000)  # type: ignore[arg-type]
    fee = Fee(900, 800)
    for _ in range(100):
        fee = oracle.within(fee.bumped())
    assert fee == Fee(1_000, 1_000)
    assert BUMP_PERCENT > 110


async def test_gas_of_like_transactions_is_asked_until_it_is_known_and_again_after_one_failed() -> None:
    endpoint = Endpoint()
    limits = GasLimits(endpoint, MOST)  # type: ignore[arg-type]
    for used in (60_000, 80_000, 70_000)[:LEARNT_AFTER]:
        await limits.of({}, least=0, kind="commit")
        limits.learn("commit", used)
    assert endpoint.asked == LEARNT_AFTER
    assert await limits.of({}, least=0, kind="commit") == 80_000 + LEAST_MARGIN
    assert endpoint.asked == LEARNT_AFTER
    assert await limits.of({}, least=0, kind="submit") == 100_000 + LEAST_MARGIN
    limits.forget("commit")
    await limits.of({}, least=0, kind="commit")
    assert endpoint.asked == LEARNT_AFTER + 2


async def test_without_a_kind_the_chain_is_always_asked() -> None:
    endpoint = Endpoint()
    limits = GasLimits(endpoint, MOST)  # type: ignore[arg-type]
    for _ in range(2 * LEARNT_AFTER):
        await limits.of({}, least=0, kind=None)
        limits.learn(None, 1)
    assert endpoint.asked == 2 * LEARNT_AFTER
    assert await limits.of({}, least=500_000, kind=None) == 500_000


async def test_a_known_kind_is_only_tried_to_hear_of_a_refusal() -> None:
    endpoint = Endpoint()
    limits = GasLimits(endpoint, MOST)  # type: ignore[arg-type]
    for _ in range(LEARNT_AFTER):
        limits.learn("claim", 60_000)
    with pytest.raises(ChainReverted):
        await limits.of({}, least=0, kind="claim", tried=True)
    assert await limits.of({}, least=0, kind="claim") == 60_000 + LEAST_MARGIN
    assert endpoint.asked == 0
