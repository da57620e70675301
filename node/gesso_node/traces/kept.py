"""Kept traces: whole while anybody may still ask for them, then for a while if there is room, then gone.

One folder a task. A task that is settled, ruled or lost is *released*: nobody can be asked to open it on chain any
more, but its requester may still want to check it. Released traces leave first by age, then by need of room, the
oldest first; a trace that is not released never leaves, whatever the budget says.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import structlog

from gesso_node.traces.handed import NOTES, handed
from gesso_protocol.ids import BlobRef, TaskId

log = structlog.get_logger("gesso.node.traces")
RELEASED = "released"
"""An empty file in the folder of a released trace; its time stamp is when that happened."""


@dataclass(frozen=True, slots=True)
class _Kept:
    folder: Path
    size: int
    released_at: float | None


class Traces:
    """The folder of all traces. `budget_bytes` bounds what is kept, `keep_s` how long a released trace may stay, `drop`
    removes blobs that were made from it."""

    def __init__(
        self,
        folder: Path,
        *,
        budget_bytes: int,
        keep_s: float,
        wall: Callable[[], float] = time.time,
        drop: Callable[[BlobRef], None] = lambda _: None,
    ) -> None:
        self._folder = folder
        self._budget = budget_bytes
        self._keep_s = keep_s
        self._wall = wall
        self._drop = drop
        self._turn = anyio.Lock()

    def path(self, task: TaskId) -> Path:
        """Where a task's pictures and trace are, or would be."""
        return self._folder / task.hex()

    async def forget(self, task: TaskId) -> None:
        """Remove a task's files now: nothing was committed, or it is run again."""
        await anyio.to_thread.run_sync(self._remove, self.path(task))

    async def unhand(self, task: TaskId) -> None:
        """Remove the blobs that were made from a trace, and keep its files: they are made anew."""
        await anyio.to_thread.run_sync(self._unhand, self.path(task))

    async def release(self, task: TaskId) -> None:
        """No opening of this task can be demanded any more. Makes room as well."""
        await anyio.to_thread.run_sync(self._mark, self.path(task))
        await self.prune()

    def unreleased(self) -> list[Path]:
        """Folders of traces that somebody may still demand. Blocks."""
        kept = self._folder.iterdir() if self._folder.is_dir() else ()
        return [folder for folder in kept if folder.is_dir() and not (folder / RELEASED).exists()]

    async def prune(self) -> int:
        """Remove what is too old or too much; returns the bytes that are left. Called at the start and on release."""
        async with self._turn:
            left = await anyio.to_thread.run_sync(self._prune)
        if left > self._budget:
            log.warning("traces.over-budget", bytes=left, budget=self._budget, hint="raise executor.trace_budget_bytes")
        return left

    def _mark(self, folder: Path) -> None:
        if folder.is_dir():
            (folder / RELEASED).touch()

    def _prune(self) -> int:
        kept = [_measured(folder) for folder in self._folder.iterdir()] if self._folder.is_dir() else []
        total = sum(one.size for one in kept)
        released = sorted((one.released_at, one.folder, one.size) for one in kept if one.released_at is not None)
        for released_at, folder, size in released:
            if total > self._budget or released_at + self._keep_s <= self._wall():
                self._remove(folder)
                total -= size
        return total

    def _unhand(self, folder: Path) -> None:
        for blob in handed(folder):
            self._drop(blob)
        (folder / NOTES).unlink(missing_ok=True)

    def _remove(self, folder: Path) -> None:
        self._unhand(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _measured(folder: Path) -> _Kept:
    marker = folder / RELEASED
    size = sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
    size += sum(handed(folder).values())
    return _Kept(folder, size, marker.lstat().st_mtime if marker.exists() else None)
