"""A check of others' work goes before a training, which makes way after an update and goes on with the same bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from gesso_node.executors.lora.host import TrainingChildExecutor, TrainingThreadExecutor
from gesso_node.executors.lora.pausing import wish_to_pause
from gesso_node.executors.lora.port import Revisited, RevisitJob, Trained, TrainingJob, TrainingStep
from gesso_node.executors.port import TimedOut
from gesso_node.executors.precedence import Precedence

pytestmark = pytest.mark.anyio
Jobs = Callable[..., TrainingJob]
Training = TrainingChildExecutor | TrainingThreadExecutor


@pytest.fixture(params=["thread", "child"])
async def executor(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Training]:
    made: Training = TrainingThreadExecutor()
    if request.param == "child":
        made = TrainingChildExecutor("fake", tmp_path / "home")
    made.precedence = Precedence(grace_s=0)
    async with made:
        yield made


async def silent(_: TrainingStep) -> None:
    return None


async def test_a_check_is_done_before_a_training_that_has_the_executor_goes_on(
    executor: Training, job: Jobs, tmp_path: Path
) -> None:
    plain, wanted, done, told = job("plain"), job("out"), list[Any](), list[TrainingStep]()
    paused = list[int]()
    assert isinstance(await executor.train(plain, on_event=silent), Trained)
    started = executor.health().started

    async def on_event(step: TrainingStep) -> None:
        told.append(step)
        assert executor.health().busy

    async def on_pause() -> None:
        paused.append(len(told))

    async def train() -> None:
        done.append(await executor.train(wanted, on_event=on_event, on_pause=on_pause))

    async def check() -> None:
        done.append(await executor.revisit(RevisitJob(wanted.inputs, begin=True), tmp_path / "audit"))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks, executor.precedence.turn():
            tasks.start_soon(train)  # both wait in line, the training first
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(check)
            await anyio.wait_all_tasks_blocked()
    assert paused == [0], "it is told once, before anything that follows"
    assert [type(one) for one in done] == [Revisited, Trained]
    assert [step.index for step in told] == list(range(1, 14)), "no update is told twice"
    assert [step.index for step in told if step.resumed] == [1], "it had not read its pictures yet"
    assert files(wanted.out_dir) == files(plain.out_dir)
    assert not executor.health().busy
    assert not executor.health().ended, "making way is no failure"
    assert executor.health().started == started, "and costs no child"


async def test_a_check_that_comes_in_the_middle_of_a_segment_waits_for_one_update(job: Jobs, tmp_path: Path) -> None:
    executor, plain, wanted = TrainingThreadExecutor(), job("plain"), job("out")
    executor.precedence = Precedence(grace_s=0)
    told, outcomes = list[TrainingStep](), list[Any]()
    await executor.train(plain, on_event=silent)

    async def check() -> None:
        outcomes.append(await executor.revisit(RevisitJob(wanted.inputs, begin=True), tmp_path / "audit"))

    async def on_event(step: TrainingStep) -> None:
        told.append(step)
        if step.index == 3:
            tasks.start_soon(check)
            with anyio.fail_after(60):
                while not wish_to_pause(wanted.out_dir):
                    await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        outcomes.append(await executor.train(wanted, on_event=on_event))
    assert [type(one) for one in outcomes] == [Revisited, Trained]
    assert [step.index for step in told if step.resumed] == [4]
    assert files(wanted.out_dir) == files(plain.out_dir)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


async def test_a_training_comes_back_when_no_more_checks_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line, seen = Precedence(grace_s=5), list[str]()

    async def check(name: str) -> None:
        async with line.check(60):
            seen.append(name)

    async def nap(_: float) -> None:
        if "second" in seen:
            line._grace_s = 0
        else:
            await check("second")

    async def attempt(_: float) -> str | None:
        seen.append("training")
        if len(seen) > 1:
            return "done"
        tasks.start_soon(check, "first")
        await anyio.wait_all_tasks_blocked()
        assert wish_to_pause(tmp_path)
        return None

    monkeypatch.setattr("gesso_node.executors.precedence.anyio.sleep", nap)
    async with anyio.create_task_group() as tasks:
        assert await line.train(tmp_path, 60, attempt) == "done"
    assert seen == ["training", "first", "second", "training"]
    assert not wish_to_pause(tmp_path)


async def test_a_training_whose_time_is_over_while_it_makes_way_says_so(tmp_path: Path) -> None:
    line, free = Precedence(grace_s=0), anyio.Event()

    async def long_check() -> None:
        async with line.check(60):
            await free.wait()

    async def attempt(_: float) -> None:
        tasks.start_soon(long_check)
        await anyio.wait_all_tasks_blocked()

    async with anyio.create_task_group() as tasks:
        assert isinstance(await line.train(tmp_path, 0.05, attempt), TimedOut)
        free.set()
    assert not line.busy


async def test_a_training_that_is_not_wanted_any_more_leaves_nobody_waiting(tmp_path: Path) -> None:
    line, begun = Precedence(), anyio.Event()

    async def attempt(_: float) -> None:
        begun.set()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(line.train, tmp_path, 60, attempt)
        await begun.wait()
        tasks.cancel_scope.cancel()
    async with line.check(1) as left_s:
        assert left_s > 0
        assert not wish_to_pause(tmp_path), "nobody has it who could be asked"
