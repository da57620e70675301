"""How large an honest error may be, for each kind of arithmetic and device. Measured, committed, never guessed.

A row's key is `{dtype}/{device family}`. `tau_hard` is evidence in a dispute; `tau_soft` feeds a node's score only.
A row that is not `calibrated`, and every profile without a row, is scored and never slashed.
"""

from __future__ import annotations

import functools
from importlib import resources
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from gesso_protocol.encoding import Document

Ppb = Annotated[int, Field(ge=0, le=10**12)]
"""Relative errors are whole billionths, because documents hold no fractions."""
BILLION = 10**9
STRICT = "fp32/strict"
"""The cell of jurors on measured devices: fp32 whatever was ordered, TF32 off, plain kernels."""


class Limit(Document):
    """One cell: limits of the relative error of a branch and of the guided sum, and of the decoded picture."""

    profile: Annotated[str, Field(pattern=r"^(fp32|fp16|bf16)/[a-z0-9][a-z0-9._-]{0,47}$")]
    tau_soft_ppb: Ppb
    tau_hard_ppb: Ppb
    guided_ppb: Ppb
    rgb_levels: Annotated[int, Field(ge=0, le=255)]
    """Largest difference of a pixel in grey levels."""
    calibrated: bool
    samples: Annotated[int, Field(ge=0, lt=2**53)] = 0
    source: Annotated[str, Field(max_length=200)] = ""

    @property
    def tau_soft(self) -> float:
        """Branch error above which the score suffers."""
        return self.tau_soft_ppb / BILLION

    @property
    def tau_hard(self) -> float:
        """Branch error above which a flag is raised."""
        return self.tau_hard_ppb / BILLION

    @property
    def guided(self) -> float:
        """Error of the guided sum above which a flag is raised."""
        return self.guided_ppb / BILLION


class LimitsTable(Document):
    """The committed table; its hash says which limits judged."""

    MAX_BYTES: ClassVar[int] = 256 * 1024

    format: Literal["gesso/limits/1"] = "gesso/limits/1"
    rows: Annotated[tuple[Limit, ...], Field(max_length=256, strict=False)]

    def row(self, node: str, auditor: str) -> Limit:
        """The limit for a node's profile checked on an auditor's: the wider of the two rows, per number.

        Where one of them is unknown the result is not calibrated and its limits are those of the dtype's widest row.
        """
        mine, theirs = self._find(node), self._find(auditor)
        return Limit(
            profile=mine.profile,
            tau_soft_ppb=max(mine.tau_soft_ppb, theirs.tau_soft_ppb),
            tau_hard_ppb=max(mine.tau_hard_ppb, theirs.tau_hard_ppb),
            guided_ppb=max(mine.guided_ppb, theirs.guided_ppb),
            rgb_levels=max(mine.rgb_levels, theirs.rgb_levels),
            calibrated=mine.calibrated and theirs.calibrated,
            samples=min(mine.samples, theirs.samples),
            source=mine.source,
        )

    def measured(self, key: str) -> bool:
        """Whether what a machine of this profile finds may accuse anybody."""
        return self._find(key).calibrated

    def for_juror(self, node: str, juror: str) -> Limit:
        """`row` for a juror's strict re-run on a device of fp32 profile `juror`. Strict arithmetic is the same for all
        devices that were measured; what it is on another one nobody knows."""
        return self.row(node, STRICT if self.measured(juror) else juror)

    def _find(self, key: str) -> Limit:
        for row in self.rows:
            if row.profile == key:
                return row
        dtype = key.partition("/")[0]
        alike = [row for row in self.rows if row.profile.startswith(f"{dtype}/")] or list(self.rows)
        widest = max(alike, key=lambda row: row.tau_hard_ppb)
        return widest.model_copy(update={"calibrated": False, "samples": 0})


@functools.cache
def shipped_limits() -> LimitsTable:
    """The table that this version carries."""
    text = resources.files("gesso_protocol.audit").joinpath("limits.json").read_bytes()
    return LimitsTable.model_validate_json(text)
