"""The child's side of training: a message becomes a run on the engine's trainer, and its end a message."""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from gesso.checkpointfile import write_state
from gesso_node.executors.lora.messages import (
    Restretched,
    Revisit,
    RevisitDone,
    Stretch,
    Train,
    TrainDone,
    TrainedPicture,
    TrainStep,
)
from gesso_node.executors.lora.pausing import make_way
from gesso_node.executors.lora.port import SegmentJob, TrainingInputs, TrainingStep
from gesso_node.executors.lora.run import RanAwayError, draw_sample, retrain, train, weigh
from gesso_node.executors.lora.runfolder import begun_file
from gesso_node.executors.lora.trainer import Trainer
from gesso_node.executors.memory import MemoryErrors
from gesso_protocol.errors import ModelInvalid
from gesso_protocol.ids import BlobRef
from gesso_protocol.spec import TrainLora, parse_any_spec
from gesso_protocol.training.samples import last_samples
from gesso_protocol.training.trace import Segment

_T = TypeVar("_T")
MAX_SAMPLE_BYTES = 128 * 1024
"""A larger sample is not streamed on the way; the last ones are files."""


@runtime_checkable
class TrainingEngine(Protocol):
    """An engine that can train beside drawing."""

    def trainer(self, inputs: TrainingInputs, *, strict: bool = False) -> Trainer:
        """A trainer on the loaded base. Raises ModelInvalid, MemoryError."""
        ...

    def training_profile(self, spec: TrainLora, *, strict: bool = False) -> dict[str, str]:
        """On what it trains; `key` is the profile key."""
        ...

    def computing(self, *, strict: bool) -> AbstractContextManager[None]:
        """Inside the block, this machine computes as jurors do, when `strict`."""
        ...


def train_inside(engine: object, message: Train, emit: Callable[[TrainStep], None]) -> TrainDone:
    """Runs to its end. `emit` raises Cancelled when nobody waits. Raises PausedError, ModelInvalid, MemoryError."""
    begun = time.perf_counter()
    inputs = replace(_inputs(message), between=partial(make_way, Path(message.out_dir)))

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


def revisit_inside(engine: object, message: Revisit) -> RevisitDone:
    """Parts of a run again. Raises ModelInvalid, MemoryError."""
    begun = time.perf_counter()
    able, inputs = _able(engine), _inputs(message)
    with able.computing(strict=message.strict):
        trainer = _with_memory_errors(lambda: able.trainer(inputs, strict=message.strict))
        try:
            parts, weighed = _with_memory_errors(lambda: _revisited(trainer, inputs, message))
        finally:
            trainer.close()
    base, trained = weighed if all(map(math.isfinite, weighed)) else (None, None)
    profile = able.training_profile(inputs.spec, strict=message.strict)
    seconds = time.perf_counter() - begun
    return RevisitDone(job=message.job, segments=parts, base=base, trained=trained, profile=profile, seconds=seconds)


def _revisited(
    trainer: Trainer, inputs: TrainingInputs, message: Revisit
) -> tuple[tuple[Restretched, ...], tuple[float, float]]:
    folder = Path(message.out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    if message.begin:
        write_state(begun_file(folder), trainer.state(0))
    parts = tuple(_stretch(trainer, inputs, one, folder) for one in message.segments)
    if message.weigh is None:
        return parts, (math.nan, math.nan)
    weighed = weigh(trainer, Path(message.weigh), message.draws)
    if message.sample is not None:
        draw_sample(trainer, last_samples(inputs.spec)[message.sample], folder)
    return parts, weighed


def _stretch(trainer: Trainer, inputs: TrainingInputs, one: Stretch, folder: Path) -> Restretched:
    job = SegmentJob(inputs, Segment(one.number, one.first, one.last), Path(one.state))
    try:
        return Restretched(whole=True, losses=retrain(trainer, job, folder)[1])
    except RanAwayError as error:
        return Restretched(whole=False, losses=error.losses)


def _able(engine: object) -> TrainingEngine:
    if not isinstance(engine, TrainingEngine):
        raise ModelInvalid("this engine cannot train")
    return engine


def _inputs(message: Train | Revisit) -> TrainingInputs:
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
    """`work`, however a library in it says that there is no memory."""
    with MemoryErrors():
        return work()
