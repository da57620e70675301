"""The embedded chain without its network front: a list of blocks, a pool, and a clock that tests may bend.

Not thread-safe and not async: the front runs every call on one thread.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from gesso_devnet.chain.blocks import Block, Mined, next_base_fee, seal
from gesso_devnet.chain.evm import (
    BlockEnv,
    Evm,
    Executed,
    Log,
    Message,
    SignedTx,
    State,
    TransactionError,
    decode_transaction,
    minimum_gas,
)
from gesso_devnet.chain.pool import Pool

GAS_LIMIT = 30_000_000
START_BASE_FEE = 10**9
MAX_SNAPSHOTS = 256
MAX_TIMESTAMP = 2**40 - 1
COINBASE = bytes(20)
VISIBLE_ANCESTORS = 256


class UnknownBlockError(Exception):
    """The block asked for is not on this chain."""


@dataclass(frozen=True, slots=True)
class FoundLog:
    block: Block
    entry: Mined
    log: Log
    index: int


@dataclass(frozen=True, slots=True)
class _Snapshot:
    height: int
    pool: Pool
    offset_s: int


class Ledger:
    """A single-writer Ethereum chain in memory, with Prague rules and EIP-1559 fees."""

    def __init__(
        self, *, chain_id: int, balances: dict[bytes, int], clock: Callable[[], float], automine: bool
    ) -> None:
        self.chain_id = chain_id
        self.automine = automine
        self._clock = clock
        self._evm = Evm(chain_id, balances)
        self._offset_s = 0
        self._next_timestamp: int | None = None
        self._snapshots: dict[int, _Snapshot] = {}
        self._snapshot_ids = itertools.count(1)
        self.pool = Pool()
        genesis_env = BlockEnv(0, int(clock()), secrets.token_bytes(32), START_BASE_FEE, GAS_LIMIT, COINBASE)
        self._blocks = [seal(genesis_env, bytes(32), self._evm.genesis_root, ())]
        self._by_hash: dict[bytes, int] = {self._blocks[0].hash: 0}
        self._places: dict[bytes, tuple[int, int]] = {}

    # Blocks and states

    @property
    def head(self) -> Block:
        return self._blocks[-1]

    def block(self, number: int) -> Block:
        if not 0 <= number < len(self._blocks):
            raise UnknownBlockError(str(number))
        return self._blocks[number]

    def block_by_hash(self, block_hash: bytes) -> Block:
        number = self._by_hash.get(block_hash)
        if number is None:
            raise UnknownBlockError(block_hash.hex())
        return self._blocks[number]

    def find(self, tx_hash: bytes) -> tuple[Block, Mined] | None:
        place = self._places.get(tx_hash)
        return None if place is None else (self._blocks[place[0]], self._blocks[place[0]].transactions[place[1]])

    def state_at(self, block: Block) -> State:
        return self._evm.state(block.state_root, self._with_ancestors(block.env))

    def next_env(self) -> BlockEnv:
        """What the next block will say of itself, were it made now."""
        wanted = self._next_timestamp if self._next_timestamp is not None else int(self._clock()) + self._offset_s
        return BlockEnv(
            number=self.head.number + 1,
            timestamp=max(wanted, self.head.timestamp),
            prevrandao=secrets.token_bytes(32),
            base_fee=next_base_fee(self.head),
            gas_limit=GAS_LIMIT,
            coinbase=COINBASE,
        )

    def _with_ancestors(self, env: BlockEnv) -> BlockEnv:
        oldest = max(0, env.number - VISIBLE_ANCESTORS)
        return replace(env, previous_hashes=[block.hash for block in reversed(self._blocks[oldest : env.number])])

    # Reading

    def call(self, message: Message, block: Block, *, pending: bool = False) -> Executed:
        env = replace(self.next_env() if pending else block.env, base_fee=0)
        return self._evm.call(self._evm.state(block.state_root, self._with_ancestors(env)), message)

    def estimate(self, message: Message, block: Block, *, pending: bool = False) -> tuple[int, Executed]:
        env = self.next_env() if pending else block.env
        return self._evm.estimate(block.state_root, self._with_ancestors(env), message)

    def pending_nonce(self, address: bytes) -> int:
        return self.pool.next_nonce(address, self.state_at(self.head).get_nonce(address))

    def logs(self, first: int, last: int, addresses: set[bytes], topics: Sequence[set[bytes]]) -> Iterator[FoundLog]:
        """Logs of blocks `first` to `last`. An empty set of addresses, or of topics at a place, matches all."""
        for number in range(first, last + 1):
            block = self._blocks[number]
            for entry in block.transactions:
                for place, log in enumerate(entry.done.logs):
                    if (not addresses or log.address in addresses) and _topics_match(log, topics):
                        yield FoundLog(block, entry, log, entry.first_log + place)

    # Writing

    def submit(self, raw: bytes) -> SignedTx:
        """Take a signed transaction into the pool (and into a block at once when auto-mining)."""
        tx = decode_transaction(raw, self.chain_id)
        if tx.hash in self._places:
            raise TransactionError("already known")
        if tx.gas < minimum_gas(tx):
            raise TransactionError(f"intrinsic gas too low: gas {tx.gas}, minimum needed {minimum_gas(tx)}")
        if tx.gas > GAS_LIMIT:
            raise TransactionError("exceeds block gas limit")
        if tx.max_tip > tx.max_fee:
            raise TransactionError("max priority fee per gas higher than max fee per gas")
        state = self.state_at(self.head)
        if state.get_balance(tx.sender) < tx.upfront_cost:
            raise TransactionError("insufficient funds for gas * price + value")
        self.pool.add(tx, state.get_nonce(tx.sender))
        if self.automine:
            self.mine()
        return tx

    def mine(self, timestamp: int | None = None) -> Block:
        """Make one block from what is ready, an empty one if nothing is."""
        if timestamp is not None:
            self.set_next_timestamp(timestamp)
        env = self.next_env()
        self._next_timestamp = None
        state = self._evm.state(self.head.state_root, self._with_ancestors(env))
        mined = self._execute_ready(state, env)
        root = self._evm.seal(state) if mined else self.head.state_root
        block = seal(env, self.head.hash, root, mined)
        self._append(block)
        for entry in mined:
            self.pool.drop(entry.tx)
            self.pool.drop_below(entry.tx.sender, entry.tx.nonce + 1)
        return block

    def _execute_ready(self, state: State, env: BlockEnv) -> list[Mined]:
        mined: list[Mined] = []
        refused: list[SignedTx] = []
        skipped: set[bytes] = set()
        gas_used = logs = 0
        for tx in self.pool.ready(state.get_nonce, env.base_fee):
            if tx.sender in skipped:
                continue
            if gas_used + tx.gas > env.gas_limit:
                skipped.add(tx.sender)
                continue
            try:
                done = self._evm.apply(state, tx)
            except TransactionError:
                skipped.add(tx.sender)
                refused.append(tx)
                continue
            mined.append(Mined(tx, done, len(mined), gas_used, logs, tx.gas_price(env.base_fee)))
            gas_used += done.gas_used
            logs += len(done.logs)
        for tx in refused:
            self.pool.drop(tx)
        return mined

    def _append(self, block: Block) -> None:
        self._by_hash[block.hash] = len(self._blocks)
        for entry in block.transactions:
            self._places[entry.tx.hash] = (block.number, entry.index)
        self._blocks.append(block)

    # Time, snapshots, reorganisations: the powers of a test chain

    def drop_waiting(self) -> None:
        """Empty the pool."""
        self.pool = Pool()

    def shift_time(self, seconds: int) -> int:
        """Move the clock. Returns the total shift."""
        if abs(self._offset_s + seconds) > MAX_TIMESTAMP:
            raise ValueError("time shift out of range")
        self._offset_s += seconds
        return self._offset_s

    def set_next_timestamp(self, timestamp: int) -> None:
        if not self.head.timestamp <= timestamp <= MAX_TIMESTAMP:
            raise ValueError("the next timestamp must not be before the last block's")
        self._next_timestamp = timestamp

    def snapshot(self) -> int:
        if len(self._snapshots) >= MAX_SNAPSHOTS:
            del self._snapshots[min(self._snapshots)]
        number = next(self._snapshot_ids)
        self._snapshots[number] = _Snapshot(len(self._blocks), self.pool.copy(), self._offset_s)
        return number

    def revert(self, number: int) -> bool:
        """Back to a snapshot, which is used up with all later ones. False when there is no such snapshot."""
        saved = self._snapshots.get(number)
        if saved is None:
            return False
        self._truncate(saved.height)
        self.pool = saved.pool
        self._offset_s = saved.offset_s
        self._snapshots = {key: kept for key, kept in self._snapshots.items() if key < number}
        return True

    def reorganise(self, depth: int, replacements: Sequence[tuple[bytes, int]] = ()) -> None:
        """Replace the newest `depth` blocks by new ones holding only `replacements` (raw transaction, block offset).
        What the old blocks held is lost, as on anvil."""
        if not 0 < depth < len(self._blocks):
            raise ValueError("reorganisation deeper than the chain")
        timestamps = [block.timestamp for block in self._blocks[-depth:]]
        self._truncate(len(self._blocks) - depth)
        waiting, self.pool = self.pool, Pool()
        for offset, timestamp in enumerate(timestamps):
            for raw, place in replacements:
                if place == offset:
                    tx = decode_transaction(raw, self.chain_id)
                    self.pool.add(tx, self.state_at(self.head).get_nonce(tx.sender))
            self.mine(timestamp)
        self.pool = waiting

    def _truncate(self, height: int) -> None:
        for block in self._blocks[height:]:
            del self._by_hash[block.hash]
            for entry in block.transactions:
                self._places.pop(entry.tx.hash, None)
        del self._blocks[height:]
        self._snapshots = {key: kept for key, kept in self._snapshots.items() if kept.height <= height}
        self._next_timestamp = None


def _topics_match(log: Log, topics: Sequence[set[bytes]]) -> bool:
    if len(topics) > len(log.topics):
        return False
    return all(not wanted or topic in wanted for topic, wanted in zip(log.topics, topics, strict=False))
