"""Which rules of a network would make something pay that should not: held before real money depends on them.

Hard ranges of the contracts hold what no network may do; these hold what one with a token of value should not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gesso_protocol.audit.economics import CHEATS, COMES, Market, lots_majority
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.money import BPS, Wei

SMALL_SHARE = 0.1
"""Of all stake: a party that should win nothing alone, even where nobody else can run the work."""
CONVICTS_ALONE = 1e-6
"""As often may the lot give it a quorum of jurors."""
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


def _deterrence(rules: AuditRules, stakes: Stakes) -> Iterator[str]:
    """What a node with the least stake can lose, against what it saves on the largest fee that may go unaudited."""
    sticks = lots_majority(rules.jurors, rules.quorum, COMES)
    market = Market(rate=rules.trusted_rate_bps / BPS, sticks=sticks)
    hardest = max(cheat.break_even(market) for cheat in CHEATS)
    if min(stakes.min_stake, rules.penalty_factor * rules.large_fee) <= hardest * rules.large_fee:
        yield "a node with the least stake loses less than it saves by cheating at fees just below the large one"
