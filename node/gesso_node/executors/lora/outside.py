"""The node's side of training: jobs become messages, answers become outcomes, files become the trace."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gesso_node.executors.lora.adapter_file import ADAPTER_FILE
from gesso_node.executors.lora.messages import Revisit, RevisitDone, Stretch, Train, TrainDone, TrainStep
from gesso_node.executors.lora.port import (
    Rerun,
    Revisited,
    RevisitJob,
    Trained,
    TrainingInputs,
    TrainingJob,
    TrainingStep,
)
from gesso_node.executors.lora.runfolder import (
    ADAPTER_FOLDER,
    begun_file,
    checkpoint_file,
    end_file,
    losses_file,
    read_losses,
    sample_file,
)
from gesso_node.executors.port import ImageFile
from gesso_protocol.errors import EncodingInvalid, ExecutorCrashed
from gesso_protocol.spec import TrainLora, spec_bytes, spec_ref
from gesso_protocol.trace import Binding, LeafKind, Slot, trace_leaves, trace_root
from gesso_protocol.training.trace import TrainingFacts, TrainingLayout, segments

FACTS_FILE = "facts.json"
DIGESTS_FILE = "digests.bin"


def train_message(number: int, job: TrainingJob) -> Train:
    """Raises nothing: the job was checked when it was made."""
    return Train(**_fields(number, job.inputs, job.out_dir), task=job.binding.task.hex())


def revisit_message(number: int, job: RevisitJob, out_dir: Path) -> Revisit:
    """The files of the states must outlive the call."""
    parts = tuple(
        Stretch(state=str(state), number=one.number, first=one.first, last=one.last) for one, state in job.segments
    )
    weigh = None if job.weigh is None else str(job.weigh)
    fields = _fields(number, job.inputs, out_dir)
    return Revisit(
        **fields, begin=job.begin, segments=parts, weigh=weigh, draws=job.draws, sample=job.sample, strict=job.strict
    )


def step_of(message: TrainStep) -> TrainingStep:
    """Raises ExecutorCrashed for a picture that is not base64."""
    try:
        sample = base64.b64decode(message.sample, validate=True) if message.sample else None
    except ValueError as error:
        raise ExecutorCrashed("a sample is not base64") from error
    return TrainingStep(message.index, message.total, message.loss, message.checkpoint, message.prompt, sample)


def trained(message: TrainDone, job: TrainingJob, engine: str) -> Trained:
    """Raises ExecutorCrashed when the child left less than it says."""
    spec = job.inputs.spec
    if message.steps_done > spec.steps or (message.steps_done < spec.steps and not message.stopped):
        raise ExecutorCrashed(f"the child made {message.steps_done} updates, {spec.steps} were ordered")
    folder = job.out_dir
    images = tuple(
        ImageFile(one.index, folder / one.name, bytes.fromhex(one.sha256), one.width, one.height, one.seed)
        for one in message.pictures
    )
    if [image.index for image in images] != list(range(max(1, len(spec.sample_prompts)))):
        raise ExecutorCrashed("the child made other samples than were ordered")
    losses = tuple(loss for one in segments(spec, message.steps_done) for loss in read_losses(folder, one))
    facts = TrainingFacts(
        spec=spec_ref(spec),
        model_manifest=job.inputs.manifest,
        dataset=spec.dataset,
        seed=job.inputs.seed.hex(),
        start=job.start,
        steps_done=message.steps_done,
        dtype=spec.dtype,
        profile=message.profile.get("key", ""),
    )
    (folder / FACTS_FILE).write_bytes(facts.encode())
    trace = TrainingTrace.read(folder, spec)
    trace.keep_digests()
    root = trace_root(trace_leaves(job.binding, trace.layout, trace.kept_digests()))
    return Trained(
        folder / ADAPTER_FOLDER, images, message.steps_done, losses, root, dict(message.profile), engine,
        message.seconds, message.load_seconds, message.stopped,
    )  # fmt: skip


def revisited(message: RevisitDone, job: RevisitJob, out_dir: Path) -> Revisited:
    """Raises ExecutorCrashed when the child answers for other parts, or left less than it says."""
    if len(message.segments) != len(job.segments) or (job.begin and not begun_file(out_dir).is_file()):
        raise ExecutorCrashed("the child computed other parts than were asked for")
    parts = []
    for (segment, _), told in zip(job.segments, message.segments, strict=True):
        path = end_file(out_dir, segment.number)
        if told.whole and (len(told.losses) != segment.last - segment.first or not path.is_file()):
            raise ExecutorCrashed("the child ran another segment than was asked for")
        parts.append(Rerun(path if told.whole else None, told.losses))
    weighed = None if message.base is None or message.trained is None else (message.base, message.trained)
    begun = begun_file(out_dir) if job.begin else None
    sample = None if job.sample is None else sample_file(out_dir, job.sample)
    if sample is not None and not sample.is_file():
        raise ExecutorCrashed("the child drew no sample")
    return Revisited(dict(message.profile), message.seconds, begun, tuple(parts), weighed, sample)


@dataclass(frozen=True)
class TrainingTrace:
    """The trace of a finished run on disk."""

    folder: Path
    facts: TrainingFacts
    layout: TrainingLayout

    @classmethod
    def read(cls, folder: Path, spec: TrainLora) -> TrainingTrace:
        """Raises ExecutorCrashed when the folder holds no finished run of this spec."""
        path = folder / FACTS_FILE
        try:
            if path.stat().st_size > TrainingFacts.MAX_BYTES:
                raise ExecutorCrashed("the facts of the run are too large")
            facts = TrainingFacts.decode(path.read_bytes())
        except (OSError, EncodingInvalid) as error:
            raise ExecutorCrashed(f"there is no finished run here: {error}") from error
        if facts.spec != spec_ref(spec):
            raise ExecutorCrashed("the run here is one of another spec")
        return cls(folder, facts, TrainingLayout.for_run(spec, facts.steps_done))

    def leaves(self, binding: Binding) -> list[bytes]:
        """All leaves in the tree's order. Raises ExecutorCrashed when a file is missing."""
        try:
            return trace_leaves(binding, self.layout, self.digests())
        except OSError as error:
            raise ExecutorCrashed(f"the trace is incomplete: {error}") from error

    def digests(self) -> Mapping[Slot, bytes]:
        """The digest of every leaf."""
        return {slot: self._digest(slot) for slot in self.layout.slots()}

    def keep_digests(self) -> None:
        """Write the digests down: hashing gigabytes of checkpoints again would hold up whoever wants openings."""
        try:
            found = self.digests()
        except OSError as error:
            raise ExecutorCrashed(f"the trace is incomplete: {error}") from error
        (self.folder / DIGESTS_FILE).write_bytes(b"".join(found[slot] for slot in self.layout.slots()))

    def kept_digests(self) -> Mapping[Slot, bytes]:
        """The digests as written down; files may be missing. Raises ExecutorCrashed unless all are there."""
        try:
            raw = (self.folder / DIGESTS_FILE).read_bytes()
        except OSError as error:
            raise ExecutorCrashed(f"the digests of the run are missing: {error}") from error
        slots = list(self.layout.slots())
        if len(raw) != 32 * len(slots):
            raise ExecutorCrashed("the trace is incomplete")
        return {slot: raw[32 * at : 32 * at + 32] for at, slot in enumerate(slots)}

    def path(self, slot: Slot) -> Path | None:
        """The file whose SHA-256 a leaf is; None for the data set, whose leaf is its manifest's name."""
        return {
            LeafKind.MANIFEST: self.folder / FACTS_FILE,
            LeafKind.CHECKPOINT: checkpoint_file(self.folder, slot.step),
            LeafKind.LOSSES: losses_file(self.folder, slot.step),
            LeafKind.FILE: self.folder / ADAPTER_FOLDER / ADAPTER_FILE,
        }.get(slot.kind)

    def _digest(self, slot: Slot) -> bytes:
        path = self.path(slot)
        if path is None:
            return self.facts.dataset.value
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()


def _fields(number: int, inputs: TrainingInputs, out_dir: Path) -> dict[str, Any]:
    return {
        "job": number,
        "spec": spec_bytes(inputs.spec).decode(),
        "model_dir": str(inputs.model_dir) if inputs.model_dir else None,
        "dataset_dir": str(inputs.dataset_dir),
        "start_dir": str(inputs.start_dir) if inputs.start_dir else None,
        "resume_file": str(inputs.state) if inputs.state else None,
        "manifest": inputs.manifest.hex(),
        "seed": inputs.seed.hex(),
        "out_dir": str(out_dir),
    }
