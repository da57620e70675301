"""One JSON-RPC endpoint. Every failure leaves here as a gesso error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

from gesso.chain.post import Poster
from gesso.chain.reverts import reverted
from gesso_protocol.errors import ChainError, GasMissing, GessoError, Unreachable

LATEST = "latest"
MAX_SMALL = 2**53
_REVERT_CODE = 3
_FAILURES = (aiohttp.ClientError, TimeoutError, OSError, ValueError)
_READS = ("eth_get", "eth_call", "eth_estimate", "eth_block", "eth_chain", "eth_fee")


class RpcRefused(ChainError):  # noqa: N818 - named like the rest of the tree
    """The endpoint answered with an error that is not a revert."""

    code = "rpc-refused"
    default_message = "the chain refused the request"
    default_hint = "its words say why; another RPC address may allow it"

    def __init__(self, rpc_code: int, text: str) -> None:
        self.rpc_code = rpc_code
        self.text = text[:500]
        super().__init__(f"{self.default_message}: {self.text}")


@dataclass(frozen=True, slots=True)
class Header:
    """What we need of a block's header. `transactions` are hashes; None where the endpoint does not say."""

    number: int
    hash: str
    parent: str
    timestamp: int
    base_fee: int
    transactions: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """A transaction that the endpoint knows. Addresses in lower case; `most` is what it pays for a unit of gas at most,
    tip included; `block` is None while it waits."""

    sender: str
    to: str
    data: bytes
    nonce: int
    gas: int
    most: int
    block: int | None


@dataclass(frozen=True, slots=True)
class RawLog:
    address: str
    topics: tuple[bytes, ...]
    data: bytes
    block: int
    block_hash: str
    index: int
    tx_hash: str


class Rpc:
    """Typed requests to one endpoint. Use as an async context manager; it owns the HTTP session."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._url = url
        self._poster = Poster(url, timeout_s=timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        await self._poster.__aexit__(kind, error, trace)

    async def request(self, method: str, *params: Any) -> Any:
        """The `result` of one request. Raises Unreachable, RpcRefused, or what `reverted` makes of a revert."""
        attempts = 2 if method.startswith(_READS) else 1
        while True:
            attempts -= 1
            try:
                reply = await self._poster.ask(method, params)
            except _FAILURES as error:
                # A kept-alive connection may die under a request; a read is simply asked again, once.
                if attempts and isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
                    continue
                raise self._failure(method, error) from error
            return _result(method, reply)

    async def send_all(self, raws: Sequence[bytes]) -> list[GessoError | None]:
        """Hand in transactions, in their order and in one post; for each None, or what there is against it."""
        method = "eth_sendRawTransaction"
        told = list[GessoError | None]()
        for reply in await self._poster.ask_all(method, [("0x" + raw.hex(),) for raw in raws]):
            try:
                if isinstance(reply, Exception):
                    raise self._failure(method, reply) if isinstance(reply, _FAILURES) else reply
                _result(method, reply)
                told.append(None)
            except GessoError as error:
                told.append(error)
        return told

    def _failure(self, method: str, error: Exception) -> GessoError:
        if isinstance(error, ValueError):
            return ChainError(f"the chain's answer to {method} cannot be read")
        return Unreachable(
            f"the chain at {self._url} does not answer", hint="check the RPC address and that its chain is running"
        )

    async def chain_id(self) -> int:
        return number(await self.request("eth_chainId"))

    async def block_number(self) -> int:
        return number(await self.request("eth_blockNumber"))

    async def header(self, block: int | str = LATEST) -> Header | None:
        """A block's header, or None when the chain has no such block."""
        found = await self.request("eth_getBlockByNumber", tag(block), False)
        with readable("a block"):
            header = None if found is None else _header(found)
        if header is not None and isinstance(block, int) and header.number != block:
            raise ChainError(f"the chain answered block {header.number} for block {block}")
        return header

    async def latest(self) -> Header:
        found = await self.header()
        if found is None:
            raise ChainError("the chain has no blocks")
        return found

    async def call(
        self, to: str, data: bytes, *, sender: str | None = None, gas: int | None = None, block: int | str = LATEST
    ) -> bytes:
        message = {"to": to, "data": "0x" + data.hex()} | ({} if sender is None else {"from": sender})
        message |= {} if gas is None else {"gas": hex(gas)}
        return octets(await self.request("eth_call", message, tag(block)))

    async def estimate(self, message: Mapping[str, Any]) -> int:
        return number(await self.request("eth_estimateGas", dict(message), LATEST))

    async def nonce(self, address: str, *, pending: bool) -> int:
        return number(await self.request("eth_getTransactionCount", address, "pending" if pending else LATEST))

    async def balance(self, address: str) -> int:
        return number(await self.request("eth_getBalance", address, LATEST))

    async def code(self, address: str) -> bytes:
        return octets(await self.request("eth_getCode", address, LATEST))

    async def send_raw(self, raw: bytes) -> str:
        return str(await self.request("eth_sendRawTransaction", "0x" + raw.hex()))

    async def transaction(self, tx_hash: str) -> Sent | None:
        """One that is mined or waits; None when unknown."""
        found = await self.request("eth_getTransactionByHash", tx_hash)
        with readable("a transaction"):
            return None if found is None else _sent(found)

    async def receipt(self, tx_hash: str) -> Mapping[str, Any] | None:
        found: Mapping[str, Any] | None = await self.request("eth_getTransactionReceipt", tx_hash)
        return found

    async def logs(
        self, addresses: Sequence[str], *, first: int = 0, last: int = 0, block_hash: str | None = None,
        about: bytes | None = None,
    ) -> list[RawLog]:  # fmt: skip
        """Logs of these contracts in a range of blocks, or in exactly one block; with `about` only those whose first
        indexed value it is."""
        where: dict[str, Any] = {"address": list(addresses)}
        where |= {} if about is None else {"topics": [None, f"0x{about.hex()}"]}
        where |= {"blockHash": block_hash} if block_hash else {"fromBlock": tag(first), "toBlock": tag(last)}
        found = await self.request("eth_getLogs", where)
        if not isinstance(found, list):
            raise ChainError("the chain answered logs that cannot be read")
        with readable("logs"):
            read = [raw_log(entry) for entry in found if not entry.get("removed")]
        wrong = (log.block_hash != block_hash if block_hash else not first <= log.block <= last for log in read)
        if any(wrong) or len({(log.block_hash, log.index) for log in read}) != len(read):
            raise ChainError("the chain answered logs of other blocks than it was asked for, or one twice")
        return read


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Whatever an answer of another shape breaks inside the block becomes a ChainError."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ChainError(f"the chain answered {what} that cannot be read") from error


def number(value: Any) -> int:
    """A JSON-RPC quantity."""
    if isinstance(value, str) and value[:2] == "0x" and len(value) <= 66:
        try:
            return int(value, 16)
        except ValueError:
            pass
    raise ChainError("the chain answered something that is not a number")


def octets(value: Any) -> bytes:
    """JSON-RPC bytes."""
    if isinstance(value, str) and value[:2] == "0x":
        try:
            return bytes.fromhex(value[2:])
        except ValueError:
            pass
    raise ChainError("the chain answered something that is not bytes")


def tag(block: int | str) -> str:
    return block if isinstance(block, str) else hex(block)


def small(value: Any) -> int:
    """A count of blocks, seconds or logs: a quantity that every store has room for."""
    found = number(value)
    if found > MAX_SMALL:
        raise ChainError("the chain answered a number that no block, time or log has")
    return found


def name_of(value: Any) -> str:
    """A block's or transaction's hash, in lower case."""
    if len(octets(value)) != 32:
        raise ChainError("the chain answered a hash that is none")
    return str(value).lower()


def raw_log(entry: Mapping[str, Any]) -> RawLog:
    return RawLog(
        address=str(entry["address"]).lower(),
        topics=tuple(octets(topic) for topic in entry["topics"]),
        data=octets(entry["data"]),
        block=small(entry["blockNumber"]),
        block_hash=name_of(entry["blockHash"]),
        index=small(entry["logIndex"]),
        tx_hash=name_of(entry["transactionHash"]),
    )


def _header(found: Mapping[str, Any]) -> Header:
    return Header(
        number=small(found["number"]),
        hash=name_of(found["hash"]),
        parent=name_of(found["parentHash"]),
        timestamp=small(found["timestamp"]),
        base_fee=number(found.get("baseFeePerGas") or "0x0"),
        transactions=_hashes(found.get("transactions")),
    )


def _hashes(found: Any) -> tuple[str, ...] | None:
    if isinstance(found, list) and all(isinstance(entry, str) for entry in found):
        return tuple(entry.lower() for entry in found)
    return None


def _sent(found: Mapping[str, Any]) -> Sent:
    return Sent(
        sender=str(found["from"]).lower(),
        to=str(found["to"]).lower(),
        data=octets(found["input"]),
        nonce=number(found["nonce"]),
        gas=number(found["gas"]),
        most=number(found.get("maxFeePerGas") or found["gasPrice"]),
        block=None if found["blockNumber"] is None else small(found["blockNumber"]),
    )


def _result(method: str, reply: Any) -> Any:
    if not isinstance(reply, Mapping):
        raise ChainError(f"the chain's answer to {method} cannot be read")
    problem: Any = reply.get("error")
    if problem:
        raise _refusal(problem)
    return reply.get("result")


def _refusal(problem: Any) -> GessoError:
    if not isinstance(problem, Mapping):
        return RpcRefused(0, str(problem))
    text, data = str(problem.get("message", "")), problem.get("data")
    if isinstance(data, Mapping):  # some endpoints wrap the revert data once more
        data = data.get("data")
    if isinstance(data, str) and data.startswith("0x") and (len(data) >= 10 or problem.get("code") == _REVERT_CODE):
        return reverted(octets(data))
    if problem.get("code") == _REVERT_CODE or "execution reverted" in text.lower():
        return reverted(b"")
    if "insufficient funds" in text.lower():
        return GasMissing()
    code = problem.get("code")
    return RpcRefused(code if isinstance(code, int) else 0, text)
