"""ABI encoding: one codec a function, one table of events, one of errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from eth_abi.exceptions import DecodingError

from gesso.chain.words import Values, decode, encode, reader
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
from gesso_protocol.errors import ChainError
from gesso_protocol.ids import Address

Read = Callable[[bytes], Values]
_ERROR_STRING = bytes.fromhex("08c379a0")
_PANIC = bytes.fromhex("4e487b71")
MAX_REVERT_BYTES = 4096


@dataclass(frozen=True)
class Function:
    """One function of one contract: its selector and the types on both sides."""

    name: str
    selector: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def encode(self, *arguments: object) -> bytes:
        """Call data for these arguments."""
        return self.selector + encode(self.inputs, arguments)

    def decode(self, data: bytes) -> Values:
        """What the call returned. Raises ChainError when nothing of the kind is there (no contract, usually)."""
        try:
            return decode(self.outputs, data)
        except (DecodingError, ValueError, OverflowError) as error:
            raise ChainError(
                f"{self.name} answered nothing that can be read",
                hint="is the contract address right, and is this the right chain?",
            ) from error


@dataclass(frozen=True)
class Event:
    """One event: which of its fields are topics and which are data."""

    name: str
    indexed: tuple[tuple[str, str], ...]
    plain: tuple[tuple[str, str], ...]

    def decode(self, topics: Sequence[bytes], data: bytes) -> dict[str, Any]:
        """Field name to value. Raises ChainError for a log that does not fit."""
        if len(topics) != len(self.indexed):
            raise ChainError(f"a {self.name} log has {len(topics)} indexed fields")
        names, of_topics, of_data = self._readers
        try:
            values = [read(topic)[0] for read, topic in zip(of_topics, topics, strict=True)]
            values += of_data(data)
        except (DecodingError, ValueError, OverflowError) as error:
            raise ChainError(f"a {self.name} log cannot be read") from error
        return dict(zip(names, values, strict=True))

    @cached_property
    def _readers(self) -> tuple[tuple[str, ...], tuple[Read, ...], Read]:
        names = tuple(name for name, _ in (*self.indexed, *self.plain))
        return names, tuple(reader((kind,)) for _, kind in self.indexed), reader(tuple(kind for _, kind in self.plain))


@dataclass(frozen=True)
class Revert:
    """Decoded revert data: the Solidity error's name and values."""

    name: str
    arguments: Values


@lru_cache(maxsize=256)
def function(contract: Contract, name: str) -> Function:
    """The function of that name; overloaded names do not occur in our contracts."""
    entry = next(item for item in contract.abi if item["type"] == "function" and item["name"] == name)
    inputs, outputs = _types(entry["inputs"]), _types(entry["outputs"])
    selector = contract.selectors[f"{name}({','.join(inputs)})"]
    return Function(name, bytes.fromhex(selector.removeprefix("0x")), inputs, outputs)


def constructor_data(contract: Contract, *arguments: object) -> bytes:
    """Creation code followed by the encoded constructor arguments."""
    entry = next((item for item in contract.abi if item["type"] == "constructor"), None)
    types = _types(entry["inputs"]) if entry else ()
    return bytes.fromhex(contract.bytecode.removeprefix("0x")) + encode(types, arguments)


@lru_cache(maxsize=8)
def events_of(contract: Contract) -> dict[bytes, Event]:
    """Topic 0 to event."""
    return {bytes.fromhex(topic.removeprefix("0x")): _event(entry) for topic, entry in contract.events.items()}


def decode_revert(data: bytes) -> Revert:
    """Name what a contract threw. Data that no contract of ours throws becomes `Unknown` with its first bytes."""
    data = data[:MAX_REVERT_BYTES]
    selector, body = data[:4], data[4:]
    kind = _errors().get(selector)
    try:
        if kind is not None:
            return Revert(kind[0], _readable(kind[1], decode(kind[1], body)))
        if selector == _ERROR_STRING:
            return Revert("Error", decode(("string",), body))
        if selector == _PANIC:
            return Revert("Panic", decode(("uint256",), body))
    except (DecodingError, ValueError, OverflowError):
        pass
    return Revert("Unknown", ("0x" + data[:68].hex(),))


def _readable(types: Sequence[str], values: Sequence[Any]) -> Values:
    """Words for people and logs: addresses in checksum form, raw bytes as hex."""
    return tuple(
        Address(value) if kind == "address" else "0x" + value.hex() if isinstance(value, bytes) else value
        for kind, value in zip(types, values, strict=True)
    )


@lru_cache(maxsize=1)
def _errors() -> dict[bytes, tuple[str, tuple[str, ...]]]:
    contracts = (TASK_BOARD, NODE_REGISTRY, MARKETPLACE, DEV_TOKEN, ARBITER, BLOCK_BEACON, DRAND_BEACON)
    return {
        bytes.fromhex(selector.removeprefix("0x")): (entry["name"], _types(entry["inputs"]))
        for contract in contracts
        for selector, entry in contract.errors.items()
    }


def _event(entry: dict[str, Any]) -> Event:
    fields = [(part["name"], _type(part), part["indexed"]) for part in entry["inputs"]]
    return Event(
        name=entry["name"],
        indexed=tuple((name, kind) for name, kind, indexed in fields if indexed),
        plain=tuple((name, kind) for name, kind, indexed in fields if not indexed),
    )


def _types(parts: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(_type(part) for part in parts)


def _type(part: dict[str, Any]) -> str:
    kind: str = part["type"]
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(_types(part['components']))}){kind.removeprefix('tuple')}"
