"""`gesso wallet`: keys, balances, deposit and withdrawal."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from gesso.asking import ask, ask_secret
from gesso.cli.output import Common, Printing
from gesso.cli.session import client_for
from gesso.settings import read_bounded
from gesso_protocol.errors import UsageError, WalletError
from gesso_protocol.money import parse_amount


def new(name: str = "default", /, *, password_file: Path | None = None, common: Printing | None = None) -> None:
    """Make a wallet: a keystore file under the gesso folder, locked with a password.

    Parameters
    ----------
    name
        The wallet's name; `default` when left out.
    password_file
        Read the password from this file instead of asking.
    """
    from gesso.chain.wallet import Wallet
    from gesso.settings import home_folder

    common = common or Printing()
    path = home_folder() / "wallets" / f"{name}.json"
    if path.exists():
        raise WalletError(f"a wallet exists at {path}", hint="choose another name; wallets are never overwritten")
    path.parent.mkdir(parents=True, exist_ok=True)
    wallet = Wallet.create(path, new_password(password_file))
    common.out.result({"name": name, "address": str(wallet.address), "keystore": str(path)})
    common.out.hint(f"export GESSO_WALLET={name}", "then: gesso wallet show")


async def show(*, common: Common | None = None) -> None:
    """Show address, tokens in the wallet, the deposit that pays for tasks, and gas money."""
    common = common or Common()
    async with client_for(common, signs=False) as client:
        balance = await client.balance()
    common.out.result(balance.document())
    if balance.deposit == 0:
        common.out.hint("gesso wallet deposit 1", "tasks are paid from the deposit")


async def deposit(amount: str, /, *, yes: bool = False, common: Common | None = None) -> None:
    """Move fee tokens from the wallet to the deposit that pays for tasks.

    Parameters
    ----------
    amount
        In fee tokens, for example 1.5.
    yes
        Do not ask.
    """
    common = common or Common()
    parse_amount(amount)  # what is no amount is said before anybody is asked
    async with client_for(common) as client:
        confirm(f"deposit {amount} fee tokens from {client.address}?", yes)
        receipt = await client.deposit(amount)
        balance = await client.balance()
    common.out.result({"tx": receipt.tx_hash, **balance.document()})
    common.out.hint('gesso generate "a red circle on a blue background" -o out.png')


async def withdraw(amount: str, /, *, yes: bool = False, common: Common | None = None) -> None:
    """Move fee tokens from the deposit or earnings back to the wallet.

    Parameters
    ----------
    amount
        In fee tokens, or `all`.
    yes
        Do not ask.
    """
    common = common or Common()
    if amount != "all":
        parse_amount(amount)
    async with client_for(common) as client:
        confirm(f"withdraw {amount} fee tokens to {client.address}?", yes)
        receipt = await client.withdraw(None if amount == "all" else amount)
        balance = await client.balance()
    common.out.result({"tx": receipt.tx_hash, **balance.document()})


def confirm(question: str, yes: bool) -> None:
    """Ask before money moves. Raises UsageError when nobody is there to answer or the answer is no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("this moves money and nobody is there to ask", hint="add --yes")
    if ask(f"{question} [y/N] ").lower() not in ("y", "yes"):
        raise UsageError("nothing was sent", hint="add --yes to skip the question")


def new_password(password_file: Path | None) -> str:
    """From the file, the environment, or asked twice; never an empty one. Raises WalletError, ConfigError."""
    password = _given_password(password_file)
    if not password:
        raise WalletError("an empty password protects nothing", hint="nothing was written; try again")
    return password


def _given_password(password_file: Path | None) -> str:
    if password_file is not None:
        return read_bounded(password_file).strip()
    given = os.environ.get("GESSO_PASSWORD")
    if given:
        return given
    if not sys.stdin.isatty():
        raise WalletError("no password given and nobody is there to ask", hint="--password-file FILE or GESSO_PASSWORD")
    first = ask_secret("password for the new wallet: ")
    if first != ask_secret("again: "):
        raise WalletError("the two passwords differ", hint="nothing was written; try again")
    return first
