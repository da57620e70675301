"""Uses and income of a model: a relay's count where its income is the chain's, else the log, if it is not too long."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from gesso import directory
from gesso.chain.income import Income
from gesso.directory import Directory, LogTooLong
from gesso.market.info import Stats
from gesso.market.search import Wanted
from gesso_protocol.ids import Address, ListingId
from gesso_protocol.money import Wei

pytestmark = pytest.mark.anyio
BOARD = Address("0x90F79bf6EB2c4f870365E785982E1f101E93b906")
LISTING = cast(Any, SimpleNamespace(id=ListingId(2)))
COUNTED = Stats(9, Wei(90))


class Chain:
    """Knows what a listing has earned; its log is read only where nothing else helps."""

    def __init__(self, income: Income) -> None:
        self.income = income

    async def income_of(self, listing: ListingId) -> Income:
        assert listing == 2
        return self.income


class Asked(Directory):
    """With a log of `length` events that say nine uses. `read` counts them."""

    def __init__(self, told: Any, income: Income, length: int = 3) -> None:
        def answer(request: httpx.Request) -> httpx.Response:
            assert request.url.path in ("/v1/models/2", "/v1/models")
            return httpx.Response(200, stream=httpx.ByteStream(json.dumps(told).encode()))

        relay = httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://relay.invalid")
        super().__init__(cast(Any, Chain(income)), 31337, BOARD, None if told is None else relay)
        self.length, self.read = length, 0

    async def history(self) -> AsyncIterator[Any]:
        for _ in range(self.length):
            self.read += 1
            yield None


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is told event by event elsewhere (`test_market_facts`); here it says one thing."""
    monkeypatch.setattr(directory.Stats, "of", classmethod(lambda *_: COUNTED))


WHOLE, LATEST = Income(Wei(70), whole=True), Income(Wei(70), whole=False)


@pytest.mark.parametrize(
    ("told", "income", "expected"),
    [
        ({"uses": 5, "earned": "70"}, WHOLE, Stats(5, Wei(70), "relay")),
        ({"uses": 5, "earned": "69"}, WHOLE, COUNTED),  # it is behind
        ({"uses": 5, "earned": "71"}, WHOLE, COUNTED),  # it lies
        ({"uses": 5}, WHOLE, COUNTED),
        ({"uses": 5}, Income(Wei(0), whole=True), Stats(5, Wei(0), "relay")),
        ({"uses": 5, "earned": "100"}, LATEST, Stats(5, Wei(100), "relay")),
        ({"uses": 5, "earned": "69"}, LATEST, COUNTED),
        ({"uses": -5, "earned": "70"}, WHOLE, COUNTED),
        ({"uses": "5", "earned": "70"}, WHOLE, COUNTED),
        ({"uses": 2**80, "earned": "70"}, WHOLE, COUNTED),
        ({"uses": 5, "earned": "-70"}, WHOLE, COUNTED),
        ({"uses": 5, "earned": [7]}, WHOLE, COUNTED),
        ({"error": "x"}, WHOLE, COUNTED),
        ([1], WHOLE, COUNTED),
        (None, WHOLE, COUNTED),
    ],
)
async def test_whom_to_believe(told: Any, income: Income, expected: Stats) -> None:
    found = Asked(told, income)
    assert await found.stats(LISTING) == expected
    assert found.read == (0 if expected is not COUNTED else 3)


async def test_a_log_that_is_too_long_is_not_read_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "MAX_EVENTS", 10)
    found = Asked(None, WHOLE, length=10**9)
    assert await found.stats(LISTING) == Stats(None, Wei(70))
    assert found.read == 11
    assert "not known without a relay" in str(Stats(None, Wei(70)).document())
    assert "as the relay counts" in str(Stats(5, Wei(70), "relay").document())
    assert "as the relay counts" not in str(Stats(5, Wei(70)).document())
    with pytest.raises(LogTooLong):
        await found.search(Wanted())
