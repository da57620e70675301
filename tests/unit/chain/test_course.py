"""The course of one task is read backwards, in ranges that the endpoint accepts, and not for ever."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from gesso.chain.backwards import MAX_RANGES
from gesso.chain.course import SAME_SECOND, read_course, read_submission
from gesso.chain.events import TaskSubmitted
from gesso.chain.reach import MOST_IN_VAIN, Reach
from gesso.chain.rpc import RpcRefused
from gesso_protocol.errors import Unreachable
from gesso_protocol.ids import TaskId

pytestmark = pytest.mark.anyio
TASK = TaskId(b"\x07" * 32)


class Endpoint:
    """Logs at some blocks; refuses ranges of more than `widest` blocks, or with the block `crowded` and more than nine
    others, and does not answer those of more than `fast` in time."""

    def __init__(
        self, head: int, *, submitted: int | None, others: tuple[int, ...] = (), widest: int = 10**9,
        crowded: int = -1, fast: int = 10**9,
    ) -> None:  # fmt: skip
        self.head, self.submitted, self.widest, self.crowded, self.fast = head, submitted, widest, crowded, fast
        self.blocks = sorted({*others, *(() if submitted is None else (submitted,))})
        self.asked: list[tuple[int, int]] = []
        self.headers = 0

    async def latest(self) -> Any:
        return SimpleNamespace(number=self.head)

    async def header(self, block: int) -> Any:
        self.headers += 1
        return SimpleNamespace(number=block, timestamp=1_000 + block // 3)  # three blocks a second

    async def logs(self, addresses: Any, *, first: int, last: int, about: bytes) -> list[Any]:
        assert about == TASK.value
        self.asked.append((first, last))
        if last - first + 1 > (10 if first <= self.crowded <= last else self.widest):
            raise RpcRefused(-32005, "too many blocks, or results")
        if last - first + 1 > self.fast:
            raise Unreachable
        # not in order, as no endpoint owes us that
        return [SimpleNamespace(block=at, index=0) for at in reversed(self.blocks) if first <= at <= last]

    def decode(self, log: Any) -> Any:
        if log.block == self.submitted:
            return TaskSubmitted.model_construct(block=log.block)
        return SimpleNamespace(block=log.block)


async def read(endpoint: Any, reach: Reach | None = None) -> list[int]:
    found = await read_course(endpoint, endpoint, "board", TASK, reach=reach or Reach(100))
    return [event.block for event in found]


@pytest.mark.parametrize("widest", [10**9, 100, 7])
async def test_the_whole_course_comes_in_order_whatever_the_endpoint_accepts(widest: int) -> None:
    endpoint = Endpoint(500, submitted=310, others=(310, 333, 499, 500), widest=widest)
    assert await read(endpoint) == [310, 333, 499, 500]
    taken = [pair for pair in endpoint.asked if pair[1] - pair[0] + 1 <= widest]
    assert all(later[1] == earlier[0] - 1 for earlier, later in pairwise(taken)), "no gap, no twice"


async def test_a_task_that_never_was_costs_a_bounded_number_of_questions() -> None:
    endpoint = Endpoint(10**6, submitted=None, others=(10**6 - 5,))
    assert await read(endpoint) == []
    assert len(endpoint.asked) == MAX_RANGES
    young = Endpoint(250, submitted=None)
    assert await read(young) == []
    assert young.asked == [(151, 250), (51, 150), (0, 50)]


async def test_an_endpoint_that_refuses_single_blocks_is_an_error() -> None:
    with pytest.raises(RpcRefused):
        await read(Endpoint(50, submitted=3, widest=0))


async def test_one_crowded_range_does_not_bring_the_oldest_blocks_out_of_sight() -> None:
    endpoint = Endpoint(4000, submitted=310, crowded=3990)
    assert await read(endpoint) == [310]


async def test_what_does_not_come_in_time_is_asked_for_in_halves_and_remembered() -> None:
    endpoint, reach = Endpoint(300, submitted=10, others=(299,), fast=25), Reach(100)
    assert await read(endpoint, reach) == [10, 299]
    assert endpoint.asked[:3] == [(201, 300), (251, 300), (276, 300)]
    assert reach.blocks < 100
    assert all(last - first < 50 for first, last in endpoint.asked[3:]), "no longer in vain"


async def test_an_endpoint_that_answers_nothing_is_given_up() -> None:
    endpoint = Endpoint(300, submitted=10, fast=0)
    with pytest.raises(Unreachable):
        await read(endpoint)
    assert len(endpoint.asked) == MOST_IN_VAIN + 1


@pytest.mark.parametrize("submitted", [0, 1, 7, 12_345_678, 19_999_999, 20_000_000])
async def test_a_submission_of_years_ago_is_found_by_its_second(submitted: int) -> None:
    endpoint: Any = Endpoint(20_000_000, submitted=submitted)
    found = await read_submission(endpoint, endpoint, "board", TASK, at=1_000 + submitted // 3)
    assert found is not None
    assert found.block == submitted
    assert endpoint.headers <= 25
    assert len(endpoint.asked) == 1


@pytest.mark.parametrize("at", [0, 999, 5_000, 2**37])
async def test_a_second_that_is_not_true_finds_nothing(at: int) -> None:
    endpoint: Any = Endpoint(20_000_000, submitted=9_000_000)
    assert await read_submission(endpoint, endpoint, "board", TASK, at=at) is None
    ((first, last),) = endpoint.asked
    assert 0 <= first <= last <= min(first + SAME_SECOND, 20_000_000)
