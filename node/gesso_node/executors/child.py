"""Runs an engine in a child process that holds no keys, and turns every way it can end into an outcome.

One warm child a model: start-up costs more than a picture. The child's environment is built from an allow-list, its
lines are bounded, its stderr is kept only as a short tail, and it never outlives this object.
"""

from __future__ import annotations

import json
import secrets
import shutil
import sys
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import anyio
import anyio.to_thread

from gesso_node.executors.answers import failure, outcome_of
from gesso_node.executors.environment import ChildSettings, child_environment
from gesso_node.executors.port import (
    Crashed,
    ExecutorHealth,
    Finished,
    Job,
    OnEvent,
    Outcome,
    Replayed,
    ReplayJob,
    ReplayOutcome,
    TimedOut,
    Unfit,
)
from gesso_node.executors.precedence import Precedence
from gesso_node.executors.process import Child
from gesso_protocol.errors import ExecutorCrashed, ExecutorTimeout, ModelInvalid

_Result = TypeVar("_Result")


class ChildExecutor:
    """An executor whose engine lives in child processes, one warm child a model."""

    def __init__(
        self, engine: str, home: Path, settings: ChildSettings | None = None, *, command: Sequence[str] | None = None
    ) -> None:
        self._engine = engine
        self._home = home
        self._settings = settings or ChildSettings()
        self._command = list(command) if command else self._default_command()
        self._children: OrderedDict[str, Child] = OrderedDict()
        self.precedence = Precedence()
        self._tasks = anyio.create_task_group()
        self._started = 0
        self._ended: Counter[str] = Counter()

    @property
    def name(self) -> str:
        return self._engine

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children.values():
            await child.kill()
        self._children.clear()
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)

    def health(self) -> ExecutorHealth:
        warm = tuple(key for key, child in self._children.items() if child.alive)
        return ExecutorHealth(self._engine, warm, self.precedence.busy, self._started, dict(self._ended))

    async def warm(self, model_dir: Path | None) -> None:
        """Start the child of this model and have it load. Failures are left for the job to report."""
        async with self.precedence.turn():
            key = _key(model_dir)
            try:
                child = await self._child(key)
                if model_dir is not None:
                    await child.load(model_dir)
            except (ExecutorCrashed, ExecutorTimeout):
                await self._drop(key)
            except BaseException:
                await self._drop(key)
                raise

    async def run(self, job: Job, *, on_event: OnEvent) -> Outcome:
        async with self.precedence.turn():
            key = _key(job.model_dir)
            outcome = await self._attempt(key, job, on_event)
            if not isinstance(outcome, Finished | Unfit):
                self._ended[type(outcome).__name__] += 1
                await self._drop(key)
            return outcome

    async def replay(self, job: ReplayJob) -> ReplayOutcome:
        try:
            async with self.precedence.check(job.deadline_s) as left_s:
                key = _key(job.model_dir)
                # A name of its own: a node that was killed leaves its folder behind.
                folder = self._home / f"replay-{secrets.token_hex(8)}"
                outcome = await self._bounded(key, left_s, lambda child: self._replayed(child, job, folder))
                if not isinstance(outcome, Replayed | Unfit):
                    self._ended[type(outcome).__name__] += 1
                    await self._drop(key)
                return outcome
        except TimeoutError:
            return TimedOut("other work held the executor until the deadline", job.deadline_s)

    async def _replayed(self, child: Child, job: ReplayJob, folder: Path) -> ReplayOutcome:
        try:
            answer = await child.replay(job, folder)
        except ModelInvalid as error:
            return Unfit(error.message)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))
        return answer if isinstance(answer, Replayed) else failure(answer, child.tail())

    async def _attempt(self, key: str, job: Job, on_event: OnEvent) -> Outcome:
        async def run(child: Child) -> Outcome:
            return outcome_of(await child.run(job, on_event), job, self._engine, child.tail())

        return await self._bounded(key, job.deadline_s, run)

    async def _bounded(
        self, key: str, deadline_s: float, work: Callable[[Child], Awaitable[_Result]]
    ) -> _Result | TimedOut | Crashed:
        """`work` with the child of this key; how a child fails becomes an outcome, and a cancelled call kills it."""
        try:
            with anyio.fail_after(deadline_s):
                return await work(await self._child(key))
        except TimeoutError:
            return TimedOut("the deadline passed", deadline_s)
        except ExecutorTimeout as error:
            return TimedOut(error.message, self._settings.stall_s)
        except ExecutorCrashed as error:
            return Crashed(error.message, self._tail_of(key))
        except BaseException:
            # Starting a child costs seconds, so a job that is merely not wanted any more does not cost the child.
            busy = self._children.get(key)
            if busy is None or not busy.working or not await busy.stop_job(self._settings.cancel_s):
                await self._drop(key)
            raise

    async def _child(self, key: str) -> Child:
        child = self._children.get(key)
        if child is not None and child.alive:
            self._children.move_to_end(key)
            return child
        await self._drop(key)
        while len(self._children) >= self._settings.max_warm:
            await self._drop(next(iter(self._children)))
        self._home.mkdir(parents=True, exist_ok=True)
        process = await anyio.open_process(
            self._command,
            cwd=self._home,
            env=child_environment(self._home, settings=self._settings),
            start_new_session=True,  # a Ctrl-C in the terminal drains the node; it must not hit the child first
        )
        child = self._children[key] = Child(process, self._settings.stall_s)
        self._started += 1
        self._tasks.start_soon(child.drain_stderr)
        await child.started(self._settings.start_s)
        return child

    async def _drop(self, key: str) -> None:
        child = self._children.pop(key, None)
        if child is not None:
            await child.kill()

    def _tail_of(self, key: str) -> str:
        child = self._children.get(key)
        return child.tail() if child else ""

    def _default_command(self) -> list[str]:
        settings = self._settings
        return [
            sys.executable,
            "-m",
            "gesso_node.executors.worker",
            self._engine,
            json.dumps(settings.options, default=str),
            str(settings.memory_limit_bytes),
        ]


def _key(model_dir: Path | None) -> str:
    return str(model_dir) if model_dir else ""
