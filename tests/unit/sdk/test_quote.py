"""Quotes: what is left after royalty and protocol fee covers the node's price, and too little is said at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso.quote import FALLBACK_FEE, AuditChoice, Quote, audit_mode, check_ceiling, gross, make_quote
from gesso_protocol.errors import FeeTooLow, NoEligibleNode, UsageError
from gesso_protocol.ids import Address, BlobRef
from gesso_protocol.money import Wei, parse_amount, split_fee
from gesso_protocol.policy import Offer, Price
from gesso_protocol.spec import TextToImage
from gesso_protocol.terms import AuditMode
from gesso_protocol.training.presets import make_training

ONE, TWO = Address("0x" + "11" * 20), Address("0x" + "22" * 20)
SPEC = TextToImage(prompt="a red circle", model="gesso-tiny@1", width=64, height=64)


def offer(base: int, **limits: int) -> Offer:
    return Offer(price=Price(base=Wei(base)), **limits)  # type: ignore[arg-type]


@given(st.integers(0, 10**24), st.integers(0, 1000), st.integers(0, 2000))
def test_gross_is_the_least_fee_that_leaves_the_price(price: int, royalty: int, protocol: int) -> None:
    fee = gross(Wei(price), royalty + protocol)
    kept = int(fee) - -(-int(fee) * (royalty + protocol) // 10_000)
    assert kept >= price
    assert split_fee(fee, royalty, protocol).node >= price
    if fee > 0:
        less = int(fee) - 1
        assert less - -(-less * (royalty + protocol) // 10_000) < price


def quoted(offers: dict[Address, Offer] | None, fee: int | None = None, min_fee: int = 0) -> Quote:
    wanted = None if fee is None else Wei(fee)
    return make_quote(SPEC, offers, fee=wanted, min_fee=Wei(min_fee), royalties_bps=(300,), protocol_bps=100)


def test_the_cheapest_node_sets_the_price() -> None:
    quote = make_quote(
        SPEC, {ONE: offer(9600), TWO: offer(96_000)}, fee=None, min_fee=Wei(0), royalties_bps=(300,), protocol_bps=100
    )
    assert quote.fee == 10_000
    assert quote.eligible == (ONE,)
    assert quote.split.node + quote.split.royalty + quote.split.protocol == quote.fee


def test_nobody_known_means_a_usual_price() -> None:
    for offers in (None, {}):
        quote = make_quote(SPEC, offers, fee=None, min_fee=Wei(0), royalties_bps=(), protocol_bps=0)
        assert quote.fee == FALLBACK_FEE


def test_an_offer_below_every_price_says_what_would_do() -> None:
    with pytest.raises(FeeTooLow) as caught:
        quoted({ONE: offer(9600)}, fee=9_999)
    assert "--fee 0.00000000000001" in caught.value.hint


def test_what_would_do_is_a_number_that_people_can_read_and_it_does() -> None:
    with pytest.raises(FeeTooLow) as caught:
        quoted({ONE: offer(12_345_678_901_234_567)}, fee=1)
    enough = caught.value.hint.rsplit(" ", 1)[1]
    assert len(enough.rstrip("0")) <= len("0.01235")
    assert quoted({ONE: offer(12_345_678_901_234_567)}, fee=parse_amount(enough)).eligible


def test_an_offer_below_the_boards_minimum_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(FeeTooLow):
        quoted(None, fee=1, min_fee=2)


def test_a_spec_that_nobody_takes() -> None:
    with pytest.raises(NoEligibleNode):
        quoted({ONE: offer(1, max_steps=3), TWO: offer(1, max_pixels=64)})


def test_a_training_for_which_nobody_has_disk_is_told_so_before_it_is_paid() -> None:
    spec = make_training("sdxl@1", dataset=BlobRef.of(b"data"), steps=1000, checkpoint_every=20, rank=16)
    base = 6_900_000_000
    takes = {"kinds": ("train_lora",), "max_training_steps": 1000, "max_pixels": 1024 * 1024}
    small, large = (
        Offer(**takes, max_training_disk_bytes=room, price=Price(base=Wei(price)))  # type: ignore[arg-type]
        for room, price in ((4 * 10**9, 1), (64 * 10**9, 500))
    )
    rules = {"fee": None, "min_fee": Wei(0), "royalties_bps": (), "protocol_bps": 0, "base_bytes": base}
    with pytest.raises(NoEligibleNode, match=r"17\.9 GB of disk for its 50 checkpoints; .* gives is 4\.0 GB") as caught:
        make_quote(spec, {ONE: small, TWO: offer(1)}, **rules)  # type: ignore[arg-type]
    assert "--checkpoint-every" in caught.value.hint
    quote = make_quote(spec, {ONE: small, TWO: large}, **rules)  # type: ignore[arg-type]
    assert (quote.eligible, quote.fee) == ((TWO,), 500)
    assert quote.document()["disk_at_node"] == "17.9 GB"
    sparse = spec.changed(checkpoint_every=100, rank=8)
    assert make_quote(sparse, {ONE: small, TWO: large}, **rules).eligible == (ONE,)  # type: ignore[arg-type]


def test_the_ceiling_holds() -> None:
    quote = make_quote(SPEC, {ONE: offer(9600)}, fee=None, min_fee=Wei(0), royalties_bps=(), protocol_bps=0)
    check_ceiling(quote, Wei(9600))
    check_ceiling(quote, None)
    with pytest.raises(FeeTooLow):
        check_ceiling(quote, Wei(9599))


def test_an_audit_that_is_asked_for_is_priced_and_counts_against_the_ceiling() -> None:
    def priced(audit: AuditChoice) -> Quote:
        rules = {"fee": None, "min_fee": Wei(0), "royalties_bps": (), "protocol_bps": 0}
        return make_quote(SPEC, None, **rules, audit=audit, audit_fee=Wei(7))  # type: ignore[arg-type]

    assert (priced("always").audit_fee, priced("always").total) == (7, FALLBACK_FEE + 7)
    assert priced("sampled").total == priced("none").total == FALLBACK_FEE
    assert priced("always").document()["audit"] == "always"
    check_ceiling(priced("sampled"), FALLBACK_FEE)
    with pytest.raises(FeeTooLow, match="with its audit"):
        check_ceiling(priced("always"), FALLBACK_FEE)


def test_the_kind_of_audit_is_one_of_three_words() -> None:
    assert [audit_mode(word) for word in ("sampled", "always", "none")] == list(AuditMode)
    with pytest.raises(UsageError, match="sometimes"):
        audit_mode("sometimes")
