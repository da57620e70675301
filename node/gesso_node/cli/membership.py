"""`gesso node pause|resume|stake|leave|withdraw`: a node's place in the registry, and its money.

Each sends transactions with the node's own wallet, whether the node runs or not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gesso.chain.records import NodeRecord, NodeState, TxReceipt
from gesso.cli.inputs import account
from gesso.cli.wallet import confirm
from gesso_node.cli.chosen import DEFAULT_NAME, NodeName, OfNode, Place
from gesso_protocol.errors import ChainReverted, GessoError, InsufficientFunds, TooEarly, UsageError
from gesso_protocol.money import Wei, format_amount, parse_amount

if TYPE_CHECKING:
    from gesso.chain import Chain

_REFUSED = {
    "StakeTooLow": ("the stake is below what the network asks", "add to it: gesso node stake AMOUNT {name}"),
    "StandingTooLow": (
        "the node let too many claimed tasks expire; its standing comes back, a point an hour",
        "see why they expired: gesso node status {name}; then try again",
    ),
    "ClaimsOutstanding": ("tasks that the node has claimed are not over", "let it finish them: gesso node run {name}"),
}


async def pause(name: NodeName = DEFAULT_NAME, /, *, common: OfNode | None = None) -> None:
    """Take no new tasks and no seats until `resume`: the stake stays, and what is claimed is finished."""
    common = common or OfNode()
    async with _registered(name, common) as (chain, record):
        _expect(common.said(name), record, NodeState.ACTIVE)
        receipt = await chain.pause_node()
        await _tell(common, chain, receipt)
    common.out.hint(f"gesso node resume {common.said(name)}")


async def resume(name: NodeName = DEFAULT_NAME, /, *, common: OfNode | None = None) -> None:
    """Take tasks again after a pause, one's own or the network's."""
    common = common or OfNode()
    async with _registered(name, common) as (chain, record):
        _expect(common.said(name), record, NodeState.PAUSED)
        receipt = await _or_say_why(common.said(name), chain.resume_node())
        await _tell(common, chain, receipt)


async def stake(
    amount: str,
    name: NodeName = DEFAULT_NAME,
    /,
    *,
    yes: bool = False,
    common: OfNode | None = None,
) -> None:
    """Add to the stake, from the node's wallet: more stake, more tasks.

    Parameters
    ----------
    amount
        In fee tokens.
    yes
        Do not ask.
    """
    common, added = common or OfNode(), parse_amount(amount)
    async with _registered(name, common) as (chain, record):
        _expect(common.said(name), record, NodeState.ACTIVE, NodeState.PAUSED)
        confirm(f"stake {amount} more fee tokens of {chain.address}?", yes)
        await _tell(common, chain, await chain.add_stake(added))
    if record.state is NodeState.PAUSED:
        common.out.hint(f"gesso node resume {common.said(name)}")


async def leave(name: NodeName = DEFAULT_NAME, /, *, yes: bool = False, common: OfNode | None = None) -> None:
    """Leave the network: no more tasks, and after the unbonding time the stake can be withdrawn.

    Parameters
    ----------
    yes
        Do not ask.
    """
    common = common or OfNode()
    async with _registered(name, common) as (chain, record):
        _expect(common.said(name), record, NodeState.ACTIVE, NodeState.PAUSED)
        confirm(
            f"have node {name} leave? its stake of {format_amount(record.stake)} can still be slashed meanwhile", yes
        )
        receipt = await chain.begin_unbond()
        await _tell(common, chain, receipt)
    common.out.hint(f"gesso node withdraw {common.said(name)}", "once the time is over; let the node run until then")


async def withdraw(
    name: NodeName = DEFAULT_NAME,
    /,
    *,
    to: str | None = None,
    keep: str = "0",
    yes: bool = False,
    common: OfNode | None = None,
) -> None:
    """Move what the node earned, and its stake once it has left, into its wallet, and on to another account.

    Parameters
    ----------
    to
        An address, such as one whose key is in no node: everything in the wallet is sent there, but what is kept.
    keep
        Fee tokens that stay in the wallet, for the bonds of appeals.
    yes
        Do not ask.
    """
    target, kept = (None if to is None else account(to)), parse_amount(keep)
    common = common or OfNode()
    async with _account(name, common) as chain:
        due = await _due(chain)
        sent = Wei(0) if target is None else Wei(max(0, due.total - kept))
        if not (due.moved or sent):
            raise due.nothing(common.said(name))
        onward = "" if target is None else f" and send {format_amount(sent)} to {target}"
        confirm(f"move {format_amount(due.moved)} into the node's wallet{onward}?", yes)
        await _collect(common.said(name), chain, due)
        if target is not None and sent:
            await chain.transfer_tokens(target, sent)
        left = await chain.token_balance_of(chain.address)
    document = {**due.document(), "sent": format_amount(sent), "to": to, "tokens": format_amount(left)}
    common.out.result({"node": str(chain.address), **document})
    if due.waits_s:
        common.out.hint(f"gesso node withdraw {common.said(name)}", f"the stake is free in {_span(due.waits_s)}")


@dataclass(frozen=True, slots=True)
class _Due:
    """What lies where, in base units; `waits_s` is how long the stake of one that has left must still stay."""

    held: Wei
    earnings: Wei
    fees: Wei
    stake: Wei
    waits_s: int

    @property
    def moved(self) -> Wei:
        return Wei(self.earnings + self.fees + self.stake)

    @property
    def total(self) -> Wei:
        return Wei(self.held + self.moved)

    def nothing(self, name: str) -> GessoError:
        """Why there is nothing to move, and when or how there will be."""
        if self.waits_s:
            hint = f"it is in {_span(self.waits_s)}: gesso node withdraw {name}; let the node run until then"
            return TooEarly("there is nothing to withdraw yet: the stake is not free", hint=hint)
        hint = f"the stake stays while the node takes part; to have it: gesso node leave {name}"
        return InsufficientFunds("there is nothing to withdraw", hint=hint)

    def document(self) -> dict[str, Any]:
        amounts = {"earnings": self.earnings, "audit_fees": self.fees, "stake": self.stake}
        return {key: format_amount(amount) for key, amount in amounts.items()}


async def _due(chain: Chain) -> _Due:
    me, record = chain.address, await chain.node(chain.address)
    leaves = record.state is NodeState.UNBONDING
    waits_s = max(0, record.unbond_at - await chain.now()) if leaves else 0
    return _Due(
        held=await chain.token_balance_of(me),
        earnings=await chain.balance_of(me),
        fees=Wei(0) if chain.arbiter is None else await chain.arbiter.credit_of(me),
        stake=record.stake if leaves and not waits_s else Wei(0),
        waits_s=waits_s,
    )


async def _collect(name: str, chain: Chain, due: _Due) -> None:
    if due.stake:
        await _or_say_why(name, chain.withdraw_stake())
    if due.earnings:
        await chain.withdraw(due.earnings)
    if due.fees and chain.arbiter is not None:
        await chain.arbiter.withdraw()


async def _or_say_why(name: str, sending: Awaitable[TxReceipt]) -> TxReceipt:
    from gesso.chain.reverts import revert_name

    try:
        return await sending
    except ChainReverted as error:
        reason = revert_name(error) or ""
        if reason not in _REFUSED:
            raise
        message, hint = _REFUSED[reason]
        raise ChainReverted(reason, error.arguments, message=message, hint=hint.format(name=name)) from error


@asynccontextmanager
async def _account(name: str, at: Place) -> AsyncIterator[Chain]:
    from gesso_node.parts import open_chain

    async with AsyncExitStack() as stack:
        yield await open_chain(stack, at.settings_of(name))


@asynccontextmanager
async def _registered(name: str, at: Place) -> AsyncIterator[tuple[Chain, NodeRecord]]:
    async with _account(name, at) as chain:
        record = await chain.node(chain.address)
        if record.state is NodeState.NONE:
            raise UsageError(
                f"{chain.address} is not registered",
                hint=f"it is when it first runs: gesso node run {at.said(name)}",
            )
        yield chain, record


def _expect(name: str, record: NodeRecord, *states: NodeState) -> None:
    if record.state in states:
        return
    hint = {
        NodeState.ACTIVE: "it takes tasks as it is",
        NodeState.PAUSED: f"to take tasks again: gesso node resume {name}",
        NodeState.UNBONDING: f"it has left; when its time is over: gesso node withdraw {name}",
    }.get(record.state)
    raise UsageError(f"the node is {record.state.name.lower()}", hint=hint)


async def _tell(common: OfNode, chain: Chain, receipt: TxReceipt) -> None:
    record = await chain.node(chain.address)
    document: dict[str, Any] = {
        "node": str(record.address),
        "state": record.state.name.lower(),
        "stake": format_amount(record.stake),
        "weight": record.weight,
        "tx": receipt.tx_hash,
    }
    if record.state is NodeState.UNBONDING:
        document |= {"free_at": record.unbond_at, "free_in": _span(record.unbond_at - await chain.now())}
    common.out.result(document)


def _span(seconds: int) -> str:
    """The two largest units, as in `6 d 23 h`."""
    units = {"d": seconds // 86_400, "h": seconds // 3_600 % 24, "min": seconds // 60 % 60, "s": seconds % 60}
    shown = [f"{count} {unit}" for unit, count in units.items() if count][:2]
    return " ".join(shown) or "0 s"
