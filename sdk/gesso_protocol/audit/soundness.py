"""Which rules of a network would make something pay that should not: held before real money depends on them.

Hard ranges of the contracts hold what no network may do; these hold what one with a token of value should not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from gesso_protocol.audit.chances import lots_majority
from gesso_protocol.audit.economics import CHEATS, COMES, Market
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.money import BPS, Wei

SMALL_SHARE = 0.1
"""Of all stake: a party that should win nothing alone, even where nobody else can run the work."""
CONVICTS_ALONE = 1e-6
"""As often may the lot give it a quorum of jurors."""
RING_SHARE = 0.25
"""Of all stake: a party that should win nothing from a node that appeals, though nobody else can run the work."""
CONVICTS_TWICE = 5e-6
"""As often may the lot give it the quorums of both juries: worth less than the gas of asking, at large fees too."""
REACHES = 0.75
"""As often at least should those who come have one."""


@dataclass(frozen=True)
class Stakes:
    """What a network's board and registry say about money, beside its rules of audits."""

    audit_fee: Wei
    min_stake: Wei
    protocol_bps: int


def unsound(rules: AuditRules, stakes: Stakes) -> tuple[str, ...]:
    """One sentence a way to gain by something else than honest work; none for the shipped rules."""
    return (*_trades(rules, stakes), *_juries(rules), *_deterrence(rules, stakes))


def _trades(rules: AuditRules, stakes: Stakes) -> Iterator[str]:
    """Audits of one's own tasks by one's own auditors."""
    auditors = rules.auditor_seats * rules.auditor_fee
    if stakes.audit_fee < auditors:
        yield "a sure audit costs less than its auditors earn, so auditing one's own tasks is a trade"
    if rules.large_fee * stakes.protocol_bps < auditors * BPS:
        yield "a large fee brings the pool less than its auditors earn, so large tasks of one's own are a trade"


def _juries(rules: AuditRules) -> Iterator[str]:
    """Juries that are called in vain, or that nobody else joins."""
    auditors = rules.auditor_seats * rules.auditor_fee
    if rules.challenge_bond < rules.jurors * rules.juror_fee + auditors:
        yield "a challenge costs less than the jury that it calls, so friends in the jury earn by it"
    if 3 * rules.challenge_bond < rules.appeal_jurors * rules.juror_fee:
        yield "an appeal costs less than the jury that it calls, so friends in the jury earn by it"
    if not rules.sits_by_lot:
        yield (
            "who waits is seated as a juror, so a party whose model nobody else can run has a whole jury: "
            "jury_step_s must be more than vote_commit_window_s"
        )
    for seats, quorum in ((rules.jurors, rules.quorum), (rules.appeal_jurors, rules.appeal_quorum)):
        if lots_majority(seats, quorum, SMALL_SHARE) > CONVICTS_ALONE:
            yield f"the lot gives a tenth of the stake {quorum} of {seats} jurors more than once in a million juries"
        if lots_majority(seats, quorum, COMES) < REACHES:
            yield f"four fifths of the stake reach {quorum} of {seats} jurors in fewer than three of four juries"
    levels = ((rules.jurors, rules.quorum), (rules.appeal_jurors, rules.appeal_quorum))
    if math.prod(lots_majority(seats, quorum, RING_SHARE) for seats, quorum in levels) > CONVICTS_TWICE:
        yield "the lot gives a quarter of the stake both juries more than once in 200,000 cases, so appeals are no help"


def _deterrence(rules: AuditRules, stakes: Stakes) -> Iterator[str]:
    """What a node with the least stake can lose, though it appeals, against what it saves on fees just below large."""
    fee = rules.large_fee
    market = Market(
        rate=rules.trusted_rate_bps / BPS,
        sticks=lots_majority(rules.jurors, rules.quorum, COMES),
        confirms=lots_majority(rules.appeal_jurors, rules.appeal_quorum, COMES),
        appeal_bond=3 * rules.challenge_bond / fee,
        penalty=min(stakes.min_stake, rules.penalty_factor * fee) / fee,
    )
    if market.fine <= max(cheat.break_even(market) for cheat in CHEATS):
        yield "a node with the least stake loses less than it saves by cheating at fees just below the large one"
