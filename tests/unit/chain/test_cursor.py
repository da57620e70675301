"""The trail of a cursor: short, and never far from where a reorganisation ends."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gesso.chain.cursor import MAX_TRAIL, Cursor


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
