"""Revert data and logs from anywhere: decoded by name, or refused, never a crash."""

from __future__ import annotations

import contextlib

import pytest
from eth_abi.abi import encode
from hypothesis import given, settings
from hypothesis import strategies as st

from gesso.chain.abi import decode_revert, events_of, function
from gesso.chain.events import _KINDS, EventDecoder
from gesso.chain.reverts import revert_name, reverted
from gesso.chain.rpc import RawLog
from gesso.chain.settings import ContractAddresses
from gesso_contracts import MARKETPLACE, NODE_REGISTRY, TASK_BOARD, Contract
from gesso_protocol.errors import ChainError, ChainReverted, GessoError, InsufficientFunds
from gesso_protocol.ids import Address

BOARD, REGISTRY, MARKET, TOKEN = (Address("0x" + f"{index:02x}" * 20) for index in (1, 2, 3, 4))
DECODER = EventDecoder(ContractAddresses(task_board=BOARD, node_registry=REGISTRY, marketplace=MARKET, token=TOKEN))
TOPICS = [topic for contract in (TASK_BOARD, NODE_REGISTRY, MARKETPLACE) for topic in events_of(contract)]


def selector(contract: object, signature: str) -> bytes:
    return bytes.fromhex(TASK_BOARD.selectors[signature].removeprefix("0x"))


def test_custom_errors_keep_name_and_values() -> None:
    data = selector(TASK_BOARD, "FeeTooLow(uint96,uint96)") + encode(["uint96", "uint96"], [1, 2])
    revert = decode_revert(data)
    assert (revert.name, revert.arguments) == ("FeeTooLow", (1, 2))


def test_values_are_worded_for_people() -> None:
    data = selector(TASK_BOARD, "UnexpectedState(bytes32,uint8)") + encode(["bytes32", "uint8"], [b"\x0a" * 32, 2])
    assert decode_revert(data).arguments == ("0x" + "0a" * 32, 2)
    data = selector(TASK_BOARD, "NotArbiter(address)") + encode(["address"], [BOARD])
    assert decode_revert(data).arguments == (BOARD,)


def test_plain_reverts_and_panics_have_names_too() -> None:
    assert decode_revert(bytes.fromhex("08c379a0") + encode(["string"], ["no"])).arguments == ("no",)
    assert decode_revert(bytes.fromhex("4e487b71") + encode(["uint256"], [0x11])).name == "Panic"
    assert decode_revert(b"").name == "Unknown"


def test_well_known_names_become_their_own_type_with_the_name_behind() -> None:
    name = "InsufficientBalance(address,uint256,uint256)"
    error = reverted(selector(TASK_BOARD, name) + encode(["address", "uint256", "uint256"], [BOARD, 1, 2]))
    assert isinstance(error, InsufficientFunds)
    assert isinstance(error.__cause__, ChainReverted)
    assert revert_name(error) == "InsufficientBalance"
    assert revert_name(ValueError()) is None


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_revert_data_becomes_a_gesso_error(data: bytes) -> None:
    assert isinstance(reverted(data), GessoError)


@settings(deadline=None)
@given(st.sampled_from(sorted(TASK_BOARD.errors)), st.binary(max_size=200))
def test_known_selectors_with_foreign_bodies_become_a_gesso_error(known: str, body: bytes) -> None:
    assert isinstance(reverted(bytes.fromhex(known.removeprefix("0x")) + body), GessoError)


@settings(deadline=None)
@given(
    st.sampled_from([BOARD, REGISTRY, MARKET, TOKEN]),
    st.lists(st.one_of(st.sampled_from(TOPICS), st.binary(min_size=32, max_size=32)), max_size=4),
    st.binary(max_size=600),
)
def test_any_log_is_decoded_ignored_or_refused(where: Address, topics: list[bytes], data: bytes) -> None:
    log = RawLog(where.lower(), tuple(topics), data, 1, "0x" + "00" * 32, 0, "0x" + "00" * 32)
    with contextlib.suppress(ChainError):
        DECODER.decode(log)


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_any_answer_to_a_call_is_decoded_or_refused(data: bytes) -> None:
    for contract, name in ((TASK_BOARD, "params"), (NODE_REGISTRY, "nodeOf"), (MARKETPLACE, "listingOf")):
        with contextlib.suppress(ChainError):
            function(contract, name).decode(data)


def test_an_empty_answer_is_explained() -> None:
    with pytest.raises(ChainError, match="answered nothing"):
        function(TASK_BOARD, "params").decode(b"")


@pytest.mark.parametrize("contract", [TASK_BOARD, NODE_REGISTRY, MARKETPLACE], ids=lambda contract: contract.name)
def test_every_event_of_the_contracts_that_is_read_has_the_fields_that_are_read(contract: Contract) -> None:
    for event in events_of(contract).values():
        if event.name in _KINDS:
            fields = {name for name, _ in (*event.indexed, *event.plain)}
            assert set(_KINDS[event.name][1]) <= fields, event.name
