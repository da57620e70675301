"""What audits of others' work have on the disk: bounded before it is fetched, and gone when the case is."""

from __future__ import annotations

import errno
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gesso.blobs import LocalBlobs
from gesso_node.auditing import shelf, trainings
from gesso_node.auditing.ask import Asker, NotOpenedError
from gesso_node.auditing.inspect import CannotRunError
from gesso_node.auditing.shelf import Shelf
from gesso_node.auditing.trainings import most_held
from gesso_node.models.room import RESERVE_BYTES, free_bytes
from gesso_node.work import run_bench
from gesso_protocol.errors import DiskFull
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import BlobRef, TaskId

from .runs import TASK, train
from .traces import NODE

pytestmark = pytest.mark.anyio
TASKS = tuple(TaskId(keccak256(bytes([number]))) for number in range(4))
GB = 10**9


def on(folder: Path, budget: int = 40 * GB, **more: Any) -> tuple[Shelf, LocalBlobs]:
    local = LocalBlobs(folder / "blobs")
    made = Shelf(folder / "audits", local, budget_bytes=budget, evidence=folder / "evidence", local=local,
                 **{"free": lambda _: 100 * GB, **more})  # fmt: skip
    return made, local


def test_cases_together_hold_no_more_than_the_budget_and_than_the_disk_has(tmp_path: Path) -> None:
    room, _ = on(tmp_path)
    room.hold(TASKS[0], 20 * GB)
    room.hold(TASKS[0], 25 * GB)  # instead, not beside
    with pytest.raises(CannotRunError, match="other audits have 25000000000") as busy:
        room.hold(TASKS[1], 6 * GB)
    with pytest.raises(CannotRunError, match=r"raise audits\.disk_budget_bytes") as large:
        room.hold(TASKS[1], 31 * GB)
    assert (busy.value.hopeless, large.value.hopeless) == (False, True)
    room.path(TASKS[0]).mkdir(parents=True)
    room.clear(TASKS[0])
    assert not room.path(TASKS[0]).exists()
    room.hold(TASKS[1], 30 * GB)
    full, _ = on(tmp_path, free=lambda _: 5)
    with pytest.raises(CannotRunError, match="the disk has not so many"):
        full.hold(TASKS[0], 6)


def test_the_disk_is_promised_once(tmp_path: Path) -> None:
    """What others were promised and have not fetched yet is free only as long as they wait."""
    free = [10]
    room, _ = on(tmp_path, free=lambda _: free[0])
    room.hold(TASKS[0], 8)
    with pytest.raises(CannotRunError, match="the disk has not so many"):
        room.hold(TASKS[1], 3)
    room.hold(TASKS[1], 2)
    with pytest.raises(CannotRunError, match="the disk has not so many"):
        room.hold(TASKS[0], 9)  # a promise is no bytes of its own case
    room.path(TASKS[0]).mkdir(parents=True)
    (room.path(TASKS[0]) / "state").write_bytes(b"12345678")
    free[0] = 2  # fetched, and gone from what is free
    room.hold(TASKS[0], 8)
    with pytest.raises(CannotRunError, match="the disk has not so many"):
        room.hold(TASKS[2], 1)
    room.clear(TASKS[1])
    room.hold(TASKS[2], 2)


def test_the_journal_keeps_room_on_a_disk_that_is_promised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=RESERVE_BYTES + 5))
    assert free_bytes(tmp_path / "not" / "made") == 5
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=RESERVE_BYTES - 5))
    assert free_bytes(tmp_path) == 0


async def test_a_training_that_needs_more_disk_than_audits_have_is_left_before_anything_of_it_is_fetched(
    tmp_path: Path,
) -> None:
    run = await train(tmp_path / "run", steps=8)
    assignment, answers = await run.answers()
    work = run.work(assignment, answers)
    await work.ready(seconds=60)
    state = work._ground.size
    await work.opened("outputs", 60)
    taken = sum(path.stat().st_size for path in work._folder.rglob("*") if path.is_file())
    assert taken <= most_held(state)
    small = run.work(assignment, answers)
    small._shelf._budget = most_held(state) - 1
    with pytest.raises(CannotRunError, match=r"raise audits\.disk_budget_bytes"):
        await small.ready(seconds=60)
    assert not small._folder.exists()
    small._bench = None  # type: ignore[assignment]
    with pytest.raises(CannotRunError, match=r"raise audits\.disk_budget_bytes"):
        await small.ready(seconds=60)  # and nothing is computed for it again
    work.forget()
    assert not work._folder.exists()
    assert not work._shelf._held


async def test_what_was_published_for_a_case_leaves_after_it(tmp_path: Path) -> None:
    now = [time.time()]
    room, local = on(tmp_path, wall=lambda: now[0])
    ours = await local.put(b"a result of our own")
    state = room.path(TASKS[0]) / "state"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"state" * 1000)
    named = [BlobRef.of(state.read_bytes()), BlobRef.of(b"openings"), ours]
    for ref, content in zip(named, (state, b"openings", b"a result of our own"), strict=True):
        await room.publish(TASKS[0], ref, content)
    assert local.path(named[0]).samefile(state)
    room.clear(TASKS[0])
    assert [await local.has(ref) for ref in named] == [True] * 3
    await room.over(TASKS[0])
    await room.over(TASKS[1])
    assert await local.has(named[0])
    now[0] += 2 * shelf.KEEP_EVIDENCE_S
    await room.over(TASKS[1])
    assert [await local.has(ref) for ref in named] == [False, False, True]


async def test_evidence_has_its_share_of_the_budget_and_a_restart_loses_none(tmp_path: Path) -> None:
    room, local = on(tmp_path, budget=8000)
    refs = []
    for task in TASKS:
        data = task.value * 40
        refs.append(BlobRef.of(data))
        await room.publish(task, refs[-1], data)
    assert [await local.has(ref) for ref in refs] == [True] * 4  # their cases are open
    (tmp_path / "audits" / "left").mkdir(parents=True)
    again, local = on(tmp_path, budget=8000)
    await again.open()
    assert not (tmp_path / "audits").exists()
    assert [await local.has(ref) for ref in refs].count(True) == 1  # 2000 bytes hold one


async def test_a_full_disk_keeps_no_auditor_from_saying_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    run = await train(tmp_path / "run", steps=8)
    assignment, answers = await run.answers()
    work = run.work(assignment, answers)
    await work.ready(seconds=60)
    opened = await work.opened("outputs", 60)
    monkeypatch.setattr(run.blobs, "put", full)
    await work.publish(opened)
    room, local = on(tmp_path)
    monkeypatch.setattr(local, "put", full)
    await room.publish(TASK, BlobRef.of(b"openings"), b"openings")
    assert trainings.STORE_S > 0


async def test_a_full_disk_of_ours_is_nobody_else_s_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither has the node withheld what we cannot keep, nor has the requester failed to bring its data."""

    async def full(*_: Any, **__: Any) -> Any:
        raise DiskFull

    run = await train(tmp_path / "run", steps=8)
    assignment, answers = await run.answers()
    work = run.work(assignment, answers)
    await work.ready(seconds=60)
    with monkeypatch.context() as patch:
        patch.setattr(run.blobs, "fetch", full)
        for asked in (work.opened("inputs", 60), work.opened("outputs", 60), work.published([])):
            with pytest.raises((DiskFull, NotOpenedError)) as found:
                await asked
            assert isinstance(found.value, NotOpenedError) == ("no public evidence" in str(found.value))
        ref = await run.blobs.put(answers["outputs"])
        with pytest.raises(DiskFull):
            await work.published([ref])
        asker = Asker(NODE, run.blobs, None, None, ())

        async def read(*_: Any) -> None:
            raise DiskFull

        async def asked_of(*_: Any) -> Any:
            return SimpleNamespace(bundle=ref, result=None), b""

        patch.setattr(asker, "_asked", asked_of)
        with pytest.raises(DiskFull):
            await asker.opened(assignment, "inputs", 60, read)
    with pytest.raises(DiskFull), run_bench._of_requester():
        raise DiskFull
