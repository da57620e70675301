"""A training run: updates, checkpoints, samples, an exported adapter and the trace; and one segment of it again.

Whatever the engine is, this is the loop. It goes on from the last whole checkpoint in its folder, or from the one that
its spec names, so a run that was killed loses at most one segment, and ends with the same bytes as one that never was.
Somebody's wish to stop is a file in the folder: it is heeded at the next checkpoint, and after a crash too. One to
pause is heeded after the next update.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import shutil
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from gesso.checkpointfile import State, read_state, write_state
from gesso_node.executors.lora.fault import InputInvalid, from_requester
from gesso_node.executors.lora.pausing import (
    PausedError,
    drop_pause,
    drop_seconds,
    keep_pause,
    keep_seconds,
    make_way,
    seconds_before,
    take_pause,
    wish_to_pause,
)
from gesso_node.executors.lora.port import SegmentJob, TrainingInputs, TrainingStep
from gesso_node.executors.lora.runfolder import (
    ADAPTER_FOLDER,
    INDEX_FILE,
    checkpoint_file,
    end_file,
    losses_file,
    read_losses,
    sample_file,
    wish_to_stop,
)
from gesso_node.executors.lora.trainer import Provenance, Trainer
from gesso_node.executors.port import ImageFile
from gesso_protocol.errors import ExecutorCrashed, ModelInvalid
from gesso_protocol.messages import MAX_PREVIEW_BYTES
from gesso_protocol.spec import TrainLora, spec_ref
from gesso_protocol.training.disk import likely_state_bytes, outgrown
from gesso_protocol.training.samples import Sample, last_samples
from gesso_protocol.training.trace import Segment, segments

STATE_BYTES = 12
"""Of a checkpoint for each parameter: itself and two moments, in fp32."""
SHOWN_SIDES_PX = (512, 256, 128, 64)
EmitTraining = Callable[[TrainingStep], None]
"""Called after each update; raises Cancelled when the work is not wanted any more."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a run left in its folder. `seconds` are those of all its stretches, without the pauses between them."""

    images: tuple[ImageFile, ...]
    steps_done: int
    losses: tuple[float, ...]
    stopped: str
    seconds: float = 0.0


def train(trainer: Trainer, inputs: TrainingInputs, out_dir: Path, task: str, emit: EmitTraining) -> Run:
    """Run to the end, to the first loss that is not a number, or to a checkpoint at which somebody wants it to stop.

    Raises InputInvalid when nothing can be learnt at all, PausedError, and what the trainer raises.
    """
    begun = time.perf_counter()
    try:
        run = _to_the_end(trainer, inputs, out_dir, task, emit)
    except PausedError:
        keep_seconds(out_dir, time.perf_counter() - begun)
        raise
    earlier = seconds_before(out_dir)
    drop_seconds(out_dir)
    return replace(run, seconds=earlier + time.perf_counter() - begun)


def _to_the_end(trainer: Trainer, inputs: TrainingInputs, out_dir: Path, task: str, emit: EmitTraining) -> Run:
    spec = inputs.spec
    provenance = _provenance(inputs, task)  # what cannot be named in the end is not begun
    _expect_size(trainer, inputs)
    out_dir.mkdir(parents=True, exist_ok=True)
    number, losses = _resume(trainer, inputs, out_dir)
    stopped, state = "", trainer.state(spec.first_step + len(losses))
    for segment in segments(spec)[number:]:
        paused = take_pause(out_dir, segment, trainer.shapes)
        # Where a segment is begun, the state is none of a checkpoint: then it is run to its end first.
        stopped = wish_to_stop(out_dir) if losses and paused is None else ""
        if not stopped:
            if paused is not None:
                trainer.restore(paused[0])
            own = [] if paused is None else paused[1]
            stopped, state = run_segment(trainer, spec, segment, state, out_dir, losses, own, emit)
        if stopped:
            break
    if not losses:
        raise InputInvalid(f"nothing was learnt: {stopped}")
    done = spec.first_step + len(losses)
    images = _samples(trainer, spec, out_dir)
    trainer.export(out_dir / ADAPTER_FOLDER, replace(provenance, steps=done))
    return Run(images, done, tuple(losses), stopped)


def _expect_size(trainer: Trainer, inputs: TrainingInputs) -> None:
    """Raises InputInvalid for a base whose checkpoints weigh more than was paid and promised before it was here."""
    if inputs.model_dir is None or inputs.spec.resume is not None:
        return
    weighs = sum(STATE_BYTES * math.prod(shape) for shape in trainer.shapes.values())
    base = sum(path.stat().st_size for path in inputs.model_dir.rglob("*") if path.is_file())
    if outgrown(inputs.spec, base, weighs):
        thought = likely_state_bytes(inputs.spec, base)
        raise InputInvalid(
            f"a checkpoint weighs {weighs} bytes with this base, and {thought} are paid for",
            hint="lower the rank, or make fewer checkpoints",
        )


def _provenance(inputs: TrainingInputs, task: str) -> Provenance:
    """A run that was handed on is still the run that it was: its files are the same, whoever finishes it."""
    spec = inputs.spec
    return Provenance(
        task=task if spec.resume is None else str(spec.resume.task),
        spec=str(spec_ref(spec.run)),
        base=spec.model,
        base_manifest=str(inputs.manifest),
        dataset=str(spec.dataset),
        trigger=spec.trigger,
        steps=spec.steps,
        seed=spec.seed,
        extra=_start_of(spec),
    )


class RanAwayError(Exception):
    """A re-run segment left the numbers. `losses`: those before."""

    def __init__(self, losses: tuple[float, ...]) -> None:
        super().__init__(f"no number after {len(losses)} updates")
        self.losses = losses


def retrain(trainer: Trainer, job: SegmentJob, out_dir: Path) -> tuple[Path, tuple[float, ...]]:
    """One segment again, from the given state. Raises ModelInvalid when the state is not this segment's start,
    RanAwayError when a loss or a weight stops being a number."""
    state = read_state(job.state, trainer.shapes, step=job.segment.first)
    trainer.restore(state)
    losses: list[float] = []
    for step in range(job.segment.first, job.segment.last):
        loss = trainer.update(step)
        if not math.isfinite(loss):
            raise RanAwayError(tuple(losses))
        losses.append(loss)
    after = trainer.state(job.segment.last)
    if not after.finite:
        raise RanAwayError(tuple(losses))
    out_dir.mkdir(parents=True, exist_ok=True)
    path = end_file(out_dir, job.segment.number)
    write_state(path, after)
    return path, tuple(losses)


def weigh(trainer: Trainer, state: Path, draws: Sequence[int]) -> tuple[float, float]:
    """Mean loss of the bare base and of these weights on the same draws. Raises ModelInvalid for another network."""
    trainer.restore(read_state(state, trainer.shapes))
    losses = [[trainer.loss_at(step, trained=trained) for step in draws] for trained in (False, True)]
    base, trained = (sum(found) / max(len(found), 1) for found in losses)
    return base, trained


def run_segment(
    trainer: Trainer,
    spec: TrainLora,
    segment: Segment,
    before: State,
    folder: Path,
    losses: list[float],
    own: list[float],
    emit: EmitTraining,
) -> tuple[str, State]:
    """Run one segment that began with `before` and leave its checkpoint; returns why the run stops early, or nothing,
    and where it stands. `own`: the losses of its updates that are done already. Raises PausedError."""
    after = before
    for step in range(segment.first + len(own), segment.last):
        loss = trainer.update(step)
        if not math.isfinite(loss):
            # What was learnt before the last checkpoint stands, is handed over and is paid for.
            trainer.restore(before)
            return f"the loss was not a number in update {step + 1}", before
        own.append(loss)
        last = step + 1 == segment.last
        if last:
            after = trainer.state(segment.last)
            if not after.finite:
                trainer.restore(before)
                return f"a weight was not a number after update {step + 1}", before
            losses_file(folder, segment.number).write_bytes(struct.pack(f"<{len(own)}d", *own))
            write_state(checkpoint_file(folder, segment.number + 1), after)
            losses += own
        emit(TrainingStep(step + 1, spec.steps, loss, checkpoint=last))
        _maybe_sample(trainer, spec, step + 1, loss, folder, emit)
        if step + 1 < spec.steps and wish_to_pause(folder):
            if not last:
                keep_pause(folder, trainer.state(step + 1), own)
            raise PausedError
    return "", after


def _maybe_sample(trainer: Trainer, spec: TrainLora, done: int, loss: float, folder: Path, emit: EmitTraining) -> None:
    """Pictures to look at meanwhile; where somebody waits, the others of this time are left out."""
    if not spec.sample_every or done % spec.sample_every or done == spec.steps:
        return
    for at, prompt in enumerate(spec.sample_prompts):
        if wish_to_pause(folder):
            return
        picture = shown(*trainer.sample(prompt, spec.seed + at))
        emit(TrainingStep(done, spec.steps, loss, prompt=at, sample=picture))


def _samples(trainer: Trainer, spec: TrainLora, folder: Path) -> tuple[ImageFile, ...]:
    """The last samples are part of the result."""
    images = []
    for one in last_samples(spec):
        make_way(folder)
        images.append(draw_sample(trainer, one, folder))
    return tuple(images)


def draw_sample(trainer: Trainer, sample: Sample, folder: Path) -> ImageFile:
    """Draw one with the present weights, and leave its file."""
    width, height, raw = trainer.sample(sample.prompt, sample.seed)
    data, path = _png(width, height, raw), sample_file(folder, sample.number)
    path.write_bytes(data)
    return ImageFile(sample.number, path, hashlib.sha256(data).digest(), width, height, sample.seed)


def _resume(trainer: Trainer, inputs: TrainingInputs, folder: Path) -> tuple[int, list[float]]:
    """The number of the last whole checkpoint and the losses so far; a fresh run writes checkpoint 0."""
    spec = inputs.spec
    note = {"spec": str(spec_ref(spec)), "seed": inputs.seed.hex(), "manifest": str(inputs.manifest)}
    index = folder / INDEX_FILE
    same = index.is_file() and index.read_text() == json.dumps(note)
    known = segments(spec)
    for number in range(len(known), 0, -1) if same else ():
        try:
            state = read_state(checkpoint_file(folder, number), trainer.shapes, step=known[number - 1].last)
            losses = [loss for one in known[:number] for loss in read_losses(folder, one)]
        except (ModelInvalid, ExecutorCrashed):
            continue
        trainer.restore(state)
        return number, losses
    if not same:
        _clear(folder)
    _start(trainer, inputs, checkpoint_file(folder, 0))
    index.write_text(json.dumps(note))
    return 0, []


def _clear(folder: Path) -> None:
    """Of a run with another seed, say of a claim that the chain took back: killed before its first checkpoint, this one
    would go on with that one's."""
    (folder / INDEX_FILE).unlink(missing_ok=True)
    for path in (*folder.glob("checkpoint-*.safetensors"), *folder.glob("losses-*.bin")):
        path.unlink()
    drop_pause(folder)
    drop_seconds(folder)


def _start(trainer: Trainer, inputs: TrainingInputs, first: Path) -> None:
    """Leave checkpoint 0: the bytes that were given, once they have proved to be a state of this network and place."""
    if inputs.spec.resume is None:
        write_state(first, trainer.state(0))
        return
    if inputs.state is None:
        raise ModelInvalid("the checkpoint to go on from is missing")
    with from_requester():
        trainer.restore(read_state(inputs.state, trainer.shapes, step=inputs.spec.first_step))
    first.unlink(missing_ok=True)
    try:
        first.hardlink_to(inputs.state)  # one copy on disk is enough
    except OSError:
        shutil.copyfile(inputs.state, first)


def shown(width: int, height: int, raw: bytes) -> bytes:
    """A sample as it is shown on the way: as large and as fine as a progress event holds."""
    whole = Image.frombytes("RGB", (width, height), raw)
    for side in SHOWN_SIDES_PX:
        small = whole.copy()
        small.thumbnail((side, side))
        for form, options in (("PNG", {}), ("JPEG", {"quality": 85}), ("JPEG", {"quality": 50})):
            buffer = io.BytesIO()
            small.save(buffer, form, **options)
            if buffer.tell() <= MAX_PREVIEW_BYTES:
                return buffer.getvalue()
    raise AssertionError("64 pixels a side always fit")


def _png(width: int, height: int, raw: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.frombytes("RGB", (width, height), raw).save(buffer, "PNG")
    return buffer.getvalue()


def _start_of(spec: TrainLora) -> dict[str, str]:
    """So that whoever lists the result finds whose work it goes on from."""
    return {} if spec.continue_from is None else {"continued_from": str(spec.continue_from.manifest)}
