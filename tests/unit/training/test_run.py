"""The loop of a run, on the trainer without torch: checkpoints, resuming, NaN, segments, cheats, traces."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from PIL import Image

from gesso.checkpointfile import State, read_state, write_state
from gesso_node.executors.engine import Cancelled
from gesso_node.executors.lora.adapter_file import read_adapter
from gesso_node.executors.lora.cheats import TRAINING_CHEATS, cheating
from gesso_node.executors.lora.fake_trainer import FakeTrainer
from gesso_node.executors.lora.host import TrainingThreadExecutor
from gesso_node.executors.lora.outside import TrainingTrace
from gesso_node.executors.lora.port import (
    Revisited,
    RevisitJob,
    SegmentJob,
    Trained,
    TrainingInputs,
    TrainingJob,
    TrainingStep,
)
from gesso_node.executors.lora.run import retrain, shown, train
from gesso_node.executors.lora.runfolder import checkpoint_file, end_file, read_losses
from gesso_node.executors.port import TimedOut, Unfit
from gesso_protocol.errors import ExecutorCrashed, ModelInvalid
from gesso_protocol.messages import Preview
from gesso_protocol.trace import trace_root
from gesso_protocol.training.audit import TrainingVerdict, judge_segment
from gesso_protocol.training.trace import segments

from .conftest import BINDING, dataset

Inputs = Callable[..., TrainingInputs]
Jobs = Callable[..., TrainingJob]


BEYOND_SEGMENTS = {"higher-rate", "base-int8", "swapped-samples"}


def silent(_: TrainingStep) -> None:
    return None


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_run_tells_every_update_and_learns(inputs: Inputs, tmp_path: Path) -> None:
    told: list[TrainingStep] = []
    trainer = FakeTrainer(inputs(steps=60, rank=8))
    run = train(trainer, inputs(steps=60, rank=8), tmp_path / "a", "0x00", told.append)
    assert [step.index for step in told] == list(range(1, 61))
    assert [step.index for step in told if step.checkpoint] == list(range(5, 61, 5))
    assert (run.steps_done, run.stopped) == (60, "")
    gains = [trainer.loss_at(step, trained=False) - trainer.loss_at(step, trained=True) for step in range(40)]
    assert np.mean(gains) > 0.05
    assert run.losses == tuple(step.loss for step in told)


@pytest.mark.parametrize("stop_after", range(1, 13))
def test_a_run_that_was_killed_ends_with_the_same_bytes(stop_after: int, inputs: Inputs, tmp_path: Path) -> None:
    def stop(step: TrainingStep) -> None:
        if step.index == stop_after:
            raise Cancelled

    train(FakeTrainer(inputs()), inputs(), tmp_path / "whole", "0x00", silent)
    with pytest.raises(Cancelled):
        train(FakeTrainer(inputs()), inputs(), tmp_path / "cut", "0x00", stop)
    again: list[TrainingStep] = []
    train(FakeTrainer(inputs()), inputs(), tmp_path / "cut", "0x00", again.append)
    assert again[0].index == stop_after // 5 * 5 + 1
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


def test_a_damaged_checkpoint_costs_one_segment_more(inputs: Inputs, tmp_path: Path) -> None:
    train(FakeTrainer(inputs()), inputs(), tmp_path / "whole", "0x00", silent)
    train(FakeTrainer(inputs()), inputs(), tmp_path / "cut", "0x00", silent)
    checkpoint_file(tmp_path / "cut", 3).write_bytes(b"torn")
    again: list[TrainingStep] = []
    train(FakeTrainer(inputs()), inputs(), tmp_path / "cut", "0x00", again.append)
    assert again[0].index == 11
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


def test_another_seed_or_spec_does_not_go_on_with_old_checkpoints(inputs: Inputs, tmp_path: Path) -> None:
    train(FakeTrainer(inputs()), inputs(), tmp_path / "a", "0x00", silent)
    for other in (inputs(seed=bytes(32)), inputs(learning_rate_nano=7)):
        told: list[TrainingStep] = []
        train(FakeTrainer(other), other, tmp_path / "a", "0x00", told.append)
        assert told[0].index == 1


class Sick(FakeTrainer):
    def update(self, step: int) -> float:
        return float("nan") if step == 11 else super().update(step)


def test_a_loss_that_is_no_number_keeps_what_was_learnt(inputs: Inputs, tmp_path: Path) -> None:
    run = train(Sick(inputs()), inputs(), tmp_path / "a", "0x00", silent)
    assert (run.steps_done, len(run.losses)) == (10, 10)
    assert "update 12" in run.stopped
    kept = read_adapter(tmp_path / "a" / "adapter").diffusers_weights()
    last = read_state(checkpoint_file(tmp_path / "a", 2))
    assert all(np.array_equal(kept[name], last.weights[name]) for name in kept)


class Explodes(FakeTrainer):
    def state(self, step: int) -> State:
        state = super().state(step)
        if step == 10:
            state.weights[next(iter(state.weights))][0, 0] = np.inf
        return state


def test_weights_that_are_no_numbers_are_never_a_checkpoint(inputs: Inputs, tmp_path: Path) -> None:
    run = train(Explodes(inputs()), inputs(), tmp_path / "a", "0x00", silent)
    assert run.steps_done == 5
    assert "weight" in run.stopped


def test_samples_come_on_time(inputs: Inputs, tmp_path: Path) -> None:
    told: list[TrainingStep] = []
    spec = inputs(sample_prompts=("a", "b"), sample_every=6)
    run = train(FakeTrainer(spec), spec, tmp_path / "a", "0x00", told.append)
    assert [(step.index, step.prompt) for step in told if step.sample] == [(6, 0), (6, 1), (12, 0), (12, 1)]
    assert [image.index for image in run.images] == [0, 1]
    assert run.images[0].path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("width", "height"), [(64, 64), (512, 768), (1024, 64), (2048, 2048)])
def test_samples_on_the_way_fit_a_progress_event(width: int, height: int) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8).tobytes()
    for raw in (noise, bytes(len(noise))):
        picture = shown(width, height, raw)
        assert len(Preview.of(picture).image) <= 12 * 1024
        with Image.open(io.BytesIO(picture)) as opened:
            assert abs(opened.width / opened.height - width / height) < 0.2 * width / height
    assert Image.open(io.BytesIO(picture)).size == (min(width, 512), min(height, 512)) or max(width, height) > 512


def test_training_goes_on_from_an_adapter(inputs: Inputs, tmp_path: Path) -> None:
    train(FakeTrainer(inputs()), inputs(), tmp_path / "a", "0x00", silent)
    start = tmp_path / "a" / "adapter"
    more = inputs(start_dir=start, steps=5)
    train(FakeTrainer(more), more, tmp_path / "b", "0x00", silent)
    first = read_state(checkpoint_file(tmp_path / "b", 0))
    kept = read_adapter(start).diffusers_weights()
    assert all(np.array_equal(first.weights[name], kept[name]) for name in kept)
    with pytest.raises(ModelInvalid, match="rank"):
        FakeTrainer(inputs(start_dir=start, rank=5, alpha=5))


def segment_of(job: TrainingJob, number: int) -> SegmentJob:
    one = segments(job.inputs.spec)[number]
    return SegmentJob(job.inputs, one, checkpoint_file(job.out_dir, number))


def verdict_of(job: TrainingJob, number: int, tmp_path: Path) -> TrainingVerdict:
    wanted = segment_of(job, number)
    path, losses = retrain(FakeTrainer(job.inputs), wanted, tmp_path / "again")
    start = read_state(wanted.state).weights
    theirs = read_state(checkpoint_file(job.out_dir, number + 1))
    told = read_losses(job.out_dir, wanted.segment)
    ours = read_state(path)
    return judge_segment(job.inputs.spec, wanted.segment, start, theirs, ours, told, losses).verdict


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_segment_again_is_the_same(number: int, job: Jobs, tmp_path: Path) -> None:
    mine = job()
    train(FakeTrainer(mine.inputs), mine.inputs, mine.out_dir, "0x00", silent)
    retrain(FakeTrainer(mine.inputs), segment_of(mine, number), tmp_path / "again")
    again = end_file(tmp_path / "again", number).read_bytes()
    assert again == checkpoint_file(mine.out_dir, number + 1).read_bytes()
    assert verdict_of(mine, number, tmp_path) is TrainingVerdict.PASS


@pytest.mark.parametrize("name", [name for name in TRAINING_CHEATS if name not in BEYOND_SEGMENTS])
def test_every_cheat_shows_in_a_segment(name: str, job: Jobs, tmp_path: Path) -> None:
    mine = job(steps=20, checkpoint_every=10)
    train(cheating(name, FakeTrainer(mine.inputs)), mine.inputs, mine.out_dir, "0x00", silent)
    assert verdict_of(mine, 1, tmp_path) is TrainingVerdict.FLAG


def test_a_state_of_another_place_is_refused(job: Jobs, tmp_path: Path) -> None:
    mine = job()
    train(FakeTrainer(mine.inputs), mine.inputs, mine.out_dir, "0x00", silent)
    wrong = SegmentJob(mine.inputs, segments(mine.inputs.spec)[1], checkpoint_file(mine.out_dir, 2))
    with pytest.raises(ModelInvalid, match="after update 10, not after update 5"):
        retrain(FakeTrainer(mine.inputs), wrong, tmp_path / "again")


def test_checkpoints_of_strangers_are_checked(tmp_path: Path) -> None:
    one = {"a": np.ones((2, 2), np.float32)}
    path = tmp_path / "c.safetensors"
    write_state(path, State(3, one, one, one))
    raw = path.read_bytes()
    write_state(path, State(3, one, one, one))
    assert path.read_bytes() == raw
    assert read_state(path, {"a": (2, 2)}).step == 3
    with pytest.raises(ModelInvalid, match="another network"):
        read_state(path, {"a": (2, 3)})
    bad: list[Any] = [
        State(3, one, {"a": np.ones((1, 4), np.float32)}, one),
        State(3, one, one, {"b": one["a"]}),
        State(3, {"a": one["a"] * np.float32("nan")}, one, one),
        State(10**7, one, one, one),
    ]
    for state in bad:
        write_state(path, state)
        with pytest.raises(ModelInvalid):
            read_state(path)


def test_a_data_set_for_another_resolution_is_refused(inputs: Inputs) -> None:
    with pytest.raises(ModelInvalid, match="64 pixels"):
        FakeTrainer(inputs(resolution=128))


def test_a_data_set_with_other_pictures_is_refused(inputs: Inputs, tmp_path: Path) -> None:
    dataset(tmp_path / "other")
    index = tmp_path / "dataset" / "index.json"
    index.write_bytes(index.read_bytes().replace(b'"width":64', b'"width":56', 1))
    with pytest.raises(ModelInvalid, match="not those of its index"):
        FakeTrainer(inputs())
    index.write_bytes(b"{}")
    with pytest.raises(ModelInvalid, match="not a data set"):
        FakeTrainer(inputs())
    index.unlink()
    with pytest.raises(ModelInvalid, match="not a data set"):
        FakeTrainer(inputs())


@pytest.mark.anyio
async def test_the_executor_gives_a_trace_that_the_files_prove(job: Jobs) -> None:
    told: list[TrainingStep] = []

    async def on_event(step: TrainingStep) -> None:
        told.append(step)

    mine = job()
    with anyio.fail_after(60):
        async with TrainingThreadExecutor() as executor:
            outcome = await executor.train(mine, on_event=on_event)
    assert isinstance(outcome, Trained)
    assert (outcome.steps_done, len(told), outcome.profile["engine"]) == (13, 13, "fake")
    trace = TrainingTrace.read(mine.out_dir, mine.inputs.spec)
    assert trace_root(trace.leaves(BINDING)) == outcome.trace_root
    checkpoint_file(mine.out_dir, 1).write_bytes(b"other")
    assert trace_root(trace.leaves(BINDING)) != outcome.trace_root
    checkpoint_file(mine.out_dir, 1).unlink()
    with pytest.raises(ExecutorCrashed, match="incomplete"):
        trace.leaves(BINDING)
    with pytest.raises(ExecutorCrashed, match="another spec"):
        TrainingTrace.read(mine.out_dir, mine.inputs.spec.changed(seed=9))


@pytest.mark.anyio
async def test_the_executor_re_runs_a_segment(job: Jobs, tmp_path: Path) -> None:
    async def on_event(_: TrainingStep) -> None:
        return None

    mine = job()
    with anyio.fail_after(60):
        async with TrainingThreadExecutor() as executor:
            await executor.train(mine, on_event=on_event)
            every = segments(mine.inputs.spec)
            parts = tuple((every[at], checkpoint_file(mine.out_dir, at)) for at in (1, 2))
            last = checkpoint_file(mine.out_dir, len(every))
            job_ = RevisitJob(mine.inputs, begin=True, segments=parts, weigh=last, draws=(13, 14, 15))
            again = await executor.revisit(job_, tmp_path / "audit")
            absent = RevisitJob(mine.inputs, segments=((every[0], tmp_path / "absent"),))
            wrong = await executor.revisit(absent, tmp_path / "audit")
    assert isinstance(again, Revisited)
    assert again.begun is not None
    assert again.begun.read_bytes() == checkpoint_file(mine.out_dir, 0).read_bytes()
    for at, part in zip((1, 2), again.segments, strict=True):
        assert part.state is not None
        assert part.state.read_bytes() == checkpoint_file(mine.out_dir, at + 1).read_bytes()
        assert part.losses == read_losses(mine.out_dir, every[at])
    assert again.weighed is not None
    assert again.weighed[1] < again.weighed[0]
    assert isinstance(wrong, Unfit)


@pytest.mark.anyio
async def test_a_state_that_runs_away_is_an_answer_and_no_crash(job: Jobs, tmp_path: Path) -> None:
    mine = job()
    train(FakeTrainer(mine.inputs), mine.inputs, mine.out_dir, "0x00", silent)
    start = read_state(checkpoint_file(mine.out_dir, 1))
    huge = {name: np.full_like(array, 3e38) for name, array in start.weights.items()}
    write_state(tmp_path / "huge", State(start.step, huge, start.first, start.second))
    wanted = RevisitJob(mine.inputs, segments=((segments(mine.inputs.spec)[1], tmp_path / "huge"),))
    with anyio.fail_after(60):
        async with TrainingThreadExecutor() as executor:
            again = await executor.revisit(wanted, tmp_path / "audit")
    assert isinstance(again, Revisited)
    assert again.segments[0].state is None
    assert again.weighed is None


@pytest.mark.anyio
async def test_a_deadline_ends_a_run_and_another_goes_on(job: Jobs) -> None:
    gate = anyio.Event()

    async def stuck(step: TrainingStep) -> None:
        if step.index == 7:
            await gate.wait()

    async def free(step: TrainingStep) -> None:
        later.append(step.index)

    later: list[int] = []
    with anyio.fail_after(60):
        async with TrainingThreadExecutor() as executor:
            assert isinstance(await executor.train(job(deadline_s=0.5), on_event=stuck), TimedOut)
            gate.set()
            assert isinstance(await executor.train(job(), on_event=free), Trained)
    assert later[0] == 6
