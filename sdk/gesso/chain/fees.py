"""What to pay for gas, asked of the chain at most once a second."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gesso.chain.rpc import Rpc, number, readable
from gesso_protocol.errors import ChainError

HISTORY_BLOCKS = 5
LEAST_TIP = 10**6
FRESH_FOR_S = 1.0
BUMP_PERCENT = 130
MOST = 10**13
"""10,000 gwei: no chain that we know has ever asked for as much."""


@dataclass(frozen=True, slots=True)
class Fee:
    """EIP-1559 prices of a unit of gas, in wei of the chain's own coin."""

    most: int
    tip: int

    def bumped(self) -> Fee:
        """Enough more that every pool accepts it as a replacement (they ask for a tenth)."""
        return Fee(self.most * BUMP_PERCENT // 100 + 1, self.tip * BUMP_PERCENT // 100 + 1)

    def at_least(self, other: Fee) -> Fee:
        most = max(self.most, other.most)
        return Fee(most, min(max(self.tip, other.tip), most))


def price(base_fees: Sequence[int], rewards: Sequence[int]) -> Fee:
    """Twice the coming base fee, which six full blocks in a row do not exceed, plus the usual tip."""
    paid = sorted(reward for reward in rewards if reward > 0)
    tip = max(paid[len(paid) // 2] if paid else 0, LEAST_TIP)
    return Fee(2 * (base_fees[-1] if base_fees else 0) + tip, tip)


class FeeOracle:
    """The latest price, cached for a moment so that a burst of transactions asks once; never more than `most`."""

    def __init__(self, rpc: Rpc, *, most: int = MOST) -> None:
        self._rpc = rpc
        self._most = most
        self._known: tuple[float, Fee] | None = None

    def within(self, fee: Fee) -> Fee:
        """As much of it as is allowed: a stuck transaction is not worth any price."""
        return Fee(min(fee.most, self._most), min(fee.tip, self._most))

    async def current(self) -> Fee:
        """What to pay now. Raises ChainError for a price that is no price: an endpoint may say anything, and whoever
        makes blocks keeps the tips."""
        now = time.monotonic()
        if self._known is not None and now - self._known[0] < FRESH_FOR_S:
            return self._known[1]
        history: Any = await self._rpc.request("eth_feeHistory", hex(HISTORY_BLOCKS), "latest", [50])
        with readable("fees"):
            base_fees = [number(fee) for fee in history["baseFeePerGas"]]
            rewards = [number(row[0]) for row in history.get("reward") or [] if row]
        fee = price(base_fees, rewards)
        if fee.most > self._most:
            raise ChainError(
                f"the chain asks for {fee.most} wei a unit of gas; at most {self._most} is allowed",
                hint="ask another endpoint, or raise `max_gas_price_wei` in the chain's settings",
            )
        self._known = (now, fee)
        return fee
