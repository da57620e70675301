"""A transaction that is in a block, as far as its sender needs to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gesso.chain.rpc import RawLog, name_of, number, raw_log, readable, small
from gesso_protocol.errors import ChainError


@dataclass(frozen=True, slots=True)
class Mined:
    """What it used, and paid a unit of gas, is None where its logs told that it succeeded: nobody asked then."""

    tx_hash: str
    block: int
    succeeded: bool
    logs: tuple[RawLog, ...]
    gas_used: int | None = None
    gas_price: int | None = None
    created: str | None = None


def by_receipt(tx_hash: str, receipt: Mapping[str, Any]) -> Mined:
    """What the chain answered for this hash. Raises ChainError for what cannot be read, or is another's."""
    with readable("a receipt"):
        if name_of(receipt["transactionHash"]) != tx_hash:
            raise ChainError("the chain answered another transaction's receipt")
        return Mined(
            tx_hash=tx_hash,
            block=small(receipt["blockNumber"]),
            succeeded=number(receipt["status"]) == 1,
            logs=tuple(raw_log(entry) for entry in receipt.get("logs", [])),
            gas_used=number(receipt["gasUsed"]),
            gas_price=number(receipt.get("effectiveGasPrice") or "0x0"),
            created=receipt.get("contractAddress"),
        )


def by_logs(logs: tuple[RawLog, ...]) -> Mined:
    """A transaction that failed leaves none, so one that left some succeeded."""
    return Mined(tx_hash=logs[0].tx_hash, block=logs[0].block, succeeded=True, logs=logs)
