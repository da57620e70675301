"""An account's three books (board, stake, arbiter), written up from the chain's events. Pure.

Each book ends with what the contract must say the account has; `statement` compares. Nothing is taken from a contract
but those last figures, so an error on either side shows as a difference. Bonds are put up from the wallet, which is no
book here; those that come back are the arbiter's line `bond`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from gesso.chain import audit_events as audits
from gesso.chain import events as on_chain
from gesso_protocol.ids import Address, ListingId, TaskId
from gesso_protocol.terms import AuditMode, Terms


class CreditReason(IntEnum):
    """Why the arbiter credited an account, as its contract numbers it."""

    AUDITOR_FEE = 1
    JUROR_FEE = 2
    BOND = 3
    COMPENSATION = 4
    BURNED = 5
    SURPLUS = 6


@dataclass(slots=True)
class Books:
    """Everything in base units. `board`, `stake` and `arbiter` are running totals by what moved them."""

    account: Address
    audit_fee: int
    treasury: Address | None
    arbiter_home: Address | None
    board: Counter[str] = field(default_factory=Counter)
    stake: Counter[str] = field(default_factory=Counter)
    arbiter: Counter[str] = field(default_factory=Counter)
    royalties: Counter[ListingId] = field(default_factory=Counter)
    penalties: Counter[str] = field(default_factory=Counter)
    tasks_done: int = 0
    moves: int = 0
    """How many events touched these books."""
    _staked: int = 0
    _terms: dict[TaskId, Terms] = field(default_factory=dict)

    def take(self, event: object) -> None:
        """One more event, in the chain's order."""
        write = _WRITERS.get(type(event))
        if write is not None:
            write(self, event)

    @property
    def board_balance(self) -> int:
        """What the board must say that the account has."""
        return sum(self.board.values())

    @property
    def stake_held(self) -> int:
        """What the registry must say that is staked."""
        return sum(self.stake.values())

    @property
    def credit(self) -> int:
        """What the arbiter must say that it owes."""
        return sum(self.arbiter.values())

    def enter(self, book: Counter[str], name: str, amount: int) -> None:
        """One line of a book; negative for what leaves it."""
        book[name] += amount
        self.moves += 1

    def remember(self, event: on_chain.TaskSubmitted) -> None:
        """Terms are needed until the task ends, to know whose refunds are whose."""
        terms = event.terms
        if self.account in (terms.requester, self.arbiter_home):
            self._terms[event.task] = terms
        if terms.requester == self.account:
            asked = self.audit_fee if terms.audit is AuditMode.ALWAYS else 0
            self.enter(self.board, "tasks", -int(terms.fee) - asked)

    def requested(self, task: TaskId) -> bool:
        """Whether the account pays for this task."""
        terms = self._terms.get(task)
        return terms is not None and terms.requester == self.account

    def audit_fee_of(self, task: TaskId) -> int:
        """What a task escrowed for its audit."""
        terms = self._terms.get(task)
        return self.audit_fee if terms is not None and terms.audit is AuditMode.ALWAYS else 0

    def staked(self, name: str, now: int) -> None:
        """The stake is `now`."""
        self.enter(self.stake, name, now - self._staked)
        self._staked = now

    def unstaked(self, name: str, amount: int) -> None:
        """The stake is less by `amount`."""
        self.enter(self.stake, name, -amount)
        self._staked -= amount


def _deposited(books: Books, event: on_chain.Deposited) -> None:
    if event.account == books.account:
        books.enter(books.board, "deposits", int(event.amount))


def _withdrawn(books: Books, event: on_chain.Withdrawn) -> None:
    if event.account == books.account:
        books.enter(books.board, "withdrawals", -int(event.amount))


def _settled(books: Books, event: on_chain.TaskSettled) -> None:
    if event.node == books.account:
        books.enter(books.board, "node pay", int(event.paid))
        books.tasks_done += 1
    if books.treasury == books.account and event.protocol_fee:
        books.enter(books.board, "protocol fees", int(event.protocol_fee))


def _royalty(books: Books, event: on_chain.RoyaltyPaid) -> None:
    if event.owner == books.account:
        books.enter(books.board, "royalties", int(event.amount))
        books.royalties[event.listing] += int(event.amount)


def _refunded(books: Books, event: on_chain.TaskCancelled | on_chain.TaskExpired | on_chain.TaskRestReturned) -> None:
    if books.requested(event.task):
        books.enter(books.board, "refunds", int(event.refund))


def _audit_fee_back(books: Books, event: on_chain.AuditFeeReturned) -> None:
    if books.requested(event.task):
        books.enter(books.board, "refunds", int(event.amount))


def _held(books: Books, event: on_chain.TaskHeld) -> None:
    fee = books.audit_fee_of(event.task)
    if books.arbiter_home == books.account and fee:
        books.enter(books.board, "audit fees", fee)


def _registered(books: Books, event: on_chain.NodeRegistered) -> None:
    if event.node == books.account:
        books.staked("staked", int(event.stake))


def _stake_changed(books: Books, event: on_chain.NodeStakeChanged) -> None:
    if event.node == books.account:
        books.staked("staked", int(event.stake))


def _stake_withdrawn(books: Books, event: on_chain.NodeStakeWithdrawn) -> None:
    if event.node == books.account:
        books.unstaked("unstaked", int(event.amount))


def _slashed(books: Books, event: on_chain.NodeSlashed) -> None:
    if event.node == books.account:
        books.unstaked("slashed", int(event.amount))
        books.penalties["found guilty"] += int(event.amount)


def _auditor_penalised(books: Books, event: audits.AuditorPenalised) -> None:
    if event.auditor == books.account:
        _reason(books, "as auditor", int(event.amount))


def _juror_penalised(books: Books, event: audits.JurorPenalised) -> None:
    if event.juror == books.account:
        _reason(books, "as juror", int(event.amount))


def _reason(books: Books, role: str, amount: int) -> None:
    """The registry's event says that stake went, this one why."""
    books.penalties["found guilty"] -= amount
    books.penalties[role] += amount


def _credited(books: Books, event: audits.Credited) -> None:
    if event.account == books.account:
        known = event.reason in CreditReason._value2member_map_
        name = CreditReason(event.reason).name.lower().replace("_", " ") if known else f"reason {event.reason}"
        books.enter(books.arbiter, name, int(event.amount))


def _credit_withdrawn(books: Books, event: audits.CreditWithdrawn) -> None:
    if event.account == books.account:
        books.enter(books.arbiter, "withdrawals", -int(event.amount))


_WRITERS: dict[type[Any], Callable[[Books, Any], None]] = {
    on_chain.Deposited: _deposited,
    on_chain.Withdrawn: _withdrawn,
    on_chain.TaskSubmitted: Books.remember,
    on_chain.TaskSettled: _settled,
    on_chain.RoyaltyPaid: _royalty,
    on_chain.TaskCancelled: _refunded,
    on_chain.TaskExpired: _refunded,
    on_chain.TaskRestReturned: _refunded,
    on_chain.AuditFeeReturned: _audit_fee_back,
    on_chain.TaskHeld: _held,
    on_chain.NodeRegistered: _registered,
    on_chain.NodeStakeChanged: _stake_changed,
    on_chain.NodeStakeWithdrawn: _stake_withdrawn,
    on_chain.NodeSlashed: _slashed,
    audits.AuditorPenalised: _auditor_penalised,
    audits.JurorPenalised: _juror_penalised,
    audits.Credited: _credited,
    audits.CreditWithdrawn: _credit_withdrawn,
}
