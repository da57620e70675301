"""From what an audit of a training found out to a verdict, in the words that audits of pictures use.

*Exact*: what no rounding explains (facts, start state, adapter file, share of a run). *Measured*: the end of a re-run
segment against the node's, its losses, and one of the last samples. A run in bf16 or with long segments is measured too
coarsely for proof, so its measured faults never slash. Correct work that helped nobody is noted and paid: settings are
the requester's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from gesso_protocol.audit.verdict import Decision, Fault, Reason, Verdict
from gesso_protocol.training.audit import LOSS_LIMIT_FP32, Outcome, SegmentReport
from gesso_protocol.training.samples import PROOF_LEVELS, SAMPLE_LEVELS
from gesso_protocol.training.spec import TrainLora

PROOF = PROOF_LEVELS / SAMPLE_LEVELS


@dataclass(frozen=True)
class RunInspection:
    """Everything that an auditor or juror found out about one training. Texts say what is wrong, or nothing.

    `calibrated`: whether limits of fp32 are known to hold between the node's profile and ours.
    """

    spec: TrainLora
    calibrated: bool
    checks: int = 0
    """How many segments were to be run again."""
    reports: tuple[SegmentReport, ...] = ()
    opening_wrong: str = ""
    manifest_wrong: str = ""
    start_wrong: str = ""
    adapter_wrong: str = ""
    share_wrong: str = ""
    stop_wrong: str = ""
    """A run that ended early, though it could have gone on here; elsewhere it might not have."""
    ran_away: tuple[int, ...] = ()
    """Segments whose re-run left the numbers where the node's did not."""
    sample: float | None = None
    """Mean distance of the drawn sample from ours, in levels; infinite for a file that is none."""
    sample_unseen: str = ""
    """Why no sample was drawn again."""
    outcome: Outcome | None = None
    cannot_run: str = ""


def judge_run(found: RunInspection) -> Verdict:
    """The verdict; total, and deterministic to the last digit."""
    exact, measured = tuple(_exact(found)), tuple(_measured(found))
    over = tuple(reason for reason in measured if not reason.of_limit <= 1)
    worst = max((reason.of_limit for reason in measured), default=0.0)
    proof = [reason for reason in over if reason.fault is not Fault.SAMPLE or reason.of_limit > PROOF]
    slashable = bool(exact) or (bool(proof) and found.calibrated and found.spec.audited)
    if exact or over:
        return Verdict(Decision.FLAG, (*exact, *over), worst, slashable)
    if found.cannot_run or len(found.reports) < found.checks:
        return Verdict(Decision.CANNOT_TELL, (), worst)
    return Verdict(Decision.PASS, tuple(_notes(found)), worst)


def _exact(found: RunInspection) -> Iterator[Reason]:
    texts = {
        Fault.OPENING: found.opening_wrong,
        Fault.MANIFEST: found.manifest_wrong,
        Fault.START: found.start_wrong,
        Fault.ADAPTER: found.adapter_wrong,
        Fault.SHARE: found.share_wrong,
    }
    yield from (Reason(fault, text) for fault, text in texts.items() if text)


def _measured(found: RunInspection) -> Iterator[Reason]:
    if found.stop_wrong:
        yield Reason(Fault.STOP, found.stop_wrong)
    for number in found.ran_away:
        yield Reason(Fault.UPDATE, f"segment {number} does not end in numbers when it is run again")
    for one in found.reports:
        where = f"segment {one.segment}"
        yield Reason(Fault.UPDATE, f"{where}: off by {one.error:.2g} of its update", _share(one.error, one.limit))
        moments = _share(one.moments_error, one.limit)
        yield Reason(Fault.UPDATE, f"{where}: moments off by {one.moments_error:.2g}", moments)
        if found.spec.dtype == "fp32":
            share = one.loss_error / LOSS_LIMIT_FP32
            yield Reason(Fault.LOSSES, f"{where}: losses off by {one.loss_error:.2g}", share)
    if found.sample is not None:
        detail = "the drawn sample is off by " + (
            f"{found.sample:.2g} levels" if found.sample < 256 else "all that it is"
        )
        yield Reason(Fault.SAMPLE, detail, _share(found.sample, SAMPLE_LEVELS))


def _share(error: float, limit: float) -> float:
    return error / limit if math.isfinite(error) else math.inf


def _notes(found: RunInspection) -> Iterator[Reason]:
    if not found.spec.audited:
        yield Reason(Fault.LOOSE, "bf16 or long segments: only loosely checked", 0.0)
    if found.sample_unseen:
        yield Reason(Fault.SAMPLE, f"no sample was drawn again: {found.sample_unseen}", 0.0)
    if found.outcome is not None and not found.outcome.useful:
        detail = f"loss {found.outcome.trained_loss:.4g}, that of the base {found.outcome.base_loss:.4g}"
        yield Reason(Fault.OUTCOME, f"correct, but of no use: {detail}", 0.0)
