"""One reader of the chain for all tasks of a client: it starts in the end, and who stops listening costs nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from made_results import NODE, TASK

from gesso.chain import events as on_chain
from gesso.chain.cursor import Cursor, Page
from gesso.feed import TaskFeed
from gesso.stream import QUEUE, TaskStream
from gesso_protocol import events
from gesso_protocol.errors import Unreachable
from gesso_protocol.ids import Address, TaskId
from gesso_protocol.messages import ProgressEvent

pytestmark = pytest.mark.anyio

OTHER = TaskId(b"\x02" * 32)


class Chain:
    """Answers when it is told to; notes the block that each reader begins at."""

    chain_id = 1
    settings = SimpleNamespace(contracts=SimpleNamespace(task_board=Address("0x" + "b0" * 20)))

    def __init__(self, *, lost: int = 0) -> None:
        self.lost = lost
        self.answers = anyio.Event()
        self.begun: list[int] = []
        self.asked = 0

    async def block_number(self) -> int:
        self.asked += 1
        block = self.asked
        await self.answers.wait()
        if self.lost:
            self.lost -= 1
            raise Unreachable("away")
        return block

    async def pages(self, cursor: Cursor, *, poll_s: float) -> AsyncIterator[Page]:
        self.begun.append(cursor.block + 1)
        await anyio.sleep_forever()
        yield Page((), cursor)


class Told(Chain):
    """One page with two events; the gas of the second is asked for in vain at first."""

    def __init__(self) -> None:
        super().__init__(lost=1)

    async def pages(self, cursor: Cursor, *, poll_s: float) -> AsyncIterator[Page]:
        common = {"block": 5, "block_hash": "0x" + "00" * 32, "index": 0, "tx_hash": "0x" + "01" * 32, "task": TASK}
        first = on_chain.TaskStopRequested.model_construct(**common, node=NODE)
        second = on_chain.TaskClaimed.model_construct(**common, node=NODE, commit_by=9)
        yield Page((first, second), Cursor(block=5))
        await anyio.sleep_forever()

    async def gas_used(self, _: str) -> int | None:
        if self.lost:
            self.lost -= 1
            raise Unreachable("away")
        return 7


class Silence:
    async def follow(self, *_: object) -> None:
        await anyio.sleep_forever()


def feed_of(chain: Chain, group: anyio.abc.TaskGroup) -> TaskFeed:
    real: Any = chain
    return TaskFeed(real, Silence(), group, poll_s=0.01)


async def test_a_lost_answer_is_asked_for_again_with_the_next_task() -> None:
    chain = Chain(lost=1)
    chain.answers.set()
    async with anyio.create_task_group() as group:
        feed = feed_of(chain, group)
        with pytest.raises(Unreachable):
            await feed.open_new(TASK)
        await feed.open_new(TASK)
        await anyio.wait_all_tasks_blocked()
        assert chain.begun == [2]
        group.cancel_scope.cancel()


async def test_who_gives_up_waiting_leaves_the_start_to_the_next() -> None:
    chain = Chain()
    async with anyio.create_task_group() as group:
        feed = feed_of(chain, group)
        with anyio.move_on_after(0):
            await feed.open_new(TASK)
        chain.answers.set()
        await feed.open_new(OTHER)
        await anyio.wait_all_tasks_blocked()
        assert len(chain.begun) == 1
        group.cancel_scope.cancel()


async def test_nobody_goes_on_before_the_first_block_is_known() -> None:
    chain = Chain()
    opened: list[TaskId] = []

    async def order(feed: TaskFeed, task: TaskId) -> None:
        await feed.open_new(task)
        opened.append(task)

    async with anyio.create_task_group() as group:
        feed = feed_of(chain, group)
        group.start_soon(order, feed, TASK)
        group.start_soon(order, feed, OTHER)
        await anyio.wait_all_tasks_blocked()
        assert opened == []
        chain.answers.set()
        await anyio.wait_all_tasks_blocked()
        assert (sorted(opened), chain.begun) == ([TASK, OTHER], [1])
        group.cancel_scope.cancel()


async def test_a_page_is_told_once_however_often_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gesso.feed.RETRY_S", 0.0)
    chain = Told()
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            followed = feed_of(chain, group).open_past(TASK, 1)
            told = [await followed.next(30), await followed.next(30)]
            await anyio.wait_all_tasks_blocked()
            more = await followed.next(0)
            followed.close()
    assert [type(event) for event in told] == [events.StopRequested, events.Claimed]
    assert more is None


async def test_what_is_closed_at_once_reads_nothing() -> None:
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:  # ends when all that it started has ended
            feed_of(Chain(), group).open_past(TASK, 1).close()


def stream(closed: list[TaskStream]) -> TaskStream:
    return TaskStream(TASK, closed.append, lambda _: False)


def word(stage: Any, note: str = "", **fields: Any) -> ProgressEvent:
    return ProgressEvent(task=TASK, node=NODE, sequence=1, stage=stage, note=note, **fields)


@pytest.mark.parametrize(
    "said",
    [
        word("failed", "x" * 200),
        word("executing", step=1, total=9),
        word("executing", "paused", step=1, total=9),
        word("executing", "loss=0.5", step=1, total=9),
    ],
)
async def test_words_that_nobody_reads_are_bounded_and_push_out_no_event(said: ProgressEvent) -> None:
    followed = stream([])
    followed.push(events.Submitted(task=TASK, at_ms=1, fee=5))
    for _ in range(3 * QUEUE):
        followed.on_progress(said)
    heard = 0
    first = await followed.next(0)
    while await followed.next(0) is not None:
        heard += 1
    assert isinstance(first, events.Submitted)
    assert 0 < heard <= QUEUE


async def test_an_order_that_nobody_follows_ends_with_its_task() -> None:
    closed: list[TaskStream] = []
    over = events.Cancelled(task=TASK, at_ms=1, refund=5)
    unread, read = stream(closed), stream(closed)
    await read.next(0)
    unread.push(over)
    read.push(over)
    assert closed == [unread]
    assert await read.next(0) == over
