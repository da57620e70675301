"""What Python needs to know of one contract: its ABI and its creation bytecode. No web3 in here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Any, TypedDict


class _Artifact(TypedDict):
    abi: list[dict[str, Any]]
    bytecode: str
    selectors: dict[str, str]


@dataclass(frozen=True)
class Contract:
    """One contract of the committed build; its file is read at first use, so that importing costs nothing."""

    name: str

    @cached_property
    def _artifact(self) -> _Artifact:
        text = resources.files(__package__).joinpath("artifacts", f"{self.name}.json").read_text("utf-8")
        artifact: _Artifact = json.loads(text)
        return artifact

    @property
    def abi(self) -> list[dict[str, Any]]:
        """The contract's JSON ABI."""
        return self._artifact["abi"]

    @property
    def bytecode(self) -> str:
        """Creation bytecode, 0x-prefixed hex; constructor arguments are appended to it."""
        return self._artifact["bytecode"]

    @property
    def selectors(self) -> dict[str, str]:
        """Signature of a function, error or event to its selector: 4 bytes, for events the 32 bytes of topic 0."""
        return self._artifact["selectors"]

    def _entries(self, kind: str) -> Iterator[dict[str, Any]]:
        return (entry for entry in self.abi if entry["type"] == kind)

    @cached_property
    def errors(self) -> dict[str, dict[str, Any]]:
        """Error selector (0x and 8 hex digits) to its ABI entry, to name a revert by its data."""
        return {self.selectors[signature(entry)]: entry for entry in self._entries("error")}

    @cached_property
    def events(self) -> dict[str, dict[str, Any]]:
        """Topic 0 of an event (0x and 64 hex digits) to its ABI entry."""
        return {self.selectors[signature(entry)]: entry for entry in self._entries("event")}


def signature(entry: dict[str, Any]) -> str:
    """Canonical signature of an ABI entry, as `settle((address,uint96)[])`."""
    return f"{entry['name']}({','.join(_type_of(part) for part in entry['inputs'])})"


def _type_of(part: dict[str, Any]) -> str:
    kind: str = part["type"]
    if not kind.startswith("tuple"):
        return kind
    inner = ",".join(_type_of(component) for component in part["components"])
    return f"({inner}){kind.removeprefix('tuple')}"
