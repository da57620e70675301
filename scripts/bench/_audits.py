"""What the audit benches share: tasks of the shipped model, an auditor's inspection of a recorded trace, statistics."""

from __future__ import annotations

import io
import math
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gesso_node.executors.engine import EngineJob
from gesso_node.executors.port import ReplayCheck, Replayed, ReplayJob
from gesso_node.executors.trace import RecordedTrace
from gesso_node.executors.walk import F32, array
from gesso_protocol.audit.challenge import checks_of, steps_to_check
from gesso_protocol.audit.compare import Branches, StepErrors, embedding_error, rgb_error, step_errors
from gesso_protocol.audit.limits import shipped_limits
from gesso_protocol.audit.schedules import Schedule
from gesso_protocol.audit.transitions import OpenedPicture, check_transitions
from gesso_protocol.audit.verdict import Decision, Fault, Inspection, Verdict, judge
from gesso_protocol.ids import BlobRef, TaskId
from gesso_protocol.spec import TextToImage
from gesso_protocol.trace import LeafKind, Slot, TraceManifest

MANIFEST = BlobRef.of(b"gesso-tiny")
MAX_RECHECKS = 2
"""Steps that look wrong without a model and are run again as well; a whole trace of them is one cheat."""


@dataclass(frozen=True, slots=True)
class Work:
    """One task that was run: what was asked for, what was committed, what it cost."""

    spec: TextToImage
    model: Path
    trace: RecordedTrace
    png: bytes
    cpu_s: float

    def leaf(self, kind: LeafKind, step: int = 0) -> bytes:
        return self.trace.bytes_of(Slot(kind, 0, step))

    def branches(self, step: int) -> Branches:
        uncond = array(self.leaf(LeafKind.UNCOND, step)) if self.spec.guidance > 1 else None
        return Branches(array(self.leaf(LeafKind.COND, step)), uncond)

    def before(self, step: int, schedule: Schedule) -> bytes:
        if step:
            return self.leaf(LeafKind.LATENT, step - 1)
        return (array(self.leaf(LeafKind.NOISE)) * schedule.init_noise_sigma).astype(np.float32).tobytes()


def run_task(engine: Any, spec: TextToImage, model: Path, folder: Path) -> Work:
    """Have an engine do a task; its files are removed when the next one is run in the same folder."""
    import time

    shutil.rmtree(folder, ignore_errors=True)
    begun = time.process_time()
    result = engine.run(EngineJob(spec, model, folder, MANIFEST, TaskId(os.urandom(32))), lambda _: None)
    spent = time.process_time() - begun
    return Work(spec, model, RecordedTrace.read(folder, spec), result.images[0].path.read_bytes(), spent)


@dataclass(frozen=True, slots=True)
class Inspected:
    """What was found, the verdict on it, and the verdict after suspicious steps were run again too."""

    found: Inspection
    first: Verdict
    verdict: Verdict

    @property
    def flagged(self) -> bool:
        return self.verdict.decision is not Decision.PASS

    @property
    def slashable(self) -> bool:
        return self.verdict.decision is Decision.FLAG and self.verdict.slashable

    @property
    def by_fixed_checks(self) -> bool:
        """Whether what is checked in every audit was enough: anything but the errors of sampled steps."""
        return any(reason.fault not in (Fault.BRANCH, Fault.GUIDED) for reason in self.first.reasons)


class Auditor:
    """An honest auditor on an engine of its own."""

    def __init__(self, engine: Any, scheduler_config: dict[str, Any]) -> None:
        self._engine = engine
        self._config = scheduler_config

    def checked_steps(self, work: Work, challenge: bytes) -> tuple[int, ...]:
        """What the challenge says."""
        steps = work.spec.steps
        return tuple(step for _, step in steps_to_check(challenge, 1, steps, checks_of(1, steps)))

    def errors(self, work: Work, steps: tuple[int, ...]) -> tuple[StepErrors, ...]:
        """Run `steps` again and compare."""
        return self._compared(work, self._replay(work, steps, embeddings=False, decode=False)) if steps else ()

    def inspect(self, work: Work, steps: tuple[int, ...]) -> Inspected:
        """As an auditor does: sampled steps and everything that is always checked, then what looks suspicious."""
        own = self._replay(work, steps)
        found = self._inspection(work, own)
        first = judge(found)
        if first.decision is not Decision.PASS or not first.recheck:
            return Inspected(found, first, first)
        more = self.errors(work, tuple(step for _, step in first.recheck[:MAX_RECHECKS]))
        return Inspected(found, first, judge(replace(found, steps=(*found.steps, *more))))

    def _replay(self, work: Work, steps: tuple[int, ...], *, embeddings: bool = True, decode: bool = True) -> Replayed:
        schedule = Schedule.of(self._config, work.spec.scheduler, work.spec.steps)
        checks = tuple(ReplayCheck(0, step, work.before(step, schedule)) for step in steps)
        last = ((0, work.leaf(LeafKind.LATENT, work.spec.steps - 1)),) if decode else ()
        replayed: Replayed = self._engine.replay(
            ReplayJob(work.spec, work.model, MANIFEST, checks, last, embeddings, images=(0,))
        )
        return replayed

    def _compared(self, work: Work, own: Replayed) -> tuple[StepErrors, ...]:
        guidance = work.spec.guidance
        return tuple(
            step_errors(0, step, _branches(outputs), work.branches(step), guidance)
            for (_, step), outputs in own.outputs.items()
        )

    def _inspection(self, work: Work, own: Replayed) -> Inspection:
        spec = work.spec
        schedule = Schedule.of(own.scheduler_config, spec.scheduler, spec.steps)
        node = TraceManifest.decode(work.leaf(LeafKind.MANIFEST))
        embedded = tuple(
            embedding_error(array(mine), array(work.leaf(LeafKind.EMBEDDING, at)), own.embedding_parts)
            for at, mine in enumerate(own.embeddings or ())
        )
        picture = OpenedPicture(
            0,
            array(own.noises[0]),
            [array(work.leaf(LeafKind.LATENT, step)) for step in range(spec.steps)],
            [work.branches(step) for step in range(spec.steps)],
            {step: array(noise) for (_, step), noise in own.step_noises.items()},
        )
        pixels = Image.open(io.BytesIO(work.png)).convert("RGB").tobytes()
        return Inspection(
            limit=shipped_limits().row(node.profile, own.profile_key),
            steps=self._compared(work, own),
            embeddings=embedded,
            rgb=(rgb_error(own.rgb[0], work.leaf(LeafKind.RGB))[0],),
            transitions=check_transitions([picture], schedule, spec.guidance),
            noise_wrong=() if own.noises[0] == work.leaf(LeafKind.NOISE) else (0,),
            files_wrong=() if pixels == work.leaf(LeafKind.RGB) else (0,),
        )


def _branches(outputs: tuple[bytes, bytes | None]) -> Branches:
    cond, uncond = outputs
    return Branches(array(cond), None if uncond is None else array(uncond))


def phash(png: bytes) -> int:
    """The customary 64-bit perceptual hash: low frequencies of a 32 x 32 grey picture against their median."""
    grey = np.asarray(Image.open(io.BytesIO(png)).convert("L").resize((32, 32), Image.Resampling.LANCZOS), np.float64)
    turns = np.cos(np.pi / 32 * (np.arange(32) + 0.5)[None, :] * np.arange(32)[:, None])
    low = (turns @ grey @ turns.T)[:8, :8].ravel()
    return int("".join("1" if value else "0" for value in low > np.median(low)), 2)


def apart(one: int, other: int) -> int:
    """Hamming distance."""
    return (one ^ other).bit_count()


def caught_by(wrong: int, steps: int, k: int) -> float:
    """Chance that k steps drawn without replacement hit one of the wrong ones."""
    return 1 - math.comb(steps - wrong, k) / math.comb(steps, k)


def wilson(hits: int, runs: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a rate."""
    if not runs:
        return 0.0, 1.0
    rate, squared = hits / runs, z * z
    middle = (rate + squared / (2 * runs)) / (1 + squared / runs)
    half = z * math.sqrt(rate * (1 - rate) / runs + squared / (4 * runs * runs)) / (1 + squared / runs)
    return (0.0 if hits == 0 else middle - half), (1.0 if hits == runs else middle + half)


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def prompt(number: int) -> str:
    """A prompt of the shipped model's own grammar."""
    rng = np.random.default_rng(number)
    words = (
        ("small", "big"),
        ("red", "green", "blue", "yellow", "white", "black"),
        ("circle", "square", "triangle", "cross", "ring"),
        ("on the left", "on the right", "at the top", "at the bottom", "in the centre"),
        ("orange", "purple", "pink", "white", "black"),
    )
    size, colour, shape, place, ground = (str(rng.choice(some)) for some in words)
    return f"a {size} {colour} {shape} {place} on a {ground} background"


__all__ = ["F32", "Auditor", "Work", "apart", "caught_by", "percent", "phash", "prompt", "run_task", "wilson"]
