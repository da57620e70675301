"""The course of one task is read backwards, in ranges that the endpoint accepts, and not for ever."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from gesso.chain.course import MAX_RANGES, read_course
from gesso.chain.events import TaskSubmitted
from gesso.chain.rpc import RpcRefused
from gesso_protocol.ids import TaskId

pytestmark = pytest.mark.anyio
TASK = TaskId(b"\x07" * 32)


class Endpoint:
    """Logs at some blocks; refuses ranges of more than `widest` blocks."""

    def __init__(self, head: int, *, submitted: int | None, others: tuple[int, ...] = (), widest: int = 10**9) -> None:
        self.head, self.submitted, self.widest = head, submitted, widest
        self.blocks = sorted({*others, *(() if submitted is None else (submitted,))})
        self.asked: list[tuple[int, int]] = []

    async def latest(self) -> Any:
        return SimpleNamespace(number=self.head)

    async def logs(self, addresses: Any, *, first: int, last: int, about: bytes) -> list[Any]:
        assert about == TASK.value
        self.asked.append((first, last))
        if last - first + 1 > self.widest:
            raise RpcRefused(-32005, "too many blocks")
        # not in order, as no endpoint owes us that
        return [SimpleNamespace(block=at, index=0) for at in reversed(self.blocks) if first <= at <= last]

    def decode(self, log: Any) -> Any:
        if log.block == self.submitted:
            return TaskSubmitted.model_construct(block=log.block)
        return SimpleNamespace(block=log.block)


async def read(endpoint: Endpoint, reach: int = 100) -> list[int]:
    found = await read_course(endpoint, endpoint, "board", TASK, max_range=reach)  # type: ignore[arg-type]
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
