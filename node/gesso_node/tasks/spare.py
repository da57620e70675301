"""Whether a training of ours can make way for a seat in an audit or a jury, and still be done in its window."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from gesso_node.state.book import Book, Known
from gesso_protocol.spec import Spec, TrainLora

RELOAD_S = 60.0
"""For the model of the audited task to be loaded, and the training's again after it."""
SEGMENTS = 8
"""Of an audited training: two, the rest and what is weighed, twice, as jurors compute on one thread."""


class Spare:
    """Of all trainings in hand. `seconds` says how long the work of a whole task takes here; 0: nobody knows."""

    def __init__(self, book: Book, seconds: Callable[[Spec], float]) -> None:
        self._book = book
        self._seconds = seconds

    def lacks(self, spec: Spec, now: int, seats: int) -> bool:
        """Whether there is no time for a seat in the case of a task of this spec, beside `seats` that we have."""
        return self.seconds(now) < (1 + seats) * (self._looked_at(spec) + RELOAD_S)

    def seconds(self, now: int) -> float:
        """How long trainings can make way at chain second `now`."""
        held = [known for known in self._book if known.held and known.trains]
        return min((self._of(known, now) for known in held if not _is_done(known)), default=inf)

    def _of(self, known: Known, now: int) -> float:
        """None before its first update and after its last: a run that makes way then reads all its pictures again, or
        draws its last ones, so what we have sealed already may interrupt it, and nothing more."""
        spec, watch = None if known.entry is None else known.entry.spec, known.watch
        if not isinstance(spec, TrainLora) or watch is None or watch.at is None or watch.at >= spec.steps:
            return 0.0
        left = spec.steps - watch.at
        guessed = self._seconds(spec) / (spec.steps - spec.first_step)
        update_s = watch.seconds / watch.steps if watch.steps else guessed
        late_from = self._book.view(known).late_from
        return 0.0 if late_from is None else late_from - now - left * update_s

    def _looked_at(self, spec: Spec) -> float:
        whole = self._seconds(spec)
        if not isinstance(spec, TrainLora):
            return whole
        return whole * min(1.0, SEGMENTS * spec.checkpoint_every / (spec.steps - spec.first_step))


def _is_done(known: Known) -> bool:
    return known.entry is not None and known.entry.result is not None
