"""Our own bytes of a transaction are eth-account's, for every value of every field."""

from __future__ import annotations

from typing import Any

import pytest
from coincurve import PrivateKey
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from gesso.chain.transaction import is_plain, sign
from gesso.chain.wallet import Wallet
from gesso_protocol.ids import Address

KEY = b"\x42" * 32
ANY = st.one_of(st.integers(0, 300), st.integers(0, 2**64 - 1))
PLAIN: dict[str, Any] = {
    "type": 2,
    "chainId": 1,
    "nonce": 0,
    "maxFeePerGas": 2,
    "maxPriorityFeePerGas": 1,
    "gas": 21_000,
    "to": "0x" + "ab" * 20,
    "value": 0,
    "data": b"",
}


@given(
    chain=st.integers(1, 2**40), nonce=ANY, most=ANY, tip=ANY, gas=ANY, value=st.integers(0, 2**200),
    to=st.one_of(st.just(""), st.binary(min_size=20, max_size=20).map(lambda raw: str(Address("0x" + raw.hex())))),
    data=st.one_of(st.binary(max_size=3), st.binary(min_size=50, max_size=60), st.binary(min_size=250, max_size=700)),
)  # fmt: skip
def test_the_same_bytes_as_eth_account(
    chain: int, nonce: int, most: int, tip: int, gas: int, value: int, to: str, data: bytes
) -> None:
    fields = {**PLAIN, "chainId": chain, "nonce": nonce, "maxFeePerGas": most, "maxPriorityFeePerGas": tip, "gas": gas,
              "value": value, "to": to, "data": data}  # fmt: skip
    theirs = Account.from_key(KEY).sign_transaction(fields)
    assert is_plain(fields)
    assert sign(fields, PrivateKey(KEY)) == (bytes(theirs.raw_transaction), bytes(theirs.hash))
    signed = Wallet.from_key(KEY).sign_transaction(fields)
    assert (signed.raw, signed.hash) == (bytes(theirs.raw_transaction), "0x" + bytes(theirs.hash).hex())


@pytest.mark.parametrize(
    "change",
    [{"type": 1}, {"to": "ab"}, {"to": None}, {"data": "0x"}, {"gas": -1}, {"gas": 2**256}, {"value": "0x0"},
     {"accessList": []}, {"nonce": 1.0}],
    ids=repr,
)  # fmt: skip
def test_anything_else_is_left_to_eth_account(change: dict[str, Any]) -> None:
    assert not is_plain({**PLAIN, **change})
