"""py-evm's Prague rules, used as a state machine: apply a transaction, call, estimate. No blocks, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from eth.abc import ComputationAPI, SignedTransactionAPI
from eth.constants import BLANK_ROOT_HASH, CREATE_CONTRACT_ADDRESS
from eth.db.atomic import AtomicDB
from eth.exceptions import OutOfGas, Revert, VMError
from eth.vm.execution_context import ExecutionContext
from eth.vm.forks.london.constants import EIP3529_MAX_REFUND_QUOTIENT
from eth.vm.forks.prague.constants import STANDARD_TOKEN_COST, TOTAL_COST_FLOOR_PER_TOKEN
from eth.vm.forks.prague.transactions import PragueTransactionBuilder
from eth.vm.spoof import SpoofTransaction
from eth_utils.exceptions import ValidationError

from gesso_devnet.chain.curve import CurveState

# py-evm's state under a loose type: its nominal Address and Hash32 would need a cast at every call.
State = Any

MAX_TX_BYTES = 128 * 1024
LEGACY, ACCESS_LIST, DYNAMIC_FEE = 0, 1, 2
BASE_GAS = 21_000


class TransactionError(Exception):
    """The transaction can not be executed at all: bad signature, nonce, balance or gas."""


@dataclass(frozen=True, slots=True)
class BlockEnv:
    """What a contract can see of the block it runs in."""

    number: int
    timestamp: int
    prevrandao: bytes
    base_fee: int
    gas_limit: int
    coinbase: bytes
    previous_hashes: Sequence[bytes] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Log:
    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Executed:
    """The outcome of one message. `revert` holds the revert data, or is None when something else went wrong."""

    success: bool
    output: bytes
    gas_used: int
    gas_peak: int
    logs: tuple[Log, ...]
    error: str = ""
    revert: bytes | None = None
    out_of_gas: bool = False
    created: bytes | None = None


@dataclass(frozen=True, slots=True)
class SignedTx:
    """A decoded transaction whose signature has been checked."""

    inner: SignedTransactionAPI = field(repr=False)
    hash: bytes
    sender: bytes
    nonce: int
    gas: int
    max_fee: int
    max_tip: int
    value: int
    size: int
    kind: int

    @property
    def upfront_cost(self) -> int:
        """The most that this transaction can take from its sender."""
        return self.gas * self.max_fee + self.value

    def gas_price(self, base_fee: int) -> int:
        return min(self.max_fee, base_fee + self.max_tip)


@dataclass(frozen=True, slots=True)
class Message:
    """An unsigned call, as `eth_call` and `eth_estimateGas` take it."""

    sender: bytes
    to: bytes
    data: bytes
    value: int
    gas: int


def decode_transaction(raw: bytes, chain_id: int) -> SignedTx:
    """Decode and authenticate. Raises TransactionError for anything that is not a transaction for this chain."""
    if len(raw) > MAX_TX_BYTES:
        raise TransactionError(f"oversized data: transaction size {len(raw)}, limit {MAX_TX_BYTES}")
    if not raw or (raw[0] < 0x80 and raw[0] not in (ACCESS_LIST, DYNAMIC_FEE)):
        raise TransactionError("transaction type not supported")
    try:
        inner = PragueTransactionBuilder.decode(raw)
        inner.validate()
        sender = inner.sender
        chain = inner.chain_id
    except Exception as error:  # py-evm raises a dozen unrelated types for bytes that are no transaction
        raise TransactionError(f"failed to decode signed transaction: {type(error).__name__}") from error
    if chain is not None and chain != chain_id:
        raise TransactionError(f"invalid chain id: transaction is for {chain}, this chain is {chain_id}")
    kind = raw[0] if raw[0] < 0x80 else LEGACY
    return SignedTx(
        inner=inner,
        hash=inner.hash,
        sender=sender,
        nonce=inner.nonce,
        gas=inner.gas,
        max_fee=inner.max_fee_per_gas,
        max_tip=inner.max_priority_fee_per_gas,
        value=inner.value,
        size=len(raw),
        kind=kind,
    )


def minimum_gas(tx: SignedTx) -> int:
    """The least gas limit with which this transaction may enter a block (EIP-7623 floor included)."""
    return max(int(tx.inner.intrinsic_gas), _floor_gas(tx.inner.data))


def _floor_gas(data: bytes) -> int:
    zeros = data.count(0)
    return BASE_GAS + TOTAL_COST_FLOOR_PER_TOKEN * (zeros + STANDARD_TOKEN_COST * (len(data) - zeros))


class Evm:
    """All states of one chain, addressed by state root. Old roots stay readable, so history and snapshots are free."""

    def __init__(self, chain_id: int, balances: Mapping[bytes, int]) -> None:
        self.chain_id = chain_id
        self._db = AtomicDB()
        genesis = self.state(BLANK_ROOT_HASH, BlockEnv(0, 0, bytes(32), 0, 30_000_000, bytes(20)))
        for address, balance in balances.items():
            genesis.set_balance(address, balance)
        self.genesis_root = self.seal(genesis)

    def state(self, root: bytes, env: BlockEnv) -> State:
        make: Any = ExecutionContext
        context = make(
            coinbase=env.coinbase,
            timestamp=env.timestamp,
            block_number=env.number,
            difficulty=0,
            mix_hash=env.prevrandao,
            gas_limit=env.gas_limit,
            prev_hashes=env.previous_hashes,
            chain_id=self.chain_id,
            base_fee_per_gas=env.base_fee,
            excess_blob_gas=0,
        )
        build: Any = CurveState
        return build(self._db, context, root)

    def seal(self, state: State) -> bytes:
        """Write a state to the store and return its root."""
        state.lock_changes()
        state.persist()
        return bytes(state.state_root)

    def apply(self, state: State, tx: SignedTx) -> Executed:
        """Execute in place. Raises TransactionError, leaving the state as it was."""
        state.lock_changes()
        snapshot = state.snapshot()
        try:
            computation = state.apply_transaction(tx.inner)
        except ValidationError as error:
            state.revert(snapshot)
            raise TransactionError(str(error)) from error
        return _executed(computation, tx.inner.gas, tx.inner.data, tx.inner.to)

    def call(self, state: State, message: Message) -> Executed:
        """Run a message against a throw-away state; gas is free."""
        builder: Any = PragueTransactionBuilder
        unsigned = builder.new_unsigned_dynamic_fee_transaction(
            chain_id=self.chain_id,
            nonce=state.get_nonce(message.sender),
            max_priority_fee_per_gas=0,
            max_fee_per_gas=0,
            gas=message.gas,
            to=message.to,
            value=message.value,
            data=message.data,
            access_list=(),
        )
        spoofed: Any = SpoofTransaction(unsigned, from_=message.sender, sender=message.sender)
        state.lock_changes()
        snapshot = state.snapshot()
        try:
            computation = state.apply_transaction(spoofed)
        except (ValidationError, VMError) as error:
            raise TransactionError(str(error)) from error
        finally:
            state.revert(snapshot)
        return _executed(computation, message.gas, message.data, message.to)

    def estimate(self, root: bytes, env: BlockEnv, message: Message) -> tuple[int, Executed]:
        """A gas limit that works, a few percent above the least, with the run that proves it; a failed run when none
        does. Two runs suffice unless a contract is unusually sensitive to its gas."""
        free = replace(env, base_fee=0)
        most = self.call(self.state(root, free), message)
        if not most.success:
            return message.gas, most
        low, high = most.gas_used - 1, message.gas
        guess = min(most.gas_peak * 64 // 63 + 2_300, high)  # what inner calls hold back, and a stipend
        if self.call(self.state(root, free), replace(message, gas=guess)).success:
            return guess, most
        while low + max(low // 64, 1) < high:
            tried = (low + high) // 2
            if self.call(self.state(root, free), replace(message, gas=tried)).success:
                high = tried
            else:
                low = tried
        return high, most


def _executed(computation: ComputationAPI, gas: int, data: bytes, to: bytes) -> Executed:
    spent = gas - computation.get_gas_remaining()
    refund = min(computation.get_gas_refund(), spent // EIP3529_MAX_REFUND_QUOTIENT)
    floor = _floor_gas(data)
    failed = computation.is_error
    error = computation.error if failed else None
    return Executed(
        success=not failed,
        output=b"" if failed else bytes(computation.output),
        gas_used=max(spent - refund, floor),
        gas_peak=max(spent, floor),
        logs=() if failed else tuple(_logs(computation)),
        error="" if error is None else _reason(error),
        revert=bytes(computation.output) if isinstance(error, Revert) else None,
        out_of_gas=isinstance(error, OutOfGas),
        created=bytes(computation.msg.storage_address) if to == CREATE_CONTRACT_ADDRESS else None,
    )


def _logs(computation: ComputationAPI) -> list[Log]:
    return [
        Log(bytes(address), tuple(topic.to_bytes(32, "big") for topic in topics), bytes(data))
        for address, topics, data in computation.get_log_entries()
    ]


def _reason(error: Exception) -> str:
    if isinstance(error, Revert):
        return "execution reverted"
    if isinstance(error, OutOfGas):
        return "out of gas"
    return f"{type(error).__name__}: {error}"[:200]
