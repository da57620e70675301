"""A seat is taken beside a training only where the training is done in its window all the same."""

from __future__ import annotations

from math import inf
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gesso_node.executors.lora.port import TrainingStep
from gesso_node.state.book import Book
from gesso_node.state.pace import Stopwatch
from gesso_node.tasks.spare import RELOAD_S, Spare
from gesso_protocol.ids import BlobRef
from gesso_protocol.spec import Spec, TextToImage
from gesso_protocol.training.presets import make_training

RUN = make_training("sample@1", dataset=BlobRef(bytes(32)), steps=100, checkpoint_every=5, sample_every=0)
PICTURE = TextToImage(prompt="a", model="sample@1", width=64, height=64)
LATE_FROM = 10_000
SECONDS: dict[Any, float] = {RUN: 3000.0, PICTURE: 40.0}


def watch(at: int, *, steps: int = 0, seconds: float = 0.0) -> Stopwatch:
    made = Stopwatch()
    if at:
        made.note(TrainingStep(at, 100, 0.5))
    made.steps, made.seconds = steps, seconds
    return made


def known(spec: Spec = RUN, *, watch: Stopwatch | None = None, result: Any = None, held: bool = True) -> Any:
    return SimpleNamespace(held=held, trains=spec is RUN, watch=watch, entry=SimpleNamespace(spec=spec, result=result))


def spare(*tasks: Any) -> Spare:
    class Held(Book):
        def __init__(self) -> None:
            self._tasks = cast(Any, dict(enumerate(tasks)))

        def view(self, _: Any) -> Any:
            return SimpleNamespace(late_from=LATE_FROM)

    return Spare(Held(), lambda spec: SECONDS[spec])


@pytest.mark.parametrize(
    ("left_s", "tasks"),
    [
        (inf, []),
        (inf, [known(PICTURE)]),
        (inf, [known(held=False)]),
        (inf, [known(result="made")]),  # it waits for its commit, and not for the executor
        (0.0, [known()]),  # claimed, not begun
        (0.0, [known(watch=watch(0))]),  # it reads its pictures
        (0.0, [known(watch=watch(100))]),  # it draws its last samples
        (10_000 - 4_000 - 90 * 30.0, [known(watch=watch(10))]),  # at the pace of such a machine
        (10_000 - 4_000 - 90 * 2.0, [known(watch=watch(10, steps=9, seconds=18.0))]),  # at its own
        (0.0, [known(watch=watch(10)), known()]),
    ],
)  # fmt: skip
def test_what_a_training_can_spare(left_s: float, tasks: list[Any]) -> None:
    assert spare(*tasks).seconds(4_000) == left_s


@pytest.mark.parametrize("spec", [PICTURE, RUN])
def test_every_seat_counts(spec: Spec) -> None:
    one = RELOAD_S + (40.0 if spec is PICTURE else 3000.0 * 8 * 5 / 100)
    at_work = spare(known(watch=watch(99, steps=10, seconds=0.0)))
    for seats in (0, 3):
        enough = int(LATE_FROM - 30 - (1 + seats) * one)
        assert not at_work.lacks(spec, enough, seats)
        assert at_work.lacks(spec, enough + 31, seats)
