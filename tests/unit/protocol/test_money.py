"""Money: exact, never negative, nothing lost when it is divided."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from gesso_protocol.errors import EncodingInvalid, UsageError
from gesso_protocol.money import (
    BPS,
    MAX_FEE,
    Wei,
    done_bps,
    format_amount,
    parse_amount,
    part_of,
    split_along,
    split_fee,
)

amounts = st.integers(min_value=0, max_value=2**256 - 1)
fees = st.integers(min_value=0, max_value=MAX_FEE)


@given(fee=fees, royalty=st.integers(0, BPS), protocol=st.integers(0, BPS))
def test_a_split_loses_nothing(fee: int, royalty: int, protocol: int) -> None:
    if royalty + protocol > BPS:
        with pytest.raises(UsageError):
            split_fee(fee, royalty, protocol)
        return
    split = split_fee(fee, royalty, protocol)
    assert split.node + split.royalty + split.protocol == fee
    assert 0 <= fee * royalty - split.royalty * BPS < BPS
    assert 0 <= fee * protocol - split.protocol * BPS < BPS


@given(fee=fees, lineage=st.lists(st.integers(0, 1250), max_size=4), protocol=st.integers(0, 5000))
def test_a_split_along_parents_loses_nothing(fee: int, lineage: list[int], protocol: int) -> None:
    shares = split_along(fee, lineage, protocol)
    assert shares.node + sum(shares.royalties) + shares.protocol == fee
    assert shares.royalty == sum(shares.royalties)
    for part, bps in zip(shares.royalties, lineage, strict=True):
        assert 0 <= fee * bps - part * BPS < BPS
    together = split_fee(fee, sum(lineage), protocol)
    assert 0 <= shares.node - together.node <= len(lineage)


@given(fee=fees, share=st.integers(0, BPS))
def test_a_part_and_its_rest_are_the_fee(fee: int, share: int) -> None:
    part = part_of(fee, share)
    assert part.due + part.rest == fee
    assert 0 <= fee * share - part.due * BPS < BPS
    assert (part_of(fee, 0).due, part_of(fee, BPS).rest) == (0, 0)


@pytest.mark.parametrize("share", [-1, BPS + 1])
def test_what_is_no_share(share: int) -> None:
    with pytest.raises(UsageError):
        part_of(10, share)


@given(ordered=st.integers(1, 10**6), done=st.integers(0, 10**6))
def test_a_share_never_claims_more_than_was_done(ordered: int, done: int) -> None:
    if done > ordered:
        with pytest.raises(UsageError):
            done_bps(done, ordered)
        return
    assert done * BPS - ordered < done_bps(done, ordered) * ordered <= done * BPS
    assert (done_bps(done, ordered) == BPS) == (done == ordered)


def test_a_lineage_of_one_is_a_plain_split() -> None:
    one, plain = split_along(12_345_678, [333], 100), split_fee(12_345_678, 333, 100)
    assert (one.node, one.royalties, one.protocol) == (plain.node, (plain.royalty,), plain.protocol)


@pytest.mark.parametrize(
    ("lineage", "protocol"), [([-1], 0), ([], -1), ([5000, 5001], 0), ([1] * 13, 0), ([5000, 4000], 1001)]
)
def test_impossible_lineages(lineage: list[int], protocol: int) -> None:
    with pytest.raises(UsageError):
        split_along(1, lineage, protocol)


@pytest.mark.parametrize(("royalty", "protocol"), [(-1, 0), (0, -1), (10_001, 0)])
def test_impossible_shares(royalty: int, protocol: int) -> None:
    with pytest.raises(UsageError):
        split_fee(1, royalty, protocol)


def test_rounding_favours_the_node() -> None:
    split = split_fee(9_999, 1, 1)
    assert (split.node, split.royalty, split.protocol) == (9_999, 0, 0)


@given(amount=amounts)
def test_amounts_are_written_and_read_exactly(amount: int) -> None:
    assert parse_amount(format_amount(amount)) == amount


@pytest.mark.parametrize(
    ("text", "value"), [("0.02", 2 * 10**16), ("3", 3 * 10**18), (" 1.5 ", 15 * 10**17), ("0." + "0" * 17 + "1", 1)]
)
def test_what_people_type(text: str, value: int) -> None:
    assert parse_amount(text) == value


@pytest.mark.parametrize(
    "text", ["", ".5", "1.", "-1", "+1", "1e3", "1,5", "0x1", "1.0000000000000000001", "1" * 61, "9" * 60, "٣", "nan"]
)
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(UsageError):
        parse_amount(text)


@given(text=st.text(max_size=80))
def test_hostile_amounts_give_a_typed_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert parse_amount(text) >= 0


@given(left=amounts, right=amounts)
def test_arithmetic_stays_money(left: int, right: int) -> None:
    if left >= right:
        assert type(Wei(left) - Wei(right)) is Wei
    else:
        with pytest.raises(EncodingInvalid):
            Wei(left) - Wei(right)
    if left + right < 2**256:
        assert type(Wei(left) + right) is Wei
    else:
        with pytest.raises(EncodingInvalid):
            Wei(left) + Wei(right)


def test_sums_are_money() -> None:
    assert type(sum([Wei(1), Wei(2)])) is Wei


@given(amount=amounts)
def test_documents_hold_decimal_text(amount: int) -> None:
    adapter = TypeAdapter(Wei)
    assert adapter.dump_json(Wei(amount)) == f'"{amount}"'.encode()
    assert adapter.validate_json(adapter.dump_json(Wei(amount))) == amount


@pytest.mark.parametrize("value", [True, 1.0, "1.0", "01", "-1", "", "1" * 79, None, 2**256, -1])
def test_what_is_no_wei(value: object) -> None:
    with pytest.raises(EncodingInvalid):
        Wei.validate(value)
