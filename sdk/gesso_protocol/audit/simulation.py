"""Networks of rational, cheating, lazy and colluding actors played out at random, seeded: the check on `economics.py`.

Many nodes of one strategy work side by side for many tasks. Each carries its own record (passed audits, stake), so that
what the closed forms leave out is in here: rates that fall with trust and rise after a fault, stakes that run out,
auditors that are idle or in league.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gesso_protocol.audit.chances import drawn_bad
from gesso_protocol.audit.economics import Cheat, Market
from gesso_protocol.audit.rules import AuditRules

Floats = npt.NDArray[np.float64]
HONEST = Cheat("honest", 0.0, 0.0)


@dataclass(frozen=True)
class World:
    """Who else is there, by share of stake, and what their presence means for one seat."""

    market: Market = field(default_factory=Market)
    rules: AuditRules = field(default_factory=AuditRules)
    friends: float = 0.0
    """Auditors that pass whatever this node does."""
    idle: float = 0.0
    """Auditors that pass without working."""
    hostile: float = 0.0
    """Auditors that flag whatever they see."""
    false_flag: float = 0.0
    """Chance that an honest machine flags an honest task."""
    by_lot: float = 0.6
    """Chance that both seats are held by lot where half of the nodes can run the task."""


@dataclass(frozen=True)
class Outcome:
    """How one strategy fared, in prices of a task; means over all nodes and tasks."""

    name: str
    profit: float
    error: float
    """Standard error of `profit`."""
    caught: float
    """Penalties a task."""
    unpaid: float
    """Tasks that it was not paid for, penalties included."""
    audited: float
    until_caught: float
    """Tasks done before the first penalty; of those nodes that were caught."""


class _Nodes:
    """Many nodes of one strategy; every array has one value a node."""

    def __init__(self, count: int, market: Market) -> None:
        self.profit = np.zeros(count)
        self.stake = np.full(count, market.stake)
        self.passed = np.zeros(count, np.int64)
        self.caught = np.zeros(count)
        self.unpaid = np.zeros(count)
        self.audited = np.zeros(count)
        self.first = np.full(count, np.inf)


def play(cheat: Cheat, world: World, *, nodes: int = 300, tasks: int = 2000, seed: int = 1) -> Outcome:
    """Let `nodes` nodes of this strategy do `tasks` tasks each."""
    rng, crowd = np.random.default_rng(seed), _Nodes(nodes, world.market)
    for number in range(tasks):
        _task(cheat, world, crowd, rng, number)
    mean, caught = crowd.profit / tasks, np.isfinite(crowd.first)
    return Outcome(
        name=cheat.name,
        profit=float(mean.mean()),
        error=float(mean.std() / np.sqrt(nodes)),
        caught=float(crowd.caught.mean() / tasks),
        unpaid=float(crowd.unpaid.mean() / tasks),
        audited=float(crowd.audited.mean() / tasks),
        until_caught=float(crowd.first[caught].mean()) if caught.any() else float("inf"),
    )


def play_all(
    cheats: tuple[Cheat, ...], world: World, *, nodes: int = 300, tasks: int = 2000, seed: int = 1
) -> tuple[Outcome, ...]:
    """Honest first, then every cheat, each in a network of its own."""
    return tuple(
        play(cheat, world, nodes=nodes, tasks=tasks, seed=seed + number)
        for number, cheat in enumerate((HONEST, *cheats))
    )


def _task(cheat: Cheat, world: World, crowd: _Nodes, rng: np.random.Generator, number: int) -> None:
    market, count = world.market, len(crowd.profit)
    working = crowd.stake > 0
    audited = working & (rng.random(count) < _rates(crowd.passed, world.rules))
    brought, doubted = _flags(cheat, world, rng, count)
    flagged = audited & brought
    bad = cheat is not HONEST
    decided = rng.random(count) < market.sticks
    guilty = flagged & decided & bad
    # a committee that reaches no quorum slashes nobody, and leaves unpaid what two auditors drawn by lot accuse; its
    # own half of a quorum is left out, which is to a cheat's good
    unpaid = flagged & (guilty | (~decided & doubted & (rng.random(count) < world.by_lot)))
    fine = np.where(guilty, np.minimum(crowd.stake, np.maximum(market.penalty, 0.05 * crowd.stake)), 0.0)
    crowd.profit += np.where(working, ~unpaid - market.cost * (1 - cheat.saves), 0.0) - fine
    crowd.stake -= fine
    crowd.passed = np.where(unpaid, 0, crowd.passed + (audited & ~flagged))
    crowd.caught += guilty
    crowd.unpaid += unpaid
    crowd.audited += audited
    crowd.first = np.where(guilty & ~np.isfinite(crowd.first), number + 1, crowd.first)


def _rates(passed: npt.NDArray[np.int64], rules: AuditRules) -> Floats:
    steady = np.where(passed < rules.trusted_audits, rules.steady_rate_bps, rules.trusted_rate_bps)
    return np.where(passed < rules.vetting_audits, rules.vetting_rate_bps, steady) / 10_000


def _flags(
    cheat: Cheat, world: World, rng: np.random.Generator, count: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Whether one of the two auditors brings the task before jurors, by a flag or by disagreeing with the other; and
    whether both accuse it."""
    market = world.market
    bad_steps = round(cheat.bad * market.steps)
    # both auditors run the same steps, so what the lot hides it hides from both
    visible = np.ones(count, bool) if cheat.plain else rng.random(count) < drawn_bad(
        market.steps, bad_steps, market.checked
    )  # fmt: skip
    honest = cheat is HONEST
    kinds = rng.random((2, count))
    friend = kinds < world.friends
    idle = ~friend & (kinds < world.friends + world.idle)
    hostile = ~friend & ~idle & (kinds < world.friends + world.idle + world.hostile)
    sound = ~friend & ~idle & ~hostile
    sees = rng.random((2, count)) < (world.false_flag if honest else market.sees)
    flags = hostile | (sound & sees & (visible | honest))
    # an idle auditor's projection differs from everybody else's; two idle ones differ from each other
    apart = idle.any(axis=0)
    return np.asarray(flags.any(axis=0) | apart), np.asarray(flags.all(axis=0))
