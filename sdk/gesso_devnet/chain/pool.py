"""Transactions that wait for a block: one queue a sender, in nonce order, bounded."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from gesso_devnet.chain.evm import SignedTx, TransactionError

MAX_WAITING = 16_384
MAX_WAITING_PER_SENDER = 4_096
MAX_NONCE_GAP = 4_096
REPLACE_PERCENT = 110


@dataclass(slots=True)
class Pool:
    """Accepts what may be mined sooner or later, and hands it out in the order of arrival."""

    _queues: dict[bytes, dict[int, tuple[int, SignedTx]]] = field(default_factory=dict)
    _by_hash: dict[bytes, SignedTx] = field(default_factory=dict)
    _arrivals: int = 0

    def __len__(self) -> int:
        return len(self._by_hash)

    def copy(self) -> Pool:
        queues = {sender: dict(queue) for sender, queue in self._queues.items()}
        return Pool(queues, dict(self._by_hash), self._arrivals)

    def get(self, tx_hash: bytes) -> SignedTx | None:
        return self._by_hash.get(tx_hash)

    def add(self, tx: SignedTx, account_nonce: int) -> None:
        """Raises TransactionError with the wording that wallets know from geth."""
        if tx.hash in self._by_hash:
            raise TransactionError("transaction already imported")
        if tx.nonce < account_nonce:
            raise TransactionError(f"nonce too low: next nonce {account_nonce}, tx nonce {tx.nonce}")
        if tx.nonce - account_nonce > MAX_NONCE_GAP:
            raise TransactionError(f"nonce too high: next nonce {account_nonce}, tx nonce {tx.nonce}")
        queue = self._queues.setdefault(tx.sender, {})
        held = queue.get(tx.nonce)
        if held is not None:
            self._check_replacement(held[1], tx)
            del self._by_hash[held[1].hash]
        elif len(self._by_hash) >= MAX_WAITING or len(queue) >= MAX_WAITING_PER_SENDER:
            raise TransactionError("txpool is full")
        self._arrivals += 1
        queue[tx.nonce] = (self._arrivals, tx)
        self._by_hash[tx.hash] = tx

    @staticmethod
    def _check_replacement(old: SignedTx, new: SignedTx) -> None:
        enough_fee = new.max_fee * 100 >= old.max_fee * REPLACE_PERCENT
        enough_tip = new.max_tip * 100 >= old.max_tip * REPLACE_PERCENT
        if not (enough_fee and enough_tip):
            raise TransactionError("replacement transaction underpriced")

    def drop(self, tx: SignedTx) -> None:
        self._by_hash.pop(tx.hash, None)
        queue = self._queues.get(tx.sender, {})
        held = queue.get(tx.nonce)
        if held is not None and held[1].hash == tx.hash:
            del queue[tx.nonce]
        if not queue:
            self._queues.pop(tx.sender, None)

    def drop_below(self, sender: bytes, nonce: int) -> None:
        """Forget what a block has made impossible."""
        for waiting in [held for held in self._queues.get(sender, {}) if held < nonce]:
            self.drop(self._queues[sender][waiting][1])

    def next_nonce(self, sender: bytes, account_nonce: int) -> int:
        """The nonce after the unbroken run of waiting transactions."""
        queue = self._queues.get(sender, {})
        nonce = account_nonce
        while nonce in queue:
            nonce += 1
        return nonce

    def ready(self, nonce_of: Callable[[bytes], int], base_fee: int) -> Iterator[SignedTx]:
        """What may go into a block now: oldest first, each sender in nonce order, nothing that pays too little."""
        heads: list[tuple[int, bytes, int]] = []
        for sender, queue in self._queues.items():
            nonce = nonce_of(sender)
            if nonce in queue:
                heads.append((queue[nonce][0], sender, nonce))
        heapq.heapify(heads)
        while heads:
            _, sender, nonce = heapq.heappop(heads)
            tx = self._queues[sender][nonce][1]
            if tx.max_fee < base_fee:
                continue
            yield tx
            following = self._queues.get(sender, {}).get(nonce + 1)
            if following is not None:
                heapq.heappush(heads, (following[0], sender, nonce + 1))
