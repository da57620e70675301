"""What chance gives: bad steps to a draw, seats to a share of stake, by lots alone and in a race. Closed forms."""

from __future__ import annotations

import math
from collections.abc import Iterator


def lots_majority(seats: float, needed: int, share: float) -> float:
    """Chance that the lot draws `needed` wallets or more of a party with this share of stake, where it draws `seats` by
    expectation and nobody else comes: many small wallets, so a Poisson number."""
    mean = seats * share
    if mean <= 0:
        return float(needed <= 0)
    below = needed <= mean
    counts = range(needed) if below else range(needed, needed + 200)
    found = sum(math.exp(-mean + won * math.log(mean) - math.lgamma(won + 1)) for won in counts)
    return max(0.0, 1 - found) if below else min(found, 1.0)


def wallets_majority(wallets: int, seats: float, needed: int, comes: float) -> float:
    """Chance that `needed` of so many equal wallets are drawn and come, where the lot draws `seats` by expectation:
    each has one seat at most, so where they are few there may be no quorum of them at all."""
    return fair_majority(wallets, needed, min(1.0, seats / wallets) * comes) if wallets >= needed else 0.0


def drawn_bad(steps: int, bad: int, checked: int) -> float:
    """Chance that at least one of `checked` distinct steps is one of `bad`."""
    if checked > steps - bad:
        return 1.0 if bad else 0.0
    return 1 - math.comb(steps - bad, checked) / math.comb(steps, checked)


def fair_majority(seats: int, needed: int, share: float) -> float:
    """Chance that a party with this share of stake gets `needed` of `seats` when lots alone decide (binomial)."""
    terms = (math.comb(seats, won) * share**won * (1 - share) ** (seats - won) for won in range(needed, seats + 1))
    return sum(terms)


def racing_majority(seats: int, needed: int, share: float, start: float = 1.0) -> float:
    """The same where seats go to the first who commit, and this party is always first.

    Wallets become eligible as a threshold doubles: `seats * start` are expected at once, as many more in the next step,
    twice that in the one after. In each step the fast party takes what it can before the others. Exact for many small
    wallets (eligible numbers are then Poisson).
    """
    return _race(seats, needed, share, seats * start, seats * start)


def _race(seats: int, needed: int, share: float, mean: float, so_far: float) -> float:
    # state: seats taken by the party and by others; a step ends with at least one new seat or the next doubling
    chances: dict[tuple[int, int], float] = {(0, 0): 1.0}
    won = 0.0
    for _ in range(40):
        after: dict[tuple[int, int], float] = {}
        for (ours, theirs), chance in chances.items():
            for (more, others), part in _step(seats - ours - theirs, mean * share, mean * (1 - share)):
                now = (ours + more, theirs + others)
                if now[0] >= needed:
                    won += chance * part
                elif sum(now) < seats:
                    after[now] = after.get(now, 0.0) + chance * part
        chances, mean, so_far = after, so_far, 2 * so_far
        if sum(chances.values()) < 1e-15:
            break
    return won


def _step(free: int, ours: float, theirs: float) -> Iterator[tuple[tuple[int, int], float]]:
    """How many of the free seats each side takes in one step, the fast side first, and how likely that is."""
    for more, p in _capped(free, ours):
        for others, q in _capped(free - more, theirs):
            yield (more, others), p * q


def _capped(cap: int, mean: float) -> Iterator[tuple[int, float]]:
    """A Poisson number with everything beyond `cap` counted as `cap`."""
    rest = 1.0
    for value in range(cap):
        part = math.exp(-mean + value * math.log(mean) - math.lgamma(value + 1)) if mean > 0 else float(value == 0)
        rest -= part
        yield value, part
    yield cap, max(rest, 0.0)
