"""From numbers to a verdict: what an auditor reveals and what a juror votes, with reasons that a person can read.

Two kinds of evidence. *Exact*: what no rounding explains (start noise, manifest, arithmetic between leaves, files).
*Measured*: errors of re-run outputs against the limits of a profile; without calibrated limits they never slash.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from gesso_protocol.audit.compare import StepErrors
from gesso_protocol.audit.limits import Limit
from gesso_protocol.audit.outcomes import AuditVerdict, Ballot
from gesso_protocol.audit.transitions import TransitionReport

STEADY_PUSH = 0.5
"""Cosine of two checks' residuals from which a push in one direction is suspected; honest rounding stays far below."""


class Decision(enum.StrEnum):
    """What an inspection says of a task."""

    PASS = "pass"  # noqa: S105 - not a password
    FLAG = "flag"
    WITHHELD = "withheld"
    CANNOT_TELL = "cannot-tell"

    @property
    def reveal(self) -> AuditVerdict | None:
        """The number that an auditor reveals; None where it has nothing to say."""
        return _REVEALED.get(self)


_REVEALED = {
    Decision.PASS: AuditVerdict.PASS,
    Decision.FLAG: AuditVerdict.FLAG,
    Decision.WITHHELD: AuditVerdict.WITHHELD,
}


class Fault(enum.StrEnum):
    """What is wrong with a task; from `START` on, with a training. `LOOSE` and `OUTCOME` are remarks."""

    WITHHELD = "withheld"
    OPENING = "opening"
    MANIFEST = "manifest"
    NOISE = "noise"
    ARITHMETIC = "arithmetic"
    FILE = "file"
    EMBEDDING = "embedding"
    BRANCH = "branch"
    GUIDED = "guided"
    DECODE = "decode"
    START = "start"
    ADAPTER = "adapter"
    SHARE = "share"
    STOP = "stop"
    UPDATE = "update"
    LOSSES = "losses"
    SAMPLE = "sample"
    LOOSE = "loose"
    OUTCOME = "outcome"

    @property
    def exact(self) -> bool:
        """Whether no limit is needed to prove it."""
        return self in _EXACT


_EXACT = {
    Fault.WITHHELD, Fault.OPENING, Fault.MANIFEST, Fault.NOISE, Fault.ARITHMETIC, Fault.FILE, Fault.START,
    Fault.ADAPTER, Fault.SHARE,
}  # fmt: skip


@dataclass(frozen=True)
class Reason:
    """One fault, where it is, and how far over its limit (1.0 is at the limit; infinite for exact faults)."""

    fault: Fault
    detail: str
    of_limit: float = math.inf

    def __str__(self) -> str:
        return f"{self.fault.value}: {self.detail}"


@dataclass(frozen=True)
class Inspection:
    """Everything that an auditor or juror found out about one task.

    `limit` is that of the node's profile against the inspector's (`LimitsTable.row`). `embeddings` are relative errors
    of the two text embeddings, `rgb` the largest pixel difference of each decoded picture in grey levels.
    """

    limit: Limit
    steps: tuple[StepErrors, ...] = ()
    embeddings: tuple[float, ...] = ()
    rgb: tuple[int, ...] = ()
    transitions: TransitionReport | None = None
    residual_cosine: float = 0.0
    withheld: bool = False
    opening_wrong: str = ""
    manifest_wrong: str = ""
    noise_wrong: tuple[int, ...] = ()
    """Pictures whose start noise is not that of their seed."""
    files_wrong: tuple[int, ...] = ()
    """Pictures whose file is not their committed pixels, or not the one in the result."""
    cannot_run: str = ""
    """Why nothing could be run again, if so: no model, no memory."""


@dataclass(frozen=True)
class Verdict:
    """The decision. `max_error_of_limit` is the largest measured error in units of its limit (for the receipt)."""

    decision: Decision
    reasons: tuple[Reason, ...] = ()
    max_error_of_limit: float = 0.0
    slashable: bool = False
    """Whether a reason is exact or was measured against calibrated limits."""
    recheck: tuple[tuple[int, int], ...] = field(default=())
    """(image, step) that look wrong without a model and were not run again yet: run them, then judge once more."""

    @property
    def passed(self) -> bool:
        return self.decision is Decision.PASS


def judge(found: Inspection) -> Verdict:
    """The verdict on an inspection; total, and deterministic to the last digit."""
    if found.withheld:
        return Verdict(Decision.WITHHELD, (Reason(Fault.WITHHELD, "no openings in time"),), slashable=True)
    reasons = tuple(_faults(found))
    worst = _worst(found)
    slashable = any(reason.fault.exact for reason in reasons) or (bool(reasons) and found.limit.calibrated)
    if reasons:
        return Verdict(Decision.FLAG, reasons, worst, slashable)
    if found.cannot_run or not found.steps:
        return Verdict(Decision.CANNOT_TELL, (), worst)
    return Verdict(Decision.PASS, (), worst, recheck=_unchecked(found))


def vote(verdict: Verdict) -> Ballot:
    """How a juror votes on its own verdict: bad only on evidence that may slash."""
    if verdict.decision is Decision.PASS:
        return Ballot.GOOD
    guilty = verdict.decision in (Decision.FLAG, Decision.WITHHELD) and verdict.slashable
    return Ballot.BAD if guilty else Ballot.CANNOT_TELL


def projection_wrong(difference: int, tolerance: int, revealed: AuditVerdict) -> bool:
    """Whether a juror calls an auditor's projection wrong: it lies further off than two honest machines do.

    One who found the inputs withheld has nothing to project and is judged by its verdict alone.
    """
    return revealed is not AuditVerdict.WITHHELD and difference > tolerance


def _faults(found: Inspection) -> Iterator[Reason]:
    if found.opening_wrong:
        yield Reason(Fault.OPENING, found.opening_wrong)
    if found.manifest_wrong:
        yield Reason(Fault.MANIFEST, found.manifest_wrong)
    for image in found.noise_wrong:
        yield Reason(Fault.NOISE, f"picture {image} does not start from its seed")
    for image in found.files_wrong:
        yield Reason(Fault.FILE, f"the file of picture {image} is not what was committed")
    if found.transitions is not None:
        for image, step in found.transitions.mismatches:
            yield Reason(Fault.ARITHMETIC, f"picture {image}, step {step}: the latent does not follow from the outputs")
    yield from (reason for reason in _measured(found) if not reason.of_limit <= 1)


def _measured(found: Inspection) -> Iterator[Reason]:
    limit = found.limit
    for number, error in enumerate(found.embeddings):
        yield Reason(Fault.EMBEDDING, f"embedding {number} is off by {error:.2g}", _ratio(error, limit.tau_hard))
    # a steady push hides below a limit that is meant for noise: it gets half of it
    room = 0.5 if abs(found.residual_cosine) > STEADY_PUSH else 1.0
    for step in found.steps:
        where = f"picture {step.image}, step {step.step}"
        yield Reason(Fault.BRANCH, f"{where}: off by {step.branch:.2g}", _ratio(step.branch, room * limit.tau_hard))
        yield Reason(Fault.GUIDED, f"{where}: guided sum off by {step.guided:.2g}", _ratio(step.guided, limit.guided))
    for image, levels in enumerate(found.rgb):
        detail = f"picture {image} decodes to pixels {levels} levels off"
        yield Reason(Fault.DECODE, detail, _ratio(levels, limit.rgb_levels))


def _worst(found: Inspection) -> float:
    return max((reason.of_limit for reason in _measured(found)), default=0.0)


def _ratio(error: float, limit: float) -> float:
    if not math.isfinite(error):
        return math.inf
    if limit > 0:
        return error / limit
    return math.inf if error > 0 else 0.0


def _unchecked(found: Inspection) -> tuple[tuple[int, int], ...]:
    if found.transitions is None:
        return ()
    done = {(step.image, step.step) for step in found.steps}
    return tuple(place for place in found.transitions.suspects if place not in done)
