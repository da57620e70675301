"""Pure: whether what a node opened answers what it was asked, by the trace root on chain and by what the beacon drew.

A relay that remembers an answer unproved could be taught a wrong one by the node, and would then keep the right one
from everybody who asks it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from gesso.audits.draw import checked_steps
from gesso.audits.subject import most_bytes
from gesso_protocol.audit.bundle import Bundle, Form
from gesso_protocol.audit.challenge import input_slots as picture_slots
from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.ids import BlobRef, Root
from gesso_protocol.money import BPS
from gesso_protocol.spec import Spec, TextToImage, TrainLora
from gesso_protocol.trace import Layout, LeafKind, Run, Slot
from gesso_protocol.training.audit import compared_slots, segments_to_check
from gesso_protocol.training.audit import input_slots as training_slots
from gesso_protocol.training.checkpoint import HEADER_ROOM_BYTES, NOTES_ROOM_BYTES
from gesso_protocol.training.openings import MAX_OPENINGS_BYTES, RunOpenings
from gesso_protocol.training.share import updates_of

Phase = Literal["inputs", "outputs"]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a node: leaves of one commit, for one draw. Another commit or draw is another question."""

    run: Run
    trace_root: Root
    phase: Phase
    challenge: bytes | None
    """None where nothing is drawn: then only the whole trace is an answer."""
    large: bool = False
    share_bps: int = BPS
    audited: bool = field(default=False, compare=False)
    """Whether auditors or jurors have to ask it."""


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A checkpoint or adapter that an answer names. `digest` is bound by the root, `blob` and `size` are the node's."""

    blob: BlobRef
    size: int
    digest: bytes
    kind: LeafKind


def most_answered(spec: Spec) -> int:
    """More bytes than an answer about this work can have."""
    return most_bytes(spec) if isinstance(spec, TextToImage) else MAX_OPENINGS_BYTES


def prove(asked: Question, spec: Spec, data: bytes) -> tuple[OpenedFile, ...]:
    """The files that the answer names and that an audit looks into. Raises EncodingInvalid for anything but a proved
    answer to this question."""
    if isinstance(spec, TextToImage):
        return _picture(asked, spec, data)
    if isinstance(spec, TrainLora):
        return _training(asked, spec, data)
    raise EncodingInvalid("work of this kind has no openings")


def _picture(asked: Question, spec: TextToImage, data: bytes) -> tuple[OpenedFile, ...]:
    bundle = Bundle.decode(data, asked.run, Layout.of(spec), asked.trace_root)
    wanted: Iterable[Slot] = bundle.layout.slots()
    if asked.phase == "inputs" and asked.challenge is not None:
        wanted = picture_slots(checked_steps(asked.challenge, spec, large=asked.large))
    for slot in wanted:
        if bundle.leaf(slot).form is Form.BARE and slot.kind is not LeafKind.FILE:
            raise EncodingInvalid(f"{slot.kind.value} {slot.image}/{slot.step} is opened without its bytes")
    return ()


def _training(asked: Question, spec: TrainLora, data: bytes) -> tuple[OpenedFile, ...]:
    opened = RunOpenings.decode(data, asked.run, spec, asked.trace_root)
    done = updates_of(spec, asked.share_bps)
    checks = () if asked.challenge is None else segments_to_check(asked.challenge, spec, done)
    opened.facts()
    if asked.phase == "inputs" and asked.challenge is not None:
        slots = training_slots(checks)
        files = [slot for slot in slots if slot.kind is LeafKind.CHECKPOINT]
        opened.leaf(Slot(LeafKind.DATASET))
    else:
        if not opened.complete:
            raise EncodingInvalid("the openings leave something out")
        files = [*compared_slots(checks, opened.layout.steps), Slot(LeafKind.FILE)]
    return tuple(OpenedFile(*opened.file(slot), slot.kind) for slot in files)


def size_fault(files: Sequence[OpenedFile], most: int) -> str:
    """Why files cannot have the sizes that their node says they have; nothing when they can. All checkpoints of a run
    are of the same tensors, the adapter of some of them; no checkpoint has more than `most` bytes."""
    states = [file.size for file in files if file.kind is LeafKind.CHECKPOINT]
    smallest = min(states, default=most)
    if max(states, default=0) > min(most, smallest) + HEADER_ROOM_BYTES:
        return "a checkpoint is said to be larger than the run's others, or than any of its base"
    if any(file.size > smallest + NOTES_ROOM_BYTES for file in files):
        return "the adapter is said to be larger than a checkpoint"
    return ""
