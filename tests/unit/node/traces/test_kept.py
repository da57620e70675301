"""Kept traces: none leaves while it may be demanded; released ones leave by age, then by need of room."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

from gesso_node.traces.kept import RELEASED, Traces
from gesso_protocol.ids import TaskId

pytestmark = pytest.mark.anyio
NOW = 1_000_000.0


def task(number: int) -> TaskId:
    return TaskId(bytes([number]) * 32)


def keep(traces: Traces, number: int, size: int = 1000) -> Path:
    folder = traces.path(task(number))
    folder.mkdir(parents=True)
    (folder / "trace.bin").write_bytes(bytes(size))
    return folder


def age(folder: Path, released_at: float) -> None:
    os.utime(folder / RELEASED, (released_at, released_at))


def made(folder: Path, budget: int = 10_000, keep_s: float = 100) -> Traces:
    return Traces(folder, budget_bytes=budget, keep_s=keep_s, wall=lambda: NOW)


async def test_a_trace_that_may_be_demanded_stays_whatever_the_budget(tmp_path: Path) -> None:
    traces = made(tmp_path, budget=10)
    open_one = keep(traces, 1, 5000)
    released = keep(traces, 2)
    await traces.release(task(2))
    assert open_one.exists()
    assert not released.exists()
    assert await traces.prune() == 5000


async def test_released_traces_leave_by_age(tmp_path: Path) -> None:
    traces = made(tmp_path)
    old, fresh = keep(traces, 1), keep(traces, 2)
    for number in (1, 2):
        (traces.path(task(number)) / RELEASED).touch()
    age(old, NOW - 100)
    age(fresh, NOW - 99)
    assert await traces.prune() == 1000
    assert (old.exists(), fresh.exists()) == (False, True)


async def test_room_is_made_by_the_oldest_released_ones_and_no_more_than_needed(tmp_path: Path) -> None:
    traces = made(tmp_path, budget=2500)
    folders = [keep(traces, number) for number in range(1, 5)]
    for at, folder in enumerate(folders[:3]):
        (folder / RELEASED).touch()
        age(folder, NOW - 50 + at)
    assert await traces.prune() == 2000
    assert [folder.exists() for folder in folders] == [False, False, True, True]


async def test_releasing_or_forgetting_what_is_not_there_is_nothing(tmp_path: Path) -> None:
    traces = made(tmp_path / "absent")
    await traces.release(task(1))
    await traces.forget(task(1))
    assert await traces.prune() == 0


async def test_many_ends_at_once_do_not_trip_over_each_other(tmp_path: Path) -> None:
    traces = made(tmp_path, keep_s=0)
    for number in range(20):
        keep(traces, number)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(traces.release, task(number))
    # Stamped later than this test's clock, so they are not old yet.
    later = Traces(tmp_path, budget_bytes=10_000, keep_s=0)
    assert await later.prune() == 0
