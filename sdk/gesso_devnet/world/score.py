"""Holds a reading against the scene that was asked for, and counts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

from gesso_devnet.world.evaluate import Reading, Seen
from gesso_devnet.world.scene import Relation, Scene, Thing


@dataclass(frozen=True)
class Verdict:
    """What of the scene the picture got right; None where the scene did not say, or where it does not apply.

    For two objects ``colour`` and ``shape`` ask for both, and ``everything`` for exactly two objects
    with the right colours, shapes and relation. For one object ``everything`` asks for exactly one.
    """

    background: bool
    colour: bool
    shape: bool
    size: bool | None
    place: bool | None
    relation: bool | None
    everything: bool


def judge(scene: Scene, reading: Reading) -> Verdict:
    background = reading.background == scene.background
    if len(scene.things) == 1:
        return _judge_single(scene.things[0], reading, background)
    return _judge_pair(scene, reading, background)


def _judge_single(wanted: Thing, reading: Reading, background: bool) -> Verdict:
    if not reading.things:
        missing = None if wanted.place is None else False
        return Verdict(background, False, False, None if wanted.size is None else False, missing, None, False)
    seen = reading.things[0]
    size = None if wanted.size is None else seen.size == wanted.size
    place = None if wanted.place is None else seen.place == wanted.place
    right = seen.colour == wanted.colour and seen.shape == wanted.shape
    everything = background and right and size is not False and place is not False and len(reading.things) == 1
    return Verdict(background, seen.colour == wanted.colour, seen.shape == wanted.shape, size, place, None, everything)


def _judge_pair(scene: Scene, reading: Reading, background: bool) -> Verdict:
    if len(reading.things) != 2 or scene.relation is None:
        return Verdict(background, False, False, None, None, False, False)
    orders = (reading.things, reading.things[::-1])
    first, second = max(orders, key=lambda order: _agreement(scene, order))
    colour = (first.colour, second.colour) == (scene.things[0].colour, scene.things[1].colour)
    shape = (first.shape, second.shape) == (scene.things[0].shape, scene.things[1].shape)
    relation = lies(first, second, scene.relation)
    return Verdict(background, colour, shape, None, None, relation, background and colour and shape and relation)


def _agreement(scene: Scene, order: tuple[Seen, ...]) -> int:
    pairs = list(zip(order, scene.things, strict=True))
    relation = scene.relation is not None and lies(order[0], order[1], scene.relation)
    return sum(s.colour == t.colour for s, t in pairs) * 4 + sum(s.shape == t.shape for s, t in pairs) * 2 + relation


def lies(first: Seen, second: Seen, relation: Relation) -> bool:
    """Whether the first object lies to the second as the relation says."""
    dx, dy = second.x - first.x, second.y - first.y
    if relation == "next to":
        return abs(dx) > abs(dy)
    horizontal = relation in ("left of", "right of")
    along, across = (dx, dy) if horizontal else (dy, dx)
    return abs(along) > abs(across) and (along > 0) == (relation in ("left of", "above"))


@dataclass(frozen=True)
class Share:
    """A counted share with its 95 % Wilson interval."""

    right: int
    of: int

    @property
    def value(self) -> float:
        return self.right / self.of if self.of else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        if not self.of:
            return (0.0, 1.0)
        z, n, p = 1.96, self.of, self.value
        middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.value:.1f} % ({100 * low:.1f} to {100 * high:.1f}, n={self.of})"


def tally(verdicts: Iterable[Verdict]) -> dict[str, Share]:
    """The share that is right, for each part of the verdict that applies."""
    rows = list(verdicts)
    columns = {f.name: [getattr(r, f.name) for r in rows] for f in fields(Verdict)}
    return {
        name: Share(sum(bool(v) for v in values if v is not None), sum(v is not None for v in values))
        for name, values in columns.items()
    }
