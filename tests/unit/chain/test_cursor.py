"""The trail of a cursor: short, and never far from where a reorganisation ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gesso.chain.cursor import MAX_TRAIL, Cursor, EventReader
from gesso.chain.post import AnswerTooLong
from gesso.chain.reach import MOST_IN_VAIN, Reach
from gesso.chain.rpc import Header, RawLog, RpcRefused
from gesso_protocol.errors import ChainError, GessoError, Unreachable


def walk(steps: list[int]) -> Cursor:
    cursor, block = Cursor.before(0), -1
    for step in steps:
        block += step
        cursor = cursor.advanced(block, f"0x{block:064x}")
    return cursor


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000))
def test_any_depth_is_undone_by_rereading_little_more(blocks: int, depth: int) -> None:
    cursor = walk([1] * blocks)
    depth = min(depth, blocks - 1)
    survivors = [checkpoint.block for checkpoint in cursor.trail if checkpoint.block <= cursor.block - depth]
    assert survivors
    assert cursor.block - survivors[0] <= 4 * depth


@settings(deadline=None)
@given(st.lists(st.integers(1, 5000), min_size=1, max_size=400))
def test_the_trail_is_ordered_short_and_reaches_the_beginning(steps: list[int]) -> None:
    cursor = walk(steps)
    blocks = [checkpoint.block for checkpoint in cursor.trail]
    assert blocks[0] == cursor.block == sum(steps) - 1
    assert blocks == sorted(set(blocks), reverse=True)
    assert len(blocks) <= MAX_TRAIL
    assert blocks[-1] == steps[0] - 1


def test_a_cursor_survives_storage() -> None:
    cursor = walk([1] * 500)
    assert Cursor.model_validate_json(cursor.model_dump_json()) == cursor


def test_reading_a_block_again_replaces_its_checkpoint() -> None:
    cursor = walk([1, 1, 1]).advanced(1, "0x" + "aa" * 32)
    assert [(point.block, point.hash[-2:]) for point in cursor.trail] == [(1, "aa"), (0, "00")]


class ForkingChain:
    """Gives logs of `widest` blocks at most; the chain forks above `fork` while the logs are being read."""

    def __init__(self, widest: int, fork: int | None, limit: GessoError | None = None) -> None:
        self.widest, self.fork = widest, fork
        self.limit = limit or RpcRefused(-32005, "range too large")
        self.asked: list[tuple[int, int]] = []

    async def latest(self) -> Header:
        return self._header(64)

    async def header(self, block: int | str = "latest") -> Header | None:
        return self._header(int(block))

    async def logs(self, _: object, *, first: int = 0, last: int = 0, block_hash: str | None = None) -> list[RawLog]:
        self.asked.append((first, last))
        if last - first + 1 > self.widest:
            raise self.limit
        self.forked = self.fork
        return []

    forked: int | None = None

    def _header(self, number: int) -> Header:
        branch = "f" if self.forked is not None and number > self.forked else "a"
        return Header(number, f"0x{branch}{number:063x}", "0x" + "00" * 32, 0, 0)


def reader_of(chain: ForkingChain) -> EventReader:
    decoder: Any = SimpleNamespace(addresses=[], decode=lambda _: None)
    return EventReader(chain, decoder, reach=Reach(100))  # type: ignore[arg-type]


@pytest.mark.anyio
@pytest.mark.parametrize("widest", [100, 40, 20, 3])
async def test_a_fork_under_the_query_is_noticed_however_the_range_was_cut(widest: int) -> None:
    chain = ForkingChain(widest, fork=0)
    assert await reader_of(chain).read(Cursor.before(0)) is None
    assert chain.asked[-1][1] - chain.asked[-1][0] < widest


@pytest.mark.anyio
@pytest.mark.parametrize("limit", [None, AnswerTooLong("too long")], ids=["theirs", "ours"])
@pytest.mark.parametrize("widest", [100, 40, 20, 3])
async def test_a_cut_range_ends_at_the_block_that_was_read(widest: int, limit: ChainError | None) -> None:
    """Whoever fills blocks with more events than are read at once must not stop the reader there."""
    chain = ForkingChain(widest, fork=None, limit=limit)
    page = await reader_of(chain).read(Cursor.before(0))
    assert page is not None
    assert page.cursor.block == chain.asked[-1][1]


@pytest.mark.anyio
async def test_a_range_that_does_not_come_in_time_is_asked_for_in_smaller_parts() -> None:
    chain = ForkingChain(widest=20, fork=None, limit=Unreachable("timed out"))
    reader, cursor, failures = reader_of(chain), Cursor.before(0), 0
    while cursor.block < 64:
        try:
            page = await reader.read(cursor)
        except Unreachable:
            failures += 1
            assert failures < 20
            continue
        assert page is not None
        cursor = page.cursor
    assert failures == 2 * MOST_IN_VAIN  # 65 blocks, 32, and 16 come; then 18 and 20, as far as the chain goes
    assert [last - first + 1 for first, last in chain.asked] == [65, 65, 32, 32, 16, 18, 20, 11]


@pytest.mark.anyio
async def test_one_time_out_changes_no_range() -> None:
    chain = ForkingChain(widest=20, fork=None, limit=Unreachable("timed out"))
    reader = reader_of(chain)
    with pytest.raises(Unreachable):
        await reader.read(Cursor.before(0))
    chain.widest = 100
    page = await reader.read(Cursor.before(0))
    assert page is not None
    assert page.cursor.block == 64


@pytest.mark.anyio
async def test_a_head_that_is_known_is_not_asked_for_again() -> None:
    chain, told = ForkingChain(widest=100, fork=None), list[Header]()
    decoder: Any = SimpleNamespace(addresses=[], decode=lambda _: None)
    reader = EventReader(chain, decoder, reach=Reach(100), on_head=told.append)  # type: ignore[arg-type]
    head = await reader.head()
    assert told == [head]
    page = await reader.read(Cursor.before(0), head)
    assert page is not None
    assert page.cursor.block == head.number
    assert await reader.read(page.cursor, head) is None
    assert told == [head]
