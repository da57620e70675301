"""Cheats of the node itself that lie in what it commits to: an executor around an honest one."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio.to_thread

from gesso_node.executors.port import (
    Executor,
    ExecutorHealth,
    Finished,
    Job,
    OnEvent,
    Outcome,
    ReplayJob,
    ReplayOutcome,
)
from gesso_node.executors.trace import RecordedTrace
from gesso_protocol.errors import ExecutorCrashed
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import Root


class RootForger:
    """`copied-root`: a trace root that belongs to other work. `sold-twice`: the first task's trace for every task."""

    def __init__(self, honest: Executor, cheat: str) -> None:
        self._honest = honest
        self._cheat = cheat
        self._sold: tuple[Job, Finished] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    @property
    def name(self) -> str:
        return self._honest.name

    async def warm(self, model_dir: Path | None) -> None:
        await self._honest.warm(model_dir)

    async def run(self, job: Job, *, on_event: OnEvent) -> Outcome:
        if self._cheat == "sold-twice" and self._sold is not None:
            again = await anyio.to_thread.run_sync(_sell_again, *self._sold, job)
            if again is not None:
                return again
        outcome = await self._honest.run(job, on_event=on_event)
        if not isinstance(outcome, Finished):
            return outcome
        if self._cheat == "copied-root":
            return replace(outcome, trace_root=forged_root(outcome.trace_root))
        self._sold = self._sold or (job, outcome)
        return outcome

    async def replay(self, job: ReplayJob) -> ReplayOutcome:
        return await self._honest.replay(job)

    def health(self) -> ExecutorHealth:
        return self._honest.health()


def forged_root(root: Root) -> Root:
    """A root under which nothing of this task lies, as one copied from another node."""
    return Root(keccak256(root.value))


def _sell_again(sold: Job, finished: Finished, job: Job) -> Finished | None:
    """The old files under the new task's name; None where their shape would not fit, or where they are gone."""
    old, new = sold.spec, job.spec
    same = (old.count, old.steps, old.width, old.height, old.guidance > 1)
    if same != (new.count, new.steps, new.width, new.height, new.guidance > 1):
        return None
    try:
        shutil.copytree(sold.out_dir, job.out_dir, dirs_exist_ok=True)
        root = RecordedTrace.read(job.out_dir, new).root(job.binding)
    except (OSError, ExecutorCrashed):
        return None
    images = tuple(
        replace(image, path=job.out_dir / image.path.name, seed=new.image_seed(image.index))
        for image in finished.images
    )
    return replace(finished, images=images, trace_root=root, seconds=0.0, load_seconds=0.0)


def with_cheat(executor: Executor, cheat: str | None) -> Executor:
    """`executor`, or one that lies about its roots when this is such a cheat."""
    return RootForger(executor, cheat) if cheat in ("copied-root", "sold-twice") else executor
