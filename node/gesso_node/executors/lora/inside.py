"""The child's side of training: a message becomes a run on the engine's trainer, and its end a message."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from gesso_node.executors.lora.messages import Retrain, RetrainDone, Train, TrainDone, TrainedPicture, TrainStep
from gesso_node.executors.lora.port import SegmentJob, TrainingInputs, TrainingStep
from gesso_node.executors.lora.run import retrain, train
from gesso_node.executors.lora.trainer import Trainer
from gesso_protocol.errors import ModelInvalid
from gesso_protocol.ids import BlobRef
from gesso_protocol.spec import TrainLora, parse_any_spec
from gesso_protocol.training.trace import Segment

_T = TypeVar("_T")
MAX_SAMPLE_BYTES = 128 * 1024
"""A larger sample is not streamed on the way; the last ones are files."""


@runtime_checkable
class TrainingEngine(Protocol):
    """An engine that can train beside drawing."""

    def trainer(self, inputs: TrainingInputs) -> Trainer:
        """A trainer on the loaded base. Raises ModelInvalid, MemoryError."""
        ...

    def training_profile(self, spec: TrainLora) -> dict[str, str]:
        """On what it trains; `key` is the profile key."""
        ...


def train_inside(engine: object, message: Train, emit: Callable[[TrainStep], None]) -> TrainDone:
    """Runs to its end. `emit` raises Cancelled when nobody waits. Raises ModelInvalid, MemoryError."""
    begun = time.perf_counter()
    inputs = _inputs(message)

    def told(step: TrainingStep) -> None:
        small = step.sample is not None and len(step.sample) <= MAX_SAMPLE_BYTES
        emit(
            TrainStep(
                job=message.job, index=step.index, total=step.total, loss=step.loss, checkpoint=step.checkpoint,
                prompt=step.prompt, sample=base64.b64encode(step.sample).decode() if step.sample and small else None,
            )
        )  # fmt: skip

    able = _able(engine)
    trainer = _with_memory_errors(lambda: able.trainer(inputs))
    load_seconds = time.perf_counter() - begun
    try:
        run = _with_memory_errors(lambda: train(trainer, inputs, Path(message.out_dir), f"0x{message.task}", told))
    finally:
        trainer.close()
    pictures = tuple(
        TrainedPicture(index=one.index, name=one.path.name, sha256=one.sha256.hex(), width=one.width,
                       height=one.height, seed=one.seed)
        for one in run.images
    )  # fmt: skip
    return TrainDone(
        job=message.job, pictures=pictures, steps_done=run.steps_done, stopped=run.stopped,
        profile=able.training_profile(inputs.spec), seconds=run.seconds, load_seconds=load_seconds,
    )  # fmt: skip


def retrain_inside(engine: object, message: Retrain) -> RetrainDone:
    """One segment again. Raises ModelInvalid, MemoryError."""
    begun = time.perf_counter()
    able, inputs = _able(engine), _inputs(message)
    job = SegmentJob(inputs, Segment(message.number, message.first, message.last), Path(message.state))
    trainer = _with_memory_errors(lambda: able.trainer(inputs))
    try:
        _, losses = _with_memory_errors(lambda: retrain(trainer, job, Path(message.out_dir)))
    finally:
        trainer.close()
    profile = able.training_profile(inputs.spec)
    return RetrainDone(job=message.job, losses=losses, profile=profile, seconds=time.perf_counter() - begun)


def _able(engine: object) -> TrainingEngine:
    if not isinstance(engine, TrainingEngine):
        raise ModelInvalid("this engine cannot train")
    return engine


def _inputs(message: Train | Retrain) -> TrainingInputs:
    spec = parse_any_spec(message.spec.encode())
    if not isinstance(spec, TrainLora):
        raise ModelInvalid("the spec is not one of training")
    return TrainingInputs(
        spec=spec,
        model_dir=Path(message.model_dir) if message.model_dir else None,
        dataset_dir=Path(message.dataset_dir),
        start_dir=Path(message.start_dir) if message.start_dir else None,
        manifest=BlobRef(bytes.fromhex(message.manifest)),
        seed=bytes.fromhex(message.seed),
        state=Path(message.resume_file) if message.resume_file else None,
    )


def _with_memory_errors(work: Callable[[], _T]) -> _T:
    """However a library says that there is no memory, it leaves here as MemoryError."""
    try:
        return work()
    except RuntimeError as error:
        if type(error).__name__ == "OutOfMemoryError" or "allocate memory" in str(error):
            raise MemoryError(str(error)[:500]) from error
        raise
