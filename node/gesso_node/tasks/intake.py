"""What must be there, and true, before a claim can be kept: models, the requester's data, the run of a rest.

Whatever nobody serves, or is not what the task says, would only cost us work after the claim. Nothing is fetched here
that is larger than a manifest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio
import anyio.to_thread
import structlog

from gesso.blobs import BlobStore
from gesso.chain import Chain
from gesso.chain.events import TaskClaimed, TaskCommitted, TaskSubmitted
from gesso.runseed import seed_on_record
from gesso_node.models.cache import ModelCache
from gesso_protocol.errors import BlobMissing, GessoError, ModelInvalid, Unreachable
from gesso_protocol.ids import BlobRef, TaskId
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.manifest import ModelKind
from gesso_protocol.policy import Refusal
from gesso_protocol.royalties import used_adapters
from gesso_protocol.spec import Spec, TrainLora
from gesso_protocol.terms import Terms
from gesso_protocol.training.checkpoint import most_state_bytes
from gesso_protocol.training.dataset import INDEX_FILE, MAX_DATASET_BYTES, PICTURES_FILE, DatasetIndex
from gesso_protocol.training.disk import needed_bytes
from gesso_protocol.training.rest import BegunRun, rest_fault

log = structlog.get_logger("gesso.node.intake")

MAX_HEADER_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Lacking:
    """Why a task is not for us. `passing`: it may be another matter in a moment."""

    refusal: Refusal
    reason: str
    passing: bool = False


class Intake:
    """Looks at what a task names. `needs_model` is false for executors that work without weights; `room_bytes` is what
    a run may take on this disk, `free` what the disk has left for it; `pays`: whether a fee covers a training whose
    base has so many bytes."""

    def __init__(
        self,
        chain: Chain,
        blobs: BlobStore,
        models: ModelCache,
        *,
        needs_model: bool,
        room_bytes: int,
        free: Callable[[], int],
        pays: Callable[[Spec, Terms, int], bool],
    ) -> None:
        self._chain = chain
        self._blobs = blobs
        self._models = models
        self._needs_model = needs_model
        self._room_bytes = room_bytes
        self._free = free
        self._pays = pays

    async def look(self, task: TaskId, spec: Spec, terms: Terms, manifest: BlobRef) -> Lacking | None:
        """What is lacking, if anything. Never raises for what is asked about."""
        found = await self._models_lack(spec, manifest)
        if found is None and isinstance(spec, TrainLora):
            found = (
                await self._run_lacks(spec, terms)
                or await self._input_lacks(spec, manifest)
                or await self._checkpoints_lack(spec, terms, manifest)
            )
        if found is not None:
            log.info("intake.lacking", task=task.short, refusal=str(found.refusal), reason=found.reason)
        return found

    async def _models_lack(self, spec: Spec, manifest: BlobRef) -> Lacking | None:
        wanted: list[tuple[BlobRef, ModelKind]] = [(ref, "lora") for ref in used_adapters(spec)]
        if self._needs_model:
            wanted.append((manifest, "base"))
        for ref, kind in wanted:
            found = await self._model_lacks(ref, kind)
            if found:
                return Lacking(Refusal.MODEL_UNAVAILABLE, *found)
        return None

    async def _model_lacks(self, ref: BlobRef, kind: ModelKind) -> tuple[str, bool] | None:
        try:
            served = await self._models.obtainable(ref, kind)
        except GessoError as error:
            return error.message, isinstance(error, Unreachable)
        return None if served else (f"nobody serves {ref.short}", True)

    async def _input_lacks(self, spec: TrainLora, manifest: BlobRef) -> Lacking | None:
        """Data set and given state: that they are served, in the sizes that the task names."""
        try:
            await self._check_dataset(spec.dataset)
            await self._check_state(spec, manifest)
        except GessoError as error:
            return Lacking(Refusal.INPUT_UNAVAILABLE, error.message, isinstance(error, Unreachable))
        return None

    async def _check_dataset(self, ref: BlobRef) -> None:
        document = await self._models.read_manifest(ref)
        if document.kind != "dataset":
            raise ModelInvalid(f"{ref.short} is a {document.kind}, not a dataset")
        most = {INDEX_FILE: DatasetIndex.MAX_BYTES, PICTURES_FILE: MAX_DATASET_BYTES + MAX_HEADER_BYTES}
        if {entry.path for entry in document.files} != set(most):
            raise ModelInvalid("a data set has an index and a file of pictures, and nothing else")
        if not await self._models.obtainable(ref, "dataset"):
            raise BlobMissing(f"nobody serves the data set {ref.short}")
        for entry in document.files:
            if entry.size > most[entry.path]:
                raise ModelInvalid(f"the data set's {entry.path} is too large")
            if not self._models.has(ref):
                await self._expect(entry.blob, entry.size, f"the data set's {entry.path}")

    async def _check_state(self, spec: TrainLora, manifest: BlobRef) -> None:
        resume = spec.resume
        if resume is None:
            return
        if self._needs_model and resume.size > most_state_bytes((await self._models.read_manifest(manifest)).size):
            raise ModelInvalid("the checkpoint to go on from is larger than any LoRA for this base can be")
        await self._expect(resume.state, resume.size, "the checkpoint to go on from")

    async def _checkpoints_lack(self, spec: TrainLora, terms: Terms, manifest: BlobRef) -> Lacking | None:
        """What it costs to keep all of its checkpoints, and room for them."""
        try:
            base = (await self._models.read_manifest(manifest)).size if self._needs_model else 0
        except GessoError as error:
            return Lacking(Refusal.MODEL_UNAVAILABLE, error.message, isinstance(error, Unreachable))
        if not self._pays(spec, terms, base):
            return Lacking(Refusal.PRICE_TOO_LOW, f"the fee leaves nothing for its {spec.checkpoints} checkpoints")
        return await self._disk_lacks(needed_bytes(spec, base))

    async def _disk_lacks(self, needed: int) -> Lacking | None:
        """None may leave before the task is settled, whatever budgets say, and the journal is on the same disk."""
        try:
            free = await anyio.to_thread.run_sync(self._free)
        except OSError as error:
            return Lacking(Refusal.DISK, f"the disk cannot be asked: {error.strerror}", passing=True)
        if needed > self._room_bytes:
            return Lacking(Refusal.DISK, f"its checkpoints take {needed} bytes, a training has {self._room_bytes} here")
        if needed > free:
            return Lacking(Refusal.DISK, f"its checkpoints take {needed} bytes, the disk has {free}", passing=True)
        return None

    async def _expect(self, ref: BlobRef, size: int, what: str) -> None:
        found = await self._blobs.size(ref)
        if found != size:
            raise ModelInvalid(f"{what} has {found} bytes, not {size}")

    async def _run_lacks(self, spec: TrainLora, terms: Terms) -> Lacking | None:
        """The run that a rest goes on with, as the chain knows it: nobody signs strange provenance with our help."""
        if spec.resume is None:
            return None
        try:
            begun = await self._begun(spec.resume.task)
            fault = rest_fault(spec, terms, begun, None)
            if not fault and begun is not None and begun.claimed_at is not None:
                seed = await seed_on_record(self._chain, spec, spec.resume.task, begun.claimed_at)
                if seed is None:
                    raise Unreachable("nobody says what the run drew from")
                fault = rest_fault(spec, terms, begun, seed)
        except GessoError as error:
            return Lacking(Refusal.RUN_NOT_LOST, error.message, passing=True)
        return Lacking(Refusal.RUN_NOT_LOST, fault) if fault else None

    async def _begun(self, task: TaskId) -> BegunRun | None:
        record = await self._chain.task(task)
        if record.state is TaskState.UNKNOWN:
            return None
        course = await self._chain.course_of(task)
        ordered = next((event for event in course if isinstance(event, TaskSubmitted)), None)
        if ordered is None or self._chain.task_id(ordered.terms) != task:
            return None
        claims = [event.commit_by for event in course if isinstance(event, TaskClaimed)]
        claimed_at = claims[-1] - ordered.terms.commit_window_s if claims else None
        committed = any(isinstance(event, TaskCommitted) for event in course)
        return BegunRun(ordered.terms, record.state, claimed_at, committed)
