"""Audits of pictures: open the trace, run the drawn steps again, compare everything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import anyio
import anyio.to_thread

from gesso_node.auditing.ask import Asker, Opened, Phase
from gesso_node.auditing.assignment import Assignment
from gesso_node.auditing.inspect import MAX_RECHECKS, Files, Ground, Inspector, Place, Redone, inspect
from gesso_node.auditing.shelf import Shelf
from gesso_node.auditing.work import NO_PROJECTION, STORE_S, Assigned, Finding
from gesso_protocol.audit.limits import shipped_limits
from gesso_protocol.audit.verdict import Inspection, Verdict, judge
from gesso_protocol.errors import EncodingInvalid, GessoError
from gesso_protocol.ids import BlobRef
from gesso_protocol.result import ResultManifest

MAX_IMAGE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Looked:
    """What an inspection of a whole trace came to. `profile` is the key that the node committed, if readable."""

    verdict: Verdict
    redone: Redone
    profile: str
    opened: Opened


class Examiner:
    """Opens, re-runs and judges whole traces: what auditors and jurors have in common."""

    def __init__(self, asker: Asker, inspector: Inspector) -> None:
        self._asker = asker
        self._inspector = inspector

    async def ground(self, assignment: Assignment, *, strict: bool, deadline_s: float) -> Ground:
        """See `Inspector.ground`."""
        return await self._inspector.ground(assignment, strict=strict, deadline_s=deadline_s)

    async def steps(self, assignment: Assignment, ground: Ground, opened: Opened, deadline_s: float) -> Redone:
        """The drawn steps from opened inputs, at the node's own type. Raises CannotRunError."""
        places = assignment.checks
        return await self._inspector.steps(
            assignment, ground, opened.bundle, places, strict=False, deadline_s=deadline_s
        )

    async def examine(
        self, assignment: Assignment, opened: Opened, ground: Ground, redone: Redone | None, *, strict: bool,
        deadline_s: float,
    ) -> Looked:  # fmt: skip
        """Compare everything; what looks wrong without a model is run again too. Raises CannotRunError."""
        bundle = opened.bundle
        try:
            profile = bundle.manifest().profile
            if redone is None or not redone.outputs:
                redone = await self._run(assignment, ground, opened, assignment.checks, strict, deadline_s)
            files = await self._files(assignment, opened)
            rgb = await self._inspector.decode(assignment, ground, bundle, strict=strict, deadline_s=deadline_s)
            verdict = await self._judged(assignment, ground, redone, opened, rgb, files, strict)
            if verdict.recheck:
                more = await self._run(assignment, ground, opened, verdict.recheck[:MAX_RECHECKS], strict, deadline_s)
                wider = Redone({**redone.outputs, **more.outputs}, redone.wrong or more.wrong)
                verdict = await self._judged(assignment, ground, wider, opened, rgb, files, strict)
            return Looked(verdict, redone, profile, opened)
        except EncodingInvalid as error:
            # It opens, and yet it cannot be read as what it must be: that is the node's doing, and proof of it.
            found = Inspection(limit=shipped_limits().row("", ""), opening_wrong=error.message)
            return Looked(judge(found), redone or Redone({}), "", opened)

    async def _run(
        self, assignment: Assignment, ground: Ground, opened: Opened, places: tuple[Place, ...], strict: bool,
        deadline_s: float,
    ) -> Redone:  # fmt: skip
        return await self._inspector.steps(
            assignment, ground, opened.bundle, places, strict=strict, deadline_s=deadline_s
        )

    async def _judged(
        self, assignment: Assignment, ground: Ground, redone: Redone, opened: Opened, rgb: Mapping[int, bytes],
        files: Files, strict: bool,
    ) -> Verdict:  # fmt: skip
        def work() -> Verdict:
            return judge(inspect(assignment, ground, redone, opened.bundle, rgb, files, strict=strict))

        return await anyio.to_thread.run_sync(work)

    async def _files(self, assignment: Assignment, opened: Opened) -> Files:
        manifest: ResultManifest | None = None
        data: dict[int, bytes | None] = {}
        with anyio.move_on_after(STORE_S):
            manifest = await self._asker.result(assignment.task, assignment.filing, opened.result)
        with anyio.move_on_after(STORE_S):
            for entry in () if manifest is None else manifest.images:
                data[entry.index] = await self._picture(assignment, entry.blob)
        return Files(manifest, data)

    async def _picture(self, assignment: Assignment, ref: BlobRef) -> bytes | None:
        try:
            return await self._asker.blob(assignment.filing.node, ref, MAX_IMAGE_BYTES)
        except GessoError:
            return None


@dataclass(frozen=True)
class Worked:
    """What an auditor computed from the inputs alone."""

    assignment: Assignment
    ground: Ground
    redone: Redone

    @property
    def projection(self) -> bytes:
        """What is sealed. Inputs that cannot be run are as good as none: the outputs will say whose fault that is."""
        if self.redone.wrong:
            return NO_PROJECTION
        return self.redone.projection(self.assignment.challenge, self.assignment.checks)


class PictureWork(Assigned[Assignment]):
    """One picture task to audit or to judge; see `work.Work`."""

    def __init__(self, assignment: Assignment, asker: Asker, examiner: Examiner, shelf: Shelf) -> None:
        super().__init__(assignment)
        self._asker = asker
        self._examiner = examiner
        self._shelf = shelf

    async def ready(self, *, seconds: float) -> None:  # noqa: ARG002 - the model is fetched when a step is run
        return None

    async def opened(self, phase: Phase, seconds: float) -> Opened:
        return await self._asker.openings(self.assignment, phase, seconds)

    async def published(self, refs: Iterable[BlobRef]) -> Opened:
        return await self._asker.evidence(self.assignment, refs)

    async def compute(self, opened: Opened, *, seconds: float) -> Worked:
        ground = await self._examiner.ground(self.assignment, strict=False, deadline_s=seconds)
        redone = await self._examiner.steps(self.assignment, ground, opened, seconds)
        return Worked(self.assignment, ground, redone)

    async def examine(self, opened: Opened, own: Worked | None, *, strict: bool, seconds: float) -> Finding:
        task = self.assignment
        if own is None:
            ground, redone = await self._examiner.ground(task, strict=strict, deadline_s=seconds), None
        else:
            ground, redone = own.ground, own.redone
        looked = await self._examiner.examine(task, opened, ground, redone, strict=strict, deadline_s=seconds)
        projection: bytes | None = None
        if not strict or shipped_limits().measured(ground.replayed.profile_key):
            with suppress(EncodingInvalid, KeyError):
                projection = looked.redone.projection(task.challenge, task.checks)
        return Finding(looked.verdict, projection, looked.profile, opened.blob)

    async def publish(self, opened: Opened) -> None:
        with anyio.move_on_after(STORE_S):
            await self._shelf.publish(self.assignment.task, opened.blob, opened.data)

    def forget(self) -> None:
        return None
