"""Identities: distinct types, one text form each, nothing malformed gets in."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.ids import ZERO_ADDRESS, Address, BlobRef, Digest, ListingId, Root, TaskId

DIGESTS: list[type[Digest]] = [TaskId, Root, BlobRef]
digest_types = st.sampled_from(DIGESTS)
raw32 = st.binary(min_size=32, max_size=32)


@given(kind=digest_types, raw=raw32)
def test_text_and_json_round_trip(kind: type[Digest], raw: bytes) -> None:
    digest = kind(raw)
    assert kind.parse(str(digest)) == digest == kind.validate(str(digest)) == kind.validate(raw)
    adapter = TypeAdapter(kind)
    assert adapter.validate_json(adapter.dump_json(digest)) == digest
    assert bytes(digest) == raw
    assert digest.short in repr(digest)
    assert copy.deepcopy(digest) == digest


def test_the_same_bytes_of_two_types_are_not_equal() -> None:
    raw = bytes(32)
    assert len({TaskId(raw), Root(raw), BlobRef(raw)}) == 3
    anything: object = raw
    assert TaskId(raw) != anything


@given(kind=digest_types, text=st.text(max_size=80) | st.from_regex(r"(0x|b3:)[0-9a-fA-F]{60,66}", fullmatch=True))
def test_other_text_is_refused(kind: type[Digest], text: str) -> None:
    try:
        digest = kind.parse(text)
    except EncodingInvalid:
        return
    assert str(digest) == text


@pytest.mark.parametrize("value", [b"", bytes(31), bytes(33), bytearray(32), None, 5, ["0x"]])
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(EncodingInvalid):
        TaskId.validate(value)


def test_immutable() -> None:
    with pytest.raises(AttributeError):
        TaskId(bytes(32)).value = b""  # type: ignore[misc]


def test_blob_names_are_blake3() -> None:
    # the empty input of the BLAKE3 test vectors
    assert str(BlobRef.of(b"")) == "b3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"


EIP55 = [
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
]


@pytest.mark.parametrize("text", EIP55)
def test_addresses_are_checksummed(text: str) -> None:
    assert Address(text.lower()) == text == Address("0x" + text[2:].upper())
    assert Address.from_bytes(Address(text).raw) == text


@pytest.mark.parametrize("text", EIP55)
def test_a_mistyped_case_is_noticed(text: str) -> None:
    at = next(i for i in range(2, 42) if text[i].isalpha())
    with pytest.raises(EncodingInvalid, match="checksum"):
        Address(text[:at] + text[at].swapcase() + text[at + 1 :])


@given(text=st.text(max_size=50))
def test_other_text_is_no_address(text: str) -> None:
    with pytest.raises(EncodingInvalid):
        Address(text)


@pytest.mark.parametrize("value", [None, 0, b"0x" + b"00" * 20, "0x" + "00" * 20 + "\n"])
def test_other_values_are_no_address(value: object) -> None:
    with pytest.raises(EncodingInvalid):
        Address.validate(value)


def test_address_in_documents() -> None:
    adapter = TypeAdapter(Address)
    assert adapter.validate_json(adapter.dump_json(ZERO_ADDRESS)) == ZERO_ADDRESS
    with pytest.raises(ValidationError):
        adapter.validate_python(7)


@given(value=st.integers())
def test_listing_ids_fit_64_bits(value: int) -> None:
    if 0 <= value < 2**64:
        adapter = TypeAdapter(ListingId)
        listing = ListingId(value)
        assert adapter.dump_json(listing) == f'"{value}"'.encode()
        assert adapter.validate_json(adapter.dump_json(listing)) == listing
    else:
        with pytest.raises(EncodingInvalid):
            ListingId(value)


@pytest.mark.parametrize("value", ["01", "-1", "+1", "1 ", "", "٣", "1" * 30, True, 1.0, None])
def test_odd_numbers_are_no_listing(value: object) -> None:
    with pytest.raises(EncodingInvalid):
        ListingId.validate(value)
