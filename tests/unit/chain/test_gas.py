"""What an endpoint says of gas is taken within limits; what we learnt ourselves is not asked for again."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from gesso.chain.fees import BUMP_PERCENT, Fee, FeeOracle
from gesso.chain.gas import KEPT, LEAST_MARGIN, GasLimits
from gesso.chain.settings import ChainSettings, ContractAddresses
from gesso_protocol.errors import ChainError, ChainReverted
from gesso_protocol.ids import ZERO_ADDRESS

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


async def test_gas_of_like_transactions_is_asked_once_and_again_after_one_ran_out_of_it() -> None:
    endpoint = Endpoint()
    limits = GasLimits(endpoint, MOST)  # type: ignore[arg-type]
    assert await limits.of({}, least=0, kind="commit") == 100_000 + LEAST_MARGIN
    assert await limits.of({}, least=0, kind="commit") == 100_000 + LEAST_MARGIN
    assert endpoint.asked == 1
    limits.learn("commit", 200_000)
    limits.learn("commit", 90_000)
    limits.learn("commit", None)
    assert await limits.of({}, least=0, kind="commit") == 260_000, "room for the hungriest"
    for _ in range(KEPT):
        limits.learn("commit", 90_000)
    assert await limits.of({}, least=0, kind="commit") == 90_000 + LEAST_MARGIN
    assert await limits.of({}, least=0, kind="submit") == 100_000 + LEAST_MARGIN
    limits.forget("commit")
    await limits.of({}, least=0, kind="commit")
    assert endpoint.asked == 3


async def test_without_a_kind_the_chain_is_always_asked() -> None:
    endpoint = Endpoint()
    limits = GasLimits(endpoint, MOST)  # type: ignore[arg-type]
    for _ in range(4):
        await limits.of({}, least=0, kind=None)
        limits.learn(None, 1)
    assert endpoint.asked == 4
    assert await limits.of({}, least=500_000, kind=None) == 500_000


async def test_a_known_kind_is_only_tried_to_hear_of_a_refusal() -> None:
    endpoint = Endpoint()
    limits = GasLimits(endpoint, MOST)  # type: ignore[arg-type]
    limits.learn("claim", 60_000)
    with pytest.raises(ChainReverted):
        await limits.of({}, least=0, kind="claim", tried=True)
    assert await limits.of({}, least=0, kind="claim") == 60_000 + LEAST_MARGIN
    assert endpoint.asked == 0


class Slow(Endpoint):
    """Answers estimates when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[asyncio.Future[int]] = []

    async def estimate(self, _: object) -> int:
        self.answers.append(asyncio.get_running_loop().create_future())
        return await self.answers[-1]

    async def reached(self, count: int) -> None:
        with anyio.fail_after(60):
            while len(self.answers) < count:
                await anyio.lowlevel.checkpoint()


async def crowd(limits: GasLimits, kind: str, count: int) -> list[asyncio.Task[int]]:
    asking = [asyncio.create_task(limits.of({}, least=0, kind=kind)) for _ in range(count)]
    await anyio.wait_all_tasks_blocked()
    return asking


async def test_a_crowd_of_one_kind_asks_once() -> None:
    endpoint = Slow()
    limits = GasLimits(endpoint, MOST)  # type: ignore[arg-type]
    submits = await crowd(limits, "submit", 50)
    commits = await crowd(limits, "commit", 1)
    assert len(endpoint.answers) == 2
    endpoint.answers[0].set_result(100_000)
    assert await asyncio.gather(*submits) == [100_000 + LEAST_MARGIN] * 50
    assert not commits[0].done()
    endpoint.answers[1].set_result(50_000)
    assert await commits[0] == 50_000 + LEAST_MARGIN


async def test_what_is_refused_to_one_is_asked_by_each_of_the_others() -> None:
    endpoint = Slow()
    limits = GasLimits(endpoint, MOST)  # type: ignore[arg-type]
    asking = await crowd(limits, "submit", 3)
    endpoint.answers[0].set_exception(ChainReverted("TaskExists", ()))
    await endpoint.reached(3)
    for answer in endpoint.answers[1:]:
        answer.set_result(70_000)
    told = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(told[0], ChainReverted)
    assert told[1:] == [70_000 + LEAST_MARGIN] * 2


async def test_who_leaves_while_it_asks_leaves_nobody_waiting() -> None:
    endpoint = Slow()
    limits = GasLimits(endpoint, MOST)  # type: ignore[arg-type]
    first, second = await crowd(limits, "submit", 2)
    first.cancel()
    await endpoint.reached(2)
    endpoint.answers[1].set_result(70_000)
    assert await second == 70_000 + LEAST_MARGIN


async def test_nodes_learn_gas_where_nobody_says_otherwise() -> None:
    nowhere = dict.fromkeys(("task_board", "node_registry", "marketplace", "token"), ZERO_ADDRESS)
    settings = ChainSettings(rpc_url="http://127.0.0.1:1", contracts=ContractAddresses(**nowhere))
    assert not settings.learn_gas
    assert settings.for_node().learn_gas is True
    assert settings.model_copy(update={"learn_gas": False}).for_node().learn_gas is False
