"""Does every base unit of the fee token have an owner? Read from the chain, compared exactly.

Accounts hold tokens in their wallet, a balance on the board, stake in the registry and credit with the arbiter. The
arbiter's own money (its pool and the bonds it keeps) and what was burned are two accounts more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gesso.chain.arbiter import BURN_ADDRESS
from gesso.chain.chain import Chain
from gesso_protocol.ids import Address
from gesso_protocol.money import Wei


@dataclass(frozen=True, slots=True)
class Holding:
    """One account at one moment, in base units: in its wallet, on the board, staked, and owed by the arbiter."""

    tokens: int
    deposit: int
    stake: int = 0
    credit: int = 0

    @property
    def total(self) -> int:
        """Everything that is its own."""
        return self.tokens + self.deposit + self.stake + self.credit


Ledger = Mapping[Address, Holding]


async def take(chain: Chain, accounts: Iterable[Address]) -> Ledger:
    """Holdings of these accounts now, and of the arbiter and the burn address where there is an arbiter."""
    found = {account: await _holding(chain, account) for account in accounts}
    home = chain.settings.contracts.arbiter
    if chain.arbiter is not None and home is not None:
        found[BURN_ADDRESS] = await _holding(chain, BURN_ADDRESS)
        own = int(await chain.arbiter.pool()) + int(await chain.arbiter.bonds())
        found[home] = Holding(own, int(await chain.balance_of(home)))
    return found


async def _holding(chain: Chain, account: Address) -> Holding:
    return Holding(
        tokens=int(await chain.token_balance_of(account)),
        deposit=int(await chain.balance_of(account)),
        stake=int((await chain.node(account)).stake),
        credit=0 if chain.arbiter is None else int(await chain.arbiter.credit_of(account)),
    )


def credits(before: Ledger, after: Ledger) -> dict[Address, Wei]:
    """Who has more than before, and by how much."""
    gains = {account: after[account].total - before[account].total for account in after}
    return {account: Wei(gain) for account, gain in gains.items() if gain > 0}


def changes(before: Ledger, after: Ledger) -> dict[Address, int]:
    """Who has more or less than before, in base units."""
    moved = {account: after[account].total - before[account].total for account in after}
    return {account: change for account, change in moved.items() if change}


def conserved(before: Ledger, after: Ledger, *, in_escrow: int = 0) -> bool:
    """True when the accounts together, with what is in escrow, hold to the base unit what they held before."""
    return sum(entry.total for entry in before.values()) == sum(entry.total for entry in after.values()) + in_escrow


async def backed(chain: Chain, ledger: Ledger) -> bool:
    """True when each contract owns exactly the tokens that it owes to these accounts; false with fees in escrow."""
    contracts = chain.settings.contracts
    owed = {
        contracts.task_board: sum(entry.deposit for entry in ledger.values()),
        contracts.node_registry: sum(entry.stake for entry in ledger.values()),
    }
    if (home := contracts.arbiter) is not None:
        owed[home] = ledger[home].tokens + sum(entry.credit for entry in ledger.values())
    return all([int(await chain.token_balance_of(house)) == sum_ for house, sum_ in owed.items()])
