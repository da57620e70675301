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
from gesso.checkpointfile import State
from gesso_node.auditing.ask import Asker, FromNode, Phase
from gesso_node.auditing.assignment import RunAssignment
from gesso_node.auditing.inspect import CannotRunError
from gesso_node.auditing.run_compared import Rerunning, compared, packed, prescribed, profile_in, starts_wrong
from gesso_node.auditing.run_files import RunFiles
from gesso_node.auditing.run_opened import OpenedRun, RunOpener
from gesso_node.auditing.run_results import RunResults
from gesso_node.auditing.run_samples import apart
from gesso_node.auditing.shelf import Shelf
from gesso_node.auditing.work import NO_PROJECTION, STORE_S, Assigned, Finding
from gesso_node.executors.lora.port import Revisited, RevisitJob, TrainingInputs
from gesso_node.work.run_bench import RunBench
from gesso_protocol.audit.limits import shipped_limits
from gesso_protocol.audit.verdict import Verdict
from gesso_protocol.ids import BlobRef
from gesso_protocol.result import ResultManifest
from gesso_protocol.trace import LeafKind, Slot
from gesso_protocol.training.audit import MAX_SEGMENTS, Outcome, gate_draws
from gesso_protocol.training.checkpoint import HEADER_ROOM_BYTES, NOTES_ROOM_BYTES
from gesso_protocol.training.consistency import manifest_fault, opening_fault
from gesso_protocol.training.samples import sample_to_check
from gesso_protocol.training.share import share_fault
from gesso_protocol.training.trace import Segment
from gesso_protocol.training.verdict import RunInspection, judge_run


@dataclass(frozen=True)
class Begun:
    """What spec and seed alone give: the inputs of the run, its start, and on what we compute."""

    inputs: TrainingInputs
    state: State
    size: int
    profile_key: str


class TrainingWork(Assigned[RunAssignment]):
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
        super().__init__(assignment)
        self._asker = asker
        self._bench = bench
        self._seed = seed
        self._shelf = shelf
        self._folder = shelf.path(assignment.task)
        files = RunFiles(asker, assignment.filing.node, self._folder / "opened")
        self._opener = RunOpener(assignment, asker, blobs, files)
        self._results = RunResults(assignment, asker, self._opener, files.folder)
        self._begun: Begun | None = None
        self._needs = _given(assignment)

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
            state = await anyio.to_thread.run_sync(prescribed, done.begun, inputs)
            self._begun = Begun(inputs, state, done.begun.stat().st_size, done.profile.get("key", ""))

    async def opened(self, phase: Phase, seconds: float) -> OpenedRun:
        return await self._opener.opened(phase, seconds, self._ground.size)

    async def taken(self, data: bytes, results: tuple[BlobRef, ...] = ()) -> OpenedRun:
        """Complete openings that somebody else fetched, and where the result is said to be. Raises NotOpenedError."""
        return await self._opener.verified(data, results, "outputs", self._ground.size)

    async def published(self, refs: Iterable[BlobRef]) -> OpenedRun:
        return await self._opener.published(self._results.told(refs), self._ground.size)

    async def compute(self, opened: OpenedRun, *, seconds: float) -> Rerunning:
        return await self._rerun(opened, strict=False, seconds=seconds)

    async def examine(self, opened: OpenedRun, own: Rerunning | None, *, strict: bool, seconds: float) -> Finding:
        task, begun, until = self.assignment, self._ground, anyio.current_time() + seconds
        fault = opening_fault(task.spec, opened.openings)
        if fault:
            found = RunInspection(task.spec, calibrated=False, opening_wrong=fault)
            return Finding(judge_run(found), None, profile_in(opened), self._evidence(opened))
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
        found = await anyio.to_thread.run_sync(compared, found, task.spec, begun.state, opened, own)
        result = await self._results.find(opened)
        if not found.adapter_wrong:
            wrong = await self._results.fault(opened, result, begun.size, begun.inputs.model_dir)
            found = replace(found, adapter_wrong=wrong)
        found = replace(found, share_wrong=self._share_fault(facts.steps_done, broke=None))
        if not own.wrong and not found.share_wrong:
            broke = await self._broke(opened, facts.steps_done, strict=strict, until=until)
            found = replace(found, stop_wrong=self._share_fault(facts.steps_done, broke=broke))
        if not own.wrong:
            found = await self._looked_at(found, opened, result, strict=strict, until=until)
        verdict: Verdict = judge_run(found)
        nothing = bool(own.wrong) or (strict and not limits.measured(mine))
        return Finding(verdict, None if nothing else own.projection, facts.profile, self._evidence(opened))

    async def publish(self, opened: OpenedRun) -> None:
        """Small things first, as time may be short: what was seen of the result is all that nobody else may show."""
        task, seen = self.assignment.task, self._results.seen
        with anyio.move_on_after(STORE_S):
            await self._shelf.publish(task, self._evidence(opened), self._results.evidence(opened))
            for blob, content in sorted(seen.items(), key=lambda item: isinstance(item[1], Path)):
                await self._shelf.publish(task, blob, content)
            for slot, path in opened.files.items():
                await self._shelf.publish(task, opened.openings.file(slot)[0], path)

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

    def _evidence(self, opened: OpenedRun) -> BlobRef:
        return BlobRef.of(self._results.evidence(opened))

    async def _rerun(self, opened: OpenedRun, *, strict: bool, seconds: float) -> Rerunning:
        task, begun = self.assignment, self._ground
        facts = opened.openings.facts()
        checks = task.checks(min(facts.steps_done, task.spec.steps))
        nothing = Rerunning(checks, (), NO_PROJECTION, begun.profile_key)
        if len(checks) == 0:
            return nothing
        starts = [opened.files.get(Slot(LeafKind.CHECKPOINT, step=one.number)) for one in checks]
        wrong = await anyio.to_thread.run_sync(starts_wrong, checks, starts, begun.state)
        if wrong:
            return replace(nothing, wrong=wrong)
        parts = tuple((one, path) for one, path in zip(checks, starts, strict=True) if path is not None)
        job = RevisitJob(begun.inputs, segments=parts, strict=strict, deadline_s=seconds)
        done = await self._revisited(job, "strict" if strict else "own")
        key = done.profile.get("key", "")
        sealed = await anyio.to_thread.run_sync(packed, task, parts, done.segments)
        return Rerunning(checks, done.segments, sealed, key)

    def _share_fault(self, done: int, *, broke: bool | None) -> str:
        share, spec = self.assignment.share, self.assignment.spec
        asked, late = share.stop_requested, self.assignment.late
        return share_fault(share.bps, spec, done, stop_requested=asked, broke=broke, late=late)

    async def _broke(self, opened: OpenedRun, done: int, *, strict: bool, until: float) -> bool | None:
        """Whether a run that ended early leaves the numbers where it ended; None where that need not be known."""
        spec, count = self.assignment.spec, opened.openings.layout.steps
        if done >= spec.steps or self.assignment.share.stop_requested or self.assignment.late:
            return None
        rest = Segment(count, done, min(done + spec.checkpoint_every, spec.steps))
        job = RevisitJob(self._ground.inputs, segments=((rest, opened.last),), strict=strict, deadline_s=_left(until))
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
        number, theirs = sample_to_check(self.challenge, self.assignment.spec).number, None
        unseen = "nobody has the result" if result is None else "nobody has it"
        if result is not None and not found.adapter_wrong:
            theirs = await self._results.picture(result.images[number].blob)
        done: Revisited | None = None
        job = RevisitJob(
            self._ground.inputs,
            weigh=opened.last,
            draws=() if self._bench.taken else gate_draws(self.assignment.spec),
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
        off = await anyio.to_thread.run_sync(apart, theirs, done.sample, self.assignment.spec.resolution)
        return replace(found, sample=off)

    async def _revisited(self, job: RevisitJob, folder: str) -> Revisited:
        done = await self._bench.revisit(job, self._folder / folder)
        if isinstance(done, Revisited):
            return done
        kind = type(done).__name__
        raise CannotRunError(f"{kind}: {done.reason}", hopeless=kind in ("OutOfMemory", "Unfit"))


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
