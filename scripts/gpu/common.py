"""What the sections share: where results go, the shipped model on an engine in this process, and tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from gesso_devnet import model
from gesso_node.executors.diffusers import DiffusersEngine, DiffusersOptions
from gesso_node.executors.engine import EngineJob
from gesso_node.executors.port import Finished, Job, Replayed, ReplayJob
from gesso_node.executors.trace import RecordedTrace
from gesso_protocol.ids import BlobRef

Row = dict[str, Any]
MANIFEST = BlobRef.of(b"gpu rows")


@dataclass
class Section:
    """One section's part of the whole: its flags, and the file that it fills row by row."""

    name: str
    out: Path
    device: str
    quick: bool
    rows: list[Row] = field(default_factory=list)
    notes: Row = field(default_factory=dict)

    def add(self, **row: Any) -> None:
        """Keep a row, on disk at once: what comes after it may fail."""
        self.rows.append(row)
        print(f"{self.name}: " + "  ".join(f"{key} {_cell(value)}" for key, value in row.items()), flush=True)
        self.save()

    def save(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        document = {"section": self.name, "machine": machine(self.device), "notes": self.notes, "rows": self.rows}
        (self.out / f"{self.name}.json").write_text(json.dumps(document, indent=1, default=str) + "\n")

    def tried(self, what: str) -> Tried:
        """A part that may fail without taking the others with it."""
        return Tried(self, what)


class Tried:
    """Notes an error of the block and goes on."""

    def __init__(self, section: Section, what: str) -> None:
        self._section = section
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        self._section.add(what=self._what, failed=f"{type(error).__name__}: {str(error)[:300]}")
        return True


class Here:
    """An engine in this process, as an executor: a child for each of dozens would cost more than the work."""

    name = "diffusers"

    def __init__(self, device: str, **options: Any) -> None:
        self.engine = DiffusersEngine(DiffusersOptions.model_validate({"device": device, **options}))

    async def run(self, job: Job, *, on_event: Any) -> Finished:  # noqa: ARG002 - as the port has it
        work = EngineJob(job.spec, job.model_dir, job.out_dir, job.manifest, job.binding.task, job.loras)
        made = self.engine.run(work, lambda _: None)
        root = RecordedTrace.read(job.out_dir, job.spec).root(job.binding)
        return Finished(made.images, root, made.profile, self.name, made.seconds)

    async def replay(self, job: ReplayJob) -> Replayed:
        return self.engine.replay(job)

    def unet(self, dtype: str = "fp32", folder: Path | None = None) -> Any:
        """The loaded model's, to do something to."""
        return self.engine._pipeline(folder or model.path(), dtype).pipeline.unet


@contextmanager
def switched(**flags: bool) -> Iterator[None]:
    """Torch's switches inside the block: what an operator, or another program, may have set."""
    doors: dict[str, tuple[Any, str]] = {
        "tf32_products": (torch.backends.cuda.matmul, "allow_tf32"),
        "tf32_convolutions": (torch.backends.cudnn, "allow_tf32"),
        "benchmark": (torch.backends.cudnn, "benchmark"),
        "narrow_fp16_sums": (torch.backends.cuda.matmul, "allow_fp16_reduced_precision_reduction"),
        "narrow_bf16_sums": (torch.backends.cuda.matmul, "allow_bf16_reduced_precision_reduction"),
    }
    before = {name: getattr(*doors[name]) for name in flags if name in doors}
    deterministic = torch.are_deterministic_algorithms_enabled()
    if "deterministic" in flags:
        torch.use_deterministic_algorithms(flags["deterministic"], warn_only=True)
    for name in before:
        setattr(*doors[name], flags[name])
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(*doors[name], value)
        torch.use_deterministic_algorithms(deterministic, warn_only=True)


def machine(device: str) -> Row:
    """On what all this was measured."""
    import os
    import platform

    import diffusers

    found = {"python": platform.python_version(), "torch": torch.__version__, "diffusers": diffusers.__version__}
    found |= {"cores": len(os.sched_getaffinity(0)), "cpu": cpu_name()}
    if device == "cuda":
        made = torch.cuda.get_device_properties(0)
        found |= {"gpu": made.name, "sm": f"{made.major}{made.minor}", "gpu_bytes": made.total_memory}
        found |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return found


def cpu_name() -> str:
    import platform

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def wait(device: str) -> None:
    """Until the GPU has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def median(values: Sequence[float]) -> float:
    import statistics

    return statistics.median(values)


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
