"""A replay's tensors in files: whatever a child leaves there is the answer to the question or a typed error."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gesso_node.executors.cheats.roots import RootForger, with_cheat
from gesso_node.executors.fake import FakeEngine, FakeExecutor
from gesso_node.executors.messages import ReplayDone
from gesso_node.executors.port import Executor, Finished, Job, ReplayCheck, ReplayJob, StepDone
from gesso_node.executors.replay_files import INDEX, OUTPUTS, answer, answered, ask, asked
from gesso_node.executors.trace import RecordedTrace
from gesso_protocol.errors import ExecutorCrashed, ModelInvalid
from gesso_protocol.ids import TaskId
from gesso_protocol.trace import Binding, LeafKind, Slot

from .conftest import BINDING

MakeJob = Callable[..., Job]
SIZE = 4 * 4 * 8 * 8


@pytest.fixture
def question(make_job: MakeJob) -> ReplayJob:
    job = make_job(count=2, guidance=3.0, scheduler="euler_a", model_dir=None)
    checks = (ReplayCheck(0, 2, bytes(SIZE)), ReplayCheck(1, 5, b"\x01" * SIZE))
    return ReplayJob(job.spec, None, job.manifest, checks, decode=((1, b"\x02" * SIZE),))


def answered_in(folder: Path, question: ReplayJob) -> ReplayDone:
    return answer(ask(7, question, folder), FakeEngine().replay(question))


def test_what_is_asked_and_answered_comes_through_whole(question: ReplayJob, tmp_path: Path) -> None:
    message = ask(7, question, tmp_path / "replay")
    assert replace(asked(message), deadline_s=question.deadline_s) == question
    replayed = FakeEngine().replay(question)
    again = answered(question, answer(message, replayed), tmp_path / "replay")
    assert again == replace(replayed, scheduler_config=again.scheduler_config)
    assert again.scheduler_config == replayed.scheduler_config


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda index: index["parts"].pop(), "another size"),
        (lambda index: index["parts"][0].update(length=10**12), "readable"),
        (lambda index: index["parts"][0].update(length=index["parts"][0]["length"] - 4), "another size"),
        (lambda index: index["parts"][0].update(step=3), "other steps"),
        (lambda index: index["parts"][0].update(kind="rgb"), "other"),
        (lambda index: index["parts"][0].update(image=-1), "readable"),
        (lambda index: index.update(scheduler_config=[]), "readable"),
        (lambda index: index.update(more=1), "readable"),
    ],
)
def test_an_index_that_lies_is_a_typed_error(
    question: ReplayJob, tmp_path: Path, change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    folder = tmp_path / "replay"
    done = answered_in(folder, question)
    index = json.loads((folder / INDEX).read_text())
    change(index)
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(ExecutorCrashed, match=said):
        answered(question, done, folder)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(noise=st.binary(max_size=64), at=st.integers(min_value=0, max_value=2000))
def test_a_damaged_index_is_the_answer_or_a_typed_error(
    question: ReplayJob, tmp_path: Path, noise: bytes, at: int
) -> None:
    folder = tmp_path / f"{at}-{noise.hex()[:20]}"
    if folder.exists():
        return
    done = answered_in(folder, question)
    raw = (folder / INDEX).read_bytes()
    (folder / INDEX).write_bytes(raw[:at] + noise + raw[at + len(noise) :])
    try:
        answered(question, done, folder)
    except ExecutorCrashed:
        return


def test_missing_files_are_a_typed_error(question: ReplayJob, tmp_path: Path) -> None:
    for name in (OUTPUTS, INDEX):
        folder = tmp_path / name
        done = answered_in(folder, question)
        (folder / name).unlink()
        with pytest.raises(ExecutorCrashed, match="readable"):
            answered(question, done, folder)


def test_questions_out_of_bounds_are_refused_before_anything_is_sent(question: ReplayJob, tmp_path: Path) -> None:
    uneven = replace(question, checks=(ReplayCheck(0, 0, bytes(SIZE)), ReplayCheck(0, 1, bytes(8))))
    many = replace(question, checks=tuple(ReplayCheck(0, 0, b"") for _ in range(257)), decode=())
    for number, wrong in enumerate((uneven, many)):
        with pytest.raises(ModelInvalid):
            ask(1, wrong, tmp_path / str(number))


async def finished(executor: Executor, job: Job) -> Finished:
    async def ignore(_: StepDone) -> None:
        return None

    with anyio.fail_after(60):
        outcome = await executor.run(job, on_event=ignore)
    assert isinstance(outcome, Finished)
    return outcome


@pytest.mark.anyio
async def test_a_copied_root_opens_nothing(make_job: MakeJob) -> None:
    job = make_job(model_dir=None)
    sold = await finished(with_cheat(FakeExecutor(), "copied-root"), job)
    assert sold.trace_root != RecordedTrace.read(job.out_dir, job.spec).root(BINDING)
    assert with_cheat(FakeExecutor(), "int4").name == "fake"
    assert not isinstance(with_cheat(FakeExecutor(), None), RootForger)


@pytest.mark.anyio
async def test_sold_twice_is_the_first_trace_under_the_second_task_s_name(make_job: MakeJob) -> None:
    cheat = with_cheat(FakeExecutor(), "sold-twice")
    first, second = make_job(model_dir=None, seed=1), make_job(model_dir=None, seed=2)
    other = Binding(BINDING.chain_id, BINDING.board, TaskId(b"\x08" * 32), BINDING.node, BINDING.secret)
    second = replace(second, binding=other)
    sold = await finished(cheat, first)
    again = await finished(cheat, second)
    trace = RecordedTrace.read(second.out_dir, second.spec)
    assert again.trace_root == trace.root(other) != sold.trace_root
    assert again.images[0].sha256 == sold.images[0].sha256
    honest = FakeEngine().replay(ReplayJob(second.spec, None, second.manifest, images=(0,)))
    assert trace.bytes_of(Slot(LeafKind.NOISE)) != honest.noises[0], "its start noise gives it away"
    # a task of another shape cannot be served from the shelf
    wide = make_job(model_dir=None, width=128)
    assert (await finished(cheat, wide)).images[0].width == 128
