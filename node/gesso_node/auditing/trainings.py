"""Audits of trainings: the drawn segments again from the checkpoints that the node opened, and what is exact besides.

Before anything of the node's is fetched we compute the run's start ourselves: it says which parameters there are, so
nothing larger than a checkpoint can be is ever taken. Own results stay on disk until the case is over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
import anyio.to_thread

from gesso.blobs import BlobStore
from gesso.checkpointfile import State, read_state
from gesso_node.auditing.ask import Asker, FromNode, NotOpenedError, Phase
from gesso_node.auditing.assignment import RunAssignment
from gesso_node.auditing.inspect import CannotRunError
from gesso_node.auditing.pictures import MAX_IMAGE_BYTES
from gesso_node.auditing.run_checks import adapter_fault, fault_in, own_state, shapes_of, start_fault
from gesso_node.auditing.run_files import RunFiles
from gesso_node.auditing.run_samples import apart
from gesso_node.auditing.shelf import Shelf
from gesso_node.auditing.work import NO_PROJECTION, STORE_S, Finding
from gesso_node.executors.lora.adapter_file import ADAPTER_FILE
from gesso_node.executors.lora.port import Rerun, Revisited, RevisitJob, TrainingInputs
from gesso_node.executors.lora.sgm_names import layers_in
from gesso_node.work.run_bench import RunBench
from gesso_protocol.audit.limits import shipped_limits
from gesso_protocol.audit.projection import pack
from gesso_protocol.audit.verdict import Verdict
from gesso_protocol.errors import DiskFull, EncodingInvalid, GessoError, ModelInvalid
from gesso_protocol.ids import BlobRef
from gesso_protocol.manifest import ModelManifest
from gesso_protocol.result import ResultManifest
from gesso_protocol.spec import TrainLora
from gesso_protocol.trace import LeafKind, Slot
from gesso_protocol.training.audit import (
    MAX_SEGMENTS,
    Outcome,
    SegmentReport,
    Weights,
    compared_slots,
    fingerprint,
    gate_draws,
    input_slots,
    judge_segment,
)
from gesso_protocol.training.checkpoint import HEADER_ROOM_BYTES, NOTES_ROOM_BYTES
from gesso_protocol.training.consistency import manifest_fault, opening_fault
from gesso_protocol.training.openings import RunOpenings
from gesso_protocol.training.samples import sample_to_check, samples_fault
from gesso_protocol.training.share import share_fault
from gesso_protocol.training.trace import Segment, segments
from gesso_protocol.training.verdict import RunInspection, judge_run

KOHYA_FILE = "adapter_kohya.safetensors"


@dataclass(frozen=True)
class Begun:
    """What spec and seed alone give: the inputs of the run, its start, and on what we compute."""

    inputs: TrainingInputs
    state: State
    size: int
    profile_key: str


@dataclass(frozen=True)
class OpenedRun:
    """Verified openings; `files` are those that were fetched with them, by slot."""

    openings: RunOpenings
    blob: BlobRef
    data: bytes
    result: BlobRef | None
    files: dict[Slot, Path]


@dataclass(frozen=True)
class Rerunning:
    """The drawn segments, computed here. `wrong` says why that could not be, by the node's fault."""

    checks: tuple[Segment, ...]
    parts: tuple[Rerun, ...]
    projection: bytes
    profile_key: str
    wrong: str = ""


class TrainingWork:
    """One training to audit or to judge; see `work.Work`. `seed` gives what the run draws from."""

    def __init__(
        self,
        assignment: RunAssignment,
        asker: Asker,
        bench: RunBench,
        seed: Callable[[], Awaitable[bytes]],
        blobs: BlobStore,
        shelf: Shelf,
    ) -> None:
        self.assignment = assignment
        self._asker = asker
        self._bench = bench
        self._seed = seed
        self._blobs = blobs
        self._shelf = shelf
        self._folder = shelf.path(assignment.task)
        self._files = RunFiles(asker, assignment.filing.node, self._folder / "opened")
        self._begun: Begun | None = None
        self._needs = _given(assignment)
        self._seen: dict[BlobRef, bytes] = {}
        """Of the result, what a juror needs to see what we saw."""

    @property
    def spec(self) -> TrainLora:
        return self.assignment.spec

    @property
    def challenge(self) -> bytes:
        return self.assignment.challenge

    @property
    def tolerance(self) -> int:
        return self.assignment.rules.projection_tolerance

    async def ready(self, *, seconds: float) -> None:
        if self._begun is None:
            task, folder = self.assignment, self._folder / "begun"
            self._shelf.hold(task.task, self._needs)
            source = FromNode(self._asker, task.filing.node)
            seed = await self._seed()
            inputs = await self._bench.inputs(task.spec, task.manifest, seed, folder, source=source)
            done = await self._revisited(RevisitJob(inputs, begin=True, deadline_s=seconds), "begun")
            assert done.begun is not None
            self._hold(done.begun.stat().st_size)
            state = await anyio.to_thread.run_sync(_prescribed, done.begun, inputs)
            self._begun = Begun(inputs, state, done.begun.stat().st_size, done.profile.get("key", ""))

    async def opened(self, phase: Phase, seconds: float) -> OpenedRun:
        async def read(ref: BlobRef, data: bytes, result: BlobRef | None) -> OpenedRun:
            return await self._verified(data, ref, result, phase)

        return await self._asker.opened(self.assignment, phase, seconds, read)

    async def taken(self, blob: BlobRef, data: bytes, result: BlobRef | None = None) -> OpenedRun:
        """Complete openings that somebody else fetched, and where the result is said to be. Raises NotOpenedError."""
        return await self._verified(data, blob, result, "outputs")

    async def published(self, refs: Iterable[BlobRef]) -> OpenedRun:
        worst = NotOpenedError("there is no public evidence")
        for ref in dict.fromkeys(refs):
            try:
                data = await self._blobs.get(ref, max_bytes=self.assignment.bundle_limit)
                return await self._verified(data, ref, None, "outputs")
            except NotOpenedError as error:
                worst = error
            except DiskFull:
                raise
            except GessoError as error:
                worst = NotOpenedError(f"{error.code}: {error.message}")
        raise worst

    async def compute(self, opened: OpenedRun, *, seconds: float) -> Rerunning:
        return await self._rerun(opened, strict=False, seconds=seconds)

    async def examine(self, opened: OpenedRun, own: Rerunning | None, *, strict: bool, seconds: float) -> Finding:
        task, begun, until = self.assignment, self._ground, anyio.current_time() + seconds
        fault = opening_fault(task.spec, opened.openings)
        if fault:
            found = RunInspection(task.spec, calibrated=False, opening_wrong=fault)
            return Finding(judge_run(found), None, _profile(opened.openings), opened.blob)
        if own is None:
            own = await self._rerun(opened, strict=strict, seconds=seconds)
        facts = opened.openings.facts()
        limits, mine = shipped_limits(), own.profile_key
        row = limits.for_juror(facts.profile, mine) if strict else limits.row(facts.profile, mine)
        found = RunInspection(
            task.spec,
            calibrated=row.calibrated,
            checks=len(own.checks),
            opening_wrong=own.wrong,
            manifest_wrong=manifest_fault(task.spec, task.manifest, facts, begun.inputs.seed),
        )
        found = await anyio.to_thread.run_sync(self._compared, found, opened, own)
        result = await self._result(opened)
        found = replace(found, adapter_wrong=await self._adapter_fault(opened, result, found.adapter_wrong))
        found = replace(found, share_wrong=self._share_fault(facts.steps_done, broke=None))
        if not own.wrong and not found.share_wrong:
            broke = await self._broke(opened, facts.steps_done, strict=strict, until=until)
            found = replace(found, stop_wrong=self._share_fault(facts.steps_done, broke=broke))
        if not own.wrong:
            found = await self._looked_at(found, opened, result, strict=strict, until=until)
        verdict: Verdict = judge_run(found)
        nothing = bool(own.wrong) or (strict and not limits.measured(mine))
        return Finding(verdict, None if nothing else own.projection, facts.profile, opened.blob)

    async def publish(self, opened: OpenedRun) -> None:
        task = self.assignment.task
        with anyio.move_on_after(STORE_S):
            await self._shelf.publish(task, opened.blob, opened.data)
            for slot, path in opened.files.items():
                await self._shelf.publish(task, opened.openings.file(slot)[0], path)
            for blob, seen in self._seen.items():
                await self._shelf.publish(task, blob, seen)

    def forget(self) -> None:
        self._shelf.clear(self.assignment.task)

    def _hold(self, state: int) -> None:
        """Room for all states that the case comes to: bounded by our own start of the run, which has the same shapes.
        Raises CannotRunError, and leaves nothing."""
        self._needs = most_held(state) + _given(self.assignment)
        try:
            self._shelf.hold(self.assignment.task, self._needs)
        except CannotRunError:
            self._shelf.clear(self.assignment.task)
            raise

    @property
    def _ground(self) -> Begun:
        if self._begun is None:
            raise CannotRunError("the run's start is not known here yet", hopeless=False)
        return self._begun

    async def _verified(self, data: bytes, blob: BlobRef, result: BlobRef | None, phase: Phase) -> OpenedRun:
        task = self.assignment
        try:
            openings = RunOpenings.decode(data, task.run, task.spec, task.filing.trace_root)
            done = min(openings.facts().steps_done, task.spec.steps)
        except EncodingInvalid as error:
            raise NotOpenedError(f"what the node opened proves nothing: {error.message}") from error
        if phase == "outputs" and not openings.complete:
            raise NotOpenedError("the node did not open every leaf")
        if len(segments(task.spec, done)) != openings.layout.steps:
            return OpenedRun(openings, blob, data, result, {})  # its facts contradict its trace: that is proof enough
        checks = task.checks(done)
        slots = compared_slots(checks, openings.layout.steps) if phase == "outputs" else input_slots(checks)
        files = {}
        for slot in slots:
            if slot.kind is LeafKind.CHECKPOINT:
                files[slot] = await self._files.get(openings, slot, self._ground.size + HEADER_ROOM_BYTES)
        if phase == "outputs":
            files[_FILE] = await self._files.get(openings, _FILE, self._ground.size + NOTES_ROOM_BYTES)
        return OpenedRun(openings, blob, data, result, files)

    async def _rerun(self, opened: OpenedRun, *, strict: bool, seconds: float) -> Rerunning:
        task, begun = self.assignment, self._ground
        facts = opened.openings.facts()
        checks = task.checks(min(facts.steps_done, task.spec.steps))
        nothing = Rerunning(checks, (), NO_PROJECTION, begun.profile_key)
        if len(checks) == 0:
            return nothing
        starts = [opened.files.get(Slot(LeafKind.CHECKPOINT, step=one.number)) for one in checks]
        wrong = await anyio.to_thread.run_sync(_starts_wrong, checks, starts, begun.state)
        if wrong:
            return replace(nothing, wrong=wrong)
        parts = tuple((one, path) for one, path in zip(checks, starts, strict=True) if path is not None)
        job = RevisitJob(begun.inputs, segments=parts, strict=strict, deadline_s=seconds)
        done = await self._revisited(job, "strict" if strict else "own")
        key = done.profile.get("key", "")
        packed = await anyio.to_thread.run_sync(_packed, task, parts, done.segments)
        return Rerunning(checks, done.segments, packed, key)

    def _compared(self, found: RunInspection, opened: OpenedRun, own: Rerunning) -> RunInspection:
        """Everything that files say, heavy: runs in a thread."""
        begin, count = Slot(LeafKind.CHECKPOINT), opened.openings.layout.steps
        last = opened.files[Slot(LeafKind.CHECKPOINT, step=count)]
        reports: list[SegmentReport] = []
        away: list[int] = []
        wrong = found.opening_wrong
        for one, part in zip(own.checks, own.parts, strict=False):
            try:
                report = self._report(opened, one, part)
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
            start_wrong=_named("checkpoint 0", start_fault(self._ground.state, opened.files[begin])),
            adapter_wrong=_named(ADAPTER_FILE, adapter_fault(last, opened.files[_FILE], self.assignment.spec)),
        )

    def _report(self, opened: OpenedRun, one: Segment, part: Rerun) -> SegmentReport | None:
        """None when our re-run left the numbers. Raises ModelInvalid for an end that is no checkpoint."""
        theirs = read_state(opened.files[Slot(LeafKind.CHECKPOINT, step=one.number + 1)])
        if theirs.step != one.last:
            raise ModelInvalid(f"it is that of step {theirs.step}, not of step {one.last}")
        if part.state is None:
            return None
        start = read_state(opened.files[Slot(LeafKind.CHECKPOINT, step=one.number)]).weights
        ours, told = own_state(part.state), opened.openings.losses(one.number)
        return judge_segment(self.assignment.spec, one, start, theirs, ours, told, part.losses)

    async def _result(self, opened: OpenedRun) -> ResultManifest | None:
        """What the node bound on chain; None when nobody has it."""
        task = self.assignment
        with anyio.move_on_after(STORE_S):
            hint = opened.result or await self._asker.hint(task)
            result = await self._asker.result(task.task, task.filing, hint)
            if result is not None:
                self._seen[result.ref] = result.encode()
            return result
        return None

    async def _adapter_fault(self, opened: OpenedRun, result: ResultManifest | None, wrong: str) -> str:
        """Whether the result hands over what the trace ends with. What nobody has is not held against the node here."""
        if wrong or result is None:
            return wrong
        told = result.profile.get("steps-done", "")
        if result.adapter is None or told != str(opened.openings.facts().steps_done):
            return f"the result says {told[:20] or 'no'} updates" if result.adapter else "the result holds no adapter"
        if fault := samples_fault(self.spec, result.images):
            return fault
        with anyio.move_on_after(STORE_S):
            return await self._handed_over(opened, result.adapter)
        return ""

    async def _handed_over(self, opened: OpenedRun, adapter: BlobRef) -> str:
        node, size = self.assignment.filing.node, self._ground.size
        try:
            raw = await self._asker.blob(node, adapter, ModelManifest.MAX_BYTES)
        except GessoError:
            return ""
        try:
            blobs = {entry.path: entry.blob for entry in ModelManifest.decode(raw).files}
        except EncodingInvalid as error:
            return f"the adapter's manifest is none: {error.message}"
        if blobs.get(ADAPTER_FILE) != opened.openings.file(_FILE)[0]:
            return f"the result's {ADAPTER_FILE} is not the trace's"
        if KOHYA_FILE not in blobs:
            return ""
        path = self._folder / "opened" / KOHYA_FILE
        try:
            await self._asker.fetch(node, blobs[KOHYA_FILE], path, size + NOTES_ROOM_BYTES)
        except GessoError:
            return ""
        last = opened.files[Slot(LeafKind.CHECKPOINT, step=opened.openings.layout.steps)]
        layers = await anyio.to_thread.run_sync(layers_in, self._ground.inputs.model_dir)
        return _named(
            KOHYA_FILE, await anyio.to_thread.run_sync(adapter_fault, last, path, self.assignment.spec, layers)
        )

    def _share_fault(self, done: int, *, broke: bool | None) -> str:
        share, spec = self.assignment.share, self.assignment.spec
        asked, late = share.stop_requested, self.assignment.late
        return share_fault(share.bps, spec, done, stop_requested=asked, broke=broke, late=late)

    async def _broke(self, opened: OpenedRun, done: int, *, strict: bool, until: float) -> bool | None:
        """Whether a run that ended early leaves the numbers where it ended; None where that need not be known."""
        spec, count = self.assignment.spec, opened.openings.layout.steps
        if done >= spec.steps or self.assignment.share.stop_requested or self.assignment.late:
            return None
        last = opened.files[Slot(LeafKind.CHECKPOINT, step=count)]
        rest = Segment(count, done, min(done + spec.checkpoint_every, spec.steps))
        job = RevisitJob(self._ground.inputs, segments=((rest, last),), strict=strict, deadline_s=_left(until))
        try:
            return (await self._revisited(job, "rest")).segments[0].state is None
        except CannotRunError:
            return None

    async def _looked_at(
        self, found: RunInspection, opened: OpenedRun, result: ResultManifest | None, *, strict: bool, until: float
    ) -> RunInspection:
        """With the last weights: a sample again, and whether training helped. The latter is a remark, so a machine that
        has other work says nothing of it; a juror that cannot draw the sample cannot tell, but an auditor did its part.
        """
        number, theirs = sample_to_check(self.challenge, self.spec).number, None
        unseen = "nobody has the result" if result is None else "nobody has it"
        if result is not None and not found.adapter_wrong:
            theirs = await self._picture(result.images[number].blob)
        done: Revisited | None = None
        job = RevisitJob(
            self._ground.inputs,
            weigh=opened.files[Slot(LeafKind.CHECKPOINT, step=opened.openings.layout.steps)],
            draws=() if self._bench.taken else gate_draws(self.spec),
            sample=None if theirs is None else number,
            strict=strict,
            deadline_s=_left(until),
        )
        if job.draws or theirs is not None:
            try:
                done = await self._revisited(job, "weighed")
            except CannotRunError as error:
                unseen = unseen if theirs is None else error.message
        if done is not None and done.weighed is not None and job.draws:
            found = replace(found, outcome=Outcome(*done.weighed))
        if done is None or done.sample is None or theirs is None:
            return replace(found, sample_unseen=unseen, cannot_run=unseen if strict else "")
        off = await anyio.to_thread.run_sync(apart, theirs, done.sample, self.spec.resolution)
        return replace(found, sample=off)

    async def _picture(self, blob: BlobRef) -> bytes | None:
        """A sample as it was handed over; None when nobody has it, as its requester would have noticed."""
        with anyio.move_on_after(STORE_S):
            try:
                data = await self._asker.blob(self.assignment.filing.node, blob, MAX_IMAGE_BYTES)
            except GessoError:
                return None
            self._seen[blob] = data
            return data
        return None

    async def _revisited(self, job: RevisitJob, folder: str) -> Revisited:
        done = await self._bench.revisit(job, self._folder / folder)
        if isinstance(done, Revisited):
            return done
        kind = type(done).__name__
        raise CannotRunError(f"{kind}: {done.reason}", hopeless=kind in ("OutOfMemory", "Unfit"))


_FILE = Slot(LeafKind.FILE)
_STATES = 3 + 4 * MAX_SEGMENTS
"""Our start, the run's first and last; and of each checked segment start and end, and ours, strict too."""
_ADAPTERS = 2


def most_held(state: int) -> int:
    """Bytes of all files of a case whose states have `state` bytes."""
    return _STATES * (state + HEADER_ROOM_BYTES) + _ADAPTERS * (state + NOTES_ROOM_BYTES)


def _given(task: RunAssignment) -> int:
    return 0 if task.spec.resume is None else task.spec.resume.size


def _left(until: float) -> float:
    """What a verdict can do without has only the time that the rest has left of it."""
    return max(until - anyio.current_time(), 0.0)


def _prescribed(begun: Path, inputs: TrainingInputs) -> State:
    """Where the run begins: our own start, or the checkpoint that the spec hands on. Raises ModelInvalid."""
    own = own_state(begun)
    return own if inputs.state is None else read_state(inputs.state, shapes_of(own), step=inputs.spec.first_step)


def _starts_wrong(checks: tuple[Segment, ...], starts: list[Path | None], own: State) -> str:
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


def _packed(task: RunAssignment, parts: tuple[tuple[Segment, Path], ...], done: tuple[Rerun, ...]) -> bytes:
    updates: list[tuple[Weights, Weights]] = []
    for (_, path), part in zip(parts, done, strict=True):
        start = read_state(path).weights
        # A segment that runs away has no update; it counts as zeros, as an output that is no number does.
        updates.append((start, start if part.state is None else own_state(part.state).weights))
    return pack(fingerprint(task.challenge, task.spec, updates))


def _named(what: str, fault: str) -> str:
    return f"{what}: {fault}" if fault else ""


def _profile(openings: RunOpenings) -> str:
    try:
        return openings.facts().profile
    except EncodingInvalid:
        return ""
