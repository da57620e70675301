"""What runs inside the child process: an engine turns a job into pictures and a trace, synchronously.

Engines are chosen by name so that the node's own process never imports torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gesso.png import with_text
from gesso_node.executors.port import ImageFile, Replayed, ReplayJob, StepDone
from gesso_node.executors.trace import TraceRecorder
from gesso_protocol.errors import ModelInvalid
from gesso_protocol.ids import BlobRef, TaskId
from gesso_protocol.spec import TextToImage
from gesso_protocol.trace import TraceManifest

SCHEDULER_CONFIG = "scheduler/scheduler_config.json"
SAMPLER_NAMES = {"ddim": "DDIM", "euler": "Euler", "euler_a": "Euler a", "dpmpp_2m": "DPM++ 2M"}
"""The names that picture tools expect in the `parameters` text."""


class Cancelled(Exception):  # noqa: N818  (not a failure)
    """Nobody waits for the work any more; raised between steps."""


@dataclass(frozen=True, slots=True)
class EngineJob:
    spec: TextToImage
    model_dir: Path | None
    out_dir: Path
    manifest: BlobRef
    task: TaskId
    loras: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineResult:
    images: tuple[ImageFile, ...]
    profile: dict[str, str]
    seconds: float
    load_seconds: float


Emit = Callable[[StepDone], None]
"""Called after each step. Raises Cancelled when the work is not wanted any more."""


class Engine(Protocol):
    """One a process; keeps what it loaded between jobs."""

    name: str

    def load(self, model_dir: Path, /) -> float:
        """Have the model ready; seconds it took, 0 when it was. Raises ModelInvalid, MemoryError."""
        ...

    def run(self, job: EngineJob, emit: Emit) -> EngineResult:
        """Raises ModelInvalid, MemoryError; anything else is a bug or a broken machine."""
        ...

    def replay(self, job: ReplayJob) -> Replayed:
        """Raises ModelInvalid (a latent of a wrong size too), MemoryError."""
        ...


def run_facts(job: EngineJob, profile: str) -> TraceManifest:
    """What runs, and how: the first leaf of the trace. `profile` is the profile key."""
    config = job.model_dir / SCHEDULER_CONFIG if job.model_dir else None
    return TraceManifest.of(
        job.spec, job.manifest, config.read_bytes() if config and config.is_file() else b"", profile
    )


def parameters_text(spec: TextToImage, seed: int) -> str:
    """The text that picture tools read from the `parameters` chunk."""
    lines = [spec.prompt]
    if spec.negative_prompt:
        lines.append(f"Negative prompt: {spec.negative_prompt}")
    lines.append(
        f"Steps: {spec.steps}, Sampler: {SAMPLER_NAMES[spec.scheduler]}, CFG scale: {spec.guidance:g}, "
        f"Seed: {seed}, Size: {spec.width}x{spec.height}, Model: {spec.model}"
    )
    return "\n".join(lines)


def finish_picture(job: EngineJob, engine: str, index: int, png: bytes, recorder: TraceRecorder) -> ImageFile:
    """Stamp `png` with its texts, write it into the job's folder, record it and describe it."""
    seed = job.spec.image_seed(index)
    receipt = {
        "gesso": 1,
        "executor": engine,
        "task": str(job.task),
        "image": index,
        "seed": seed,
        "model": job.spec.model,
        "manifest": str(job.manifest),
    }
    texts: Mapping[str, str] = {
        "parameters": parameters_text(job.spec, seed),
        "gesso": json.dumps(receipt, sort_keys=True, separators=(",", ":")),
    }
    stamped = with_text(png, texts)
    path = job.out_dir / f"image-{index}.png"
    path.write_bytes(stamped)
    recorder.file(index, stamped)
    return ImageFile(
        index=index,
        path=path,
        sha256=hashlib.sha256(stamped).digest(),
        width=job.spec.width,
        height=job.spec.height,
        seed=seed,
    )


def load_engine(name: str, options: Mapping[str, Any]) -> Engine:
    """The engine called `name`. Imports are here on purpose: the fake one must not pay for torch."""
    if name == "fake":
        from gesso_node.executors.fake import FakeEngine, FakeFaults

        return FakeEngine(FakeFaults.model_validate(options))
    if name == "diffusers":
        from gesso_node.executors.diffusers import DiffusersEngine, DiffusersOptions

        return DiffusersEngine(DiffusersOptions.model_validate(options))
    raise ModelInvalid(f"there is no engine called {name!r}")
