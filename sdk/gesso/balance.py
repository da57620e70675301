"""What an account has, on the board and off it, and moving it between the two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gesso.chain import Chain
from gesso.chain.records import TxReceipt
from gesso_protocol.errors import InsufficientFunds
from gesso_protocol.ids import Address
from gesso_protocol.money import Wei, format_amount, parse_amount


@dataclass(frozen=True, slots=True)
class Balance:
    """What an account has: `tokens` in the wallet, `deposit` on the board, `native` for gas; all in base units."""

    address: Address
    tokens: Wei
    deposit: Wei
    native: int

    def document(self) -> dict[str, Any]:
        """For printing; money in whole tokens."""
        return {
            "address": str(self.address),
            "deposit": format_amount(self.deposit),
            "tokens": format_amount(self.tokens),
            "gas_money": format_amount(self.native),
        }


async def read_balance(chain: Chain, account: Address) -> Balance:
    """What the chain says now. Raises Unreachable, ChainError."""
    return Balance(
        address=account,
        tokens=await chain.token_balance_of(account),
        deposit=await chain.balance_of(account),
        native=await chain.native_balance_of(account),
    )


async def put_in(chain: Chain, account: Address, amount: str) -> TxReceipt:
    """From the wallet to the deposit. Raises InsufficientFunds."""
    wanted = parse_amount(amount)
    have = await chain.token_balance_of(account)
    if have < wanted:
        raise InsufficientFunds(
            f"the wallet has {format_amount(have)} fee tokens, not {amount}",
            hint=f"send tokens to {account}; on a devnet: gesso devnet fund {account}",
        )
    return await chain.deposit(wanted)


async def take_out(chain: Chain, account: Address, amount: str | None) -> TxReceipt:
    """From the deposit to the wallet; everything when None. Raises InsufficientFunds."""
    have = await chain.balance_of(account)
    wanted = have if amount is None else parse_amount(amount)
    if wanted == 0 or wanted > have:
        asked = "nothing to withdraw" if wanted == 0 else f"not {format_amount(wanted)}"
        raise InsufficientFunds(
            f"the deposit has {format_amount(have)} fee tokens, {asked}",
            hint="take what is there: gesso wallet withdraw all",
        )
    return await chain.withdraw(wanted)


async def expect_deposit(chain: Chain, account: Address, price: Wei) -> None:
    """Raises InsufficientFunds unless the deposit covers it."""
    deposit = await chain.balance_of(account)
    if deposit < price:
        missing = format_amount(Wei(int(price) - int(deposit)))
        raise InsufficientFunds(
            f"the task costs {format_amount(price)} and the deposit holds {format_amount(deposit)}",
            hint=f"add to it: gesso wallet deposit {missing}",
        )
