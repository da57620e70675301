"""Keeping a training's checkpoints where others find them, so that the run outlives this node.

Sharing never holds up training: only the newest checkpoint waits, and they go out at a measured pace. A checkpoint is
told to the requester once it is in the blob stores; this node signs for it. What was shared is written down, so that
it is cleared away when nobody needs it any more, whatever happened in between.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import anyio
import structlog
from pydantic import TypeAdapter, ValidationError

from gesso.blobs import BlobStore, LocalBlobs
from gesso_node.network.progress import ProgressSender
from gesso_node.state.journal import Journal, JournalFailedError
from gesso_protocol.errors import GessoError
from gesso_protocol.ids import BlobRef, TaskId
from gesso_protocol.training.checkpoint import KeptCheckpoint

log = structlog.get_logger("gesso.node.checkpoints")

KEPT = 2
"""Newest checkpoints of a task that stay here: somebody may be fetching the last but one."""
KEPT_LOST_S = 24 * 3600.0
"""How long they stay when the task was lost: its requester may order the rest, and another node needs them then."""
TIDY_S = 600.0
"""How often to look at the longest whether somebody's time is over; a clock that is set right must not make it days."""
_NOTE = "shared-checkpoints"
_STORED: TypeAdapter[dict[str, tuple[list[str], float | None]]] = TypeAdapter(dict[str, tuple[list[str], float | None]])


@dataclass(frozen=True, slots=True)
class Share:
    """A checkpoint file after update `step` of `total`, of a run that draws from `seed`."""

    task: TaskId
    path: Path
    step: int
    total: int
    seed: bytes


@dataclass(slots=True)
class _Shared:
    """What of a task is in the stores, oldest first; `until`: when it goes, None while the task is open."""

    refs: list[BlobRef]
    until: float | None = None


Sign = Callable[[TaskId, BlobRef, int, int, bytes], KeptCheckpoint]


class CheckpointSharer:
    """`run` is its loop; `offer` returns at once. `every_s` is the least time between two checkpoints."""

    def __init__(
        self,
        blobs: BlobStore,
        local: LocalBlobs | None,
        progress: ProgressSender,
        sign: Sign,
        *,
        every_s: float,
        journal: Journal | None = None,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[object]] = anyio.sleep,
    ) -> None:
        self._blobs = blobs
        self._local = local
        self._progress = progress
        self._sign = sign
        self._every_s = every_s
        self._journal = journal
        self._wall = wall
        self._sleep = sleep
        self._waiting: Share | None = None
        self._sharing: Share | None = None
        self._wake = anyio.Event()
        self._shared: dict[TaskId, _Shared] = {}
        self._last_s = float("-inf")

    async def restore(self, open_tasks: Iterable[TaskId]) -> None:
        """What an earlier life had shared; tasks that are not open any more count as lost now."""
        stored = None if self._journal is None else await self._journal.note(_NOTE)
        try:
            told = {} if stored is None else _STORED.validate_json(stored)
            found = {TaskId.parse(task): _Shared([BlobRef.parse(ref) for ref in refs], until)
                     for task, (refs, until) in told.items()}  # fmt: skip
        except (ValidationError, GessoError):
            log.warning("checkpoints.unreadable")
            return
        self._shared = found
        still = set(open_tasks)
        for task in [task for task, one in found.items() if one.until is None and task not in still]:
            found[task].until = self._wall() + KEPT_LOST_S
        await self._tidy()

    def offer(self, share: Share) -> None:
        """A new checkpoint; it replaces one that still waits."""
        self._waiting = share
        self._wake.set()

    async def forget(self, task: TaskId) -> None:
        """The task has a result, or nobody can go on with it: its checkpoints are of no use."""
        self._leave_off(task)
        if (shared := self._shared.get(task)) is not None:
            shared.until = 0.0
        await self._tidy()

    async def outlive(self, task: TaskId) -> None:
        """We have lost the task: whoever goes on with the run finds its checkpoints here for a while."""
        self._leave_off(task)
        if (shared := self._shared.get(task)) is not None:
            shared.until = self._wall() + KEPT_LOST_S
        await self._tidy()

    async def run(self) -> None:
        """Share, and remove what has had its time, until cancelled."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._tidy_again)
            await self._share_all()

    async def _share_all(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            await anyio.sleep(max(0.0, self._last_s + self._every_s - anyio.current_time()))
            if (waiting := self._waiting) is not None:
                self._waiting = None
                self._last_s = anyio.current_time()
                await self._share(waiting)

    async def _tidy_again(self) -> None:
        """The day of a lost task passes without anybody's doing: there may be no other training for months."""
        while True:
            rest = [one.until - self._wall() for one in self._shared.values() if one.until is not None]
            await self._sleep(max(1.0, min([TIDY_S, *rest])))
            if self._over():
                await self._tidy()

    async def _share(self, share: Share) -> None:
        self._sharing, ref = share, None
        try:
            ref = await self._blobs.put(share.path)
            size = share.path.stat().st_size
            kept = self._sign(share.task, ref, share.step, size, share.seed)
        except (GessoError, OSError) as error:
            log.warning("checkpoints.not-shared", task=share.task.short, reason=str(error))
            self._drop(ref)
            return
        if self._sharing is not share:
            self._drop(ref)  # forgotten while it was on its way
            return
        self._sharing = None
        shared = self._shared.setdefault(share.task, _Shared([]))
        # the same bytes again, after an attempt that broke off, are the newest now, and one blob all the same
        shared.until = None  # a task that we lost and were given back is open
        shared.refs = [*(other for other in shared.refs if other != ref), ref]
        gone, shared.refs = shared.refs[:-KEPT], shared.refs[-KEPT:]
        for old in gone:
            self._drop(old)
        await self._tidy()
        self._progress.checkpoint(share.task, kept, share.total)
        log.info("checkpoints.shared", task=share.task.short, step=share.step, blob=ref.short, bytes=size)

    def _leave_off(self, task: TaskId) -> None:
        if self._waiting is not None and self._waiting.task == task:
            self._waiting = None
        if self._sharing is not None and self._sharing.task == task:
            self._sharing = None

    async def _tidy(self) -> None:
        """Remove what has had its time."""
        gone = [ref for task in self._over() for ref in self._shared.pop(task).refs]
        for ref in gone:
            self._drop(ref)
        await self._write_down()

    def _over(self) -> list[TaskId]:
        now = self._wall()
        return [task for task, one in self._shared.items() if one.until is not None and one.until <= now]

    async def _write_down(self) -> None:
        if self._journal is not None:
            told = {str(task): ([str(ref) for ref in one.refs], one.until) for task, one in self._shared.items()}
            try:
                await self._journal.set_note(_NOTE, _STORED.dump_json(told).decode())
            except JournalFailedError as error:  # it is written down with the next change; sharing goes on
                log.warning("checkpoints.not-written-down", reason=error.message)

    def _drop(self, ref: BlobRef | None) -> None:
        """Remove a blob, unless it is one of those that are still to be found here."""
        if ref is not None and self._local is not None and not any(ref in one.refs for one in self._shared.values()):
            self._local.remove(ref)
