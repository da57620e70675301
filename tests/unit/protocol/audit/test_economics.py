"""What strategies pay: the closed forms against brute force and against the simulation, and honest work on top."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso.chain.deploy import DeploySettings
from gesso_protocol.audit.chances import (
    drawn_bad,
    fair_majority,
    lots_majority,
    racing_majority,
    wallets_majority,
)
from gesso_protocol.audit.economics import CHEATS, Bench, Cheat, Market, Pool, collusion
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.audit.simulation import HONEST, World, play

TOKEN = 10**18
STORY = Path(__file__).parents[4] / "node" / "AUDITS.md"
MARKET = Market()
STEADY = AuditRules(vetting_rate_bps=500, steady_rate_bps=500, trusted_rate_bps=500)


@given(steps=st.integers(1, 9), data=st.data())
def test_the_lot_against_every_draw(steps: int, data: st.DataObject) -> None:
    bad, checked = data.draw(st.integers(0, steps)), data.draw(st.integers(1, steps))
    draws = list(itertools.combinations(range(steps), checked))
    hit = sum(any(step < bad for step in draw) for draw in draws) / len(draws)
    assert drawn_bad(steps, bad, checked) == pytest.approx(hit)


def test_the_worked_example() -> None:
    """Thirty steps, two checked, one task in twenty audited: the break-evens of the design."""
    by_name = {cheat.name: cheat.break_even(MARKET) for cheat in CHEATS}
    assert by_name["wrong-model"] == pytest.approx(9.9, abs=0.05)
    assert by_name["bridge"] == pytest.approx(14.6, abs=0.05)
    assert by_name["fewer-steps"] == pytest.approx(9.3, abs=0.05)
    assert by_name["skip-steps"] == pytest.approx(7.1, abs=0.05)


@pytest.mark.parametrize("cheat", CHEATS, ids=lambda cheat: cheat.name)
def test_no_cheat_beats_honest_work(cheat: Cheat) -> None:
    assert cheat.profit(MARKET) < MARKET.honest_profit
    assert MARKET.penalty > 50 * cheat.break_even(MARKET)
    assert cheat.profit(replace(MARKET, rate=0.02)) < MARKET.honest_profit


def test_the_least_stake_outweighs_the_largest_fee_that_is_not_always_audited() -> None:
    """A node with the least stake cannot lose 1000 times a large fee: what it can lose must be enough at any rate."""
    rules, least = AuditRules(), DeploySettings().min_stake
    trusted = replace(MARKET, rate=rules.trusted_rate_bps / 10_000)
    hardest = max(cheat.break_even(trusted) for cheat in CHEATS)
    assert 25 < hardest < least / rules.large_fee
    assert hardest > least / (10 * rules.large_fee), "ten times the large fee would pay a cheat: no room to waste"


def test_a_cheat_pays_below_its_break_even_and_not_above() -> None:
    for cheat in CHEATS:
        even = cheat.break_even(MARKET)
        if even <= 0:
            continue
        for factor, better in ((0.9, True), (1.1, False)):
            market = replace(MARKET, penalty=even * factor)
            assert (cheat.profit(market) > market.honest_profit) == better


def test_without_penalties_cheating_pays() -> None:
    assert CHEATS[4].profit(replace(MARKET, penalty=0.0)) > MARKET.honest_profit


def test_fair_seats_are_binomial() -> None:
    rng = np.random.default_rng(4)
    won = rng.binomial(21, 0.33, 200_000)
    assert fair_majority(21, 8, 0.33) == pytest.approx(float((won >= 8).mean()), abs=0.005)
    assert fair_majority(21, 14, 0.2) == pytest.approx(4.5e-6, rel=0.02)


def race(rng: np.random.Generator, seats: int, share: float, wallets: int) -> int:
    """Seats of the fast party, wallet by wallet: scores, doubling thresholds, ours before theirs in every step."""
    ours = rng.random(wallets) < share
    first = seats / wallets
    step = np.maximum(np.ceil(np.log2(rng.random(wallets) / first)), 0)
    order = np.lexsort((~ours, step))
    return int(ours[order][:seats].sum())


@pytest.mark.parametrize(("seats", "needed", "share"), [(2, 2, 0.3), (21, 8, 0.2), (21, 12, 0.4)])
def test_races_against_wallets_one_by_one(seats: int, needed: int, share: float) -> None:
    rng = np.random.default_rng(9)
    trials = 4000
    hits = sum(race(rng, seats, share, 3000) >= needed for _ in range(trials)) / trials
    exact = racing_majority(seats, needed, share)
    assert hits == pytest.approx(exact, abs=4 * (exact * (1 - exact) / trials) ** 0.5 + 0.002)


@given(share=st.floats(0.01, 0.6), seats=st.integers(1, 12), data=st.data())
def test_being_first_never_hurts(share: float, seats: int, data: st.DataObject) -> None:
    needed = data.draw(st.integers(1, seats))
    racing = racing_majority(seats, needed, share)
    assert 0 <= racing <= 1 + 1e-9
    assert racing >= fair_majority(seats, needed, share) * 0.999


def test_the_ends_of_a_race() -> None:
    assert racing_majority(5, 3, 0.0) == 0
    assert racing_majority(5, 3, 1.0) == pytest.approx(1.0)


def test_auditors_and_jurors_do_best_by_working() -> None:
    bench = Bench()
    for profits in (bench.auditor(MARKET, honest=0.5), bench.juror(0.99)):
        assert max(profits, key=lambda name: profits[name]) == "honest"
        assert profits["honest"] > 0
        assert all(value <= 0 for name, value in profits.items() if name != "honest")
    assert bench.requester(0.9, MARKET)["challenges everything"] < 0


@pytest.mark.parametrize("wrong", [0.0, 0.1, 0.2, 0.33, 0.4])
def test_a_juror_that_cannot_tell_does_best_to_say_so(wrong: float) -> None:
    """By whatever shows first: that somebody had the model after all in one dispute of a hundred."""
    profits = Bench().juror(0.99, wrong)
    assert profits["says good where jurors cannot tell"] < profits["always cannot tell"]


def test_good_unseen_pays_only_who_can_make_a_quorum_of_it() -> None:
    bench = Bench()
    assert bench.unseen(0.2) < replace(bench, others_can=0.0).unseen(0.2) < 0.001 * bench.juror_fee
    assert replace(bench, others_can=1 / 40_000).unseen(0.2) < 0
    assert bench.unseen(0.6) > 0, "which is a majority that convicts as it likes, too"
    ring = replace(bench, quorum=1)
    assert ring.unseen(0.2) > 0, "were one vote paid, as without a verdict"


@pytest.mark.parametrize("comes", [1.0, 0.8, 0.6])
def test_collusion_needs_more_than_a_third_of_the_stake(comes: float) -> None:
    market = replace(MARKET, comes=comes)
    profits = [collusion(market, share) for share in (0.0, 0.1, 0.2, 0.33)]
    assert profits == sorted(profits)
    assert max(profits) < market.honest_profit
    assert collusion(replace(MARKET, comes=0.6), 0.4) > MARKET.honest_profit, "which is said"


def test_a_quorum_takes_those_who_come() -> None:
    """Staying away is the friends' best word where few come, and taking seats where all do."""
    rng = np.random.default_rng(5)
    drawn = float((rng.poisson(21 * MARKET.comes, 200_000) >= 14).mean())
    assert MARKET.sticks == pytest.approx(drawn, abs=0.005)
    assert Bench().juror(0.999, comes=0.6)["honest"] > 0, "a juror earns as long as six of ten come"
    assert Bench().juror(0.999, comes=0.5)["honest"] < 0


def test_pools() -> None:
    pool = Pool(fee=0.012, protocol_bps=300, auditor_fee=0.003, gas_cost=0.00075, work_cost=0.00134)
    assert pool.solvent
    assert pool.auditor_earns > 0
    assert pool.smallest_fee == pytest.approx(0.01)
    assert not replace(pool, fee=0.0099).solvent


@pytest.mark.parametrize(
    ("shipped", "price", "rate_bps"), [(DeploySettings(), 0.012, 500), (DeploySettings.devnet(), 0.01, 2000)]
)
def test_shipped_fees_pay_for_their_audits(shipped: DeploySettings, price: float, rate_bps: int) -> None:
    """A network starts with all nodes in vetting; a production one is carried by nodes that have left it."""
    rules = shipped.audits
    assert rules is not None
    earned = rules.auditor_fee / TOKEN
    pool = Pool(price, shipped.protocol_fee_bps, earned, gas_cost=0, work_cost=0, rate=rate_bps / 10_000)
    assert pool.solvent
    assert shipped.audit_fee >= rules.auditor_seats * rules.auditor_fee, "audits of one's own tasks are no trade"


@pytest.mark.parametrize("shipped", [DeploySettings(), DeploySettings.devnet()])
def test_whoever_calls_a_jury_in_vain_pays_it(shipped: DeploySettings) -> None:
    """A challenge, a false flag, an appeal, a guilty node with the least stake: each brings what its jury earns."""
    rules = shipped.audits
    assert rules is not None
    auditors = rules.auditor_seats * rules.auditor_fee
    first, second = rules.jurors * rules.juror_fee + auditors, rules.appeal_jurors * rules.juror_fee
    assert rules.challenge_bond >= first
    assert rules.auditor_penalty >= first
    assert 3 * rules.challenge_bond >= second
    kept = 10_000 - rules.burn_bps - rules.requester_bps
    assert shipped.min_stake * rules.penalty_bps * kept // 10**8 >= first


@pytest.mark.parametrize("shipped", [DeploySettings(), DeploySettings.devnet()])
def test_a_false_alarm_pays_its_jury_and_costs_no_more(shipped: DeploySettings) -> None:
    """Nobody can witness whether node or auditor was silent: so neither may gain by it, and the pool may not lose."""
    rules = shipped.audits
    assert rules is not None
    jury = rules.jurors * rules.juror_fee
    assert jury <= rules.auditor_penalty, "else the pool pays a part of it"
    bench = Bench()
    assert all(bench.alarm_trade(seats) < 0 for seats in range(bench.jurors + 1))


def test_who_alone_can_run_a_model_gets_no_work_for_nothing() -> None:
    """Two wallets have both seats for certain where nobody else can look, but the lot draws two of them seldom."""
    bench, rng = Bench(), np.random.default_rng(6)
    for share in (0.1, 0.3):
        drawn = float((rng.poisson(bench.lots * share, 200_000) > 1).mean())
        assert bench.drawn(share) == pytest.approx(drawn, abs=0.005)
        assert bench.accused(share) < 0
    assert bench.lots == AuditRules().auditor_seats * 2 ** AuditRules().lot_doublings


def test_doubt_pays_no_requester_whatever_the_fee() -> None:
    """In all of these places; and each of the three would pay, were the fee of work in doubt refunded."""
    profits = Bench().requester(0.99, MARKET)
    assert all(profit < 0 for profit in profits.values()), profits
    refunded = replace(Bench(), doubt_returns=1.0).requester(0.99, MARKET)
    for name in (
        "accuses it with a large fee, friends hold 10%", "accuses it of a vetting node, sampled, friends hold 10%",
        "the same with a large fee, friends hold 33%",
    ):  # fmt: skip
        assert refunded[name] > 0, name


@given(
    share=st.floats(0.001, 0.999), fee=st.floats(0.01, 1e6), lots=st.floats(0.1, 1e4), seats=st.integers(2, 8),
    data=st.data(),
)  # fmt: skip
def test_no_share_of_stake_gains_by_doubt_under_any_rules(
    share: float, fee: float, lots: float, seats: int, data: st.DataObject
) -> None:
    quorum = data.draw(st.integers(seats // 2 + 1, seats))
    bench = replace(Bench(), lots=lots, jurors=seats, quorum=quorum)
    assert bench.accused(share, fee) <= 0
    assert bench.doubted(share, fee) <= 0
    # Any other split is a gain from some fee on: nothing is what a requester may have.
    split = replace(bench, doubt_returns=data.draw(st.floats(0.01, 1.0)))
    doubt = racing_majority(seats, (quorum + 1) // 2, share)
    if split.drawn(share) > 1e-9:
        assert split.accused(share, 2 * split.auditor_fee / (split.drawn(share) * split.doubt_returns) + 1) > 0
    if doubt > 1e-9:
        assert split.doubted(share, split.bond / (doubt * split.doubt_returns) + 1) > 0


def test_a_jury_of_those_who_wait_is_whoevers_model_it_is() -> None:
    """The lot gives a tenth of the stake a quorum once in ten million; a jury that fills up by waiting always would."""
    rng, bench = np.random.default_rng(8), Bench()
    drawn = float((rng.poisson(bench.jurors * 0.5, 200_000) >= bench.quorum).mean())
    assert lots_majority(bench.jurors, bench.quorum, 0.5) == pytest.approx(drawn, abs=0.005)
    assert lots_majority(bench.jurors, bench.quorum, 0.0) == 0
    assert lots_majority(bench.jurors, bench.quorum, 0.1) < 1e-6
    assert replace(bench, jurors=10_000).convicted(0.1, MARKET, bench.large_fee, appealed=False) > 0


@given(share=st.floats(0.001, 0.3), fee=st.floats(0.01, 1e4))
def test_up_to_three_tenths_gain_nothing_by_a_jury_of_their_own(share: float, fee: float) -> None:
    """Whatever the fee: the victim's stake bounds what a conviction brings."""
    bench = Bench()
    assert bench.convicted(share, MARKET, min(fee, bench.large_fee)) < 0
    assert bench.appealed(share, MARKET, fee) < 0
    assert bench.convicts(share) <= bench.convicts(share, appealed=False)
    larger = replace(MARKET, stake=10 * MARKET.stake)
    if share <= 0.25:
        assert bench.convicted(share, larger, 10 * bench.large_fee) < 0


def test_two_juries_are_drawn_apart() -> None:
    rng, bench = np.random.default_rng(7), Bench()
    first, second = rng.poisson(bench.jurors * 0.5, 400_000), rng.poisson(bench.appeal_jurors * 0.5, 400_000)
    both = float(((first >= bench.quorum) & (second >= bench.appeal_quorum)).mean())
    assert bench.convicts(0.5) == pytest.approx(both, abs=0.003)
    found = np.where(first < bench.quorum, 0.0, np.where(
        second >= bench.appeal_quorum, MARKET.penalty + MARKET.appeal_bond + 1, MARKET.appeal_bond + 1,
    ))  # fmt: skip
    assert bench.ringed(0.5, MARKET) == pytest.approx(float(found.mean()), rel=0.02)


def test_few_wallets_have_no_second_jury_and_cheating_loses_all_the_same() -> None:
    """An appeal then costs the fee and three bonds, and nothing else: more than any cheat saves, at an ordinary fee."""
    found = [wallets_majority(nodes - 4, 35 * (nodes - 4) / nodes, 20, 0.8) for nodes in (20, 24, 28, 40)]
    assert found[0] == 0
    assert found[1] == pytest.approx(1 / 80, rel=0.1), "as the page says"
    assert 0.4 < found[2] < 0.6
    assert found[3] > 0.95
    none = replace(MARKET, confirms=0.0)
    assert none.fine == none.appeal_bond
    assert all(cheat.profit(none) < none.honest_profit for cheat in CHEATS)
    assert all(cheat.break_even(none) < 15 for cheat in CHEATS)


def test_a_guilty_node_gains_little_by_a_second_jury() -> None:
    """It may hope for one that is too small: where eight of ten come that is dearer than the penalty, where six not."""
    assert MARKET.fine == MARKET.penalty
    few = replace(MARKET, comes=0.6, sticks=lots_majority(21, 14, 0.6), confirms=lots_majority(35, 20, 0.6))
    assert 0.8 * few.penalty < few.fine < few.penalty
    assert all(cheat.profit(few) < few.honest_profit for cheat in CHEATS)
    for comes, earns in ((0.67, True), (0.6, False)):
        stands = lots_majority(21, 14, comes) * lots_majority(35, 20, comes)
        assert (stands * Bench().juror_fee > Bench().juror_cost) is earns, "a juror of a conviction that is appealed"


def test_what_no_rule_prevents_is_said() -> None:
    beyond = Bench().beyond(MARKET)
    assert beyond["convicts what only friends can run, an ordinary fee, they hold 33%"] < 0
    assert 0 < beyond["convicts what only friends can run, a large fee, they hold 33%"] < 1, "as the page says"
    assert beyond["the same of a node that does not appeal, a large fee, they hold 25%"] > 0, "so nodes do"
    assert beyond["nobody else can run the work"] > MARKET.honest_profit
    assert beyond["claims an unknown device: wrong-model"] > MARKET.honest_profit, "its word, and nothing measured"
    assert beyond["auditors can, jurors cannot, always audited"] < MARKET.honest_profit, "so large fees are safe there"
    losses = Bench().losses(MARKET)
    assert losses["the same: each of two auditors that say so"] > losses["the same: an auditor that says so alone"]


def test_an_honest_flagger_loses_the_jury_and_no_penalty() -> None:
    """Alone before jurors that voted good unseen; and whoever lies gains nothing by the lower price."""
    bench = Bench()
    profits = bench.auditor(MARKET, honest=0.8)
    assert profits["honest, alone before jurors that did not look"] > -bench.auditor_penalty / 3
    assert profits["always flags"] < -10


def test_shipped_prices_are_those_of_the_closed_forms() -> None:
    rules, bench, price = DeploySettings().audits, Bench(), 0.012
    assert rules is not None
    assert DeploySettings().audit_fee / TOKEN == pytest.approx(bench.audit_fee * price)
    assert rules.auditor_fee / TOKEN == pytest.approx(bench.auditor_fee * price)
    assert rules.juror_fee / TOKEN == pytest.approx(bench.juror_fee * price)
    assert rules.jurors == bench.jurors
    assert rules.auditor_penalty / TOKEN == pytest.approx(bench.auditor_penalty * price, rel=0.05)
    assert rules.juror_penalty / TOKEN == pytest.approx(bench.juror_penalty * price, rel=0.05)
    assert rules.challenge_bond / TOKEN == pytest.approx(bench.bond * price, rel=0.05)


@pytest.mark.parametrize("name", ["wrong-model", "fewer-steps", "withhold"])
def test_the_simulation_agrees_with_the_closed_form(name: str) -> None:
    cheat = next(cheat for cheat in CHEATS if cheat.name == name)
    market = replace(MARKET, stake=10**9, penalty=20.0, sees=1.0)
    # a stake that is never exhausted, and a fine that is not a share of it
    world = World(market, STEADY)
    found = play(cheat, replace(world, market=replace(market, stake=300.0)), nodes=1500, tasks=60, seed=3)
    expected = market.rate * cheat.detection(market)
    assert found.caught == pytest.approx(expected, rel=0.12)
    assert found.audited == pytest.approx(0.05, rel=0.1)


def test_without_a_quorum_nobody_is_paid_and_nobody_slashed() -> None:
    world = World(replace(MARKET, sticks=0.5), STEADY, by_lot=1.0)
    cheated = play(CHEATS[4], world, nodes=200, tasks=150, seed=2)
    assert cheated.unpaid == pytest.approx(2 * cheated.caught, rel=0.2)
    accused = play(HONEST, replace(world, hostile=1.0), nodes=200, tasks=150, seed=2)
    assert accused.caught == 0
    assert accused.unpaid == pytest.approx(accused.audited / 2, rel=0.2)


def test_honest_nodes_keep_what_they_earn() -> None:
    found = play(HONEST, World(), nodes=50, tasks=400)
    assert found.profit == pytest.approx(MARKET.honest_profit)
    assert (found.caught, found.unpaid) == (0, 0)


def test_hostile_and_idle_auditors_cost_honest_nodes_little() -> None:
    found = play(HONEST, World(hostile=0.05, idle=0.2), nodes=100, tasks=500)
    assert found.caught == 0
    assert found.profit > 0.95 * MARKET.honest_profit


def test_rates_rise_for_those_who_were_caught() -> None:
    cheat = next(cheat for cheat in CHEATS if cheat.name == "skip-steps")
    caught = play(cheat, World(), nodes=100, tasks=800)
    honest = play(HONEST, World(), nodes=100, tasks=800)
    assert caught.until_caught < 60
    assert honest.audited < 0.2


def test_the_same_seed_is_the_same_history() -> None:
    cheat = CHEATS[0]
    assert play(cheat, World(), nodes=20, tasks=50, seed=5) == play(cheat, World(), nodes=20, tasks=50, seed=5)
    assert play(cheat, World(), nodes=20, tasks=50, seed=5) != play(cheat, World(), nodes=20, tasks=50, seed=6)


def test_the_design_story_shows_what_is_computed() -> None:
    chapter = STORY.read_text().split("## 10.")[0]  # later tables are of what was measured
    rows = [line.strip("| ").split(" | ") for line in chapter.splitlines() if line.startswith("| ")]
    cells = {row[0]: row for row in rows}
    for cheat in CHEATS:
        shown = [float(value) for value in cells[cheat.name][1:7]]
        even = max(cheat.break_even(MARKET), 0.0)
        computed = [cheat.saves, cheat.bad, MARKET.rate * cheat.detection(MARKET), cheat.profit(MARKET), shown[4], even]
        assert shown == pytest.approx(computed, rel=5e-3)
    for name, seats, needed in (("14 of 21: convicts", 21, 14), ("both auditors", 2, 2), ("8 of 21: blocks", 21, 8),
                                ("20 of 35: convicts", 35, 20)):  # fmt: skip
        for share in (0.1, 0.2, 0.33):
            fair, racing = (float(value) for value in cells[f"{name}, {share:.0%} of stake"][1:3])
            assert fair == pytest.approx(fair_majority(seats, needed, share), rel=5e-3)
            assert racing == pytest.approx(racing_majority(seats, needed, share), rel=5e-3)
    for name, profit in (
        Bench().requester(1 - racing_majority(21, 14, 0.2), MARKET) | Bench().losses(MARKET) | Bench().beyond(MARKET)
    ).items():
        assert float(cells[name][1]) == pytest.approx(profit, rel=1e-2), name
    for name, profit in Bench().auditor(MARKET, honest=0.8).items():
        assert float(cells[name][1]) == pytest.approx(profit, rel=5e-3) or name == "honest"
