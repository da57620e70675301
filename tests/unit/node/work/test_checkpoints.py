"""Checkpoints where others find them, and nowhere when nobody needs them any more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from gesso.blobs import LocalBlobs
from gesso.chain.wallet import signer_of
from gesso_node.executors.fake import FakeFaults
from gesso_node.executors.lora.host import TrainingThreadExecutor
from gesso_node.state.journal import Journal
from gesso_node.work.checkpoints import KEPT_LOST_S, TIDY_S, CheckpointSharer, Share
from gesso_protocol.errors import WalletError
from gesso_protocol.ids import BlobRef, TaskId
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.training.checkpoint import KeptCheckpoint

from ..conftest import World
from ..doubles import BOARD, CHAIN_ID
from ..trainings import (
    TRAINS,
    Gated,
    state_is,
    task_of,
    training,
    until_reached,
)

pytestmark = pytest.mark.anyio


async def test_checkpoints_are_shared_signed_and_cleared_away(world: World) -> None:
    executor, engine = TrainingThreadExecutor(), Gated(7)
    executor.engine = engine
    node = await world.add_node(runner=executor, **TRAINS)
    told: list[tuple[TaskId, KeptCheckpoint, int]] = []
    node._progress.checkpoint = lambda *said: told.append(said)  # type: ignore[method-assign]
    terms = await world.submit(await training(world, steps=20))
    await until_reached(world, engine)
    with anyio.fail_after(60):
        while not told:
            await anyio.lowlevel.checkpoint()
    task, kept, total = told[0]
    assert (task, kept.step, total) == (task_of(terms), 5, 20)
    assert (
        signer_of(kept.digest(CHAIN_ID, BOARD, task), bytes.fromhex(kept.signature)) == world.chains[0].wallet.address
    )
    assert (await world.blobs.size(kept.state)) == kept.size
    engine.go_on.set()
    await world.until(lambda: state_is(world, terms, TaskState.COMMITTED))
    with anyio.fail_after(60):
        while any([await world.blobs.has(one.state) for _, one, _ in told]):
            await anyio.lowlevel.checkpoint()


class SlowStore:
    """A store in which a put takes until the test lets it."""

    def __init__(self, blobs: LocalBlobs) -> None:
        self.blobs = blobs
        self.begun, self.go_on = anyio.Event(), anyio.Event()

    async def put(self, source: Any) -> BlobRef:
        self.begun.set()
        await self.go_on.wait()
        return await self.blobs.put(source)


TASK = TaskId(bytes(32))


class Sharing:
    """A sharer at work; its store waits only where a test wants it."""

    def __init__(self, world: World, store: Any = None, journal: Journal | None = None) -> None:
        self.world, self.told, self.signs, self.now = world, list[Any](), True, 1000.0
        progress: Any = SimpleNamespace(checkpoint=lambda *said: self.told.append(said))
        self.moved, self.slept = anyio.Event(), list[float]()
        self.sharer = CheckpointSharer(store or world.blobs, world.blobs, progress, self._sign, every_s=0,
                                       journal=journal, wall=lambda: self.now, sleep=self._sleep)  # fmt: skip

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        wake_at = self.now + seconds
        while self.now < wake_at:
            await self.moved.wait()

    async def pass_time(self, seconds: float) -> None:
        """Move the clock, as far as whoever sleeps wants to be woken at a time."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + self.slept[-1])
            self.moved.set()
            self.moved = anyio.Event()
            await anyio.wait_all_tasks_blocked()

    def _sign(self, task: TaskId, ref: BlobRef, *_: Any) -> Any:
        if not self.signs:
            raise WalletError("a checkpoint needs the node's wallet")
        return ref

    def offer(self, content: bytes, task: TaskId = TASK, step: int = 5) -> None:
        path = self.world.folder / f"{content.decode()}.safetensors"
        path.write_bytes(content)
        self.sharer.offer(Share(task, path, step, 20, bytes(32)))

    async def share(self, *contents: bytes, task: TaskId = TASK) -> None:
        for content in contents:
            count = len(self.told)
            self.offer(content, task)
            while len(self.told) == count:
                await anyio.lowlevel.checkpoint()

    async def here(self, *contents: bytes) -> list[bool]:
        return [await self.world.blobs.has(BlobRef.of(content)) for content in contents]


@asynccontextmanager
async def at_work_on(sharing: Sharing) -> AsyncIterator[Sharing]:
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(sharing.sharer.run)
            yield sharing
            group.cancel_scope.cancel()


async def test_a_checkpoint_that_is_on_its_way_when_its_task_ends_is_not_left(world: World) -> None:
    store = SlowStore(world.blobs)
    async with at_work_on(Sharing(world, store)) as sharing:
        sharing.offer(b"a")
        await store.begun.wait()
        sharing.offer(b"b", step=10)
        await sharing.sharer.forget(TASK)
        store.go_on.set()
        await anyio.wait_all_tasks_blocked()
        while (await sharing.here(b"a"))[0]:
            await anyio.lowlevel.checkpoint()
        await sharing.share(b"c")
        assert await sharing.here(b"a", b"b", b"c") == [False, False, True]
    assert len(sharing.told) == 1


async def test_the_same_bytes_shared_twice_are_one_blob_and_the_newest_stays(world: World) -> None:
    async with at_work_on(Sharing(world)) as sharing:
        await sharing.share(b"a", b"b", b"a")
        assert await sharing.here(b"a", b"b") == [True, True]
        await sharing.share(b"a", b"a", b"c")
        assert await sharing.here(b"a", b"b", b"c") == [True, False, True]
        other = TaskId(b"\x02" * 32)
        await sharing.share(b"c", task=other)
        await sharing.sharer.forget(TASK)
        assert await sharing.here(b"a", b"c") == [False, True], "another task's newest"
        await sharing.sharer.forget(other)
        assert await sharing.here(b"c") == [False]


async def test_what_nobody_signs_for_is_not_left(world: World) -> None:
    async with at_work_on(Sharing(world)) as sharing:
        sharing.signs = False
        sharing.offer(b"a")
        await anyio.wait_all_tasks_blocked()
        sharing.signs = True
        await sharing.share(b"b")
        assert await sharing.here(b"a", b"b") == [False, True]


async def test_what_a_lost_task_left_stays_a_day_across_restarts(world: World, tmp_path: Path) -> None:
    other = TaskId(b"\x02" * 32)
    async with Journal(tmp_path / "journal.sqlite") as journal:
        async with at_work_on(Sharing(world, journal=journal)) as sharing:
            await sharing.share(b"a")
            await sharing.share(b"b", task=other)
            await sharing.sharer.outlive(TASK)
        again = Sharing(world, journal=journal)
        again.now += KEPT_LOST_S - 1
        await again.sharer.restore([other])
        assert await again.here(b"a", b"b") == [True, True]
        again.now += 1
        last = Sharing(world, journal=journal)
        last.now = again.now
        await last.sharer.restore([])  # the other one was closed, and we died before it was told
        assert await last.here(b"a", b"b") == [False, True]
        last.now += KEPT_LOST_S
        await last.sharer.outlive(TASK)
        assert await last.here(b"b") == [False]
        await journal.set_note("shared-checkpoints", "[]")
        await last.sharer.restore([])


async def test_what_a_lost_task_left_goes_by_itself_when_its_day_is_over(world: World, tmp_path: Path) -> None:
    other = TaskId(b"\x02" * 32)
    async with Journal(tmp_path / "journal.sqlite") as journal, at_work_on(Sharing(world, journal=journal)) as sharing:
        await sharing.share(b"a")
        await sharing.share(b"b", task=other)
        await sharing.sharer.outlive(TASK)
        await sharing.pass_time(KEPT_LOST_S - 1)
        assert await sharing.here(b"a", b"b") == [True, True]
        await sharing.pass_time(1)
        while (await sharing.here(b"a"))[0]:
            await anyio.lowlevel.checkpoint()
        await sharing.pass_time(KEPT_LOST_S)
        assert await sharing.here(b"b") == [True], "its task is open"
        assert max(sharing.slept) <= TIDY_S
        while "00" * 32 in str(await journal.note("shared-checkpoints")):
            await anyio.lowlevel.checkpoint()


async def test_sharing_removes_what_has_had_its_time_and_a_task_that_is_ours_again_keeps_its_own(world: World) -> None:
    other = TaskId(b"\x02" * 32)
    async with at_work_on(Sharing(world)) as sharing:
        await sharing.share(b"a")
        await sharing.share(b"b", task=other)
        await sharing.sharer.outlive(TASK)
        await sharing.sharer.outlive(other)
        sharing.now += KEPT_LOST_S / 2
        await sharing.share(b"c", task=other)
        sharing.now += KEPT_LOST_S / 2
        await sharing.share(b"d", task=other)
        assert await sharing.here(b"a", b"c", b"d") == [False, True, True]


async def test_a_node_that_loses_a_task_keeps_its_checkpoints_and_one_that_ends_it_does_not(world: World) -> None:
    left: list[tuple[TaskId, bool]] = []
    node = await world.add_node(runner=TrainingThreadExecutor(FakeFaults(crash_at_step=2)), **TRAINS)
    desk = node._workbench._training
    assert desk is not None

    async def note(task: TaskId, *, lost: bool) -> None:
        left.append((task, lost))

    desk.leave = note  # type: ignore[method-assign]
    terms = await world.submit(await training(world))
    await world.until(lambda: bool(left), turns=90)
    desk._executor._faults = FakeFaults()  # type: ignore[attr-defined]
    other = await world.submit(await training(world), nonce=2)
    await world.until(lambda: len(left) == 2, turns=90)
    assert left == [(task_of(terms), True), (task_of(other), False)]
