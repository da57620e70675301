"""What an account has, on the board and off it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gesso_protocol.ids import Address
from gesso_protocol.money import Wei, format_amount


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
