"""Old results are told again to whoever asks, but not as often as somebody likes to ask."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gesso_node.tasks.recall import EVERY_S, MAX_RECALLED, SAME_TASK_EVERY_S, Recall
from gesso_protocol.errors import Unreachable
from gesso_protocol.ids import BlobRef, TaskId
from gesso_protocol.lifecycle import Why

pytestmark = pytest.mark.anyio
REF = BlobRef(b"\x07" * 32)


class Desk:
    """Journal, stores and progress at once."""

    def __init__(self, closed: Why | None = Why.SETTLED) -> None:
        self.told: list[TaskId] = []
        self.released: list[TaskId] = []
        self.stores_away = False
        self.now_s = 100.0
        self._closed = closed

    async def entry(self, task: TaskId) -> Any:
        if task.value[0] == 0:
            return None
        return SimpleNamespace(result=SimpleNamespace(ref=REF, task=task), closed=self._closed, spec=None)

    async def offer(self, _: object) -> bool:
        if self.stores_away:
            raise Unreachable("away")
        return True

    def remember(self, *_: object) -> None: ...

    def stage(self, task: TaskId, stage: str, note: str) -> None:
        assert (stage, note) == ("committed", str(REF))
        self.told.append(task)

    async def release(self, task: TaskId) -> None:
        self.released.append(task)

    def recall(self) -> Recall:
        me: Any = self
        return Recall(me, me, me, me, clock_s=lambda: self.now_s)


def task(number: int) -> TaskId:
    return TaskId(number.to_bytes(1, "big") * 32)


@pytest.mark.parametrize("desk", [Desk(closed=None), Desk()], ids=["open", "closed"])
async def test_only_what_is_over_is_told_again(desk: Desk) -> None:
    recall = desk.recall()
    assert await recall.recall(task(1), None, ()) is (desk._closed is not None)
    assert not await recall.recall(task(0), None, ())
    assert len(desk.told) == (desk._closed is not None)


async def test_asking_often_helps_nobody() -> None:
    desk = Desk()
    recall = desk.recall()
    for _ in range(100):
        assert await recall.recall(task(1), None, ())
        assert await recall.recall(task(2), None, ())
        desk.now_s += EVERY_S / 100
    assert desk.told == [task(1)]
    desk.now_s += EVERY_S
    await recall.recall(task(1), None, ())
    await recall.recall(task(2), None, ())
    assert desk.told == [task(1), task(2)]
    desk.now_s += SAME_TASK_EVERY_S
    await recall.recall(task(1), None, ())
    assert desk.told == [task(1), task(2), task(1)]


async def test_connections_made_for_it_are_given_back() -> None:
    desk = Desk()
    recall = desk.recall()
    for number in range(1, 2 * MAX_RECALLED):
        await recall.recall(task(number), "peer", ())
        desk.now_s += EVERY_S
    assert desk.released == desk.told[: len(desk.told) - MAX_RECALLED]


async def test_stores_that_are_away_keep_no_secret() -> None:
    desk = Desk()
    desk.stores_away = True
    assert await desk.recall().recall(task(1), None, ())
    assert desk.told == [task(1)]
