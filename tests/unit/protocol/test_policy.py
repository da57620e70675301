"""Refusals: each has its reason, lasting reasons come first, and a good task is taken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso_protocol.encoding import canonical, parse
from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.ids import Address, BlobRef
from gesso_protocol.money import Wei
from gesso_protocol.policy import Capabilities, Offer, Price, Refusal, judge, resolve_model
from gesso_protocol.spec import TextToImage
from gesso_protocol.terms import Terms

TINY = BlobRef(b"\x01" * 32)
STRANGE = BlobRef(b"\x02" * 32)
REQUESTER = Address("0x" + "11" * 20)
PRICE = Price(base=Wei(100), per_megapixel_step=Wei(1000))


def spec(**changes: Any) -> TextToImage:
    fields: dict[str, Any] = {"prompt": "a", "model": "tiny@1", "width": 64, "height": 64, "steps": 10}
    return TextToImage(**{**fields, **changes})


def terms(**changes: Any) -> Terms:
    fields: dict[str, Any] = {
        "requester": REQUESTER, "fee": Wei(1000), "spec": BlobRef(bytes(32)), "claim_window_s": 60,
        "commit_window_s": 100, "nonce": 1,
    }  # fmt: skip
    return Terms(**{**fields, **changes})


def able(offer: dict[str, Any] | None = None, **changes: Any) -> Capabilities:
    fields: dict[str, Any] = {"models": (TINY,), "price": PRICE, "max_pixels": 64 * 64, "max_steps": 20, "max_count": 2}
    capabilities = Capabilities(offer=Offer(**{**fields, **(offer or {})}), models={"tiny@1": TINY})
    return replace(capabilities, **changes)


def test_a_good_task_is_taken() -> None:
    assert judge(spec(), terms(), able(), claim_left_s=10) is None


@pytest.mark.parametrize(
    ("refusal", "wanted", "offered", "capabilities", "left_s"),
    [
        (Refusal.SPEC_UNREADABLE, None, terms(), able(), 10),
        (Refusal.KIND_UNSUPPORTED, spec(), terms(kind=2), able(), 10),
        (Refusal.KIND_UNSUPPORTED, spec(), terms(), able({"kinds": ()}), 10),
        (Refusal.DTYPE_UNSUPPORTED, spec(dtype="bf16"), terms(), able(), 10),
        (Refusal.NOT_ALLOWED, spec(), terms(), able(denied=frozenset({REQUESTER})), 10),
        (Refusal.NOT_ALLOWED, spec(), terms(), able(allowed=frozenset({Address("0x" + "22" * 20)})), 10),
        (Refusal.TOO_LARGE, spec(width=72), terms(), able(), 10),
        (Refusal.TOO_LARGE, spec(steps=21), terms(), able(), 10),
        (Refusal.TOO_LARGE, spec(count=3), terms(), able(), 10),
        (Refusal.MODEL_UNKNOWN, spec(model="huge@1"), terms(), able(), 10),
        (Refusal.MODEL_UNKNOWN, spec(model_manifest=STRANGE), terms(), able(), 10),
        (Refusal.MODEL_NOT_CACHED, spec(), terms(), able({"models": ()}), 10),
        (Refusal.PRICE_TOO_LOW, spec(), terms(fee=Wei(140)), able(), 10),
        (Refusal.PRICE_TOO_LOW, spec(), terms(fee=Wei(141)), able(deductions_bps=1), 10),
        (Refusal.EXPIRED, spec(), terms(), able(), 0),
        (Refusal.EXPIRED, spec(), terms(), able(seconds_per_megapixel_step=2500.0), 10),
        (Refusal.BUSY, spec(), terms(), able(free_slots=0), 10),
    ],
)
def test_each_refusal(
    refusal: Refusal, wanted: TextToImage | None, offered: Terms, capabilities: Capabilities, left_s: int
) -> None:
    assert judge(wanted, offered, capabilities, claim_left_s=left_s) is refusal


def test_being_busy_is_said_last() -> None:
    assert judge(spec(model="huge@1"), terms(), able(free_slots=0)) is Refusal.MODEL_UNKNOWN


def test_a_node_may_fetch_models_or_allow_only_friends() -> None:
    assert judge(spec(), terms(), able({"models": ()}, fetches_models=True)) is None
    assert judge(spec(), terms(), able(allowed=frozenset({REQUESTER}))) is None


def test_the_manifest_wins_over_the_label() -> None:
    models = {"tiny@1": TINY, "other@1": STRANGE}
    assert resolve_model(spec(), models) == TINY
    assert resolve_model(spec(model_manifest=STRANGE), models) == STRANGE
    assert resolve_model(spec(model_manifest=BlobRef(b"\x03" * 32)), models) is None


def test_the_exact_price_is_enough() -> None:
    # 64 * 64 * 10 = 40960 pixel-steps: 40.96 rounded up, and the base
    assert PRICE.quote(spec()) == 141
    assert judge(spec(), terms(fee=Wei(141)), able()) is None


@given(base=st.integers(0, 10**18), rate=st.integers(0, 10**18), count=st.integers(1, 8))
def test_a_larger_task_never_costs_less(base: int, rate: int, count: int) -> None:
    price = Price(base=Wei(base), per_megapixel_step=Wei(rate))
    assert price.quote(spec(count=count)) <= price.quote(spec(count=count + 1))
    assert 0 <= (price.quote(spec()) - base) * 10**6 - rate * spec().pixel_steps < 10**6


def test_the_digest_for_the_registry_changes_with_the_offer() -> None:
    assert len(Offer().digest()) == 32
    assert Offer().digest() != Offer(max_steps=1).digest()


def test_an_offer_of_the_former_number_is_not_read_as_one_without_disk() -> None:
    said = parse(Offer(max_training_steps=9).encode())
    assert isinstance(said, dict)
    former = {**said, "format": "gesso/offer/1"}
    del former["max_training_disk_bytes"]
    for other in (former, {**former, "format": "gesso/offer/2"}, {**said, "format": "gesso/offer/1"}):
        with pytest.raises(EncodingInvalid):
            Offer.decode(canonical(other))
