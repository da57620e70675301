"""Keeping a training's checkpoints where others find them, so that the run outlives this node.

Sharing never holds up training: only the newest checkpoint waits, and they go out at a measured pace. A checkpoint is
told to the requester once it is in the blob stores; this node signs for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anyio
import structlog

from gesso.blobs import BlobStore, LocalBlobs
from gesso_node.progress import ProgressSender
from gesso_protocol.errors import GessoError
from gesso_protocol.ids import BlobRef, TaskId
from gesso_protocol.training.checkpoint import KeptCheckpoint

log = structlog.get_logger("gesso.node.checkpoints")

KEPT = 2
"""Newest checkpoints of a task that stay here: somebody may be fetching the last but one."""
Sign = Callable[[TaskId, BlobRef, int, int], KeptCheckpoint]


@dataclass(frozen=True, slots=True)
class _Waiting:
    task: TaskId
    path: Path
    step: int
    total: int


class CheckpointSharer:
    """`run` is its loop; `offer` returns at once. `every_s` is the least time between two checkpoints."""

    def __init__(
        self, blobs: BlobStore, local: LocalBlobs | None, progress: ProgressSender, sign: Sign, *, every_s: float
    ) -> None:
        self._blobs = blobs
        self._local = local
        self._progress = progress
        self._sign = sign
        self._every_s = every_s
        self._waiting: _Waiting | None = None
        self._sharing: TaskId | None = None
        self._wake = anyio.Event()
        self._shared: dict[TaskId, list[BlobRef]] = {}
        self._last_s = float("-inf")

    def offer(self, task: TaskId, path: Path, step: int, total: int) -> None:
        """A checkpoint after update `step` of `total`; it replaces one that still waits."""
        self._waiting = _Waiting(task, path, step, total)
        self._wake.set()

    def forget(self, task: TaskId) -> None:
        """The task is over, or has a result: nobody needs its checkpoints any more."""
        if self._waiting is not None and self._waiting.task == task:
            self._waiting = None
        if self._sharing == task:
            self._sharing = None
        for ref in self._shared.pop(task, ()):
            self._drop(ref)

    async def run(self) -> None:
        """Share until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            await anyio.sleep(max(0.0, self._last_s + self._every_s - anyio.current_time()))
            if (waiting := self._waiting) is not None:
                self._waiting = None
                self._last_s = anyio.current_time()
                await self._share(waiting)

    async def _share(self, waiting: _Waiting) -> None:
        self._sharing = waiting.task
        try:
            ref = await self._blobs.put(waiting.path)
            size = waiting.path.stat().st_size
            kept = self._sign(waiting.task, ref, waiting.step, size)
        except (GessoError, OSError) as error:
            log.warning("checkpoints.not-shared", task=waiting.task.short, reason=str(error))
            return
        if self._sharing != waiting.task:
            self._drop(ref)  # forgotten while it was on its way
            return
        shared = self._shared.setdefault(waiting.task, [])
        shared.append(ref)
        while len(shared) > KEPT:
            self._drop(shared.pop(0))
        self._progress.checkpoint(waiting.task, kept, waiting.total)
        log.info("checkpoints.shared", task=waiting.task.short, step=waiting.step, blob=ref.short, bytes=size)

    def _drop(self, ref: BlobRef) -> None:
        if self._local is not None:
            self._local.remove(ref)
