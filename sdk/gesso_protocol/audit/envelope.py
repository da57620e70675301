"""How the implied noise of honest runs looks: its norm and how fast it turns, over the course of a run.

Calibrated by `scripts/calibrate_envelope` from real runs and committed as `envelope.json`. Lying outside proves
nothing; it says which steps to run again first. A model that looks unlike the calibrated one costs
an auditor a few steps.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from gesso_protocol.encoding import Document
from gesso_protocol.spec import Scheduler

BINS = 8
"""A run is looked at in eighths."""
NUMBERS = 5
TURNS, GAP = (1, 3), 4
Milli = Annotated[int, Field(ge=-1001, le=100_000)]
Edges = Annotated[tuple[Milli, ...], Field(min_length=BINS, max_length=BINS, strict=False)]
Family = Literal["single", "multi", "ancestral"]
Strength = Literal["off", "low", "high"]
Length = Literal["short", "middle", "long"]
_FAMILIES: dict[Scheduler, Family] = {
    "ddim": "single",
    "euler": "single",
    "euler_a": "ancestral",
    "dpmpp_2m": "multi",
}


@dataclass(frozen=True)
class Look:
    """How one step looks; `at` is how much of the run is over, 0 to 1.

    `norm`, `turn`: the guided implied noise, over sqrt(values), and its cosine to that of the step before (1 at the
    first). `base_norm`, `base_turn`: the same of the unconditional branch, which no guidance stretches. `gap`: the
    distance of the two branches' implied noise over sqrt(values); 0 without guidance.
    """

    at: float
    norm: float
    turn: float
    base_norm: float
    base_turn: float
    gap: float

    NONE: ClassVar[Look]

    @classmethod
    def of(cls, at: float, now: Noises, before: Noises | None) -> Look:
        """The look of a step beside that of the one before it."""
        unit = math.sqrt(now.guided.size)
        norm, base = float(np.linalg.norm(now.guided)) / unit, float(np.linalg.norm(now.base)) / unit
        turn = 1.0 if before is None else _cosine(now.guided, before.guided)
        base_turn = 1.0 if before is None else _cosine(now.base, before.base)
        return cls(at, norm, turn, base, base_turn, float(np.linalg.norm(now.cond - now.base)) / unit)

    @property
    def bin(self) -> int:
        """Which eighth of the run this is."""
        return min(int(self.at * BINS), BINS - 1)

    @property
    def numbers(self) -> tuple[float, float, float, float, float]:
        """What an envelope bounds, in the order of its edges."""
        return self.norm, self.turn, self.base_norm, self.base_turn, self.gap


@dataclass(frozen=True)
class Noises:
    """Implied noise of one step, flat: of the guided sum, of the unconditional branch (the only one without guidance),
    and of the conditional one."""

    guided: npt.NDArray[np.float64]
    base: npt.NDArray[np.float64]
    cond: npt.NDArray[np.float64]


Look.NONE = Look(0.0, math.inf, -1.0, math.inf, -1.0, math.inf)


class EnvelopeCell(Document):
    """The envelope of one kind of run, in thousandths, an eighth of the run each: lowest and highest of each number of
    a look. What a number cannot be too high or too low in has its natural bound there."""

    MAX_BYTES: ClassVar[int] = 4096

    family: Family
    guidance: Strength
    length: Length
    lows: Annotated[tuple[Edges, ...], Field(min_length=NUMBERS, max_length=NUMBERS, strict=False)]
    highs: Annotated[tuple[Edges, ...], Field(min_length=NUMBERS, max_length=NUMBERS, strict=False)]

    def strangeness(self, look: Look) -> float:
        """0 inside; else how far outside, in units of the envelope's own width."""
        if not all(math.isfinite(value) for value in look.numbers):
            return math.inf
        worst = 0.0
        for value, lows, highs in zip(look.numbers, self.lows, self.highs, strict=True):
            low, high = lows[look.bin] / 1000, highs[look.bin] / 1000
            worst = max(worst, (low - value) / (high - low), (value - high) / (high - low))
        return worst


class Envelope(Document):
    """All cells; every kind of run has exactly one."""

    MAX_BYTES: ClassVar[int] = 64 * 1024

    format: Literal["gesso/envelope/1"] = "gesso/envelope/1"
    cells: Annotated[tuple[EnvelopeCell, ...], Field(min_length=1, max_length=64, strict=False)]

    def cell(self, scheduler: Scheduler, guidance: float, steps: int) -> EnvelopeCell:
        """The cell of a run; the first one where a table has none for it."""
        wanted = kind_of(scheduler, guidance, steps)
        for cell in self.cells:
            if (cell.family, cell.guidance, cell.length) == wanted:
                return cell
        return self.cells[0]

    def outside(self, looks: Sequence[Look], scheduler: Scheduler, guidance: float) -> list[float]:
        """How strange each step of a run is; 0 for those inside."""
        cell = self.cell(scheduler, guidance, len(looks))
        return [cell.strangeness(look) for look in looks]


def kind_of(scheduler: Scheduler, guidance: float, steps: int) -> tuple[Family, Strength, Length]:
    """What runs are told apart by."""
    strength: Strength = "off" if guidance <= 1 else "low" if guidance <= 4 else "high"
    length: Length = "short" if steps <= 12 else "middle" if steps <= 32 else "long"
    return _FAMILIES[scheduler], strength, length


def fit(
    family: Family, guidance: Strength, length: Length,
    runs: Iterable[Sequence[Look]], margin: float = 0.5,
) -> EnvelopeCell:  # fmt: skip
    """The envelope around honest runs: what was seen, widened on both sides by `margin` of its width and 0.02."""
    seen: list[list[list[float]]] = [[[] for _ in range(BINS)] for _ in range(NUMBERS)]
    for look in (look for run in runs for look in run):
        for number, value in enumerate(look.numbers):
            seen[number][look.bin].append(value)
    edges = [[_edges(_near(bins, at), margin, number) for at in range(BINS)] for number, bins in enumerate(seen)]
    return EnvelopeCell(
        family=family,
        guidance=guidance,
        length=length,
        lows=tuple(tuple(low for low, _ in bins) for bins in edges),
        highs=tuple(tuple(high for _, high in bins) for bins in edges),
    )


def _edges(seen: Sequence[float], margin: float, number: int) -> tuple[int, int]:
    least, most = min(seen), max(seen)
    room = 0.02 + margin * (most - least)
    low, high = math.floor(1000 * (least - room)), math.ceil(1000 * (most + room))
    # a cosine ends at 1, and the branches of a step cannot be too close to each other
    return (max(-1001, low), 1001) if number in TURNS else (-1, high) if number == GAP else (low, high)


@functools.cache
def shipped_envelope() -> Envelope:
    """The envelope that this version carries."""
    return Envelope.model_validate_json(resources.files("gesso_protocol.audit").joinpath("envelope.json").read_bytes())


def _near(bins: list[list[float]], at: int) -> list[float]:
    """What was seen in an eighth, or in the nearest one that has anything (short runs leave some empty)."""
    return next(found for away in range(BINS) for found in _sides(bins, at, away) if found)


def _sides(bins: list[list[float]], at: int, away: int) -> Iterable[list[float]]:
    return (bins[near] for near in (at - away, at + away) if 0 <= near < BINS)


def _cosine(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    both = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / both if both > 0 else -1.0
