"""Openings of a training, from the node or from what auditors published, verified and with the files that they name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gesso.blobs import BlobStore
from gesso_node.auditing.ask import Asker, NotOpenedError, Phase
from gesso_node.auditing.assignment import RunAssignment
from gesso_node.auditing.run_files import RunFiles
from gesso_protocol.errors import DiskFull, EncodingInvalid, GessoError
from gesso_protocol.ids import BlobRef
from gesso_protocol.trace import LeafKind, Slot
from gesso_protocol.training.audit import compared_slots, input_slots
from gesso_protocol.training.checkpoint import HEADER_ROOM_BYTES, NOTES_ROOM_BYTES
from gesso_protocol.training.evidence import RunEvidence
from gesso_protocol.training.openings import RunOpenings
from gesso_protocol.training.trace import segments

FILE = Slot(LeafKind.FILE)


@dataclass(frozen=True)
class OpenedRun:
    """Verified openings and their bytes; `files` are those that were fetched with them, by slot; `results` is where the
    result is said to be."""

    openings: RunOpenings
    data: bytes
    files: dict[Slot, Path]
    results: tuple[BlobRef, ...] = ()

    @property
    def first(self) -> Path:
        """Checkpoint 0. Of whole openings only, as the others."""
        return self.files[Slot(LeafKind.CHECKPOINT)]

    @property
    def last(self) -> Path:
        """The last checkpoint."""
        return self.files[Slot(LeafKind.CHECKPOINT, step=self.openings.layout.steps)]

    @property
    def adapter(self) -> Path:
        """The adapter's file."""
        return self.files[FILE]


@dataclass(frozen=True)
class RunOpener:
    """Gets openings of one training. `size` is that of our own start of it: no state of this run is larger."""

    task: RunAssignment
    asker: Asker
    blobs: BlobStore
    files: RunFiles

    async def opened(self, phase: Phase, seconds: float, size: int) -> OpenedRun:
        """From the node, or through a relay. Raises NotOpenedError."""

        async def read(_: BlobRef, data: bytes, result: BlobRef | None) -> OpenedRun:
            return await self.verified(data, () if result is None else (result,), phase, size)

        return await self.asker.opened(self.task, phase, seconds, read)

    async def published(self, refs: Iterable[BlobRef], size: int) -> OpenedRun:
        """The first public evidence that proves itself and is whole. Raises NotOpenedError."""
        worst = NotOpenedError("there is no public evidence")
        for ref in dict.fromkeys(refs):
            try:
                told = await self.evidence(ref)
                return await self.verified(
                    told.openings, () if told.result is None else (told.result,), "outputs", size
                )
            except NotOpenedError as error:
                worst = error
            except DiskFull:
                raise
            except GessoError as error:
                worst = NotOpenedError(f"{error.code}: {error.message}")
        raise worst

    async def evidence(self, ref: BlobRef) -> RunEvidence:
        """What an auditor published, unread. Raises EncodingInvalid, and what stores raise."""
        return RunEvidence.decode(await self.blobs.get(ref, max_bytes=self.task.evidence_limit))

    async def verified(self, data: bytes, results: tuple[BlobRef, ...], phase: Phase, size: int) -> OpenedRun:
        """Openings that somebody has fetched. Raises NotOpenedError."""
        task = self.task
        try:
            openings = RunOpenings.decode(data, task.run, task.spec, task.filing.trace_root)
            done = min(openings.facts().steps_done, task.spec.steps)
        except EncodingInvalid as error:
            raise NotOpenedError(f"what the node opened proves nothing: {error.message}") from error
        if phase == "outputs" and not openings.complete:
            raise NotOpenedError("the node did not open every leaf")
        files: dict[Slot, Path] = {}
        if len(segments(task.spec, done)) != openings.layout.steps:
            return OpenedRun(openings, data, files, results)  # its facts contradict its trace: that is proof enough
        checks = task.checks(done)
        slots = compared_slots(checks, openings.layout.steps) if phase == "outputs" else input_slots(checks)
        for slot in slots:
            if slot.kind is LeafKind.CHECKPOINT:
                files[slot] = await self.files.get(openings, slot, size + HEADER_ROOM_BYTES)
        if phase == "outputs":
            files[FILE] = await self.files.get(openings, FILE, size + NOTES_ROOM_BYTES)
        return OpenedRun(openings, data, files, results)
