"""What all rooms of `Chain` are made with: a connection, a wallet, calls by contract and name of the function."""

from __future__ import annotations

from collections.abc import Callable

from gesso.chain.abi import function
from gesso.chain.connection import Connection
from gesso.chain.mined import Mined
from gesso.chain.permits import Permits
from gesso.chain.records import TxReceipt
from gesso.chain.wallet import Wallet
from gesso.chain.words import Values
from gesso_contracts import (
    ARBITER,
    BLOCK_BEACON,
    DEV_TOKEN,
    DRAND_BEACON,
    MARKETPLACE,
    NODE_REGISTRY,
    TASK_BOARD,
    Contract,
)
from gesso_protocol.errors import ConfigError, GasMissing, InsufficientFunds, WalletError
from gesso_protocol.ids import Address, TaskId
from gesso_protocol.money import Wei, format_amount
from gesso_protocol.terms import Terms, task_id

ZERO = "0x" + "00" * 20


class Calls:
    """Reads and sends for one wallet, or none, on one network."""

    def __init__(self, connection: Connection, wallet: Wallet | None) -> None:
        self.settings = connection.settings
        self.chain_id = connection.chain_id
        self.wallet = wallet
        self.connection = connection
        self._rpc = connection.rpc
        self._contracts = connection.settings.contracts
        self._decoder = connection.decoder
        self._permits = Permits(connection.rpc, self._contracts.token, connection.chain_id)
        self._sender = None if wallet is None else connection.sender(wallet)
        self._homes: dict[str, Address | None] = {
            TASK_BOARD.name: self._contracts.task_board,
            NODE_REGISTRY.name: self._contracts.node_registry,
            MARKETPLACE.name: self._contracts.marketplace,
            DEV_TOKEN.name: self._contracts.token,
            ARBITER.name: self._contracts.arbiter,
            BLOCK_BEACON.name: self._contracts.beacon,
            DRAND_BEACON.name: self._contracts.beacon,
        }

    @property
    def address(self) -> Address:
        """The wallet's address. Raises WalletError when opened without one."""
        if self.wallet is None:
            raise WalletError("this needs a wallet", hint="gesso wallet new, or pass a wallet")
        return self.wallet.address

    def task_id(self, terms: Terms) -> TaskId:
        """The id these terms have on this board."""
        return task_id(self.chain_id, self._contracts.task_board, terms)

    async def now(self) -> int:
        """The chain's time: the timestamp of its latest block, unix seconds."""
        return (await self._rpc.latest()).timestamp

    async def token_balance_of(self, account: Address) -> Wei:
        """Fee tokens in the wallet itself."""
        return Wei((await self._read(DEV_TOKEN, "balanceOf", str(account)))[0])

    def _signing_wallet(self) -> Wallet:
        if self.wallet is None:
            raise WalletError("this needs a wallet", hint="gesso wallet new, or pass a wallet")
        return self.wallet

    def _home(self, contract: Contract) -> Address:
        home = self._homes[contract.name]
        if home is None:
            raise ConfigError(f"this network has no {contract.name}", hint="add its address to the network's settings")
        return home

    async def _read(self, contract: Contract, name: str, *arguments: object) -> Values:
        codec = function(contract, name)
        return codec.decode(await self._rpc.call(self._home(contract), codec.encode(*arguments)))

    async def _send(self, contract: Contract, name: str, *arguments: object, least_gas: int = 0) -> Mined:
        return await self._send_data(
            contract, name, function(contract, name).encode(*arguments), least_gas=least_gas, alike=False
        )

    async def _send_data(
        self,
        contract: Contract,
        name: str,
        data: bytes,
        *,
        least_gas: int = 0,
        alike: bool = True,
        sort: str = "",
        tried: bool = False,
        gas: int | None = None,
        on_sent: Callable[[str], None] | None = None,
    ) -> Mined:
        """`alike`: calls of this `sort` of the function use about the same gas, whatever their arguments."""
        self._signing_wallet()
        assert self._sender is not None
        kind = name + sort if alike and self.settings.learn_gas else None
        try:
            return await self._sender.send(
                self._home(contract), data, least_gas=least_gas, kind=kind, tried=tried, gas=gas, on_sent=on_sent
            )
        except GasMissing:
            raise GasMissing(hint=f"send some of the chain's own coin to {self.address}") from None

    async def _allowance(self, spender: Address) -> int:
        return int((await self._read(DEV_TOKEN, "allowance", str(self.address), str(spender)))[0])

    async def _allow(self, spender: Address, amount: Wei) -> None:
        """A contract that pulls tokens needs them to be there and an allowance."""
        await self._require_tokens(amount)
        standing = await self._allowance(spender)
        if standing >= amount:
            return
        if standing:  # left by a call that was cut off; some tokens change an allowance only from nothing
            await self._send(DEV_TOKEN, "approve", str(spender), 0)
        await self._send(DEV_TOKEN, "approve", str(spender), int(amount))

    async def _require_tokens(self, amount: int) -> None:
        """Tokens word a failed transfer in many ways; a balance is the same everywhere."""
        held = await self.token_balance_of(self.address)
        if held < amount:
            raise InsufficientFunds(
                f"the wallet holds {format_amount(held)} fee tokens, this needs {format_amount(amount)}",
                hint=f"send {format_amount(amount - held)} more to {self.address}",
            )


def receipt_of(mined: Mined, *, task: TaskId | None = None) -> TxReceipt:
    return TxReceipt(
        tx_hash=mined.tx_hash, gas_used=mined.gas_used, gas_price=mined.gas_price, block=mined.block, task_id=task
    )
