"""What it takes to do a training, or parts of somebody's again: data set, base and start by hash, and the executor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path

from gesso.blobs import BlobStore
from gesso_node.executors.lora.fault import InputInvalid, from_requester
from gesso_node.executors.lora.host import TrainingExecutor
from gesso_node.executors.lora.port import RevisitJob, RevisitOutcome, TrainingInputs
from gesso_node.executors.lora.runfolder import GIVEN_STATE_FILE
from gesso_node.executors.port import Unfit
from gesso_node.models.cache import ModelCache, ModelSource
from gesso_protocol.errors import BlobError, BlobMissing, BlobTooLarge, ModelInvalid, Unreachable
from gesso_protocol.ids import BlobRef
from gesso_protocol.spec import TrainLora
from gesso_protocol.training.checkpoint import most_state_bytes


class InputMissing(BlobMissing):
    """What the requester named cannot be had, or not as what it is named."""


class RunBench:
    """Fetches what runs are made from. `executor` may be one that does not train; then nothing is computed here."""

    def __init__(self, executor: object, models: ModelCache, blobs: BlobStore, *, needs_model: bool) -> None:
        self._executor = executor
        self._models = models
        self._blobs = blobs
        self._needs_model = needs_model

    async def inputs(
        self, spec: TrainLora, manifest: BlobRef, seed: bytes, folder: Path, *, source: ModelSource | None = None
    ) -> TrainingInputs:
        """Everything that a run is made from, fetched and checked; a given state is put into `folder`. Raises
        InputInvalid and InputMissing for what the requester named, and what the cache raises."""
        start = spec.continue_from
        async with AsyncExitStack() as held:  # none of them leaves for another
            if self._needs_model:
                await held.enter_async_context(self._models.held(manifest, source=source))
            with _of_requester():
                with from_requester():
                    await self._check_kind(spec.dataset, "dataset", source)
                    if start is not None:
                        await self._check_kind(start.manifest, "lora", source)
                for ref in (spec.dataset, *(() if start is None else (start.manifest,))):
                    await held.enter_async_context(self._models.held(ref, source=source))
                state = await self._given_state(spec, manifest, folder, source or self._blobs)
        return TrainingInputs(
            spec=spec,
            model_dir=self._models.path(manifest) if self._needs_model else None,
            dataset_dir=self._models.path(spec.dataset),
            start_dir=None if start is None else self._models.path(start.manifest),
            manifest=manifest,
            seed=seed,
            state=state,
        )

    async def revisit(self, job: RevisitJob, out_dir: Path) -> RevisitOutcome:
        """Parts of somebody's run again. Raises ModelInvalid when its inputs have left the cache meanwhile."""
        if not isinstance(self._executor, TrainingExecutor):
            return Unfit("this node's executor does not train")
        with self.using(job.inputs.spec, job.inputs.manifest):
            return await self._executor.revisit(job, out_dir)

    @property
    def taken(self) -> bool:
        """Whether somebody else has the executor."""
        return isinstance(self._executor, TrainingExecutor) and self._executor.health().busy

    @contextmanager
    def using(self, spec: TrainLora, manifest: BlobRef) -> Iterator[None]:
        """The run's inputs are safe from eviction inside the block. Raises ModelInvalid when they are not here."""
        with ExitStack() as stack:
            for ref in self._wanted(spec, manifest):
                stack.enter_context(self._models.using(ref))
            yield

    async def _given_state(self, spec: TrainLora, manifest: BlobRef, folder: Path, source: ModelSource) -> Path | None:
        """The checkpoint that the spec names, on disk. Raises InputInvalid when it has another size than it says."""
        resume = spec.resume
        if resume is None:
            return None
        if self._needs_model:
            base = await self._models.read_manifest(manifest, source)
            if resume.size > most_state_bytes(base.size):
                raise InputInvalid("the checkpoint to go on from is larger than any LoRA for this base can be")
        path = folder / GIVEN_STATE_FILE
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                await source.fetch(resume.state, path, max_bytes=resume.size)
            except BlobTooLarge as error:
                raise InputInvalid("the checkpoint to go on from is larger than the task says") from error
        if path.stat().st_size != resume.size:
            raise InputInvalid("the checkpoint to go on from is smaller than the task says")
        return path

    def _wanted(self, spec: TrainLora, manifest: BlobRef) -> tuple[BlobRef, ...]:
        start = () if spec.continue_from is None else (spec.continue_from.manifest,)
        return (spec.dataset, *((manifest,) if self._needs_model else ()), *start)

    async def _check_kind(self, ref: BlobRef, kind: str, source: ModelSource | None) -> None:
        manifest = await self._models.read_manifest(ref, source)
        if manifest.kind != kind:
            raise ModelInvalid(f"{ref.short} is a {manifest.kind}, not a {kind}")


@contextmanager
def _of_requester() -> Iterator[None]:
    """Bytes that nobody serves, or that are others than their name says, are the requester's to bring."""
    try:
        yield
    except (Unreachable, BlobError) as error:
        raise InputMissing(error.message, hint=error.hint) from error
