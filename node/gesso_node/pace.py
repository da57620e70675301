"""How fast this machine trains, so that it claims nothing that it cannot finish in the time that it is given."""

from __future__ import annotations

import time

import structlog
from pydantic import TypeAdapter, ValidationError

from gesso_node.executors.lora.port import TrainingStep
from gesso_node.journal import Journal
from gesso_protocol.policy import MEGAPIXEL_STEP
from gesso_protocol.spec import TrainLora

log = structlog.get_logger("gesso.node.pace")

MAX_MODELS = 64
_NOTE = "training-pace"
_STORED: TypeAdapter[dict[str, float]] = TypeAdapter(dict[str, float])


class TrainingPace:
    """The best pace seen, by the base's label: one slow run must not make a node refuse what it can do."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._best: dict[str, float] = {}

    def of(self, model: str) -> float:
        """Seconds a megapixel-step of training on this base; 0 before the first run."""
        return self._best.get(model, 0.0)

    async def restore(self) -> None:
        """What earlier runs of the node have measured."""
        stored = await self._journal.note(_NOTE)
        try:
            self._best = {} if stored is None else _STORED.validate_json(stored)
        except ValidationError:
            log.warning("pace.unreadable")

    async def learn(self, spec: TrainLora, measured: Stopwatch) -> None:
        """Take in the updates of one attempt."""
        if measured.steps < 1:
            return
        work = spec.pixel_steps / MEGAPIXEL_STEP * measured.steps / (spec.steps - spec.first_step)
        pace = measured.seconds / work
        if not 0 < pace < (self.of(spec.model) or float("inf")):
            return
        self._best.pop(spec.model, None)
        self._best[spec.model] = pace
        while len(self._best) > MAX_MODELS:
            self._best.pop(next(iter(self._best)))
        await self._journal.set_note(_NOTE, _STORED.dump_json(self._best).decode())


class Stopwatch:
    """Times the updates of one attempt, from the first that it sees to the last."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None
        self.steps = 0
        self.seconds = 0.0

    def note(self, step: TrainingStep) -> None:
        """An update, or a sample after it, is done."""
        now = time.monotonic()
        if self._first is None:
            self._first = (step.index, now)
        self.steps, self.seconds = step.index - self._first[0], now - self._first[1]
