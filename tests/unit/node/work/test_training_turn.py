"""One executor serves trainings and audits: whoever waits for it waits no longer than its own deadline."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from gesso_node.executors.lora.host import TrainingChildExecutor, TrainingThreadExecutor
from gesso_node.executors.lora.port import RevisitJob, TrainingInputs
from gesso_node.executors.port import TimedOut
from gesso_protocol.lifecycle import TaskState

from ..conftest import SPEC, World
from ..trainings import TRAINS, state_is, training

pytestmark = pytest.mark.anyio
INPUTS = TrainingInputs(cast(Any, None), None, Path(), None, cast(Any, None), bytes(32))


@pytest.mark.parametrize("kind", [TrainingThreadExecutor, lambda: TrainingChildExecutor("fake", Path())])
async def test_an_audit_behind_a_long_training_says_in_time_that_its_turn_did_not_come(kind: Any) -> None:
    executor, free = kind(), anyio.Event()

    async def long_training() -> None:
        async with executor.precedence.turn():
            await free.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(long_training)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(60):
            outcome = await executor.revisit(RevisitJob(INPUTS, begin=True, deadline_s=0.01), Path())
        assert isinstance(outcome, TimedOut)
        assert not executor._ended, "nobody failed"
        free.set()
    assert not executor.precedence.busy


async def test_no_training_is_claimed_where_it_could_not_make_way_for_an_audit_of_ours(world: World) -> None:
    node = await world.add_node(runner=TrainingThreadExecutor(), **TRAINS)
    sealed = [True]
    node._reconciler._engaged = lambda _: sealed[0]
    terms = await world.submit(await training(world))
    picture = await world.submit(SPEC, nonce=2)
    await world.until(lambda: world.board.state(picture) is TaskState.COMMITTED)
    assert state_is(world, terms, TaskState.SUBMITTED)
    assert not node._book.trains()
    sealed.clear()
    sealed.append(False)
    await world.until(lambda: state_is(world, terms, TaskState.CLAIMED))
    assert node._book.trains()
    await world.until(lambda: state_is(world, terms, TaskState.COMMITTED))
    assert not node._book.trains()
