"""Rules that a network with money of value may have: none of them lets anybody gain by anything but honest work."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gesso.chain.deploy import DEVNET_AUDITS, ONE_TOKEN, PRODUCTION_AUDITS, DeploySettings
from gesso_protocol.audit.chances import lots_majority
from gesso_protocol.audit.economics import CHEATS, COMES, Bench, Market
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.audit.soundness import Stakes, unsound
from gesso_protocol.errors import UsageError
from gesso_protocol.money import Wei

SHIPPED = DeploySettings()
STAKES = Stakes(SHIPPED.audit_fee, SHIPPED.min_stake, SHIPPED.protocol_fee_bps)
MILLI = ONE_TOKEN // 1_000


def changed(**rules: Any) -> AuditRules:
    return AuditRules(**{**PRODUCTION_AUDITS.model_dump(), **rules})


def test_shipped_rules_are_sound() -> None:
    assert SHIPPED.verified() is SHIPPED
    assert unsound(PRODUCTION_AUDITS, STAKES) == ()


@pytest.mark.parametrize(
    ("rules", "stakes", "why"),
    [
        ({}, replace(STAKES, audit_fee=Wei(6 * MILLI - 1)), "sure audit costs less"),
        ({"large_fee": Wei(200 * MILLI - 1)}, STAKES, "large fee brings the pool less"),
        ({"challenge_bond": Wei(258 * MILLI - 1)}, STAKES, "a challenge costs less"),
        (
            {"jurors": 10, "quorum": 10, "appeal_jurors": 40, "appeal_quorum": 30, "challenge_bond": Wei(126 * MILLI)},
            STAKES,
            "an appeal costs less",
        ),
        ({"jury_step_s": 6 * 3600}, STAKES, "who waits is seated"),
        ({"quorum": 15}, STAKES, "reach 15 of 21 jurors in fewer"),
        ({"jurors": 5, "quorum": 3}, STAKES, "3 of 5 jurors"),
        ({"appeal_jurors": 9, "appeal_quorum": 6}, STAKES, "6 of 9 jurors"),
        ({"appeal_jurors": 31, "appeal_quorum": 16}, STAKES, "a quarter of the stake both juries"),
        ({"large_fee": Wei(4 * ONE_TOKEN)}, STAKES, "the least stake loses less"),
        ({"trusted_rate_bps": 0}, STAKES, "the least stake loses less"),
        ({"penalty_factor": 20}, STAKES, "the least stake loses less"),
    ],
)
def test_each_way_to_gain_is_refused(rules: dict[str, Any], stakes: Stakes, why: str) -> None:
    faults = unsound(changed(**rules), stakes)
    assert any(why in fault for fault in faults)


def test_the_edge_of_each_range_is_allowed() -> None:
    edges: list[dict[str, Any]] = [
        {"large_fee": Wei(200 * MILLI)}, {"challenge_bond": Wei(258 * MILLI)}, {"jury_step_s": 6 * 3600 + 1},
    ]  # fmt: skip
    for rules in edges:
        assert unsound(changed(**rules), STAKES) == ()


def test_a_network_with_a_token_of_value_is_held_to_it() -> None:
    with pytest.raises(UsageError, match=r"can be gamed: .*who waits is seated"):
        SHIPPED.model_copy(update={"audits": DEVNET_AUDITS}).verified()
    with pytest.raises(UsageError, match="without audits"):
        SHIPPED.model_copy(update={"audits": None}).verified()


@st.composite
def allowed(draw: st.DrawFn) -> tuple[AuditRules, Stakes]:
    """Rules from edge to edge of what `unsound` lets pass."""
    seats = draw(st.integers(21, 40))
    auditor_fee, juror_fee = draw(st.integers(1, 20)), draw(st.integers(1, 40))
    large_fee = draw(st.integers(100, 1_500))
    least_bond = max(seats * juror_fee + 2 * auditor_fee, -(-35 * juror_fee // 3))
    rules = changed(
        jurors=seats, quorum=draw(st.integers(max(seats // 2 + 1, 14), seats * 2 // 3)),
        auditor_fee=Wei(auditor_fee * MILLI),
        juror_fee=Wei(juror_fee * MILLI),
        auditor_penalty=Wei((seats * juror_fee + draw(st.integers(0, 4_000))) * MILLI),
        challenge_bond=Wei((least_bond + draw(st.integers(0, 2_000))) * MILLI),
        lot_doublings=draw(st.integers(0, 4)), large_fee=Wei(large_fee * MILLI),
        requester_bps=draw(st.integers(0, 4_000)), trusted_rate_bps=draw(st.integers(100, 500)),
    )  # fmt: skip
    protocol_bps = draw(st.integers(-(-2 * auditor_fee * 10_000 // large_fee), 4_000))
    stakes = Stakes(Wei((2 * auditor_fee + draw(st.integers(0, 60))) * MILLI), SHIPPED.min_stake, protocol_bps)
    assume(unsound(rules, stakes) == ())
    return rules, stakes


@given(allowed())
def test_no_strategy_beats_honesty_under_any_rules_that_are_allowed(found: tuple[AuditRules, Stakes]) -> None:
    """Prices and juries anywhere in the ranges: what requesters, auditors and cheats may try stays a loss."""
    (rules, stakes), price = found, 12 * MILLI
    bench = Bench(
        auditor_fee=rules.auditor_fee / price, auditor_penalty=rules.auditor_penalty / price,
        juror_fee=rules.juror_fee / price, jurors=rules.jurors, quorum=rules.quorum, bond=rules.challenge_bond / price,
        lots=2.0 * 2**rules.lot_doublings, audit_fee=stakes.audit_fee / price, large_fee=rules.large_fee / price,
        requester_share=rules.requester_bps / 10_000,
    )  # fmt: skip
    sticks = lots_majority(rules.jurors, rules.quorum, COMES)
    market = Market(rate=rules.trusted_rate_bps / 10_000, stake=stakes.min_stake / price, sticks=sticks)
    for share in (0.01, 0.05, 0.1):
        for fee in (1.0, bench.large_fee, 10 * bench.large_fee):
            assert bench.accused(share, fee) <= 0
            assert bench.convicted(share, market, fee) < 0
    assert all(bench.alarm_trade(held) < 0 for held in range(rules.jurors + 1))
    assert bench.audit_fee >= 2 * bench.auditor_fee
    least = min(stakes.min_stake, rules.penalty_factor * rules.large_fee) / rules.large_fee
    assert all(cheat.break_even(market) < least for cheat in CHEATS)
