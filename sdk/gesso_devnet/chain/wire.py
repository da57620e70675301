"""JSON-RPC values: hexadecimal in, hexadecimal out, every foreign value checked and bounded before use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from eth_utils.address import to_checksum_address

from gesso_devnet.chain.blocks import Block, Mined, logs_bloom
from gesso_devnet.chain.evm import DYNAMIC_FEE, LEGACY, SignedTx
from gesso_devnet.chain.ledger import FoundLog

Json = Any

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL = -32700, -32600, -32601, -32602, -32603
REVERTED, SERVER_ERROR, LIMIT_EXCEEDED = 3, -32000, -32005

_HEX = re.compile(r"0x[0-9a-fA-F]*", re.ASCII)
_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}", re.ASCII)


class RpcError(Exception):
    """An answer that is an error. `data` goes to the caller as it is."""

    def __init__(self, code: int, message: str, data: Json = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def body(self) -> dict[str, Json]:
        return {"code": self.code, "message": self.message} | ({} if self.data is None else {"data": self.data})


def quantity(value: Json, *, limit: int = 2**256 - 1) -> int:
    """A number in hexadecimal (`0x1f`), or a plain JSON integer, from 0 to `limit`."""
    if isinstance(value, str) and _QUANTITY.fullmatch(value):
        number = int(value, 16)
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        raise RpcError(INVALID_PARAMS, f"not a number: {_shown(value)}")
    if not 0 <= number <= limit:
        raise RpcError(INVALID_PARAMS, f"number out of range: {_shown(value)}")
    return number


def octets(value: Json, *, size: int | None = None, limit: int = 128 * 1024) -> bytes:
    """Bytes in hexadecimal, of exactly `size` or at most `limit`."""
    if not isinstance(value, str) or len(value) > 2 + 2 * limit or not _HEX.fullmatch(value) or len(value) % 2:
        raise RpcError(INVALID_PARAMS, f"not hexadecimal bytes: {_shown(value)}")
    data = bytes.fromhex(value[2:])
    if size is not None and len(data) != size:
        raise RpcError(INVALID_PARAMS, f"expected {size} bytes, got {len(data)}")
    return data


def address(value: Json) -> bytes:
    return octets(value, size=20)


def as_quantity(value: int) -> str:
    return hex(value)


def as_octets(value: bytes) -> str:
    return "0x" + value.hex()


def as_address(value: bytes) -> str:
    return to_checksum_address(value)


def block_body(block: Block, *, full: bool) -> dict[str, Json]:
    env = block.env
    return {
        "number": as_quantity(block.number),
        "hash": as_octets(block.hash),
        "parentHash": as_octets(block.parent),
        "nonce": "0x0000000000000000",
        "sha3Uncles": "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347",
        "logsBloom": as_octets(block.bloom.to_bytes(256, "big")),
        "transactionsRoot": as_octets(block.transactions_root),
        "stateRoot": as_octets(block.state_root),
        "receiptsRoot": as_octets(block.receipts_root),
        "miner": as_address(env.coinbase),
        "difficulty": "0x0",
        "totalDifficulty": "0x0",
        "extraData": "0x",
        "size": as_quantity(600 + sum(entry.tx.size for entry in block.transactions)),
        "gasLimit": as_quantity(env.gas_limit),
        "gasUsed": as_quantity(block.gas_used),
        "timestamp": as_quantity(env.timestamp),
        "mixHash": as_octets(env.prevrandao),
        "baseFeePerGas": as_quantity(env.base_fee),
        "uncles": [],
        "withdrawals": [],
        "withdrawalsRoot": "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421",
        "blobGasUsed": "0x0",
        "excessBlobGas": "0x0",
        "parentBeaconBlockRoot": as_octets(bytes(32)),
        "transactions": [
            transaction_body(entry.tx, block, entry) if full else as_octets(entry.tx.hash)
            for entry in block.transactions
        ],
    }


def transaction_body(tx: SignedTx, block: Block | None = None, entry: Mined | None = None) -> dict[str, Json]:
    inner: Any = tx.inner
    body: dict[str, Json] = {
        "hash": as_octets(tx.hash),
        "type": as_quantity(tx.kind),
        "nonce": as_quantity(tx.nonce),
        "from": as_address(tx.sender),
        "to": as_address(inner.to) if inner.to else None,
        "value": as_quantity(tx.value),
        "gas": as_quantity(tx.gas),
        "gasPrice": as_quantity(entry.gas_price if entry else tx.max_fee),
        "input": as_octets(inner.data),
        "r": as_quantity(inner.r),
        "s": as_quantity(inner.s),
        "v": as_quantity(inner.y_parity if tx.kind != LEGACY else inner.v),
        "blockHash": as_octets(block.hash) if block else None,
        "blockNumber": as_quantity(block.number) if block else None,
        "transactionIndex": as_quantity(entry.index) if entry else None,
    }
    if tx.kind != LEGACY:
        body["chainId"] = as_quantity(inner.chain_id)
        body["yParity"] = body["v"]
        body["accessList"] = [
            {"address": as_address(where), "storageKeys": [as_octets(slot.to_bytes(32, "big")) for slot in slots]}
            for where, slots in inner.access_list
        ]
    if tx.kind == DYNAMIC_FEE:
        body["maxFeePerGas"] = as_quantity(tx.max_fee)
        body["maxPriorityFeePerGas"] = as_quantity(tx.max_tip)
    return body


def receipt_body(block: Block, entry: Mined) -> dict[str, Json]:
    found = [FoundLog(block, entry, log, entry.first_log + place) for place, log in enumerate(entry.done.logs)]
    return {
        "transactionHash": as_octets(entry.tx.hash),
        "transactionIndex": as_quantity(entry.index),
        "blockHash": as_octets(block.hash),
        "blockNumber": as_quantity(block.number),
        "from": as_address(entry.tx.sender),
        "to": as_address(entry.tx.inner.to) if entry.tx.inner.to else None,
        "cumulativeGasUsed": as_quantity(entry.gas_before + entry.done.gas_used),
        "gasUsed": as_quantity(entry.done.gas_used),
        "effectiveGasPrice": as_quantity(entry.gas_price),
        "contractAddress": as_address(entry.done.created) if entry.done.created and entry.done.success else None,
        "logs": [log_body(log) for log in found],
        "logsBloom": as_octets(logs_bloom(entry.done.logs).to_bytes(256, "big")),
        "status": as_quantity(int(entry.done.success)),
        "type": as_quantity(entry.tx.kind),
    }


def log_body(found: FoundLog) -> dict[str, Json]:
    return {
        "address": as_address(found.log.address),
        "topics": [as_octets(topic) for topic in found.log.topics],
        "data": as_octets(found.log.data),
        "blockNumber": as_quantity(found.block.number),
        "blockHash": as_octets(found.block.hash),
        "blockTimestamp": as_quantity(found.block.timestamp),
        "transactionHash": as_octets(found.entry.tx.hash),
        "transactionIndex": as_quantity(found.entry.index),
        "logIndex": as_quantity(found.index),
        "removed": False,
    }


def field_of(body: Mapping[str, Json], *names: str) -> Json:
    """The first of several spellings that is present and not null."""
    return next((body[name] for name in names if body.get(name) is not None), None)


def _shown(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
