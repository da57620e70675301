"""One transaction of ours on its way: what it says, its number and price, and what was sent under that number."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gesso.chain.fees import Fee
from gesso.chain.mined import Mined
from gesso.chain.wallet import SignedTransaction

NO_NUMBER = -1
NO_PRICE = Fee(0, 0)


@dataclass(slots=True, eq=False)
class Flight:
    """`future` is its caller's: fulfilled once it is in a block, whichever of those in `sent` (newest last) that is."""

    fields: Mapping[str, Any]
    future: asyncio.Future[Mined]
    on_sent: Callable[[str], None] | None = None
    nonce: int = NO_NUMBER
    fee: Fee = NO_PRICE
    sent: list[SignedTransaction] = field(default_factory=list)
    attempts: int = 0
    look_at: float = 0.0
    give_up_at: float = 0.0
    unsure: bool = False
    """Its answer was lost: the pool has it, or not."""

    @property
    def landed(self) -> bool:
        return self.future.done() and not self.abandoned

    @property
    def abandoned(self) -> bool:
        """Nobody waits for it any more, but those behind it may need it sent again."""
        return self.future.cancelled() or (self.future.done() and self.future.exception() is not None)

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def tell_sent(self) -> None:
        """Tell its caller, once, that the endpoint has it."""
        on_sent, self.on_sent = self.on_sent, None
        if on_sent is not None and self.sent and not self.abandoned:
            try:
                on_sent(self.sent[-1].hash)
            except Exception as error:  # the caller's own; nobody else shall pay for it
                self.fail(error)

    def priced(self, chain_id: int) -> dict[str, Any]:
        """All that is signed."""
        return {
            **self.fields,
            "type": 2,
            "chainId": chain_id,
            "nonce": self.nonce,
            "maxFeePerGas": self.fee.most,
            "maxPriorityFeePerGas": self.fee.tip,
        }

    def has_sent(self, signed: SignedTransaction) -> bool:
        return any(signed.hash == other.hash for other in self.sent)
