"""A statement of account: what came in and went out, and whether the books end where the contracts say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gesso.earnings.books import Books
from gesso_protocol.ids import Address
from gesso_protocol.money import format_amount

_EARNED_BOARD = ("node pay", "royalties", "protocol fees")
_EARNED_ARBITER = ("auditor fee", "juror fee", "compensation", "surplus")


@dataclass(frozen=True, slots=True)
class Check:
    """One book against the chain, in base units."""

    book: str
    lines: tuple[tuple[str, int], ...]
    ours: int
    chain: int

    @property
    def difference(self) -> int:
        """What the chain says more than the book."""
        return self.chain - self.ours


@dataclass(frozen=True, slots=True)
class Earnings:
    """What an account earned and lost. Amounts are base units; `royalties` and `penalties` by listing and by reason."""

    account: Address
    block: int
    tasks: int
    earned: tuple[tuple[str, int], ...]
    royalties: tuple[tuple[str, int], ...]
    penalties: tuple[tuple[str, int], ...]
    checks: tuple[Check, ...]

    @property
    def total_earned(self) -> int:
        """Pay, royalties, fees for audits and juries, compensation."""
        return sum(amount for _, amount in self.earned)

    @property
    def total_lost(self) -> int:
        """Stake that was taken."""
        return sum(amount for _, amount in self.penalties)

    @property
    def reconciled(self) -> bool:
        """Whether every book ends, to the base unit, where its contract says."""
        return all(check.difference == 0 for check in self.checks)

    def document(self) -> dict[str, Any]:
        """For printing; money in whole tokens, differences in base units."""
        return {
            "account": str(self.account),
            "block": self.block,
            "earned": {**_amounts(self.earned), "total": _signed(self.total_earned)},
            "settled_tasks": self.tasks,
            "royalties_by_listing": _amounts(self.royalties),
            "penalties": {**_amounts(self.penalties), "total": _signed(self.total_lost)},
            "books": {
                check.book: {
                    **_amounts(check.lines),
                    "by the log": _signed(check.ours),
                    "by the contract": _signed(check.chain),
                    "difference in base units": check.difference,
                }
                for check in self.checks
            },
            "reconciled": self.reconciled,
        }


def statement(
    books: Books, labels: dict[int, str], *, block: int, balance: int, stake: int, credit: int | None
) -> Earnings:
    """The statement of these books, with what the contracts said at the same time."""
    checks = [
        Check("board", tuple(books.board.items()), books.board_balance, balance),
        Check("stake", tuple(books.stake.items()), books.stake_held, stake),
    ]
    if credit is not None:
        checks.append(Check("arbiter", tuple(books.arbiter.items()), books.credit, credit))
    earned = [(name, books.board[name]) for name in _EARNED_BOARD] + [(n, books.arbiter[n]) for n in _EARNED_ARBITER]
    royalties = [(labels.get(int(listing), f"#{listing}"), amount) for listing, amount in books.royalties.most_common()]
    return Earnings(
        account=books.account,
        block=block,
        tasks=books.tasks_done,
        earned=tuple((name, amount) for name, amount in earned if amount),
        royalties=tuple(royalties),
        penalties=tuple((name, amount) for name, amount in books.penalties.items() if amount),
        checks=tuple(checks),
    )


def _amounts(lines: tuple[tuple[str, int], ...]) -> dict[str, str]:
    return {name: _signed(amount) for name, amount in lines}


def _signed(amount: int) -> str:
    return f"-{format_amount(-amount)}" if amount < 0 else format_amount(amount)
