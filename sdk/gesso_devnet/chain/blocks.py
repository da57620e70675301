"""Blocks, receipts and logs as the embedded chain keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import rlp  # type: ignore[import-untyped]  # ships none
from eth.constants import BLANK_ROOT_HASH, EMPTY_SHA256, EMPTY_UNCLE_HASH, POST_MERGE_NONCE
from eth_bloom.bloom import BloomFilter
from eth_hash.auto import keccak

from gesso_devnet.chain.evm import BlockEnv, Executed, Log, SignedTx

BASE_FEE_DENOMINATOR = 8


@dataclass(frozen=True, slots=True)
class Mined:
    """One transaction in a block, with what it did."""

    tx: SignedTx
    done: Executed
    index: int
    gas_before: int
    first_log: int
    gas_price: int


@dataclass(frozen=True, slots=True)
class Block:
    """A sealed block. Its hash covers its content and its parent, as on any Ethereum chain."""

    env: BlockEnv
    hash: bytes
    parent: bytes
    state_root: bytes
    transactions_root: bytes
    receipts_root: bytes
    bloom: int
    gas_used: int
    transactions: tuple[Mined, ...] = field(repr=False)

    @property
    def number(self) -> int:
        return self.env.number

    @property
    def timestamp(self) -> int:
        return self.env.timestamp


def logs_bloom(logs: Sequence[Log]) -> int:
    """The 2048-bit filter of the addresses and topics in `logs`."""
    bloom = BloomFilter()
    for log in logs:
        bloom.add(log.address)
        for topic in log.topics:
            bloom.add(topic)
    return int(bloom)


def seal(env: BlockEnv, parent: bytes, state_root: bytes, mined: Sequence[Mined]) -> Block:
    """Close a block. The transaction and receipt roots are commitments of our own, not Merkle-Patricia roots:
    no client of a local chain verifies them, and they cost a trie a block."""
    logs = [log for entry in mined for log in entry.done.logs]
    bloom = logs_bloom(logs) if logs else 0
    gas_used = sum(entry.done.gas_used for entry in mined)
    transactions_root = keccak(b"".join(entry.tx.hash for entry in mined)) if mined else BLANK_ROOT_HASH
    receipts_root = keccak(rlp.encode([_receipt(entry) for entry in mined])) if mined else BLANK_ROOT_HASH
    header = [
        parent,
        EMPTY_UNCLE_HASH,
        env.coinbase,
        state_root,
        transactions_root,
        receipts_root,
        bloom.to_bytes(256, "big"),
        *(_int(value) for value in (0, env.number, env.gas_limit, gas_used, env.timestamp)),
        b"",
        env.prevrandao,
        POST_MERGE_NONCE,
        _int(env.base_fee),
        BLANK_ROOT_HASH,
        b"",
        b"",
        bytes(32),
        EMPTY_SHA256,
    ]
    return Block(
        env=env,
        hash=keccak(rlp.encode(header)),
        parent=parent,
        state_root=state_root,
        transactions_root=transactions_root,
        receipts_root=receipts_root,
        bloom=bloom,
        gas_used=gas_used,
        transactions=tuple(mined),
    )


def next_base_fee(parent: Block) -> int:
    """EIP-1559: up to an eighth up or down, towards half-full blocks."""
    target = parent.env.gas_limit // 2
    fee = parent.env.base_fee
    if parent.gas_used == target:
        return fee
    if parent.gas_used > target:
        return fee + max(fee * (parent.gas_used - target) // target // BASE_FEE_DENOMINATOR, 1)
    return fee - fee * (target - parent.gas_used) // target // BASE_FEE_DENOMINATOR


def _receipt(entry: Mined) -> list[object]:
    logs = [[log.address, list(log.topics), log.data] for log in entry.done.logs]
    return [entry.tx.hash, _int(int(entry.done.success)), _int(entry.gas_before + entry.done.gas_used), logs]


def _int(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")
