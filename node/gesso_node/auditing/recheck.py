"""Running steps of somebody's task again for a requester: `gesso task audit` finds this by name where it is installed.

It is what an auditor does, on the user's own machine: same executor in a child process, same comparison.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from gesso.audits.examine_run import RunSubject
from gesso.audits.recheck import Files as PublicFiles
from gesso.audits.subject import Subject
from gesso.blobs import BlobStore, LayeredBlobs, LocalBlobs
from gesso_node.auditing.ask import Asker
from gesso_node.auditing.assignment import Assignment, RunAssignment
from gesso_node.auditing.inspect import CannotRunError, Files, Inspector, Redone, inspect
from gesso_node.auditing.shelf import Shelf
from gesso_node.auditing.trainings import TrainingWork
from gesso_node.executors.child import ChildExecutor
from gesso_node.executors.fake import FakeExecutor
from gesso_node.executors.lora.host import TrainingChildExecutor, TrainingThreadExecutor
from gesso_node.executors.port import Executor
from gesso_node.models.cache import ModelCache
from gesso_node.work.run_bench import RunBench
from gesso_protocol.audit.bundle import Bundle
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.audit.verdict import Inspection, Verdict, judge
from gesso_protocol.training.openings import RunOpenings

if TYPE_CHECKING:
    from gesso_node.auditing.inspect import Ground

DEADLINE_S = 1800.0
MODEL_BYTES = 50 * 10**9
MAX_RECHECKS = 3
FAKE = "/fake"


class OwnReplayer:
    """Runs the checked steps, the start noise, the embeddings and the decode of a task on this machine."""

    def __init__(self, stack: AsyncExitStack, folder: Path, models: ModelCache, blobs: BlobStore) -> None:
        self._stack = stack
        self._folder = folder
        self._models = models
        self._blobs = blobs

    async def inspect_run(self, subject: RunSubject, data: bytes) -> tuple[Verdict, str]:
        """The drawn segments, the start and the files of a training. Raises CannotRunError, NotOpenedError for
        checkpoints that nobody has, and what fetching the model raises."""
        if subject.challenge is None:
            raise CannotRunError("nothing of this training was drawn", hopeless=True)
        opened = RunOpenings.decode(data, subject.run, subject.spec, subject.filing.trace_root)
        fake = opened.facts().profile.endswith(FAKE)
        made = TrainingThreadExecutor() if fake else TrainingChildExecutor("diffusers", self._folder / "executor")
        executor = await self._stack.enter_async_context(made)
        bench = RunBench(executor, self._models, self._blobs, needs_model=not fake)
        task = RunAssignment(
            subject.run, subject.filing, subject.spec, subject.manifest, subject.challenge, AuditRules(), subject.share,
            subject.late,
        )  # fmt: skip

        async def seed() -> bytes:
            return subject.seed

        asker = Asker(subject.filing.node, self._blobs, None, None, ())
        shelf = Shelf(self._folder, self._blobs, budget_bytes=MODEL_BYTES)
        work = TrainingWork(task, asker, bench, seed, self._blobs, shelf)
        try:
            await work.ready(seconds=DEADLINE_S)
            taken = await work.taken(data, subject.results)
            finding = await work.examine(taken, None, strict=False, seconds=DEADLINE_S)
        finally:
            await anyio.to_thread.run_sync(work.forget)
        return finding.verdict, finding.profile

    async def inspect(self, subject: Subject, opened: Bundle, files: PublicFiles) -> Inspection:
        """Everything compared. Raises CannotRunError, and what fetching the model raises."""
        fake = opened.manifest().profile.endswith(FAKE)
        inspector = Inspector(await self._executor(fake), self._models, needs_model=not fake)
        assignment = Assignment(
            subject.run, subject.filing, subject.spec, subject.manifest, subject.challenge, AuditRules()
        )
        ground = await inspector.ground(assignment, strict=False, deadline_s=DEADLINE_S)
        redone = await inspector.steps(assignment, ground, opened, subject.checks, strict=False, deadline_s=DEADLINE_S)
        rgb = await inspector.decode(assignment, ground, opened, strict=False, deadline_s=DEADLINE_S)
        had = Files(files.result, dict(enumerate(files.pictures)))
        found = await _compared(assignment, ground, redone, opened, rgb, had)
        strange = judge(found).recheck[:MAX_RECHECKS]
        if not strange:
            return found
        more = await inspector.steps(assignment, ground, opened, strange, strict=False, deadline_s=DEADLINE_S)
        wider = Redone({**redone.outputs, **more.outputs}, redone.wrong or more.wrong)
        return await _compared(assignment, ground, wider, opened, rgb, had)

    async def _executor(self, fake: bool) -> Executor:
        made: Executor = FakeExecutor() if fake else ChildExecutor("diffusers", self._folder / "executor")
        return await self._stack.enter_async_context(made)


@asynccontextmanager
async def open_replayer(home: Path, blobs: BlobStore) -> AsyncIterator[OwnReplayer]:
    """A replayer whose models are kept under `home`; its child process ends with the block."""
    folder = home / "recheck"
    folder.mkdir(parents=True, exist_ok=True)
    store = LayeredBlobs([LocalBlobs(folder / "blobs"), blobs])
    async with AsyncExitStack() as stack:
        models = ModelCache(folder / "models", store, budget_bytes=MODEL_BYTES)
        yield OwnReplayer(stack, folder.absolute(), models, store)


async def _compared(
    assignment: Assignment, ground: Ground, redone: Redone, opened: Bundle, rgb: Mapping[int, bytes], files: Files
) -> Inspection:
    def compare() -> Inspection:
        return inspect(assignment, ground, redone, opened, rgb, files, strict=False)

    return await anyio.to_thread.run_sync(compare)
