"""The committed bindings: complete, consistent, and free of anything heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gesso_contracts import DEV_TOKEN, MARKETPLACE, NODE_REGISTRY, TASK_BOARD, Contract
from gesso_contracts.binding import signature
from gesso_protocol.hashing import keccak256

CONTRACTS = [TASK_BOARD, NODE_REGISTRY, MARKETPLACE, DEV_TOKEN]
TERMS = "(address,uint96,bytes32,uint64,uint8,uint32,uint32,uint64,uint8)"
named = pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)


@named
def test_bytecode_is_whole(contract: Contract) -> None:
    code = bytes.fromhex(contract.bytecode.removeprefix("0x"))  # an unlinked library would not be hex
    assert 4_000 < len(code) < 49_152


@named
def test_every_selector_is_the_hash_of_its_signature(contract: Contract) -> None:
    entries = [entry for entry in contract.abi if entry["type"] in ("function", "error", "event")]
    assert {signature(entry) for entry in entries} == set(contract.selectors)
    for entry in entries:
        digest = keccak256(signature(entry).encode())
        size = 32 if entry["type"] == "event" else 4
        assert contract.selectors[signature(entry)] == "0x" + digest[:size].hex()


def test_known_selectors() -> None:
    assert DEV_TOKEN.selectors["transfer(address,uint256)"] == "0xa9059cbb"
    assert f"settle({TERMS}[])" in TASK_BOARD.selectors


def test_reverts_and_logs_are_found_by_their_first_bytes() -> None:
    refused = TASK_BOARD.errors[TASK_BOARD.selectors["SortitionNotReached(uint256,uint256)"]]
    assert [part["name"] for part in refused["inputs"]] == ["score", "threshold"]
    topic = TASK_BOARD.selectors["Settled(bytes32,address,uint96,uint96,address,uint96)"]
    assert TASK_BOARD.events[topic]["name"] == "Settled"


def test_what_everybody_calls_is_there() -> None:
    board = {entry["name"] for entry in TASK_BOARD.abi if entry["type"] == "function"}
    assert board >= {
        "deposit",
        "depositWithPermit",
        "withdraw",
        "submit",
        "claim",
        "commit",
        "settle",
        "cancel",
        "expire",
    }
    registry = {entry["name"] for entry in NODE_REGISTRY.abi if entry["type"] == "function"}
    assert registry >= {"register", "update", "pause", "resume", "beginUnbond", "withdrawStake", "nodeOf", "walletOf"}


def test_import_is_light() -> None:
    probe = "import sys, gesso_contracts; sys.exit(bool({'web3', 'eth_abi', 'eth_utils'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0
