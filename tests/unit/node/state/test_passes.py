"""When a loop looks at the chain: in time for every block, and seldom between them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gesso.chain import Cursor
from gesso_node.state.passes import GAPS, LEFT_OUT, MAX_LEFT_OUT_S, Pulse

from ..conftest import World

TICK_S = 0.2


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def after(*gaps: float) -> tuple[Pulse, Hand]:
    """A pulse that has seen a block, and another after each of these times."""
    hand = Hand()
    pulse = Pulse(hand)
    pulse.saw(1)
    for block, gap in enumerate(gaps, 2):
        hand.now += gap
        pulse.saw(block)
    return pulse, hand


def test_between_regular_blocks_nobody_asks_until_the_next_is_nearly_due() -> None:
    pulse, hand = after(*[2.0] * GAPS)
    assert pulse.pause_s(TICK_S) == pytest.approx(2.0 * LEFT_OUT)
    hand.now += 1.0  # woken by something else
    assert pulse.pause_s(TICK_S) == pytest.approx(2.0 * LEFT_OUT - 1.0)
    hand.now += 1.0
    assert pulse.pause_s(TICK_S) == TICK_S


def test_the_shortest_time_between_blocks_counts() -> None:
    pulse, _ = after(*[2.0] * (GAPS - 1), 0.1)
    assert pulse.pause_s(TICK_S) == TICK_S


def test_few_blocks_or_none_tell_nothing() -> None:
    assert Pulse(Hand()).pause_s(TICK_S) == TICK_S
    pulse, _ = after(*[2.0] * (GAPS - 1))
    assert pulse.pause_s(TICK_S) == TICK_S


def test_slow_chains_are_looked_at_all_the_same() -> None:
    pulse, _ = after(*[60.0] * GAPS)
    assert pulse.pause_s(TICK_S) == MAX_LEFT_OUT_S


def test_blocks_that_were_read_at_once_share_their_time() -> None:
    pulse, hand = after(*[2.0] * GAPS)
    hand.now += 2.0
    pulse.saw(GAPS + 5)  # four blocks in two seconds
    assert pulse.pause_s(TICK_S) == pytest.approx(0.5 * LEFT_OUT)


def test_blocks_that_were_taken_back_begin_anew() -> None:
    pulse, _ = after(*[2.0] * GAPS)
    pulse.saw(3)
    assert pulse.pause_s(TICK_S) == TICK_S


@pytest.mark.anyio
async def test_a_pass_that_has_read_the_newest_block_asks_no_further(world: World) -> None:
    node, chain, asked = await world.add_node(), world.chains[0], list[Any]()
    read = chain.read_page

    async def counted(cursor: Cursor, head: Any = None) -> Any:
        asked.append(head)
        return await read(cursor, head)

    setattr(chain, "read_page", counted)  # noqa: B010 - the class's own is a method
    world.board.mine()
    newest = await chain.head()
    head = replace(newest, number=newest.number - 1)  # the last block of this board is still open
    await node._reconciler.once(head.timestamp, head)
    assert asked == [head]
