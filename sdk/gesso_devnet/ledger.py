"""Does every base unit of the fee token have an owner? Read from the chain, compared exactly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gesso.chain.chain import Chain
from gesso_protocol.ids import Address
from gesso_protocol.money import Wei


@dataclass(frozen=True, slots=True)
class Holding:
    """One account at one moment, in base units: tokens in its wallet and its balance on the board."""

    tokens: int
    deposit: int

    @property
    def total(self) -> int:
        """Everything it could spend or withdraw."""
        return self.tokens + self.deposit


Ledger = Mapping[Address, Holding]


async def take(chain: Chain, accounts: Iterable[Address]) -> Ledger:
    """Holdings of these accounts now."""
    return {
        account: Holding(int(await chain.token_balance_of(account)), int(await chain.balance_of(account)))
        for account in accounts
    }


def credits(before: Ledger, after: Ledger) -> dict[Address, Wei]:
    """Who has more than before, and by how much."""
    gains = {account: after[account].total - before[account].total for account in after}
    return {account: Wei(gain) for account, gain in gains.items() if gain > 0}


def conserved(before: Ledger, after: Ledger, *, in_escrow: int = 0) -> bool:
    """True when the accounts together, with what is in escrow, hold to the base unit what they held before."""
    return sum(entry.total for entry in before.values()) == sum(entry.total for entry in after.values()) + in_escrow


async def backed(chain: Chain, ledger: Ledger) -> bool:
    """True when the board owns exactly the tokens that it owes to these accounts; false while fees are in escrow."""
    owed = sum(entry.deposit for entry in ledger.values())
    return int(await chain.token_balance_of(chain.settings.contracts.task_board)) == owed
