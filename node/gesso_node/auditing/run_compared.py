"""What the node's files of a training say beside ours. Heavy, and blocking: it runs in a thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gesso.checkpointfile import State, read_state
from gesso_node.auditing.assignment import RunAssignment
from gesso_node.auditing.run_checks import adapter_fault, fault_in, own_state, shapes_of, start_fault
from gesso_node.auditing.run_opened import OpenedRun
from gesso_node.executors.lora.adapter_file import ADAPTER_FILE
from gesso_node.executors.lora.port import Rerun, TrainingInputs
from gesso_protocol.audit.projection import pack
from gesso_protocol.errors import EncodingInvalid, ModelInvalid
from gesso_protocol.spec import TrainLora
from gesso_protocol.trace import LeafKind, Slot
from gesso_protocol.training.audit import SegmentReport, Weights, fingerprint, judge_segment
from gesso_protocol.training.trace import Segment
from gesso_protocol.training.verdict import RunInspection


@dataclass(frozen=True)
class Rerunning:
    """The drawn segments, computed here. `wrong` says why that could not be, by the node's fault."""

    checks: tuple[Segment, ...]
    parts: tuple[Rerun, ...]
    projection: bytes
    profile_key: str
    wrong: str = ""


def compared(found: RunInspection, spec: TrainLora, begun: State, opened: OpenedRun, own: Rerunning) -> RunInspection:
    """`found`, with everything that files say. Raises CannotRunError for a disk of ours that fails."""
    reports: list[SegmentReport] = []
    away: list[int] = []
    wrong = found.opening_wrong
    for one, part in zip(own.checks, own.parts, strict=False):
        try:
            report = _report(spec, opened, one, part)
        except ModelInvalid as error:
            fault = fault_in(error)
            wrong = wrong or f"checkpoint {one.number + 1}: {fault}"
            continue
        if report is None:
            away.append(one.number)
        else:
            reports.append(report)
    return replace(
        found,
        reports=tuple(reports),
        ran_away=tuple(away),
        opening_wrong=wrong,
        start_wrong=_named("checkpoint 0", start_fault(begun, opened.first)),
        adapter_wrong=_named(ADAPTER_FILE, adapter_fault(opened.last, opened.adapter, spec)),
    )


def prescribed(begun: Path, inputs: TrainingInputs) -> State:
    """Where the run begins: our own start, or the checkpoint that the spec hands on. Raises ModelInvalid."""
    own = own_state(begun)
    return own if inputs.state is None else read_state(inputs.state, shapes_of(own), step=inputs.spec.first_step)


def starts_wrong(checks: Sequence[Segment], starts: Sequence[Path | None], own: State) -> str:
    """Why a segment cannot be run from what the node committed; nothing when it can."""
    for one, path in zip(checks, starts, strict=True):
        if path is None:
            return f"checkpoint {one.number} is not in the trace"
        try:
            state = read_state(path, shapes_of(own))
        except ModelInvalid as error:
            return f"checkpoint {one.number}: {fault_in(error)}"
        if state.step != one.first:
            return f"checkpoint {one.number} is that of step {state.step}, not of step {one.first}"
    return ""


def packed(task: RunAssignment, parts: Sequence[tuple[Segment, Path]], done: Sequence[Rerun]) -> bytes:
    """The fingerprint of our own updates, to seal."""
    updates: list[tuple[Weights, Weights]] = []
    for (_, path), part in zip(parts, done, strict=True):
        start = read_state(path).weights
        # A segment that runs away has no update; it counts as zeros, as an output that is no number does.
        updates.append((start, start if part.state is None else own_state(part.state).weights))
    return pack(fingerprint(task.challenge, task.spec, updates))


def profile_in(opened: OpenedRun) -> str:
    """The profile's key, if it can be read."""
    try:
        return opened.openings.facts().profile
    except EncodingInvalid:
        return ""


def _report(spec: TrainLora, opened: OpenedRun, one: Segment, part: Rerun) -> SegmentReport | None:
    """None when our re-run left the numbers. Raises ModelInvalid for an end that is no checkpoint."""
    theirs = read_state(opened.files[Slot(LeafKind.CHECKPOINT, step=one.number + 1)])
    if theirs.step != one.last:
        raise ModelInvalid(f"it is that of step {theirs.step}, not of step {one.last}")
    if part.state is None:
        return None
    start = read_state(opened.files[Slot(LeafKind.CHECKPOINT, step=one.number)]).weights
    ours, told = own_state(part.state), opened.openings.losses(one.number)
    return judge_segment(spec, one, start, theirs, ours, told, part.losses)


def _named(what: str, fault: str) -> str:
    return f"{what}: {fault}" if fault else ""
