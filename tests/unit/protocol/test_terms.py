"""Terms and task ids: what we hash by hand is what the contract hashes."""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import Address, BlobRef, ListingId
from gesso_protocol.money import MAX_FEE, Wei
from gesso_protocol.terms import AuditMode, BoardParams, Terms, abi_terms, task_id

addresses = st.binary(min_size=20, max_size=20).map(Address.from_bytes)
u32 = st.integers(0, 2**32 - 1)
STRUCT = "(address,uint96,bytes32,uint64,uint8,uint32,uint32,uint64,uint8)"


@st.composite
def all_terms(draw: st.DrawFn) -> Terms:
    return Terms(
        requester=draw(addresses),
        fee=Wei(draw(st.integers(0, MAX_FEE))),
        spec=BlobRef(draw(st.binary(min_size=32, max_size=32))),
        model=ListingId(draw(st.integers(0, 2**64 - 1))),
        kind=draw(st.integers(0, 255)),
        claim_window_s=draw(u32),
        commit_window_s=draw(u32),
        nonce=draw(st.integers(0, 2**64 - 1)),
        audit=draw(st.sampled_from(AuditMode)),
    )


@given(terms=all_terms(), board=addresses, chain_id=st.integers(1, 2**53 - 1))
def test_the_id_is_the_hash_of_the_abi_encoding(terms: Terms, board: Address, chain_id: int) -> None:
    assert abi_terms(terms) == encode([STRUCT], [terms.as_tuple()])
    expected = keccak256(encode(["uint256", "address", STRUCT], [chain_id, str(board), terms.as_tuple()]))
    assert task_id(chain_id, board, terms).value == expected


@given(terms=all_terms())
def test_round_trips(terms: Terms) -> None:
    assert Terms.from_tuple(terms.as_tuple()) == terms
    assert Terms.decode(terms.encode()) == terms


@given(terms=all_terms(), board=addresses, other=addresses)
def test_another_board_or_chain_is_another_task(terms: Terms, board: Address, other: Address) -> None:
    ids = {task_id(chain, place, terms) for chain in (1, 2) for place in (board, other)}
    assert len(ids) == (4 if board != other else 2)


GOOD: dict[str, Any] = {
    "requester": Address("0x" + "11" * 20), "fee": Wei(1), "spec": BlobRef(bytes(32)), "claim_window_s": 1,
    "commit_window_s": 1, "nonce": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("fee", MAX_FEE + 1),
        ("fee", -1),
        ("fee", 1.5),
        ("model", 2**64),
        ("kind", 256),
        ("kind", -1),
        ("claim_window_s", 2**32),
        ("commit_window_s", -1),
        ("nonce", 2**64),
        ("nonce", -1),
        ("nonce", True),
        ("nonce", "٣"),
        ("nonce", "1" * 21),
        ("requester", "0x00"),
        ("spec", "b3:"),
    ],
)
def test_what_does_not_fit_the_struct(field: str, value: object) -> None:
    with pytest.raises(ValidationError):
        Terms(**{**GOOD, field: value})


def test_a_nonce_has_one_text_form() -> None:
    data = Terms(**GOOD).encode()
    assert b'"nonce":"1"' in data
    for other in (b'"nonce":"01"', b'"nonce":1'):
        with pytest.raises(EncodingInvalid):
            Terms.decode(data.replace(b'"nonce":"1"', other))


def test_a_tuple_of_another_length() -> None:
    with pytest.raises(EncodingInvalid):
        Terms.from_tuple(Terms(**GOOD).as_tuple()[:-1])


@pytest.mark.parametrize("mode", [3, 255, -1])
def test_an_unknown_audit_mode(mode: int) -> None:
    with pytest.raises(EncodingInvalid):
        Terms.from_tuple((*Terms(**GOOD).as_tuple()[:-1], mode))
    with pytest.raises(EncodingInvalid):
        Terms.decode(Terms(**GOOD).encode().replace(b'"audit":0', b'"audit":%d' % mode))


def test_board_params_need_a_step() -> None:
    BoardParams(challenge_window_s=0, sortition_step_s=1)
    with pytest.raises(ValidationError):
        BoardParams(challenge_window_s=0, sortition_step_s=0)
