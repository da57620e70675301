"""How fast this machine draws and trains, so that it claims nothing that it cannot finish in time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ClassVar

import structlog
from pydantic import Field, TypeAdapter, ValidationError

from gesso_node.executors.lora.port import TrainingStep
from gesso_node.state.journal import Journal
from gesso_protocol.policy import MEGAPIXEL_STEP
from gesso_protocol.spec import TextToImage, TrainLora
from gesso_protocol.training.window import UNMEASURED_S

log = structlog.get_logger("gesso.node.pace")

MAX_MODELS = 64
WITHOUT_ACCELERATOR_S = UNMEASURED_S
WITH_ACCELERATOR_S = 1.0
ACCELERATORS = ("dev/nvidia[0-9]*", "dev/kfd", "dev/dxg")
"""Device files below the root, as patterns: a container may have been given any one of several GPUs."""
ROOT = Path("/")
LONG_S = 10.0
"""A picture that takes less says little of larger ones: most of it is what every picture costs."""
UNMEASURED_BYTE_S = 1 / 20e6
"""Seconds a byte of weights on a common line."""
LARGE_BYTES = 16 * 2**20
DOWNLOADS, BELIEVED_S = 3, 3600.0
_STORED: TypeAdapter[dict[str, float]] = TypeAdapter(dict[str, float])
_Pace = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_DOWNLOADS = TypeAdapter(Annotated[list[tuple[float, _Pace]], Field(max_length=DOWNLOADS)])


class Pace:
    """The best pace seen, by the base's label: one slow run must not make a node refuse what it can do."""

    NOTE: ClassVar[str]

    def __init__(self, journal: Journal, *, unmeasured: float = 0.0) -> None:
        """`unmeasured`: what is taken for a base's pace before its first run; 0 refuses nothing."""
        self._journal = journal
        self._unmeasured = unmeasured
        self._best: dict[str, float] = {}

    def of(self, model: str) -> float:
        """Seconds a megapixel-step on this base, 0 when nothing is known of it."""
        return self._best.get(model, self._unmeasured)

    async def restore(self) -> None:
        """What earlier runs of the node have measured."""
        stored = await self._journal.note(self.NOTE)
        try:
            self._best = {} if stored is None else _STORED.validate_json(stored)
        except ValidationError:
            log.warning("pace.unreadable")

    async def _take_in(self, model: str, pace: float) -> None:
        if not 0 < pace < self._best.get(model, float("inf")):
            return
        self._best.pop(model, None)
        self._best[model] = pace
        while len(self._best) > MAX_MODELS:
            self._best.pop(next(iter(self._best)))
        await self._journal.set_note(self.NOTE, _STORED.dump_json(self._best).decode())


class DownloadPace:
    """How fast weights come to this machine: at best among the last few of the last hour. A slow one says more of who
    served it, and a line may have got better: what is believed too long keeps the next one from coming."""

    NOTE = "download-pace"

    def __init__(self, journal: Journal, clock: Callable[[], float] = time.time) -> None:
        self._journal = journal
        self._clock = clock
        self._last: list[tuple[float, float]] = []

    def seconds(self, size: int) -> float:
        """What so many bytes will take."""
        fresh = [byte_s for at, byte_s in self._last if self._clock() - at < BELIEVED_S]
        if len(fresh) < DOWNLOADS:
            fresh.append(UNMEASURED_BYTE_S)
        return size * min(fresh)

    async def restore(self) -> None:
        """What earlier runs of the node have measured."""
        stored = await self._journal.note(self.NOTE)
        try:
            self._last = [] if stored is None else _DOWNLOADS.validate_json(stored)
        except ValidationError:
            log.warning("pace.unreadable")

    async def learn(self, size: int, seconds: float) -> None:
        """Take in one download; a small one says more of the way there and back."""
        if size < LARGE_BYTES or seconds <= 0:
            return
        self._last = [*self._last, (self._clock(), seconds / size)][-DOWNLOADS:]
        await self._journal.set_note(self.NOTE, _DOWNLOADS.dump_json(self._last).decode())


class TrainingPace(Pace):
    """Of trainings."""

    NOTE = "training-pace"

    async def learn(self, spec: TrainLora, measured: Stopwatch) -> None:
        """Take in the updates of one attempt."""
        if measured.steps >= 1:
            work = spec.pixel_steps / MEGAPIXEL_STEP * measured.steps / (spec.steps - spec.first_step)
            await self._take_in(spec.model, measured.seconds / work)


class PicturePace(Pace):
    """Of pictures."""

    NOTE = "picture-pace"

    async def learn(self, spec: TextToImage, seconds: float) -> None:
        """Take in the engine's time for a whole task, without loading."""
        pace = seconds / (spec.pixel_steps / MEGAPIXEL_STEP)
        if seconds >= LONG_S or pace < self._unmeasured:
            await self._take_in(spec.model, pace)


def unmeasured_pace(said: float | None, engine: str) -> float:
    """What a node takes for its pace on a base that it has never trained: its operator's word, or what a machine of its
    kind does at the slowest. A first run that is far too long is refused, instead of ending as a small part."""
    if said is not None:
        return said
    if engine == "fake":
        return 0.0
    return WITH_ACCELERATOR_S if has_accelerator() else WITHOUT_ACCELERATOR_S


def has_accelerator() -> bool:
    """Whether this machine seems to have one. Asked of the system: the node's own process loads no torch."""
    return sys.platform == "darwin" or any(any(ROOT.glob(device)) for device in ACCELERATORS)


class Stopwatch:
    """Times the updates of one attempt, from the first that it sees to the last, without the pauses."""

    def __init__(self) -> None:
        self._last: tuple[int, float] | None = None
        self.steps = 0
        self.seconds = 0.0

    @property
    def at(self) -> int | None:
        """The last update that is known to be done; None before the first."""
        return None if self._last is None else self._last[0]

    def note(self, step: TrainingStep) -> None:
        """An update, or a sample after it, is done."""
        now = time.monotonic()
        if self._last is not None and not step.resumed:
            self.steps += step.index - self._last[0]
            self.seconds += now - self._last[1]
        self._last = (step.index, now)
