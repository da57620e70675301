"""Training through the executor port: in a child process, or for tests in a thread of this one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import anyio
import anyio.from_thread
import anyio.to_thread

from gesso_node.executors.answers import failure
from gesso_node.executors.child import ChildExecutor
from gesso_node.executors.engine import Cancelled
from gesso_node.executors.fake import FakeEngine, FakeExecutor, ThreadCrashError, ThreadEngine
from gesso_node.executors.lora.fault import InputInvalid
from gesso_node.executors.lora.inside import TrainingEngine, revisit_inside, train_inside
from gesso_node.executors.lora.messages import RevisitDone, TrainDone, TrainStep
from gesso_node.executors.lora.outside import revisit_message, revisited, step_of, train_message, trained
from gesso_node.executors.lora.pausing import PausedError
from gesso_node.executors.lora.port import (
    OnPause,
    OnTraining,
    Revisited,
    RevisitJob,
    RevisitOutcome,
    Trained,
    TrainingInputs,
    TrainingJob,
    TrainingOutcome,
    TrainingStep,
    no_pause,
)
from gesso_node.executors.messages import Failed, FromChild
from gesso_node.executors.port import Crashed, ExecutorHealth, OutOfMemory, TimedOut, Unfit
from gesso_node.executors.process import Child
from gesso_protocol.errors import ExecutorCrashed, ModelInvalid

_Done = TypeVar("_Done", Trained, Revisited)
_Message = TypeVar("_Message", TrainDone, RevisitDone)
_Outcome = TypeVar("_Outcome")


@runtime_checkable
class TrainingExecutor(Protocol):
    """An executor that also trains. One job at a time, pictures and trainings together."""

    async def train(self, job: TrainingJob, *, on_event: OnTraining, on_pause: OnPause = no_pause) -> TrainingOutcome:
        """Runs or goes on with `job`; checks of others' work (`replay`, `revisit`) go before it, and it pauses between
        two updates while they last, which `on_pause` is told. Cancelling the call stops the work; what was checkpointed
        stays."""
        ...

    async def revisit(self, job: RevisitJob, out_dir: Path) -> RevisitOutcome:
        """Parts of a run again, for an audit; our states are written to `out_dir`."""
        ...

    def health(self) -> ExecutorHealth:
        """Whether it is busy, among other things."""
        ...


class TrainingChildExecutor(ChildExecutor):
    """A child executor whose engine can also train."""

    async def train(self, job: TrainingJob, *, on_event: OnTraining, on_pause: OnPause = no_pause) -> TrainingOutcome:
        stretches = _Stretches(on_event, on_pause)

        async def told(message: FromChild) -> bool:
            if not isinstance(message, TrainStep):
                return True
            await stretches.tell(step_of(message))
            return False

        async def work(child: Child) -> TrainingOutcome | None:
            answer = await child.converse(lambda number: train_message(number, job), told)
            if isinstance(answer, Failed) and answer.reason == "paused":
                await stretches.pause()
                return None
            return await _ended(answer, child, TrainDone, lambda message: trained(message, job, self.name))

        return await self.precedence.train(
            job.out_dir, job.deadline_s, lambda left_s: self._counted(job.inputs, left_s, work)
        )

    async def revisit(self, job: RevisitJob, out_dir: Path) -> RevisitOutcome:
        async def told(_: FromChild) -> bool:
            return True

        async def work(child: Child) -> RevisitOutcome:
            answer = await child.converse(lambda number: revisit_message(number, job, out_dir), told)
            return await _ended(answer, child, RevisitDone, lambda message: revisited(message, job, out_dir))

        try:
            async with self.precedence.check(job.deadline_s) as left_s:
                return await self._counted(job.inputs, left_s, work)
        except TimeoutError:
            return TimedOut("other work held the executor until the deadline", job.deadline_s)

    async def _counted(
        self, inputs: TrainingInputs, seconds: float, work: Callable[[Child], Awaitable[_Outcome]]
    ) -> _Outcome | TimedOut | Crashed:
        """`work` with the child of this base; one that fails is gone afterwards."""
        key = str(inputs.model_dir) if inputs.model_dir else ""
        outcome = await self._bounded(key, seconds, work)
        if isinstance(outcome, Crashed | OutOfMemory | TimedOut):
            self._ended[type(outcome).__name__] += 1
            await self._drop(key)
        return outcome


async def _ended(
    answer: FromChild, child: Child, kind: type[_Message], done: Callable[[_Message], _Done]
) -> _Done | OutOfMemory | Unfit | Crashed:
    if isinstance(answer, Failed):
        return failure(answer, child.tail())
    if not isinstance(answer, kind):
        raise ExecutorCrashed(f"unexpected {answer.kind} from the child")
    return await anyio.to_thread.run_sync(done, answer)


class TrainingThreadExecutor(FakeExecutor):
    """The fake executor with a trainer in numpy, in a thread of this process: for tests that hold whole networks.

    `engine` may be any engine that trains; a real one then runs without a child.
    """

    engine: TrainingEngine | None = None

    async def train(self, job: TrainingJob, *, on_event: OnTraining, on_pause: OnPause = no_pause) -> TrainingOutcome:
        stretches = _Stretches(on_event, on_pause)

        async def attempt(left_s: float) -> TrainingOutcome | None:
            try:
                return await self._stretch(job, left_s, stretches.tell)
            except PausedError:
                await stretches.pause()
                return None

        return await self.precedence.train(job.out_dir, job.deadline_s, attempt)

    async def _stretch(self, job: TrainingJob, seconds: float, on_event: OnTraining) -> TrainingOutcome:
        """Until the run's end, or a pause. Raises PausedError."""
        wanted = [True]

        def emit(message: TrainStep) -> None:
            if not wanted[0]:
                raise Cancelled
            anyio.from_thread.run(_tell, on_event, message)

        engine = self.engine or ThreadEngine(self._faults)

        def work() -> Trained:
            return trained(train_inside(engine, train_message(1, job), emit), job, self.name)

        try:
            return await self._bounded_training(seconds, work)
        finally:
            wanted[0] = False
            if isinstance(engine, ThreadEngine):
                engine.stop()

    async def revisit(self, job: RevisitJob, out_dir: Path) -> RevisitOutcome:
        def work() -> Revisited:
            engine = self.engine or FakeEngine()
            return revisited(revisit_inside(engine, revisit_message(1, job, out_dir)), job, out_dir)

        try:
            async with self.precedence.check(job.deadline_s) as left_s:
                return await self._bounded_training(left_s, work)
        except TimeoutError:
            return TimedOut("other work held the executor until the deadline", job.deadline_s)

    async def _bounded_training(
        self, seconds: float, work: Callable[[], _Done]
    ) -> _Done | Crashed | OutOfMemory | TimedOut | Unfit:
        try:
            with anyio.fail_after(seconds):
                return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
        except TimeoutError:
            return TimedOut("the deadline passed", seconds)
        except ModelInvalid as error:
            return Unfit(error.message, by_input=isinstance(error, InputInvalid))
        except MemoryError as error:
            return OutOfMemory(str(error))
        except (ExecutorCrashed, ThreadCrashError) as error:
            return Crashed(str(error))


class _Stretches:
    """What is told of a run that pauses: the first update of each later stretch says that it is that."""

    def __init__(self, on_event: OnTraining, on_pause: OnPause) -> None:
        self._on_event = on_event
        self._on_pause = on_pause
        self._paused = False

    async def pause(self) -> None:
        self._paused = True
        await self._on_pause()

    async def tell(self, step: TrainingStep) -> None:
        resumed, self._paused = self._paused, False
        await self._on_event(replace(step, resumed=True) if resumed else step)


async def _tell(on_event: OnTraining, message: TrainStep) -> None:
    await on_event(step_of(message))
