"""What a training job is, what it tells while it runs, and how it can end. No torch here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from gesso_node.executors.port import Crashed, ImageFile, OutOfMemory, TimedOut, Unfit
from gesso_protocol.ids import BlobRef, Root
from gesso_protocol.spec import TrainLora
from gesso_protocol.trace import Binding
from gesso_protocol.training.trace import Segment


@dataclass(frozen=True, slots=True)
class TrainingInputs:
    """Verified folders of a run, and the seed from which it draws everything (32 bytes, from the beacon)."""

    spec: TrainLora
    model_dir: Path | None
    """A pipeline folder; None where the engine needs no model."""
    dataset_dir: Path
    start_dir: Path | None
    """The LoRA that the run continues from."""
    manifest: BlobRef
    seed: bytes
    state: Path | None = None
    """The checkpoint file that the spec's `resume` names, where it has one; whoever made it is not trusted."""
    between: Callable[[], None] = lambda: None
    """Called where nothing is lost by it while a run gets ready; raises when it is to make way."""


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """One run. `out_dir` may hold checkpoints of the same run: it goes on from the last whole one, bit for bit."""

    inputs: TrainingInputs
    out_dir: Path
    deadline_s: float
    binding: Binding
    start: BlobRef | None = None


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """Update `index` of `total` (from 1) is done. `sample` is a finished sample picture (PNG) of prompt `prompt`;
    `resumed`: the run had made way for other work before this update."""

    index: int
    total: int
    loss: float
    checkpoint: bool = False
    prompt: int = 0
    sample: bytes | None = None
    resumed: bool = False


OnTraining: TypeAlias = Callable[[TrainingStep], Awaitable[None]]
"""Awaited for each update; quick, as the executor waits for it."""
OnPause: TypeAlias = Callable[[], Awaitable[None]]
"""The same for each pause, when it has begun; the first update after it says that it is `resumed`."""


async def no_pause() -> None:
    """For whoever does not care."""


@dataclass(frozen=True, slots=True)
class Trained:
    """The run ended with an adapter. `stopped` says why when fewer updates than ordered were done: a loss that is no
    number, or somebody's wish. `steps_done` counts the whole run; `losses` are those of this task's own updates, and
    `seconds` those of all its stretches, without pauses and loading."""

    adapter_dir: Path
    """`adapter.safetensors` (diffusers and peft names), `adapter_kohya.safetensors`, `adapter.json` (the card)."""
    images: tuple[ImageFile, ...]
    steps_done: int
    losses: tuple[float, ...]
    trace_root: Root
    profile: dict[str, str]
    executor: str
    seconds: float
    load_seconds: float = 0.0
    stopped: str = ""


TrainingOutcome: TypeAlias = Trained | Crashed | OutOfMemory | TimedOut | Unfit


@dataclass(frozen=True, slots=True)
class SegmentJob:
    """A segment of somebody's run to compute again from the state that was opened (`state`: a checkpoint file)."""

    inputs: TrainingInputs
    segment: Segment
    state: Path


@dataclass(frozen=True, slots=True)
class RevisitJob:
    """Parts of somebody's run to compute again, for an audit. What is not asked for is not computed."""

    inputs: TrainingInputs
    begin: bool = False
    """The state before the first update, as spec and seed prescribe it."""
    segments: tuple[tuple[Segment, Path], ...] = ()
    """Segments, each with the checkpoint file that it starts from."""
    weigh: Path | None = None
    """A checkpoint file whose weights are compared with the bare base, on the draws of `draws`."""
    draws: tuple[int, ...] = ()
    sample: int | None = None
    """The number of a last sample that is drawn with the weights of `weigh`."""
    strict: bool = False
    """One thread and plain kernels: what jurors use."""
    deadline_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Rerun:
    """Where a re-run segment ended: our checkpoint file (None: the numbers ran away), and the losses on the way."""

    state: Path | None
    losses: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Revisited:
    """What was asked for: our own start state, the segments in their order, losses of (base, weights), a sample."""

    profile: dict[str, str]
    seconds: float
    begun: Path | None = None
    segments: tuple[Rerun, ...] = ()
    weighed: tuple[float, float] | None = None
    sample: Path | None = None
    """A PNG."""


RevisitOutcome: TypeAlias = Revisited | Crashed | OutOfMemory | TimedOut | Unfit
