"""Money: between the wallet and the board's internal balances, and what either holds."""

from __future__ import annotations

from gesso.chain.calls import Calls, receipt_of
from gesso.chain.records import TxReceipt
from gesso_contracts import DEV_TOKEN, TASK_BOARD
from gesso_protocol.ids import Address
from gesso_protocol.money import Wei


class Purse(Calls):
    """Deposits, withdrawals, balances."""

    async def deposit(self, amount: Wei) -> TxReceipt:
        """Move fee tokens from the wallet into the board's internal balance, with a permit where the token has it."""
        board = self._contracts.task_board
        await self._require_tokens(amount)
        if await self._allowance(board) >= amount:
            return receipt_of(await self._send(TASK_BOARD, "deposit", int(amount)))
        permit = await self._permits.sign(self._signing_wallet(), board, amount, await self.now())
        if permit is None:
            await self._allow(board, amount)
            return receipt_of(await self._send(TASK_BOARD, "deposit", int(amount)))
        arguments = (int(amount), permit.deadline, permit.v, permit.r, permit.s)
        return receipt_of(await self._send(TASK_BOARD, "depositWithPermit", *arguments))

    async def withdraw(self, amount: Wei) -> TxReceipt:
        """Move internal balance back into the wallet."""
        return receipt_of(await self._send(TASK_BOARD, "withdraw", int(amount)))

    async def transfer_tokens(self, to: Address, amount: Wei) -> TxReceipt:
        """Pay fee tokens from the wallet to another wallet."""
        return receipt_of(await self._send(DEV_TOKEN, "transfer", str(to), int(amount)))

    async def balance_of(self, account: Address) -> Wei:
        """Internal balance on the board: deposits not escrowed, plus earnings."""
        return Wei((await self._read(TASK_BOARD, "balanceOf", str(account)))[0])

    async def native_balance_of(self, account: Address) -> Wei:
        """The chain's own coin, which pays for gas."""
        return Wei(await self._rpc.balance(account))
