"""Gas prices: enough for the next blocks, accepted as a replacement, never a negative surprise."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gesso.chain.fees import LEAST_TIP, Fee, price

WEI = st.integers(0, 10**15)


@settings(deadline=None)
@given(st.lists(WEI, min_size=1, max_size=6), st.lists(WEI, max_size=5))
def test_the_price_covers_a_doubling_base_fee_and_a_tip(base_fees: list[int], rewards: list[int]) -> None:
    fee = price(base_fees, rewards)
    assert fee.tip >= LEAST_TIP
    assert fee.most == 2 * base_fees[-1] + fee.tip


@settings(deadline=None)
@given(WEI, WEI)
def test_a_bumped_price_replaces_by_every_pools_rule(most: int, tip: int) -> None:
    old = Fee(max(most, tip), min(most, tip))
    new = old.bumped()
    assert new.most * 100 >= old.most * 110
    assert new.tip * 100 >= old.tip * 110
    assert new.tip <= new.most


@settings(deadline=None)
@given(WEI, WEI, WEI, WEI)
def test_at_least_keeps_the_tip_below_the_whole(a: int, b: int, c: int, d: int) -> None:
    fee = Fee(max(a, b), min(a, b)).at_least(Fee(max(c, d), min(c, d)))
    assert fee.tip <= fee.most
    assert fee.most >= max(a, b, c, d)


def test_an_empty_history_still_has_a_price() -> None:
    assert price([], []) == Fee(LEAST_TIP, LEAST_TIP)
