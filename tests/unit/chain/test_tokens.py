"""Tokens of somebody else's as the fee token: their decimals, and those that change an allowance only from nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from gesso.chain.calls import Calls
from gesso.chain.deploy import _counted
from gesso.chain.rpc import Rpc
from gesso_protocol.errors import ChainError, UsageError
from gesso_protocol.hashing import word
from gesso_protocol.ids import Address
from gesso_protocol.money import Wei

pytestmark = pytest.mark.anyio
TOKEN, BOARD = Address("0x" + "04" * 20), Address("0x" + "05" * 20)


def answering(data: bytes) -> Rpc:
    async def call(to: str, _: bytes) -> bytes:
        assert to == str(TOKEN)
        return data

    return cast(Rpc, SimpleNamespace(call=call))


async def test_a_network_is_deployed_for_tokens_of_eighteen_decimals_alone() -> None:
    await _counted(answering(word(18)), TOKEN)
    for decimals in (0, 6, 8):
        with pytest.raises(UsageError, match=f"has {decimals} decimals"):
            await _counted(answering(word(decimals)), TOKEN)
    with pytest.raises(ChainError):
        await _counted(answering(b""), TOKEN)


@pytest.mark.parametrize(("standing", "sent"), [(0, [7]), (3, [0, 7]), (7, []), (9, [])])
async def test_an_allowance_that_was_left_is_taken_back_before_it_is_raised(standing: int, sent: list[int]) -> None:
    class Held(Calls):
        def __init__(self) -> None:
            self.approved: list[int] = []

        async def _require_tokens(self, amount: int) -> None:
            assert amount == 7

        async def _allowance(self, spender: Address) -> int:
            return standing

        async def _send(self, contract: Any, name: str, *arguments: Any, least_gas: int = 0) -> Any:
            assert (name, arguments[0]) == ("approve", str(BOARD))
            self.approved.append(arguments[1])

    wallet = Held()
    await wallet._allow(BOARD, Wei(7))
    assert wallet.approved == sent
