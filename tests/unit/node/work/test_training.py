"""Trainings on a node: stopped, late, broken, cut off; the money is always where it belongs."""

from __future__ import annotations

import shutil
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from gesso.chain.events import TaskClaimed
from gesso.runseed import NotYet
from gesso_node.executors.fake import FakeFaults
from gesso_node.executors.lora.host import TrainingThreadExecutor
from gesso_node.executors.lora.runfolder import checkpoint_file
from gesso_node.models.room import RESERVE_BYTES
from gesso_node.peer import Node
from gesso_node.traces.run_backup import RunBackup
from gesso_protocol.errors import Unreachable
from gesso_protocol.ids import BlobRef, TaskId
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.money import part_of
from gesso_protocol.terms import Terms
from gesso_protocol.training.share import late_from
from gesso_protocol.training.trace import TrainingFacts

from ..conftest import World
from ..trainings import (
    TRAINS,
    Gated,
    at_work,
    said,
    state_is,
    task_of,
    training,
    until_reached,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("at", "done"), [(2, 5), (7, 10), (11, 13)])
async def test_a_wish_to_stop_ends_a_run_at_its_next_checkpoint(at: int, done: int, world: World) -> None:
    executor, engine = TrainingThreadExecutor(), Gated(at)
    executor.engine = engine
    node = await world.add_node(runner=executor, **TRAINS)
    terms = await world.submit(await training(world))
    await until_reached(world, engine)
    world.board.request_stop(terms)
    world.board.mine(1)
    await node.once()
    engine.go_on.set()
    await world.until(lambda: state_is(world, terms, TaskState.SETTLED))
    share = part_of(terms.fee, done * 10_000 // 13)
    assert world.board.parts.get(task_of(terms), 10_000) == done * 10_000 // 13
    assert world.board.refunded[task_of(terms)] == share.rest
    assert world.board.balances[node.address] == share.due - share.due * 250 // 10_000
    entry = await node._journal.entry(task_of(terms))
    assert entry is not None
    assert entry.result is not None
    assert entry.result.profile["steps-done"] == str(done)
    assert ("asked for it" in entry.result.profile["stopped"]) is (done < 13)


async def test_an_attempt_that_broke_leaves_no_backup_beside_the_next_ones(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await world.add_node(runner=TrainingThreadExecutor(), **TRAINS)
    desk, kept = node._workbench._training, list[BlobRef | None]()
    assert desk is not None
    publish = desk.publish

    async def full(order: Any, outcome: Any, me: Any, copy: BlobRef | None) -> Any:
        kept.append(copy)
        if len(kept) == 1:
            raise OSError("no space left on device")
        return await publish(order, outcome, me, copy)

    monkeypatch.setattr(desk, "publish", full)
    pieces = list[BlobRef]()
    put = RunBackup._put

    async def note(self: RunBackup, sealed: bytes, told: Any) -> BlobRef:
        pieces.append(await put(self, sealed, told))
        return pieces[-1]

    monkeypatch.setattr(RunBackup, "_put", note)
    terms = await world.submit(await training(world))
    await world.until(lambda: state_is(world, terms, TaskState.COMMITTED), turns=90)
    first, second = kept
    assert first != second
    half = len(pieces) // 2
    assert pieces[half - 1] == first
    assert [await world.blobs.has(piece) for piece in pieces] == [False] * half + [True] * half


@pytest.mark.parametrize(("left", "copied"), [(10**6, True), (10**3, False), (None, False)])
async def test_a_copy_for_which_the_disk_has_no_room_is_done_without(
    left: int | None, copied: bool, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def usage(_: object) -> object:
        if left is None:
            raise OSError("no such disk")
        return SimpleNamespace(free=left + RESERVE_BYTES)

    executor, engine = TrainingThreadExecutor(), Gated(12)
    executor.engine = engine
    await world.add_node(runner=executor, **TRAINS)
    terms = await world.submit(await training(world))
    await until_reached(world, engine)
    monkeypatch.setattr(shutil, "disk_usage", usage)  # it was claimed while there was room
    engine.go_on.set()
    with capture_logs() as logs:
        await world.until(lambda: state_is(world, terms, TaskState.COMMITTED))
    assert any(line["event"] == "work.no-backup" for line in logs) is not copied
    entry = await world.nodes[0]._journal.entry(task_of(terms))
    assert entry is not None
    assert entry.result is not None
    assert (entry.result.trace_backup is not None) is copied


async def take_the_wish_back(world: World, node: Node, terms: Terms, before: int) -> None:
    world.board.rewind(before)
    world.board.tasks[task_of(terms)] = replace(world.board.tasks[task_of(terms)], stop_requested=False)
    await node.once()
    world.board.mine(1)


async def test_a_wish_to_stop_that_the_chain_takes_back_does_not_end_the_run(world: World) -> None:
    node, terms, engine = await at_work(world)
    before = len(world.board.blocks) - 2
    world.board.request_stop(terms)
    world.board.mine(1)
    await node.once()
    await take_the_wish_back(world, node, terms, before)
    engine.go_on.set()
    await world.until(lambda: state_is(world, terms, TaskState.COMMITTED))
    assert task_of(terms) not in world.board.parts, "all of it was done"


async def test_a_part_whose_wish_the_chain_takes_back_is_not_committed_but_finished(world: World) -> None:
    node, terms, engine = await at_work(world)
    before = len(world.board.blocks) - 2
    world.board.request_stop(terms)
    world.board.mine(1)
    await node.once()
    world.chains[0].fail_next["commit"] = Unreachable("lost on the way")
    engine.go_on.set()
    await world.until(lambda: "commit" not in world.chains[0].fail_next)
    await take_the_wish_back(world, node, terms, before)
    await world.until(lambda: state_is(world, terms, TaskState.COMMITTED))
    assert task_of(terms) not in world.board.parts, "all of it was done"


async def test_a_run_waits_for_the_block_of_its_claim_and_draws_from_that_second(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    begun: list[bool] = []

    async def seed(chain: Any, spec: Any, task: TaskId, claimed_at: int) -> bytes:
        if not begun:
            raise NotYet("the beacon's round for this run has not begun")
        drawn.append(claimed_at)
        return claimed_at.to_bytes(32, "big")

    monkeypatch.setattr("gesso_node.work.training.seed_of_run", seed)
    executor, engine = TrainingThreadExecutor(), Gated(7)
    executor.engine = engine
    await world.add_node(runner=executor, **TRAINS)
    chain, claim, slow = world.chains[0], world.chains[0].claim, anyio.Event()

    async def slowly(terms: Terms, **about: Any) -> Any:
        await slow.wait()
        return await claim(terms, **about)

    monkeypatch.setattr(chain, "claim", slowly)
    terms = await world.submit(await training(world))
    with capture_logs() as logs:
        for _ in range(5):
            await world.nodes[0].once()
            await anyio.lowlevel.checkpoint()
            world.board.mine(1)
        assert drawn == [], "the claim is on its way"
        slow.set()
        await world.until(lambda: any("round" in line.get("reason", "") for line in logs))
        begun.append(True)
        await until_reached(world, engine)
    assert {line["log_level"] for line in logs} <= {"debug", "info"}, "to wait for a block is no trouble"
    record = world.board.tasks[task_of(terms)]
    assert drawn == [record.state_since]
    # the block of the claim is replaced by a later one while the run is under way
    world.board.tasks[task_of(terms)] = replace(record, state_since=record.state_since + 3)
    engine.go_on.set()
    await world.until(lambda: state_is(world, terms, TaskState.COMMITTED))
    assert drawn == [record.state_since, record.state_since + 3]
    facts = TrainingFacts.decode((world.nodes[0]._workbench._traces.path(task_of(terms)) / "facts.json").read_bytes())
    assert facts.seed == (record.state_since + 3).to_bytes(32, "big").hex()


async def test_a_run_that_is_late_commits_what_it_has(world: World) -> None:
    node, terms, engine = await at_work(world)
    world.board.mine(54)
    await node.once()
    engine.go_on.set()
    await world.until(lambda: state_is(world, terms, TaskState.COMMITTED))
    assert world.board.parts[task_of(terms)] == 10 * 10_000 // 13


async def test_a_run_that_died_too_often_commits_its_last_checkpoint_when_it_is_late(world: World) -> None:
    node = await world.add_node(runner=TrainingThreadExecutor(FakeFaults(crash_at_step=8)), **TRAINS)
    terms = await world.submit(await training(world))
    await world.until(lambda: state_is(world, terms, TaskState.COMMITTED), turns=90)
    record = world.board.tasks[task_of(terms)]
    assert world.board.parts[task_of(terms)] == 5 * 10_000 // 13
    claimed = next(event for block in world.board.blocks for event in block if isinstance(event, TaskClaimed))
    assert record.state_since >= late_from(claimed.commit_by - terms.commit_window_s, terms.commit_window_s)
    assert "crash" in await said(node, terms)


async def test_a_loss_that_is_no_number_is_paid_up_to_the_last_checkpoint(world: World) -> None:
    node = await world.add_node(runner=TrainingThreadExecutor(FakeFaults(nan_at_step=11)), **TRAINS)
    terms = await world.submit(await training(world))
    await world.until(lambda: state_is(world, terms, TaskState.SETTLED))
    assert world.board.parts[task_of(terms)] == 10 * 10_000 // 13
    assert world.board.refunded[task_of(terms)] == part_of(terms.fee, 7692).rest
    assert world.board.balances[node.address] > 0


async def test_whatever_a_training_brings_up_ends_the_attempt_and_not_the_node(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> None:
        raise ValueError("nobody had thought of that")

    node = await world.add_node(runner=TrainingThreadExecutor(), **TRAINS)
    monkeypatch.setattr(node._workbench._training, "run", broken)
    terms = await world.submit(await training(world))
    await world.until(lambda: state_is(world, terms, TaskState.EXPIRED), turns=90)
    assert "nobody had thought of that" in await said(node, terms)
    assert [verb for verb, _, _ in world.board.attempts] == ["claim", "expire"]


async def test_a_full_disk_at_a_wish_to_stop_is_survived(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    executor, engine = TrainingThreadExecutor(), Gated(2)
    executor.engine = engine
    node = await world.add_node(runner=executor, **TRAINS)
    terms = await world.submit(await training(world))
    await until_reached(world, engine)
    told: list[Any] = []

    def full(known: Any) -> None:
        told.append(known)
        monkeypatch.undo()
        raise OSError("no space left on device")

    monkeypatch.setattr(node._workbench, "stop", full)
    world.board.request_stop(terms)
    for _ in range(3):
        world.board.mine(1)
        await node.once()
    engine.go_on.set()
    await world.until(lambda: state_is(world, terms, TaskState.COMMITTED))
    assert len(told) == 1
    assert world.board.parts[task_of(terms)] == 5 * 10_000 // 13


async def test_a_child_that_dies_goes_on_from_its_checkpoint(world: World, tmp_path: Path) -> None:
    faults = FakeFaults(crash_at_step=8, once_file=tmp_path / "crashed")
    node = await world.add_node(runner=TrainingThreadExecutor(faults), **TRAINS)
    terms = await world.submit(await training(world))
    await world.until(lambda: state_is(world, terms, TaskState.SETTLED))
    assert (tmp_path / "crashed").exists()
    assert world.board.balances[node.address] == 9_750_000_000_000_000
    assert "crash" in await said(node, terms)


async def test_a_wish_made_while_the_node_was_away_is_heeded(world: World) -> None:
    executor, engine = TrainingThreadExecutor(), Gated(7)
    executor.engine = engine
    async with AsyncExitStack() as stack:
        first = await world.add_node(runner=executor, **TRAINS)
        terms = await world.submit(await training(world, steps=40))
        await until_reached(world, engine)
        world.nodes.remove(first)
        world.board.request_stop(terms)
        world.board.mine(1)
        again = TrainingThreadExecutor()
        resumed = Gated(5)
        again.engine = resumed
        second = await world.open(world.chains[0], 1, stack=stack, runner=again, **TRAINS)
        world.nodes.append(second)
        # The wish may be seen before the run goes on, or when it has begun with its next segment.
        await until_reached(world, resumed, or_else=lambda: state_is(world, terms, TaskState.COMMITTED))
        await second.once()
        resumed.go_on.set()
        await world.until(lambda: state_is(world, terms, TaskState.COMMITTED))
        assert world.board.parts[task_of(terms)] in (5 * 10_000 // 40, 10 * 10_000 // 40)
        world.nodes.remove(second)
    engine.go_on.set()


async def test_a_node_that_is_cut_off_goes_on_from_its_checkpoint(world: World) -> None:
    executor, engine = TrainingThreadExecutor(), Gated(7)
    executor.engine = engine
    async with AsyncExitStack() as stack:
        first = await world.add_node(runner=executor, **TRAINS)
        terms = await world.submit(await training(world))
        await until_reached(world, engine)
        world.nodes.remove(first)
        folder = first._workbench._traces.path(task_of(terms))
        begun = checkpoint_file(folder, 1).read_bytes()
        again = TrainingThreadExecutor()
        watched = Gated(-1)
        told: list[int] = []
        watched._before = lambda step: told.append(step) or True  # type: ignore[method-assign,func-returns-value]
        again.engine = watched
        second = await world.open(world.chains[0], 1, stack=stack, runner=again, **TRAINS)
        world.nodes.append(second)
        await world.until(lambda: state_is(world, terms, TaskState.COMMITTED))
        assert told == list(range(5, 13))
        assert checkpoint_file(folder, 1).read_bytes() == begun
        world.nodes.remove(second)
    engine.go_on.set()


@pytest.mark.parametrize("kind", ["picture", "training"])
async def test_a_node_at_work_on_a_training_claims_nothing_that_would_wait_for_its_end(kind: str, world: World) -> None:
    node, _, engine = await at_work(world)
    if kind == "picture":
        other = await world.submit(nonce=5)
    else:
        other = await world.submit(await training(world, seed=99), nonce=5)
    status = await node.status()
    assert (status.held, status.free) == (1, 0)
    for turn in range(500):
        await node.once()
        await anyio.lowlevel.checkpoint()
        world.board.mine(1)
        if turn > 20 and (await node.status()).refused:
            break
    assert [attempt[0] for attempt in world.board.attempts] == ["claim"]
    assert (await node.status()).refused == {"busy": 1}
    engine.go_on.set()
    await world.until(lambda: state_is(world, other, TaskState.SETTLED))
    assert (await node.status()).free == 2


async def test_no_training_is_claimed_behind_a_picture(world: World) -> None:
    node = await world.add_node(runner=TrainingThreadExecutor(), **TRAINS)
    picture, order = await world.submit(), await world.submit(await training(world), nonce=5)
    await world.until(lambda: state_is(world, order, TaskState.SETTLED))
    assert state_is(world, picture, TaskState.SETTLED)
    verbs = [attempt[0] for attempt in world.board.attempts if attempt[0] in ("claim", "commit", "commit_part")]
    assert verbs == ["claim", "commit"] * 2
    assert (await node.status()).refused in ({}, {"busy": 1})
