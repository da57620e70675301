"""The trace of a training run: what was trained, from which data, and the whole state after every segment.

Leaves in order: manifest, data set, checkpoint 0 (the start), then segment by segment its losses and the checkpoint
after it, then the adapter that is handed over. A checkpoint's digest is the SHA-256 of its file; it holds weights, both
moments of AdamW and the step, which together with the run's seed decide everything that follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from gesso_protocol.encoding import Document
from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.ids import BlobRef
from gesso_protocol.trace import Layout, LeafKind, Slot
from gesso_protocol.training.spec import MAX_CHECKPOINTS, TrainingDtype, TrainLora

_HEAD = 3  # manifest, data set, start


@dataclass(frozen=True)
class Segment:
    """Updates `first` to `last` - 1, re-run from checkpoint `number`; they end in checkpoint `number` + 1."""

    number: int
    first: int
    last: int


def segments(spec: TrainLora, done: int | None = None) -> tuple[Segment, ...]:
    """The segments that a task does of a run of `done` updates (all of them when None), counted from the task's own
    start: one that goes on from a checkpoint has that as its checkpoint 0."""
    every, total = spec.checkpoint_every, spec.steps if done is None else done
    starts = range(spec.first_step, total, every)
    return tuple(Segment(number, first, min(first + every, total)) for number, first in enumerate(starts))


@dataclass(frozen=True)
class TrainingLayout(Layout):
    """Where each leaf stands. `steps` is the number of segments; `images` and `guided` have no meaning here."""

    def __post_init__(self) -> None:
        if not 0 <= self.steps <= MAX_CHECKPOINTS:
            raise EncodingInvalid(f"a training trace has up to {MAX_CHECKPOINTS} segments")

    @classmethod
    def for_run(cls, spec: TrainLora, done: int | None = None) -> TrainingLayout:
        """The layout of a run that stopped after `done` updates (all of them when None)."""
        return cls(1, len(segments(spec, done)), False)

    @property
    def count(self) -> int:
        return _HEAD + 2 * self.steps + 1

    def slot_at(self, position: int) -> Slot:
        if not 0 <= position < self.count:
            raise EncodingInvalid("the trace has no such leaf")
        if position < _HEAD:
            return Slot((LeafKind.MANIFEST, LeafKind.DATASET, LeafKind.CHECKPOINT)[position])
        if position == self.count - 1:
            return Slot(LeafKind.FILE)
        number, part = divmod(position - _HEAD, 2)
        return Slot(LeafKind.CHECKPOINT, step=number + 1) if part else Slot(LeafKind.LOSSES, step=number)

    def position(self, slot: Slot) -> int:
        places = {
            LeafKind.MANIFEST: 0,
            LeafKind.DATASET: 1,
            LeafKind.LOSSES: _HEAD + 2 * slot.step,
            LeafKind.CHECKPOINT: _HEAD + 2 * slot.step - 1,
            LeafKind.FILE: self.count - 1,
        }
        position = places.get(slot.kind, -1)
        if not 0 <= position < self.count or self.slot_at(position) != slot:
            raise EncodingInvalid("the trace has no such leaf")
        return position


class TrainingFacts(Document):
    """What trained, and how: the preimage of the first leaf. `profile` is the key "{dtype}/{device family}"."""

    MAX_BYTES: ClassVar[int] = 4 * 1024

    format: Literal["gesso/training-facts/1"] = "gesso/training-facts/1"
    spec: BlobRef
    model_manifest: BlobRef
    dataset: BlobRef
    seed: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    start: BlobRef | None = None
    """Manifest of the LoRA that the run continued from."""
    steps_done: Annotated[int, Field(ge=0)]
    """Updates of the whole run so far; those before the spec's `resume` were not made here."""
    dtype: TrainingDtype
    profile: Annotated[str, Field(max_length=80, pattern=r"^[a-z0-9/_.-]*$")]
