"""The rest of a run that another node lost: only one that the chain knows is gone on with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gesso.chain.events import TaskClaimed, TaskCommitted
from gesso_node.executors.fake import FakeFaults
from gesso_node.executors.lora.host import TrainingThreadExecutor
from gesso_protocol.errors import Unreachable
from gesso_protocol.ids import Address, Root, TaskId
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.spec import TrainLora

from ..conftest import SPEC, World
from ..doubles import BoardDouble, node_address
from ..trainings import (
    TRAINS,
    honest_state,
    refused,
    rest,
    state_is,
    task_of,
    training,
)

pytestmark = pytest.mark.anyio


async def test_the_rest_of_a_run_is_done_and_paid(world: World) -> None:
    node = await world.add_node(runner=TrainingThreadExecutor(), **TRAINS)
    spec = await training(world)
    raw = await honest_state(world, spec)
    await world.blobs.put(raw)
    terms = await world.submit(rest(world, spec, raw))
    await world.until(lambda: state_is(world, terms, TaskState.SETTLED))
    assert task_of(terms) not in world.board.parts
    entry = await node._journal.entry(task_of(terms))
    assert entry is not None
    assert entry.result is not None
    assert entry.result.profile["steps-done"] == "13"


async def test_a_rest_whose_checkpoint_nobody_serves_is_not_claimed(world: World) -> None:
    node = await world.add_node(runner=TrainingThreadExecutor(), **TRAINS)
    spec = await training(world)
    terms = await world.submit(rest(world, spec, b"a state that nobody has"))
    assert await refused(world, node) == {"input-unavailable": 1}
    assert state_is(world, terms, TaskState.SUBMITTED)


async def test_the_part_of_a_rest_is_its_share_of_the_rest(world: World) -> None:
    await world.add_node(runner=TrainingThreadExecutor(FakeFaults(nan_at_step=11)), **TRAINS)
    spec = await training(world)
    raw = await honest_state(world, spec)
    await world.blobs.put(raw)
    terms = await world.submit(rest(world, spec, raw))
    await world.until(lambda: state_is(world, terms, TaskState.SETTLED))
    assert world.board.parts[task_of(terms)] == 5 * 10_000 // 8


Forge = Callable[[World, TrainLora, TrainLora], TrainLora]
"""A run's spec and its honest rest to the one that is ordered, or to another world."""


def renamed(**changes: Any) -> Forge:
    def change(_: World, whole: TrainLora, honest: TrainLora) -> TrainLora:
        assert honest.resume is not None
        return honest.changed(resume=honest.resume.model_copy(update=changes))

    return change


def board_of(task: TaskId, board: BoardDouble, **changes: Any) -> None:
    board.tasks[task] = replace(board.tasks[task], **changes)


def in_other_words(_: World, whole: TrainLora, honest: TrainLora) -> TrainLora:
    return honest.changed(seed=whole.seed + 1)


def of_a_stranger(world: World, whole: TrainLora, honest: TrainLora) -> TrainLora:
    assert honest.resume is not None
    theirs = world.board.lose(whole, requester=Address("0x" + "bb" * 20))
    return honest.changed(resume=honest.resume.model_copy(update={"task": task_of(theirs)}))


def of_a_picture(world: World, whole: TrainLora, honest: TrainLora) -> TrainLora:
    assert honest.resume is not None
    return honest.changed(resume=honest.resume.model_copy(update={"task": task_of(world.board.lose(SPEC))}))


def that_goes_on(world: World, _: TrainLora, honest: TrainLora) -> TrainLora:
    assert honest.resume is not None
    board_of(honest.resume.task, world.board, state=TaskState.CLAIMED)
    return honest


def that_nobody_claimed(world: World, _: TrainLora, honest: TrainLora) -> TrainLora:
    for block in world.board.blocks:
        block[:] = [event for event in block if not isinstance(event, TaskClaimed)]
    return honest


def that_was_committed(world: World, _: TrainLora, honest: TrainLora) -> TrainLora:
    assert honest.resume is not None
    roots = {"result_root": Root(bytes(32)), "trace_root": Root(bytes(32)), "settle_after": 1}
    world.board._emit(TaskCommitted, task=honest.resume.task, node=node_address(0xEE), **roots)
    return honest


@pytest.mark.parametrize(
    "forge",
    [renamed(task=TaskId(b"\x09" * 32)), renamed(seed="ab" * 32), in_other_words, of_a_stranger, of_a_picture,
     that_goes_on, that_nobody_claimed, that_was_committed],
    ids=["unknown", "seed", "words", "stranger", "picture", "goes-on", "unclaimed", "committed"],
)  # fmt: skip
async def test_what_the_chain_does_not_know_as_a_lost_run_is_not_gone_on_with(forge: Forge, world: World) -> None:
    node = await world.add_node(runner=TrainingThreadExecutor(), **TRAINS)
    spec = await training(world)
    raw = await honest_state(world, spec)
    await world.blobs.put(raw)
    forged = forge(world, spec, rest(world, spec, raw))
    terms = await world.submit(forged)
    assert await refused(world, node) == {"run-not-lost": 1}
    assert state_is(world, terms, TaskState.SUBMITTED)


async def test_a_chain_that_is_away_is_asked_again_about_a_lost_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.add_node(runner=TrainingThreadExecutor(), **TRAINS)
    course, asked = world.chains[0].course_of, list[TaskId]()

    async def away_at_first(task: TaskId) -> tuple[Any, ...]:
        asked.append(task)
        if len(asked) < 3:
            raise Unreachable
        return await course(task)

    monkeypatch.setattr(world.chains[0], "course_of", away_at_first)
    spec = await training(world)
    raw = await honest_state(world, spec)
    await world.blobs.put(raw)
    terms = await world.submit(rest(world, spec, raw))
    await world.until(lambda: state_is(world, terms, TaskState.COMMITTED))
    assert len(asked) == 3
