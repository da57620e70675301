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
Milli = Annotated[int, Field(ge=-1000, le=100_000)]
Edges = Annotated[tuple[Milli, ...], Field(min_length=BINS, max_length=BINS, strict=False)]
Family = Literal["single", "multi", "ancestral"]
_FAMILIES: dict[Scheduler, Family] = {
    "ddim": "single",
    "euler": "single",
    "euler_a": "ancestral",
    "dpmpp_2m": "multi",
}


@dataclass(frozen=True)
class Look:
    """One step's implied noise: `norm` over sqrt(values), `turn` its cosine to that of the step before (1 at the
    first); `at` is how much of the run is over, 0 to 1."""

    at: float
    norm: float
    turn: float

    NONE: ClassVar[Look]

    @classmethod
    def of(cls, at: float, noise: npt.NDArray[np.float64], before: npt.NDArray[np.float64] | None) -> Look:
        """The look of flat `noise`."""
        size = float(np.linalg.norm(noise))
        if before is None:
            return cls(at, size / math.sqrt(noise.size), 1.0)
        both = size * float(np.linalg.norm(before))
        turn = float(noise @ before) / both if both > 0 else -1.0
        return cls(at, size / math.sqrt(noise.size), turn)

    @property
    def bin(self) -> int:
        """Which eighth of the run this is."""
        return min(int(self.at * BINS), BINS - 1)


Look.NONE = Look(0.0, math.inf, -1.0)


class EnvelopeCell(Document):
    """The envelope of one kind of run, in thousandths, an eighth of the run each."""

    MAX_BYTES: ClassVar[int] = 4096

    family: Family
    guidance: Literal["off", "low", "high"]
    length: Literal["short", "middle", "long"]
    norm_low: Edges
    norm_high: Edges
    turn_low: Edges

    def strangeness(self, look: Look) -> float:
        """0 inside; else how far outside, in units of the envelope's own width."""
        low, high = self.norm_low[look.bin] / 1000, self.norm_high[look.bin] / 1000
        turn = self.turn_low[look.bin] / 1000
        if not math.isfinite(look.norm) or not math.isfinite(look.turn):
            return math.inf
        return max(0.0, (low - look.norm) / (high - low), (look.norm - high) / (high - low),
                   (turn - look.turn) / (1.02 - turn))  # fmt: skip


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


def kind_of(
    scheduler: Scheduler, guidance: float, steps: int
) -> tuple[Family, Literal["off", "low", "high"], Literal["short", "middle", "long"]]:
    """What runs are told apart by."""
    strength: Literal["off", "low", "high"] = "off" if guidance <= 1 else "low" if guidance <= 4 else "high"
    length: Literal["short", "middle", "long"] = "short" if steps <= 12 else "middle" if steps <= 32 else "long"
    return _FAMILIES[scheduler], strength, length


def fit(
    family: Family, guidance: Literal["off", "low", "high"], length: Literal["short", "middle", "long"],
    runs: Iterable[Sequence[Look]], margin: float = 0.5,
) -> EnvelopeCell:  # fmt: skip
    """The envelope around honest runs: what was seen, widened by `margin` of its own width and at least 0.02."""
    norms: list[list[float]] = [[] for _ in range(BINS)]
    turns: list[list[float]] = [[] for _ in range(BINS)]
    for look in (look for run in runs for look in run):
        norms[look.bin].append(look.norm)
        turns[look.bin].append(look.turn)
    low, high, turn = [], [], []
    for at in range(BINS):
        near_norms, near_turns = _near(norms, at), _near(turns, at)
        room = 0.02 + margin * (max(near_norms) - min(near_norms))
        low.append(math.floor(1000 * (min(near_norms) - room)))
        high.append(math.ceil(1000 * (max(near_norms) + room)))
        turn.append(max(-1000, math.floor(1000 * (min(near_turns) - 0.01 - margin * (1 - min(near_turns))))))
    return EnvelopeCell(family=family, guidance=guidance, length=length, norm_low=tuple(low), norm_high=tuple(high),
                        turn_low=tuple(turn))  # fmt: skip


@functools.cache
def shipped_envelope() -> Envelope:
    """The envelope that this version carries."""
    return Envelope.model_validate_json(resources.files("gesso_protocol.audit").joinpath("envelope.json").read_bytes())


def _near(bins: list[list[float]], at: int) -> list[float]:
    """What was seen in an eighth, or in the nearest one that has anything (short runs leave some empty)."""
    return next(found for away in range(BINS) for found in _sides(bins, at, away) if found)


def _sides(bins: list[list[float]], at: int, away: int) -> Iterable[list[float]]:
    return (bins[near] for near in (at - away, at + away) if 0 <= near < BINS)
