"""The JSON-RPC methods of the embedded chain: what gesso and its tests use, under Ethereum's and anvil's names."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from gesso_devnet.chain.blocks import Block, next_base_fee
from gesso_devnet.chain.evm import BASE_GAS, Executed, Message, TransactionError
from gesso_devnet.chain.ledger import GAS_LIMIT, Ledger, UnknownBlockError
from gesso_devnet.chain.wire import (
    INVALID_PARAMS,
    LIMIT_EXCEEDED,
    METHOD_NOT_FOUND,
    REVERTED,
    SERVER_ERROR,
    Json,
    RpcError,
    address,
    as_octets,
    as_quantity,
    block_body,
    field_of,
    log_body,
    octets,
    quantity,
    receipt_body,
    transaction_body,
)

MAX_LOG_BLOCKS = 10_000
MAX_LOGS = 10_000
MAX_FILTER_ITEMS = 1_000
MAX_FEE_BLOCKS = 1_024
MAX_MINED_AT_ONCE = 10_000
MAX_REORG = 1_000
TIP = 10**9
CLIENT = "gesso-embedded/py-evm-prague"

Params = Sequence[Json]


class Methods:
    """A table of methods over one ledger. `on_interval` changes how often the front makes blocks (seconds)."""

    def __init__(self, ledger: Ledger, accounts: Sequence[str], on_interval: Callable[[float], None]) -> None:
        self._ledger = ledger
        self._accounts = list(accounts)
        self._on_interval = on_interval
        self._table: dict[str, tuple[Callable[[Params], Json], int, int]] = {
            "web3_clientVersion": (lambda _: CLIENT, 0, 0),
            "net_version": (lambda _: str(ledger.chain_id), 0, 0),
            "net_listening": (lambda _: True, 0, 0),
            "eth_chainId": (lambda _: as_quantity(ledger.chain_id), 0, 0),
            "eth_syncing": (lambda _: False, 0, 0),
            "eth_accounts": (lambda _: self._accounts, 0, 0),
            "eth_blockNumber": (lambda _: as_quantity(ledger.head.number), 0, 0),
            "eth_gasPrice": (lambda _: as_quantity(next_base_fee(ledger.head) + TIP), 0, 0),
            "eth_maxPriorityFeePerGas": (lambda _: as_quantity(TIP), 0, 0),
            "eth_feeHistory": (self._fee_history, 2, 3),
            "eth_getBalance": (self._balance, 1, 2),
            "eth_getCode": (self._code, 1, 2),
            "eth_getStorageAt": (self._storage, 2, 3),
            "eth_getTransactionCount": (self._transaction_count, 1, 2),
            "eth_getBlockByNumber": (self._block_by_number, 1, 2),
            "eth_getBlockByHash": (self._block_by_hash, 1, 2),
            "eth_getTransactionByHash": (self._transaction, 1, 1),
            "eth_getTransactionReceipt": (self._receipt, 1, 1),
            "eth_getBlockReceipts": (self._block_receipts, 1, 1),
            "eth_getLogs": (self._logs, 1, 1),
            "eth_call": (self._call, 1, 2),
            "eth_estimateGas": (self._estimate, 1, 2),
            "eth_sendRawTransaction": (self._send, 1, 1),
            "txpool_status": (lambda _: {"pending": as_quantity(len(ledger.pool)), "queued": "0x0"}, 0, 0),
            "evm_snapshot": (lambda _: as_quantity(ledger.snapshot()), 0, 0),
            "evm_revert": (lambda p: ledger.revert(quantity(p[0])), 1, 1),
            "evm_increaseTime": (self._increase_time, 1, 1),
            "evm_setNextBlockTimestamp": (self._next_timestamp, 1, 1),
            "evm_mine": (self._mine, 0, 1),
            "evm_setAutomine": (self._automine, 1, 1),
            "evm_setIntervalMining": (self._interval, 1, 1),
            "anvil_mine": (self._mine_many, 0, 2),
            "anvil_reorg": (self._reorg, 1, 2),
            "anvil_dropTransaction": (self._drop, 1, 1),
            "anvil_dropAllTransactions": (lambda _: ledger.drop_waiting(), 0, 0),
        }

    def names(self) -> tuple[str, ...]:
        return tuple(self._table)

    def __call__(self, name: str, params: Params) -> Json:
        """Answer one request. Raises RpcError; everything else that escapes is a defect."""
        if name not in self._table:
            raise RpcError(METHOD_NOT_FOUND, f"method not found: {name[:80]!r}")
        method, least, most = self._table[name]
        if not least <= len(params) <= most:
            raise RpcError(INVALID_PARAMS, f"{name} takes {least} to {most} parameters, got {len(params)}")
        try:
            return method(params)
        except TransactionError as error:
            raise RpcError(SERVER_ERROR, str(error)[:500]) from error
        except UnknownBlockError as error:
            raise RpcError(SERVER_ERROR, "header not found") from error

    # Blocks and accounts

    def _block_at(self, tag: Json) -> Block:
        if isinstance(tag, dict):
            if "blockHash" in tag:
                return self._ledger.block_by_hash(octets(tag["blockHash"], size=32))
            tag = tag.get("blockNumber")
        if tag in (None, "latest", "pending", "safe", "finalized"):
            return self._ledger.head
        return self._ledger.block(0 if tag == "earliest" else quantity(tag))

    def _balance(self, params: Params) -> Json:
        where = address(params[0])
        return as_quantity(self._ledger.state_at(self._block_at(_second(params))).get_balance(where))

    def _code(self, params: Params) -> Json:
        where = address(params[0])
        return as_octets(self._ledger.state_at(self._block_at(_second(params))).get_code(where))

    def _storage(self, params: Params) -> Json:
        where, slot = address(params[0]), quantity(params[1])
        block = self._block_at(params[2] if len(params) > 2 else None)
        return as_octets(self._ledger.state_at(block).get_storage(where, slot).to_bytes(32, "big"))

    def _transaction_count(self, params: Params) -> Json:
        where = address(params[0])
        if _second(params) == "pending":
            return as_quantity(self._ledger.pending_nonce(where))
        return as_quantity(self._ledger.state_at(self._block_at(_second(params))).get_nonce(where))

    def _block_by_number(self, params: Params) -> Json:
        try:
            return block_body(self._block_at(params[0]), full=_second(params) is True)
        except UnknownBlockError:
            return None

    def _block_by_hash(self, params: Params) -> Json:
        try:
            return block_body(self._ledger.block_by_hash(octets(params[0], size=32)), full=_second(params) is True)
        except UnknownBlockError:
            return None

    def _transaction(self, params: Params) -> Json:
        tx_hash = octets(params[0], size=32)
        found = self._ledger.find(tx_hash)
        if found is not None:
            return transaction_body(found[1].tx, *found)
        waiting = self._ledger.pool.get(tx_hash)
        return None if waiting is None else transaction_body(waiting)

    def _receipt(self, params: Params) -> Json:
        found = self._ledger.find(octets(params[0], size=32))
        return None if found is None else receipt_body(*found)

    def _block_receipts(self, params: Params) -> Json:
        try:
            block = self._block_at(params[0])
        except UnknownBlockError:
            return None
        return [receipt_body(block, entry) for entry in block.transactions]

    def _fee_history(self, params: Params) -> Json:
        count = min(quantity(params[0]), MAX_FEE_BLOCKS)
        newest = self._block_at(params[1])
        percentiles = params[2] if len(params) > 2 and isinstance(params[2], list) else []
        if len(percentiles) > 100:
            raise RpcError(INVALID_PARAMS, "too many reward percentiles")
        first = max(0, newest.number - count + 1)
        blocks = [self._ledger.block(number) for number in range(first, newest.number + 1)]
        fees = [block.env.base_fee for block in blocks] + [next_base_fee(newest)]
        return {
            "oldestBlock": as_quantity(first),
            "baseFeePerGas": [as_quantity(fee) for fee in fees],
            "gasUsedRatio": [block.gas_used / block.env.gas_limit for block in blocks],
            "reward": [[as_quantity(TIP)] * len(percentiles) for _ in blocks],
        }

    # Logs

    def _logs(self, params: Params) -> Json:
        wanted = _object(params[0])
        first, last = self._log_range(wanted)
        addresses = {address(item) for item in _listed(wanted.get("address"))}
        raw_topics = wanted.get("topics") or []
        if not isinstance(raw_topics, list) or len(raw_topics) > 4:
            raise RpcError(INVALID_PARAMS, "topics must be a list of at most 4")
        topics = [{octets(item, size=32) for item in _listed(place)} for place in raw_topics]
        found = list(itertools.islice(self._ledger.logs(first, last, addresses, topics), MAX_LOGS + 1))
        if len(found) > MAX_LOGS:
            raise RpcError(LIMIT_EXCEEDED, f"query returned more than {MAX_LOGS} results")
        return [log_body(log) for log in found]

    def _log_range(self, wanted: dict[str, Json]) -> tuple[int, int]:
        if wanted.get("blockHash") is not None:
            number = self._ledger.block_by_hash(octets(wanted["blockHash"], size=32)).number
            return number, number
        head = self._ledger.head.number
        first = self._log_bound(wanted.get("fromBlock"))
        last = min(self._log_bound(wanted.get("toBlock")), head)
        if last - first >= MAX_LOG_BLOCKS:
            raise RpcError(LIMIT_EXCEEDED, f"block range too large, at most {MAX_LOG_BLOCKS}")
        return first, last

    def _log_bound(self, tag: Json) -> int:
        if isinstance(tag, str) and tag.startswith("0x"):
            return quantity(tag, limit=2**63)
        return quantity(tag, limit=2**63) if isinstance(tag, int) else self._block_at(tag).number

    # Calls and transactions

    def _message(self, value: Json) -> Message:
        body = _object(value)
        gas = field_of(body, "gas", "gasLimit")
        data, to = field_of(body, "input", "data"), body.get("to")
        return Message(
            sender=address(body["from"]) if body.get("from") else bytes(20),
            to=address(to) if to else b"",
            data=octets(data) if data is not None else b"",
            value=quantity(body.get("value") or 0),
            gas=min(quantity(gas), GAS_LIMIT) if gas is not None else GAS_LIMIT,
        )

    def _call(self, params: Params) -> Json:
        tag = _second(params)
        done = self._ledger.call(self._message(params[0]), self._block_at(tag), pending=tag == "pending")
        _raise_failure(done)
        return as_octets(done.output)

    def _estimate(self, params: Params) -> Json:
        tag, message = _second(params), self._message(params[0])
        if message.gas < BASE_GAS:
            raise RpcError(SERVER_ERROR, "intrinsic gas too low")
        gas, done = self._ledger.estimate(message, self._block_at(tag), pending=tag == "pending")
        _raise_failure(done)
        return as_quantity(gas)

    def _send(self, params: Params) -> Json:
        return as_octets(self._ledger.submit(octets(params[0])).hash)

    # The powers of a test chain

    def _increase_time(self, params: Params) -> Json:
        return self._ledger.shift_time(quantity(params[0], limit=2**40))

    def _next_timestamp(self, params: Params) -> Json:
        with _values():
            self._ledger.set_next_timestamp(quantity(params[0]))

    def _mine(self, params: Params) -> Json:
        option = params[0] if params else None
        timestamp = option.get("timestamp") if isinstance(option, dict) else option
        with _values():
            self._ledger.mine(None if timestamp is None else quantity(timestamp))
        return "0x0"

    def _mine_many(self, params: Params) -> Json:
        count = quantity(params[0], limit=MAX_MINED_AT_ONCE) if params else 1
        step = quantity(params[1], limit=2**32) if len(params) > 1 else None
        with _values():
            for index in range(count):
                later = None if step is None or index == 0 else self._ledger.head.timestamp + step
                self._ledger.mine(later)

    def _automine(self, params: Params) -> Json:
        self._ledger.automine = params[0] is True

    def _interval(self, params: Params) -> Json:
        self._on_interval(float(quantity(params[0], limit=86_400)))

    def _reorg(self, params: Params) -> Json:
        depth, pairs = (params[0], _second(params) or []) if not isinstance(params[0], dict) else _reorg_options(params)
        if not isinstance(pairs, list) or len(pairs) > MAX_REORG:
            raise RpcError(INVALID_PARAMS, "replacement transactions must be a short list")
        replacements = [_pair(pair) for pair in pairs]
        with _values():
            self._ledger.reorganise(quantity(depth, limit=MAX_REORG), replacements)

    def _drop(self, params: Params) -> Json:
        waiting = self._ledger.pool.get(octets(params[0], size=32))
        if waiting is None:
            return None
        self._ledger.pool.drop(waiting)
        return params[0]


class _values:  # noqa: N801 - reads as a statement
    """ValueError from the ledger is the caller's mistake."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, ValueError):
            raise RpcError(INVALID_PARAMS, str(error)) from error


def _raise_failure(done: Executed) -> None:
    if done.success:
        return
    if done.revert is None:
        raise RpcError(SERVER_ERROR, done.error)
    raise RpcError(REVERTED, "execution reverted", as_octets(done.revert))


def _second(params: Params) -> Json:
    return params[1] if len(params) > 1 else None


def _object(value: Json) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise RpcError(INVALID_PARAMS, "expected an object")
    return value


def _listed(value: Json) -> list[Json]:
    if value is None:
        return []
    items = value if isinstance(value, list) else [value]
    if len(items) > MAX_FILTER_ITEMS:
        raise RpcError(INVALID_PARAMS, f"a filter takes at most {MAX_FILTER_ITEMS} items")
    return items


def _reorg_options(params: Params) -> tuple[Json, Json]:
    body = _object(params[0])
    return body.get("depth"), body.get("txBlockPairs") or []


def _pair(value: Json) -> tuple[bytes, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise RpcError(INVALID_PARAMS, "a replacement is [raw transaction, block offset]")
    return octets(value[0]), quantity(value[1], limit=MAX_REORG)
