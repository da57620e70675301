"""Whole words are read and written as eth-abi does, and whatever is not well formed is eth-abi's to refuse."""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import decode as their_decode
from eth_abi.abi import encode as their_encode
from eth_abi.exceptions import DecodingError, EncodingError
from hypothesis import given
from hypothesis import strategies as st

from gesso.chain.words import decode, encode
from gesso_protocol.ids import Address

ADDRESS = st.binary(min_size=20, max_size=20).map(lambda raw: str(Address("0x" + raw.hex())))
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "address": ADDRESS,
    "bool": st.booleans(),
    "uint8": st.integers(0, 2**8 - 1),
    "uint96": st.integers(0, 2**96 - 1),
    "uint256": st.integers(0, 2**256 - 1),
    "bytes4": st.binary(min_size=4, max_size=4),
    "bytes32": st.binary(min_size=32, max_size=32),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "string": st.text(max_size=40),
    "bytes": st.binary(max_size=70),
}
FLAT = list(KINDS)
TERMS = "(address,uint96,bytes32,(bool,uint8),uint64)"
A_TERMS = st.tuples(
    ADDRESS, KINDS["uint96"], KINDS["bytes32"], st.tuples(KINDS["bool"], KINDS["uint8"]), st.integers(0, 2**64 - 1)
)


def values_of(kinds: list[str]) -> st.SearchStrategy[tuple[list[str], tuple[Any, ...]]]:
    return st.tuples(st.just(kinds), st.tuples(*(KINDS[kind] for kind in kinds)))


@given(st.lists(st.sampled_from(FLAT), max_size=6).flatmap(values_of))
def test_plain_values_have_the_same_bytes_and_come_back(case: tuple[list[str], tuple[Any, ...]]) -> None:
    kinds, values = case
    data = their_encode(kinds, values)
    assert encode(kinds, values) == data
    assert decode(kinds, data) == tuple(their_decode(kinds, data))


@given(A_TERMS, st.lists(A_TERMS, max_size=4))
def test_structs_and_lists_of_them_too(one: Any, many: list[Any]) -> None:
    assert encode([TERMS], [one]) == their_encode([TERMS], [one])
    assert encode([f"{TERMS}[]"], [many]) == their_encode([f"{TERMS}[]"], [many])
    assert decode([TERMS, "uint8"], their_encode([TERMS, "uint8"], [one, 7])) == tuple(
        their_decode([TERMS, "uint8"], their_encode([TERMS, "uint8"], [one, 7]))
    )


@given(st.lists(st.sampled_from(FLAT), min_size=1, max_size=3), st.binary(max_size=130))
def test_any_bytes_are_read_or_refused_alike(kinds: list[str], data: bytes) -> None:
    assert outcome(decode, kinds, data) == outcome(their_decode, kinds, data)


@given(
    st.sampled_from(["address", "bool", "uint8", "bytes4", "bytes32", "(bool,uint8)", "uint8[]"]),
    st.one_of(
        st.booleans(), st.integers(-1, 300), st.binary(max_size=33), st.none(), st.floats(), st.text(max_size=3),
        st.lists(st.integers(0, 2), max_size=3), ADDRESS.map(str.lower), ADDRESS.map(lambda a: a + "\n"),
        ADDRESS.map(str.swapcase), ADDRESS.map(lambda a: bytes.fromhex(a[2:])),
    ),
)  # fmt: skip
def test_any_value_is_written_or_refused_alike(kind: str, value: Any) -> None:
    assert outcome(encode, [kind], [value]) == outcome(their_encode, [kind], [value])


@pytest.mark.parametrize("arguments", [[], [1, 2]])
def test_a_wrong_number_of_arguments_is_refused(arguments: list[int]) -> None:
    with pytest.raises(EncodingError):
        encode(["uint8"], arguments)


def outcome(act: Any, kinds: list[str], given_: Any) -> Any:
    try:
        found = act(kinds, given_)
        return tuple(found) if isinstance(found, list | tuple) else found
    except (DecodingError, EncodingError, ValueError, TypeError, OverflowError) as error:
        return type(error)
