"""From what a contract throws to what gesso raises. Everything keeps the contract's name and values."""

from __future__ import annotations

from collections.abc import Callable

from gesso.chain.abi import Revert, decode_revert
from gesso.chain.words import Values
from gesso_protocol.errors import ChainReverted, DeadlinePassed, FeeTooLow, GessoError, InsufficientFunds
from gesso_protocol.money import format_amount


def reverted(data: bytes) -> GessoError:
    """The error to raise for this revert data; a well-known name becomes its own type, caused by ChainReverted."""
    if not data:
        return ChainReverted(
            "Unknown",
            message="the contract refused without a reason",
            hint="it may not know this call: is the network of the same version as this program?",
        )
    revert = decode_revert(data)
    plain = ChainReverted(revert.name, revert.arguments)
    special = _WELL_KNOWN.get(revert.name)
    if special is None:
        return plain
    error = special(revert.arguments)
    error.__cause__ = plain
    return error


def revert_name(error: BaseException) -> str | None:
    """The Solidity name behind an error, whichever type it was given; None when no contract spoke."""
    for candidate in (error, error.__cause__):
        if isinstance(candidate, ChainReverted):
            return candidate.name
    return None


def named(revert: Revert) -> str:
    return f"{revert.name}({', '.join(str(argument) for argument in revert.arguments)})"


def _internal_balance(values: Values) -> GessoError:
    _, balance, needed = values
    return InsufficientFunds(
        f"the deposited balance is {format_amount(balance)}, this needs {format_amount(needed)} fee tokens"
    )


def _wallet_balance(values: Values) -> GessoError:
    _, balance, needed = values
    return InsufficientFunds(
        f"the wallet holds {format_amount(balance)} fee tokens, this needs {format_amount(needed)}",
        hint="send fee tokens to the wallet first",
    )


def _fee(values: Values) -> GessoError:
    fee, least = values
    return FeeTooLow(f"the fee {format_amount(fee)} is below the board's minimum of {format_amount(least)}")


def _window(values: Values) -> GessoError:
    return DeadlinePassed(f"the window closed at chain time {values[1]}")


_WELL_KNOWN: dict[str, Callable[[Values], GessoError]] = {
    "InsufficientBalance": _internal_balance,
    "ERC20InsufficientBalance": _wallet_balance,
    "FeeTooLow": _fee,
    "WindowClosed": _window,
}
