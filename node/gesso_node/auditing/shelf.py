"""The disk that audits of others' work may take: states of trainings while a case is open, and the evidence of ours
that others may still want to see.

What a training's audit needs is promised before any of it is fetched, and no more than the budget is, so that a case
that is too large is refused before we have a seat in it, and not by a full disk after that.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import structlog

from gesso.blobs import BlobStore, LocalBlobs
from gesso_node.auditing.inspect import CannotRunError
from gesso_node.models.room import free_bytes, taken_bytes
from gesso_node.traces.handed import note
from gesso_node.traces.kept import RELEASED, Traces
from gesso_protocol.errors import GessoError
from gesso_protocol.ids import BlobRef, TaskId

log = structlog.get_logger("gesso.node.auditing")

EVIDENCE_SHARE = 4
"""Evidence of ended cases has one part in so many of the budget."""
KEEP_EVIDENCE_S = 86_400
"""So long it stays after a case, for relays and requesters, unless others need its room."""


class Shelf:
    """`folder` has what open cases need, `evidence` a note for each case of the blobs that we published for it in
    `local`; all go into `remotes` too. Without `local` nothing is noted, and `blobs` keeps what it likes."""

    def __init__(
        self,
        folder: Path,
        blobs: BlobStore,
        *,
        budget_bytes: int,
        evidence: Path | None = None,
        local: LocalBlobs | None = None,
        remotes: Sequence[BlobStore] = (),
        free: Callable[[Path], int] = free_bytes,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._blobs = blobs
        self._local = local if evidence is not None else None
        self._remotes = tuple(remotes)
        share = budget_bytes // EVIDENCE_SHARE
        self._budget = budget_bytes - share
        self._free = free
        self._held: dict[TaskId, int] = {}
        self._evidence: Traces | None = None
        if evidence is not None and local is not None:
            self._evidence = Traces(evidence, budget_bytes=share, keep_s=KEEP_EVIDENCE_S, wall=wall, drop=local.remove)

    def path(self, task: TaskId) -> Path:
        """Where a case has its files."""
        return self._folder / task.hex()

    def hold(self, task: TaskId, size: int) -> None:
        """Promise a case so many bytes, in place of what it was promised. Raises CannotRunError."""
        others = sum(held for other, held in self._held.items() if other != task)
        if size > self._budget:
            raise CannotRunError(
                f"its states need {size} bytes of disk, audits have {self._budget}: raise audits.disk_budget_bytes",
                hopeless=True,
            )
        if others + size > self._budget:
            raise CannotRunError(
                f"its states need {size} bytes of disk, and other audits have {others}", hopeless=False
            )
        owed = sum(self._owed(other, held) for other, held in self._held.items() if other != task)
        if owed + self._owed(task, size) > self._free(self._folder):
            raise CannotRunError(f"its states need {size} bytes, and the disk has not so many left", hopeless=False)
        self._held[task] = size

    def _owed(self, task: TaskId, promised: int) -> int:
        """What a case has still to come of a promise: the rest of it is no longer free anyway."""
        return max(0, promised - taken_bytes(self.path(task)))

    def clear(self, task: TaskId) -> None:
        """The case needs nothing any more: its files go, and its promise. Blocks."""
        self._held.pop(task, None)
        shutil.rmtree(self.path(task), ignore_errors=True)

    async def open(self) -> None:
        """Remove what an earlier life left. Its evidence stays for a while: we cannot know which cases are over."""
        await anyio.to_thread.run_sync(lambda: shutil.rmtree(self._folder, ignore_errors=True))
        if self._evidence is not None:
            for folder in await anyio.to_thread.run_sync(self._evidence.unreleased):
                (folder / RELEASED).touch()
            await self._evidence.prune()

    async def publish(self, task: TaskId, ref: BlobRef, content: bytes | Path) -> None:
        """Let others have a blob until the case is over and for a while after. That this fails, on a full disk say, is
        no reason not to say what we found: the node has it, and relays may."""
        try:
            if self._local is None or self._evidence is None:
                await self._blobs.put(content, expect=ref)
                return
            folder = self._evidence.path(task)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / RELEASED).unlink(missing_ok=True)
            await self._put(self._local, folder, ref, content)
            for remote in self._remotes:
                await self._offer(remote, ref, content)
        except (GessoError, OSError) as error:
            log.warning("auditing.not-published", task=task.short, blob=ref.short, reason=str(error))

    async def over(self, task: TaskId) -> None:
        """The case is over: its evidence may go when its time or its room is up."""
        if self._evidence is not None:
            await self._evidence.release(task)

    @staticmethod
    async def _put(local: LocalBlobs, folder: Path, ref: BlobRef, content: bytes | Path) -> None:
        if isinstance(content, Path):  # shares its bytes with the case's file, and has them alone when that goes
            await local.link(content, first=lambda made: note(folder, made, content.stat().st_size))
        elif not await local.has(ref):
            note(folder, ref, len(content))
            await local.put(content, expect=ref)

    @staticmethod
    async def _offer(remote: BlobStore, ref: BlobRef, content: bytes | Path) -> None:
        try:
            await remote.put(content, expect=ref)
        except GessoError as error:
            log.debug("auditing.not-offered", blob=ref.short, code=error.code)
