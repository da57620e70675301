"""The fake engine: a real PNG drawn from the seed in milliseconds, for tests and devnets without weights.

It never pretends: `fake` stands in the picture, in its receipt chunk, in the result manifest and in the profile.
Everything else has the shape of real work: steps, previews, a trace with start noise and one latent a step.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
import anyio.from_thread
import anyio.to_thread
from pydantic import BaseModel, ConfigDict

from gesso_node.executors.cheats import ENGINE_CHEATS
from gesso_node.executors.cheats.fake import FakeKit
from gesso_node.executors.cheats.forgeries import forged_walk
from gesso_node.executors.engine import Cancelled, Emit, EngineJob, EngineResult, run_facts
from gesso_node.executors.fake_model import EMBEDDING_SHAPE, SCHEDULER_CONFIG, FakeSteps, Weights
from gesso_node.executors.lora.cheats import cheating
from gesso_node.executors.lora.fake_trainer import FakeTrainer
from gesso_node.executors.lora.port import TrainingInputs
from gesso_node.executors.lora.trainer import Trainer
from gesso_node.executors.port import (
    Crashed,
    ExecutorHealth,
    Finished,
    ImageFile,
    Job,
    OnEvent,
    Outcome,
    OutOfMemory,
    Replayed,
    ReplayJob,
    ReplayOutcome,
    StepDone,
    TimedOut,
    Unfit,
)
from gesso_node.executors.precedence import Precedence
from gesso_node.executors.profiles import FAKE_FAMILY, profile_key
from gesso_node.executors.replay import replay_with
from gesso_node.executors.trace import RecordedTrace, TraceRecorder
from gesso_node.executors.walk import Walk
from gesso_node.executors.walk_recorder import WalkRecorder
from gesso_protocol.errors import ModelInvalid
from gesso_protocol.spec import TrainLora

PREVIEW_SIDE = 32
PREVIEW_EVERY = 5


class FakeFaults(BaseModel):
    """How fast it pretends to work, and how it fails when a test asks for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step_s: float = 0.0
    crash_at_step: int | None = None
    hang_at_step: int | None = None
    oom_at_step: int | None = None
    nan_at_step: int | None = None
    """Update (from 0) of a training whose loss is no number; the other faults count updates in the same way."""
    cheat: str | None = None
    """Sell forged work; see `executors/cheats`. For tests of audits."""
    once_file: Path | None = None
    """When set, the fault happens only while this file is absent, and makes it: the second try goes well."""


class FakeEngine:
    """Draws the same picture for the same spec, manifest and seed, everywhere."""

    name = "fake"

    def __init__(self, faults: FakeFaults | None = None) -> None:
        self._faults = faults or FakeFaults()
        # Set when nobody waits for the work any more.
        self._calm = threading.Event()

    def load(self, _: Path) -> float:
        return 0.0

    def run(self, job: EngineJob, emit: Emit) -> EngineResult:
        begun = time.perf_counter()
        job.out_dir.mkdir(parents=True, exist_ok=True)
        profile = _profile(job.spec.dtype)
        steps = FakeSteps(job.spec, Weights.for_task(job.manifest, job.spec))
        honest = Walk(job.spec, steps, steps.schedule)
        forges = self._faults.cheat if self._faults.cheat in ENGINE_CHEATS else None
        walk = forged_walk(forges, FakeKit(job.spec, job.manifest)) if forges else honest
        with TraceRecorder.open(job.out_dir, job.spec, run_facts(job, profile["key"])) as recorder:
            drawing = WalkRecorder(job, walk, steps.shape, recorder)
            drawing.embeddings(EMBEDDING_SHAPE)
            images = tuple(self._picture(drawing, index, emit) for index in range(job.spec.count))
            recorder.finish()
        return EngineResult(images, profile, time.perf_counter() - begun, 0.0)

    def replay(self, job: ReplayJob) -> Replayed:
        begun = time.perf_counter()
        parts = replay_with(job, FakeSteps(job.spec, Weights.for_task(job.manifest, job.spec)))
        return parts.finished(SCHEDULER_CONFIG, _profile("fp32" if job.strict else job.spec.dtype), begun, self.name)

    def _picture(self, drawing: WalkRecorder, index: int, emit: Emit) -> ImageFile:
        for step, latent in drawing.steps(index):
            self._misbehave(step)
            if self._faults.step_s:
                self._calm.wait(self._faults.step_s)
            preview = drawing.preview(index, latent, PREVIEW_SIDE) if step % PREVIEW_EVERY == 0 else None
            emit(StepDone(index, step, drawing.spec.steps, preview))
        return drawing.finish(self.name, index)

    def trainer(self, inputs: TrainingInputs, *, strict: bool = False) -> Trainer:  # noqa: ARG002 - as the port has it
        return cheating(self._faults.cheat, FakeTrainer(inputs, self._before_update))

    def _before_update(self, step: int) -> bool:
        """Be slow or fail as the test wants; false where the loss is to be no number."""
        self._misbehave(step)
        if self._faults.step_s:
            self._calm.wait(self._faults.step_s)
        return step != self._faults.nan_at_step

    def training_profile(self, spec: TrainLora, *, strict: bool = False) -> dict[str, str]:
        return _profile("fp32" if strict else spec.dtype)

    def computing(self, *, strict: bool) -> AbstractContextManager[None]:  # noqa: ARG002 - as the port has it
        return nullcontext()

    def _misbehave(self, step: int) -> None:
        faults = self._faults
        at = (faults.crash_at_step, faults.hang_at_step, faults.oom_at_step)
        if step not in at:
            return
        if faults.once_file is not None:
            if faults.once_file.exists():
                return
            faults.once_file.touch()
        if step == faults.crash_at_step:
            os._exit(139)
        if step == faults.oom_at_step:
            raise MemoryError("the fake engine was told to run out of memory")
        self._calm.wait()


def _profile(dtype: str) -> dict[str, str]:
    return {"device": "none", "engine": "fake", "dtype": dtype, "key": profile_key(dtype, FAKE_FAMILY)}


class FakeExecutor:
    """The fake engine in a thread of this process: for tests that hold whole networks. Same outcomes as a child."""

    name = "fake"

    def __init__(self, faults: FakeFaults | None = None) -> None:
        self._faults = faults or FakeFaults()
        self.precedence = Precedence()
        self._runs = 0
        self._ended: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    async def warm(self, model_dir: Path | None) -> None:  # noqa: ARG002 - as the port has it
        return None

    async def run(self, job: Job, *, on_event: OnEvent) -> Outcome:
        async with self.precedence.turn():
            self._runs += 1
            outcome = await self._run(job, on_event)
        if not isinstance(outcome, Finished):
            name = type(outcome).__name__
            self._ended[name] = self._ended.get(name, 0) + 1
        return outcome

    def health(self) -> ExecutorHealth:
        return ExecutorHealth("fake", busy=self.precedence.busy, started=self._runs, ended=dict(self._ended))

    async def replay(self, job: ReplayJob) -> ReplayOutcome:
        try:
            async with self.precedence.check(job.deadline_s) as left_s:
                with anyio.fail_after(left_s):
                    return await anyio.to_thread.run_sync(FakeEngine().replay, job)
        except TimeoutError:
            return TimedOut("the deadline passed", job.deadline_s)
        except ModelInvalid as error:
            return Unfit(error.message)

    async def _run(self, job: Job, on_event: OnEvent) -> Outcome:
        engine = ThreadEngine(self._faults)
        work = EngineJob(job.spec, job.model_dir, job.out_dir, job.manifest, job.binding.task)

        def emit(step: StepDone) -> None:
            engine.check()
            anyio.from_thread.run(_await_event, on_event, step)

        try:
            with anyio.fail_after(job.deadline_s):
                try:
                    result = await anyio.to_thread.run_sync(engine.run, work, emit, abandon_on_cancel=True)
                finally:
                    engine.stop()
        except TimeoutError:
            return TimedOut("the deadline passed", job.deadline_s)
        except MemoryError as error:
            return OutOfMemory(str(error))
        except ModelInvalid as error:
            return Unfit(str(error))
        except ThreadCrashError as error:
            return Crashed(str(error))
        root = RecordedTrace.read(job.out_dir, job.spec).root(job.binding)
        return Finished(result.images, root, result.profile, self.name, result.seconds, result.load_seconds)


async def _await_event(on_event: OnEvent, step: StepDone) -> None:
    await on_event(step)


class ThreadCrashError(Exception):
    """What a crash of the child is where there is no child."""


class ThreadEngine(FakeEngine):
    """A crash must not take the test's process along, and a hang must end when its caller is gone."""

    def stop(self) -> None:
        self._calm.set()

    def check(self) -> None:
        if self._calm.is_set():
            raise Cancelled

    def _misbehave(self, step: int) -> None:
        if step == self._faults.crash_at_step:
            once = self._faults.once_file
            if once is not None and once.exists():
                return
            if once is not None:
                once.touch()
            raise ThreadCrashError("the fake engine was told to crash")
        super()._misbehave(step)
        self.check()
