"""Checkpoints where others find them, and nowhere when nobody needs them any more."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from gesso.blobs import LocalBlobs
from gesso.chain.wallet import signer_of
from gesso_node.checkpoints import CheckpointSharer
from gesso_node.executors.lora.host import TrainingThreadExecutor
from gesso_protocol.ids import BlobRef, TaskId
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.training.checkpoint import KeptCheckpoint

from .conftest import World
from .doubles import BOARD, CHAIN_ID
from .trainings import (
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
    with anyio.fail_after(30):
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
    with anyio.fail_after(30):
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


async def test_a_checkpoint_that_is_on_its_way_when_its_task_ends_is_not_left(world: World) -> None:
    store, told = SlowStore(world.blobs), list[Any]()
    progress: Any = SimpleNamespace(checkpoint=lambda *said: told.append(said))
    sharer = CheckpointSharer(store, world.blobs, progress, lambda *_: None, every_s=0)  # type: ignore[arg-type,return-value]
    path = world.folder / "one.safetensors"
    path.write_bytes(b"a state")
    task = TaskId(bytes(32))
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(sharer.run)
            sharer.offer(task, path, 5, 20)
            await store.begun.wait()
            sharer.offer(task, path, 10, 20)
            sharer.forget(task)
            store.go_on.set()
            await anyio.wait_all_tasks_blocked()
            while await world.blobs.has(BlobRef.of(b"a state")):
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
    assert told == []
