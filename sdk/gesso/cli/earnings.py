"""`gesso earnings`: what a node or a publisher earned, and whether the chain agrees."""

from __future__ import annotations

from typing import Any

from gesso.cli.inputs import account
from gesso.cli.output import Common, Output
from gesso.cli.session import client_for
from gesso.earnings.statement import Earnings
from gesso_protocol.errors import ChainError
from gesso_protocol.money import format_amount


async def earnings(address: str | None = None, /, *, common: Common | None = None) -> None:
    """What an account earned and lost, from the chain's log, reconciled with the contracts to the base unit.

    Parameters
    ----------
    address
        Any account; your wallet when left out.
    """
    common = common or Common()
    if address is not None:
        account(address)  # what is none is said before anybody is asked
    async with client_for(common, read_only=address is not None, signs=False) as client:
        found = await client.earnings(address)
    common.out.result(found.document(), human="\n".join(lines(found, common.out)))
    if not found.reconciled:
        raise ChainError("the books do not end where the contracts say", hint="see the differences above; report them")


def lines(found: Earnings, out: Output) -> list[str]:
    """For people: earnings, penalties, then the books one by one."""
    text = [f"{found.account} up to block {found.block}", ""]
    for name, amount in found.earned:
        text.append(_line(name, amount, f"{found.tasks} tasks" if name == "node pay" else ""))
        if name == "royalties":
            text += [_line(f"  {label}", part) for label, part in found.royalties]
    text.append(_line("earned", found.total_earned))
    text += [_line(f"penalty {name}", -amount) for name, amount in found.penalties]
    for check in found.checks:
        text += ["", f"{check.book}:"]
        text += [_line(f"  {name}", amount) for name, amount in check.lines if amount]
        verdict = (
            f"{out.mark(True)} to the wei" if check.difference == 0 else f"{out.mark(False)} {check.difference} wei"
        )
        text += [_line("  by the log", check.ours), _line("  by the contract", check.chain, verdict)]
    return text


def _line(name: str, amount: int, note: Any = "") -> str:
    whole, dot, part = format_amount(abs(amount)).partition(".")
    return f"{name:<24}{'-' * (amount < 0) + whole:>14}{dot or ' '}{part:<18}  {note}".rstrip()
