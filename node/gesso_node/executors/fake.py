"""The fake engine: a real PNG drawn from the seed in milliseconds, for tests and devnets without weights.

It never pretends: `fake` stands in the picture, in its receipt chunk, in the result manifest and in the profile.
Everything else has the shape of real work: steps, previews, a trace with start noise and one latent a step.
"""

from __future__ import annotations

import io
import math
import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
import anyio.from_thread
import anyio.to_thread
from blake3 import blake3
from PIL import Image, ImageDraw
from pydantic import BaseModel, ConfigDict

from gesso_node.executors.engine import (
    Cancelled,
    Emit,
    EngineJob,
    EngineResult,
    finish_picture,
    run_facts,
)
from gesso_node.executors.port import (
    Crashed,
    ExecutorHealth,
    Finished,
    ImageFile,
    Job,
    OnEvent,
    Outcome,
    OutOfMemory,
    StepDone,
    TimedOut,
    Unfit,
)
from gesso_node.trace import RecordedTrace, TraceRecorder
from gesso_protocol.errors import ModelInvalid
from gesso_protocol.trace import LeafKind, Slot, TensorType

PREVIEW_SIDE = 32
PREVIEW_EVERY = 5


class FakeFaults(BaseModel):
    """How fast it pretends to work, and how it fails when a test asks for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step_s: float = 0.0
    crash_at_step: int | None = None
    hang_at_step: int | None = None
    oom_at_step: int | None = None
    once_file: Path | None = None
    """When set, the fault happens only while this file is absent, and makes it: the second try goes well."""


class FakeEngine:
    """Draws the same picture for the same spec and seed, everywhere."""

    name = "fake"

    def __init__(self, faults: FakeFaults | None = None) -> None:
        self._faults = faults or FakeFaults()
        # Set when nobody waits for the work any more.
        self._calm = threading.Event()

    def load(self, _: Path) -> float:
        return 0.0

    def run(self, job: EngineJob, emit: Emit) -> EngineResult:
        begun = time.perf_counter()
        job.out_dir.mkdir(parents=True, exist_ok=True)
        profile = {"device": "none", "engine": "fake", "dtype": job.spec.dtype, "key": f"{job.spec.dtype}/fake"}
        with TraceRecorder.open(job.out_dir, job.spec, run_facts(job, profile["key"])) as recorder:
            self._embeddings(job, recorder)
            images = tuple(self._picture(job, index, recorder, emit) for index in range(job.spec.count))
            recorder.finish()
        return EngineResult(images, profile, time.perf_counter() - begun, 0.0)

    def _embeddings(self, job: EngineJob, recorder: TraceRecorder) -> None:
        for step, text in enumerate((job.spec.prompt, job.spec.negative_prompt)):
            data = blake3(text.encode()).digest(length=128)
            recorder.tensor(Slot(LeafKind.EMBEDDING, step=step), data, (1, 32))

    def _picture(self, job: EngineJob, index: int, recorder: TraceRecorder, emit: Emit) -> ImageFile:
        spec = job.spec
        stream = blake3(f"{spec.image_seed(index)}\n{spec.prompt}\n{spec.negative_prompt}".encode())
        shape = (1, 4, spec.height // 8, spec.width // 8)
        size = 4 * math.prod(shape)
        recorder.tensor(Slot(LeafKind.NOISE, index), stream.digest(length=size), shape)
        picture = _draw(spec.width, spec.height, stream.digest(length=64))
        for step in range(spec.steps):
            self._misbehave(step + 1)
            if self._faults.step_s:
                self._calm.wait(self._faults.step_s)
            latent = stream.digest(length=size, seek=(step + 1) * size)
            recorder.tensor(Slot(LeafKind.LATENT, index, step), latent, shape)
            for kind in (LeafKind.COND, LeafKind.UNCOND)[: 2 if spec.guidance > 1 else 1]:
                output = stream.digest(length=size, seek=(spec.steps + 2 * step + 2) * size)
                recorder.tensor(Slot(kind, index, step), output, shape)
            wanted = (step + 1) % PREVIEW_EVERY == 0
            emit(StepDone(index, step + 1, spec.steps, _preview(picture, step + 1, spec.steps) if wanted else None))
        recorder.tensor(Slot(LeafKind.RGB, index), picture.tobytes(), (spec.height, spec.width, 3), TensorType.UINT8)
        return finish_picture(job, self.name, index, _png(picture), recorder)

    def _misbehave(self, step: int) -> None:
        faults = self._faults
        at = (faults.crash_at_step, faults.hang_at_step, faults.oom_at_step)
        if step not in at:
            return
        if faults.once_file is not None:
            if faults.once_file.exists():
                return
            faults.once_file.touch()
        if step == faults.crash_at_step:
            os._exit(139)
        if step == faults.oom_at_step:
            raise MemoryError("the fake engine was told to run out of memory")
        self._calm.wait()


def _draw(width: int, height: int, entropy: bytes) -> Image.Image:
    picture = Image.new("RGB", (width, height), tuple(entropy[:3]))
    draw = ImageDraw.Draw(picture)
    for at in range(3, 45, 7):
        red, green, blue, left, top, wide, high = entropy[at : at + 7]
        x, y = left * width // 256, top * height // 256
        box = (x, y, x + 1 + wide * width // 512, y + 1 + high * height // 512)
        (draw.ellipse if wide % 2 else draw.rectangle)(box, fill=(red, green, blue))
    draw.text((2, 2), "fake", fill=(255, 255, 255), stroke_width=1, stroke_fill=(0, 0, 0))
    return picture


def _preview(picture: Image.Image, step: int, total: int) -> bytes:
    small = picture.resize((PREVIEW_SIDE, PREVIEW_SIDE))
    grey = Image.new("RGB", small.size, (128, 128, 128))
    return _png(Image.blend(grey, small, step / total))


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


class FakeExecutor:
    """The fake engine in a thread of this process: for tests that hold whole networks. Same outcomes as a child."""

    name = "fake"

    def __init__(self, faults: FakeFaults | None = None) -> None:
        self._faults = faults or FakeFaults()
        self._lock = anyio.Lock()
        self._runs = 0
        self._ended: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    async def warm(self, model_dir: Path | None) -> None:  # noqa: ARG002
        return None

    async def run(self, job: Job, *, on_event: OnEvent) -> Outcome:
        async with self._lock:
            self._runs += 1
            outcome = await self._run(job, on_event)
        if not isinstance(outcome, Finished):
            name = type(outcome).__name__
            self._ended[name] = self._ended.get(name, 0) + 1
        return outcome

    def health(self) -> ExecutorHealth:
        return ExecutorHealth("fake", busy=self._lock.locked(), started=self._runs, ended=dict(self._ended))

    async def _run(self, job: Job, on_event: OnEvent) -> Outcome:
        engine = _ThreadEngine(self._faults)
        work = EngineJob(job.spec, job.model_dir, job.out_dir, job.manifest, job.binding.task)

        def emit(step: StepDone) -> None:
            engine.check()
            anyio.from_thread.run(_await_event, on_event, step)

        try:
            with anyio.fail_after(job.deadline_s):
                try:
                    result = await anyio.to_thread.run_sync(engine.run, work, emit, abandon_on_cancel=True)
                finally:
                    engine.stop()
        except TimeoutError:
            return TimedOut("the deadline passed", job.deadline_s)
        except MemoryError as error:
            return OutOfMemory(str(error))
        except ModelInvalid as error:
            return Unfit(str(error))
        except _ThreadCrashError as error:
            return Crashed(str(error))
        root = RecordedTrace.read(job.out_dir, job.spec).root(job.binding)
        return Finished(result.images, root, result.profile, self.name, result.seconds, result.load_seconds)


async def _await_event(on_event: OnEvent, step: StepDone) -> None:
    await on_event(step)


class _ThreadCrashError(Exception):
    pass


class _ThreadEngine(FakeEngine):
    """A crash must not take the test's process along, and a hang must end when its caller is gone."""

    def stop(self) -> None:
        self._calm.set()

    def check(self) -> None:
        if self._calm.is_set():
            raise Cancelled

    def _misbehave(self, step: int) -> None:
        if step == self._faults.crash_at_step:
            once = self._faults.once_file
            if once is not None and once.exists():
                return
            if once is not None:
                once.touch()
            raise _ThreadCrashError("the fake engine was told to crash")
        super()._misbehave(step)
        self.check()
