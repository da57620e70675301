"""The executor port: run one picture task, or run single steps of one again, and say how it went. Adapters live here.

An executor never raises for what happens to the work. A crash, a hang and a lack of memory are outcomes, because the
node must decide what to do about them while the deadline runs. What must not live here: processes, torch, the chain.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

from gesso_protocol.errors import ExecutorCrashed
from gesso_protocol.ids import BlobRef, Root
from gesso_protocol.result import ExecutorName
from gesso_protocol.spec import TextToImage
from gesso_protocol.trace import Binding


@dataclass(frozen=True, slots=True)
class Job:
    """One task to run. `deadline_s` is the time it may take in all, loading included, in seconds from now."""

    spec: TextToImage
    model_dir: Path | None
    """A `StableDiffusionPipeline` folder whose files were verified; None where the executor needs no model."""
    out_dir: Path
    """Empty or absent; pictures and the trace are written here."""
    deadline_s: float
    manifest: BlobRef
    """The model manifest that `model_dir` was checked against; it goes into trace and receipt."""
    binding: Binding
    """Ties the trace to chain, task and wallet. Its secret never reaches the child."""
    loras: tuple[Path, ...] = ()
    """Verified folders of the spec's LoRAs, in its order."""


@dataclass(frozen=True, slots=True)
class StepDone:
    """Step `index` of `total` (from 1) of picture `image` (from 0) is done; `preview` is a small picture or None."""

    image: int
    index: int
    total: int
    preview: bytes | None = None


OnEvent: TypeAlias = Callable[[StepDone], Awaitable[None]]
"""Awaited for each step. It must be quick: the executor waits for it, the work in the child does not."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One picture on disk, and what is needed to name it in a result manifest."""

    index: int
    path: Path
    sha256: bytes
    width: int
    height: int
    seed: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The work is done. `profile` says on what it ran (device, versions); `seconds` is the time in the engine."""

    images: tuple[ImageFile, ...]
    trace_root: Root
    profile: dict[str, str]
    executor: str
    seconds: float
    load_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Crashed:
    """The engine failed or its process ended. Worth one more try in a fresh process."""

    reason: str
    tail: str = ""
    """The end of what the process wrote to stderr, for the operator's log."""


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """This machine cannot hold the work; another try would end the same way."""

    reason: str


@dataclass(frozen=True, slots=True)
class TimedOut:
    """Nothing came within `after_s` seconds: the deadline passed, or the engine hung."""

    reason: str
    after_s: float


@dataclass(frozen=True, slots=True)
class Unfit:
    """The model folder or the spec cannot be run by this executor at all (not safetensors, unknown pipeline, …).
    `by_input`: whoever ordered it handed in what no executor can run."""

    reason: str
    by_input: bool = False


Outcome: TypeAlias = Finished | Crashed | OutOfMemory | TimedOut | Unfit


@dataclass(frozen=True, slots=True)
class ReplayCheck:
    """One step to run again: `latent` is x before step `step` of picture `image`, raw fp32, little-endian."""

    image: int
    step: int
    latent: bytes


@dataclass(frozen=True, slots=True)
class ReplayJob:
    """Steps, decodes and embeddings of somebody's task to compute again, from what that node opened.

    Conditioning is never taken from the node: the executor embeds the spec's own prompt. A latent of a wrong size is
    `Unfit`. Noise is drawn for every picture that is named in `checks`, `decode` or `images`.
    """

    spec: TextToImage
    model_dir: Path | None
    manifest: BlobRef
    checks: tuple[ReplayCheck, ...] = ()
    decode: tuple[tuple[int, bytes], ...] = ()
    """Picture and its last latent, raw fp32: decoded to RGB."""
    embeddings: bool = True
    strict: bool = False
    """Weights and arithmetic in fp32 whatever the spec's dtype, one thread, plain kernels: what jurors use."""
    images: tuple[int, ...] = ()
    deadline_s: float = 600.0
    loras: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay gave. Bytes are raw little-endian fp32 (RGB: uint8, rows of pixels), in the trace's own shapes."""

    outputs: Mapping[tuple[int, int], tuple[bytes, bytes | None]]
    """(picture, step) to the model's conditional and, when guidance is on, unconditional output."""
    embeddings: tuple[bytes, bytes] | None
    """What the words say to the model, for the prompt and the negative prompt, if asked for."""
    noises: Mapping[int, bytes]
    """Start noise a picture, as the spec's seed gives it: equal to the bit for an honest node."""
    step_noises: Mapping[tuple[int, int], bytes]
    """Noise that an ancestral scheduler adds after (picture, step); empty for other schedulers."""
    rgb: Mapping[int, bytes]
    scheduler_config: dict[str, Any]
    """As the publisher gave it: what `gesso_protocol.audit.schedules` takes."""
    profile: dict[str, str]
    """On what it ran; `profile["key"]` is the profile key, "{dtype}/{device family}"."""
    seconds: float
    executor: str
    embedding_parts: tuple[int, ...] = ()
    """How many numbers of an embedding are compared together, in order; empty: all of them."""

    @property
    def profile_key(self) -> str:
        return self.profile.get("key", "")


ReplayOutcome: TypeAlias = Replayed | Crashed | OutOfMemory | TimedOut | Unfit


@dataclass(frozen=True, slots=True)
class ExecutorHealth:
    """A snapshot for status pages: what is warm, and how processes have ended so far."""

    name: str
    warm: tuple[str, ...] = ()
    busy: bool = False
    started: int = 0
    ended: dict[str, int] = field(default_factory=dict)


class Executor(Protocol):
    """Runs jobs one at a time. An async context manager: its processes end with it."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def name(self) -> str:
        """`diffusers` or `fake`; it is written into result manifests."""
        ...

    async def warm(self, model_dir: Path | None) -> None:
        """Have the model ready before a job needs it. Never raises for what happens to the work; a job would tell."""
        ...

    async def run(self, job: Job, *, on_event: OnEvent) -> Outcome:
        """Runs `job`. Cancelling the call stops the work and leaves no process of it behind."""
        ...

    async def replay(self, job: ReplayJob) -> ReplayOutcome:
        """Compute parts of a task again. Waits for its turn like `run`; cancelling leaves nothing behind."""
        ...

    def health(self) -> ExecutorHealth: ...


def executor_name(name: str) -> ExecutorName:
    """As results name it. Raises ExecutorCrashed for one that no result may name."""
    if name == "diffusers":
        return "diffusers"
    if name == "fake":
        return "fake"
    raise ExecutorCrashed(f"no result is made by an executor called {name!r}")
