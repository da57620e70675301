"""Doing one training task: data set, base, start and state fetched and checked, the run's seed, the executor.

A task that does the rest of a run names the checkpoint of a stranger; it is bounded here and proved by the child.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gesso.blobs import BlobStore
from gesso.chain.chain import Chain
from gesso.runseed import NotYet, seed_of_run
from gesso_node.executors.lora.host import TrainingExecutor
from gesso_node.executors.lora.port import (
    Trained,
    TrainingJob,
    TrainingOutcome,
    TrainingStep,
)
from gesso_node.executors.lora.runfolder import GIVEN_STATE_FILE, checkpoint_after, checkpoint_file
from gesso_node.executors.port import Executor, Unfit, executor_name
from gesso_node.models.cache import ModelCache
from gesso_node.state.pace import Stopwatch, TrainingPace
from gesso_node.work.checkpoints import CheckpointSharer, Share
from gesso_node.work.results import picture_entry
from gesso_node.work.run_bench import RunBench
from gesso_protocol.fields import TaskKind
from gesso_protocol.ids import Address, BlobRef, Root, TaskId
from gesso_protocol.lifecycle import TaskRecord, TaskState
from gesso_protocol.manifest import FileEntry, ModelManifest
from gesso_protocol.result import ResultManifest
from gesso_protocol.spec import TrainLora, spec_ref
from gesso_protocol.trace import Binding

TELL_EVERY_S = 0.2
"""Updates may come faster than anybody wants to hear of them."""
NO_TRACE = Root(bytes(32))
OnStep = Callable[[TrainingStep], None]
OnPause = Callable[[int, int], None]
"""The run makes way after this update of so many."""


@dataclass(frozen=True, slots=True)
class TrainingOrder:
    """What the workbench knows of a training task that it holds. `claimed_at` is chain seconds."""

    task: TaskId
    spec: TrainLora
    manifest: BlobRef
    claimed_at: int
    binding: Binding
    out_dir: Path
    deadline_s: float
    watch: Stopwatch = field(default_factory=Stopwatch)


class TrainingDesk:
    """Runs training tasks and publishes what they gave."""

    def __init__(
        self,
        *,
        chain: Chain,
        executor: Executor,
        models: ModelCache,
        blobs: BlobStore,
        needs_model: bool,
        sharer: CheckpointSharer,
        pace: TrainingPace | None = None,
    ) -> None:
        self._chain = chain
        self._executor = executor
        self._blobs = blobs
        self._sharer = sharer
        self.bench = RunBench(executor, models, blobs, needs_model=needs_model)
        self._pace = pace

    async def run(
        self, order: TrainingOrder, on_step: OnStep, on_pause: OnPause = lambda _, __: None
    ) -> TrainingOutcome:
        """Raises ModelInvalid for inputs that are not what the spec says, NotYet before the beacon's round."""
        if not isinstance(self._executor, TrainingExecutor):
            return Unfit("this node's executor does not train")
        seed = await seed_of_run(self._chain, order.spec, order.task, order.claimed_at)
        inputs = await self.bench.inputs(order.spec, order.manifest, seed, order.out_dir)
        start = order.spec.continue_from
        job = TrainingJob(
            inputs, order.out_dir, order.deadline_s, order.binding, None if start is None else start.manifest
        )
        told, watch = [0.0], order.watch

        async def on_event(step: TrainingStep) -> None:
            now = time.monotonic()
            watch.note(step)
            if step.checkpoint and step.index < step.total:
                path = checkpoint_file(order.out_dir, checkpoint_after(order.spec, step.index))
                self._sharer.offer(Share(order.task, path, step.index, step.total, seed))
            if step.sample or step.checkpoint or step.index == step.total or now - told[0] >= TELL_EVERY_S:
                told[0] = now
                on_step(step)

        async def paused() -> None:
            on_pause(order.spec.first_step if watch.at is None else watch.at, order.spec.steps)

        with self.bench.using(order.spec, order.manifest):
            outcome = await self._executor.train(job, on_event=on_event, on_pause=paused)
        if self._pace is not None:
            await self._pace.learn(order.spec, watch)
        return outcome

    async def leave(self, task: TaskId, *, lost: bool) -> None:
        """The task is over for us. When it was lost, somebody may want to go on from its checkpoints."""
        await (self._sharer.outlive(task) if lost else self._sharer.forget(task))

    async def claim(self, task: TaskId, me: Address) -> TaskRecord:
        """What the board says of a task that `me` has claimed. Raises NotYet while no block says so."""
        record = await self._chain.task(task, kind=int(TaskKind.TRAIN_LORA))
        if record.state is not TaskState.CLAIMED or record.node != me:
            raise NotYet("the claim is in no block")
        return record

    async def publish(
        self, order: TrainingOrder, outcome: Trained, node: Address, trace_backup: BlobRef | None = None
    ) -> ResultManifest:
        """Put samples, adapter files and manifests, the result's own manifest last."""
        await self._sharer.forget(order.task)
        (order.out_dir / GIVEN_STATE_FILE).unlink(missing_ok=True)  # checkpoint 0 has the same bytes
        images = tuple([await picture_entry(self._blobs, image) for image in outcome.images])
        adapter = await self._publish_adapter(order, outcome)
        manifest = ResultManifest(
            task=order.task,
            node=node,
            executor=executor_name(outcome.executor),
            spec=spec_ref(order.spec),
            model_manifest=order.manifest,
            images=images,
            profile={
                **outcome.profile,
                "steps-done": str(outcome.steps_done),
                "stopped": outcome.stopped[:200],
                "last-loss": f"{outcome.losses[-1]:.6g}" if outcome.losses else "",
            },
            trace_root=outcome.trace_root,
            trace_backup=trace_backup,
            adapter=adapter,
        )
        await self._blobs.put(manifest.encode(), expect=manifest.ref)
        return manifest

    async def publish_nothing(self, order: TrainingOrder, why: str, node: Address) -> ResultManifest:
        """Put the manifest of a run of which nothing came. It has no trace: nothing is paid for it."""
        await self._sharer.forget(order.task)
        manifest = ResultManifest(
            task=order.task,
            node=node,
            executor=executor_name(self._executor.name),
            spec=spec_ref(order.spec),
            model_manifest=order.manifest,
            images=(),
            profile={"steps-done": str(order.spec.first_step), "stopped": why[:200]},
            trace_root=NO_TRACE,
        )
        await self._blobs.put(manifest.encode(), expect=manifest.ref)
        return manifest

    async def _publish_adapter(self, order: TrainingOrder, outcome: Trained) -> BlobRef:
        files = []
        for path in sorted(outcome.adapter_dir.iterdir()):
            if path.suffix in (".safetensors", ".json"):
                blob = await self._blobs.put(path)
                files.append(FileEntry(path=path.name, size=path.stat().st_size, blob=blob))
        manifest = ModelManifest(
            name="trained",
            version=1,
            kind="lora",
            base_family=order.spec.model.partition("@")[0].rpartition("/")[2],
            parent=order.manifest,
            licence="unpublished",
            files=tuple(files),
        )
        await self._blobs.put(manifest.encode(), expect=manifest.ref)
        return manifest.ref
