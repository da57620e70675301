"""A listing's income is asked for alone, in ranges that the endpoint accepts, and not for ever."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gesso.chain.backwards import MAX_RANGES
from gesso.chain.events import RoyaltyPaid
from gesso.chain.income import read_income
from gesso.chain.reach import Reach
from gesso.chain.rpc import RpcRefused
from gesso_protocol.hashing import word
from gesso_protocol.ids import ListingId

pytestmark = pytest.mark.anyio
LISTING = ListingId(7)


class Endpoint:
    """One base unit paid at each of some blocks; refuses ranges of more than `widest` blocks."""

    def __init__(self, head: int, paid: tuple[int, ...], *, widest: int = 10**9) -> None:
        self.head, self.paid, self.widest, self.asked = head, paid, widest, 0

    async def latest(self) -> Any:
        return SimpleNamespace(number=self.head)

    async def logs(self, addresses: Any, *, first: int, last: int, about: bytes) -> list[Any]:
        assert (addresses, about) == (["board"], word(7))
        self.asked += 1
        if last - first + 1 > self.widest:
            raise RpcRefused(-32005, "too many blocks")
        return [SimpleNamespace(block=at) for at in self.paid if first <= at <= last]

    def decode(self, log: Any) -> Any:
        if log.block % 10 == 9:  # something else that a contract writes about the same number
            return SimpleNamespace(listing=LISTING, amount=1000)
        return RoyaltyPaid.model_construct(listing=ListingId(8 if log.block % 10 == 8 else 7), amount=1)


@pytest.mark.parametrize("widest", [10**9, 100, 7])
async def test_all_of_it_is_counted_once_whatever_the_endpoint_accepts(widest: int) -> None:
    endpoint: Any = Endpoint(350, (0, 1, 100, 201, 202, 208, 209, 350), widest=widest)
    income = await read_income(endpoint, endpoint, "board", LISTING, reach=Reach(100))
    assert (income.earned, income.whole) == (6, True)


async def test_an_old_chain_costs_a_bounded_number_of_questions() -> None:
    endpoint: Any = Endpoint(10**6, (5, 10**6 - 5))
    income = await read_income(endpoint, endpoint, "board", LISTING, reach=Reach(100))
    assert (income.earned, income.whole, endpoint.asked) == (1, False, MAX_RANGES)
