"""One task's draw as a whole, for whoever knows all nodes: who may claim when, and who lets whom go first.

The contract looks at one node's score at a time. A node that knows the weights of all others, proven by their sum, can
say more: from when anybody else may claim, and whether one of them comes before it in the very same step.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from math import ceil, isfinite
from typing import NamedTuple

from gesso_protocol.ids import Address, TaskId
from gesso_protocol.sortition import may_claim_at, score

MOST_STEPS = 4
"""A node lets others go first for so many steps at most: who has died meanwhile holds nothing up for long."""
BLOCKS_A_TURN = 2
"""A claim that the very next block leaves out is in the one after it."""
STEPS_A_TURN = 2


def turn_of(step_s: int, block_s: float) -> int:
    """Seconds that a node at work is let go first for: a step, or `BLOCKS_A_TURN` blocks as they are measured, but not
    more than `STEPS_A_TURN` steps, however seldom a chain has blocks."""
    if not isfinite(block_s):
        return step_s
    return max(step_s, min(ceil(BLOCKS_A_TURN * block_s), STEPS_A_TURN * step_s))


class Place(NamedTuple):
    """A node's place in a draw: it may claim `after_s` seconds after the submit."""

    node: Address
    after_s: int


@dataclass(frozen=True, slots=True)
class Draw:
    """Everybody with weight, the best drawn first: by score for its weight, so that stake never loses by being one."""

    places: tuple[Place, ...]
    step_s: int

    @classmethod
    def of(cls, seed: bytes, task: TaskId, weights: Mapping[Address, int], total_weight: int, step_s: int) -> Draw:
        """`total_weight` is the registry's, whether or not these are all."""
        drawn = []
        for node, weight in weights.items():
            mine = score(seed, task, node)
            after_s = may_claim_at(mine, total_weight, weight, step_s)
            if after_s is not None:
                drawn.append((after_s, mine // weight, node))
        return cls(tuple(Place(node, after_s) for after_s, _, node in sorted(drawn)), step_s)

    def others_from(self, me: Address) -> int | None:
        """Seconds after the submit from which somebody else may claim; None: nobody else ever may."""
        return next((place.after_s for place in self.places if place.node != me), None)

    def polite_from(self, me: Address, lively: Container[Address], turn_s: int | None = None) -> int | None:
        """Seconds after the submit from which `me` should claim: from when it may, and not in the turn of a `lively`
        node that was drawn before it. A turn is a step where nothing is said. None without weight."""
        length_s = turn_s or self.step_s
        turn_ends: int | None = None
        for place in self.places:
            if place.node == me:
                patience = place.after_s + MOST_STEPS * self.step_s
                return place.after_s if turn_ends is None else max(place.after_s, min(turn_ends, patience))
            if place.node in lively:
                turn_ends = max(place.after_s, turn_ends or 0) + length_s
        return None

    def others_come(self, me: Address, lively: Container[Address], rude: Container[Address], turn_s: int) -> int | None:
        """Seconds after the submit from which somebody else will claim: those who were drawn after `me`, and are not
        known to be `rude`, leave a `lively` node its turn. None: nobody else ever may."""
        mine: int | None = None
        comes = list[int]()
        for place in self.places:
            if place.node == me:
                mine = place.after_s
            elif mine is None or me not in lively or place.node in rude:
                comes.append(place.after_s)
            else:
                comes.append(max(place.after_s, mine + turn_s))
        return min(comes, default=None)

    def jumps(self, node: Address, lively: Container[Address], elapsed_s: int, block_s: float) -> bool:
        """Whether a claim of `node` that was mined so late came in the turn of a `lively` node drawn before it. Who
        waited measured its blocks, and we ours: half a block is let go for that. A claim that was sent when the turn
        was over is mined a block later."""
        turn_s = turn_of(self.step_s, block_s)
        for place in self.places:
            if place.node == node:
                return False
            if place.node in lively and elapsed_s + block_s / 2 < place.after_s + turn_s:
                return True
        return False

    def leads(self, me: Address, lively: Container[Address], elapsed_s: int) -> bool:
        """Whether `me` comes first of all that may claim within a step, and the others are `lively`: they let it."""
        drawn = [place.node for place in self.places if place.after_s <= elapsed_s + self.step_s]
        return drawn[:1] == [me] and all(node in lively for node in drawn[1:])
