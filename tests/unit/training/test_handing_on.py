"""A run that changes hands: the rest of it from a stranger's checkpoint, the wish to stop, runs that learn nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

from gesso.checkpointfile import Array, State, read_state, write_state
from gesso.tensorfile import write_tensors
from gesso_node.executors.engine import Cancelled
from gesso_node.executors.lora.adapter_file import read_adapter
from gesso_node.executors.lora.fake_trainer import FakeTrainer
from gesso_node.executors.lora.fault import InputInvalid
from gesso_node.executors.lora.host import TrainingThreadExecutor
from gesso_node.executors.lora.outside import TrainingTrace
from gesso_node.executors.lora.port import SegmentJob, Trained, TrainingInputs, TrainingJob, TrainingStep
from gesso_node.executors.lora.run import retrain, train
from gesso_node.executors.lora.runfolder import ask_to_stop, checkpoint_after, checkpoint_file
from gesso_protocol.errors import ModelInvalid
from gesso_protocol.ids import BlobRef, TaskId
from gesso_protocol.trace import LeafKind, Slot, trace_root
from gesso_protocol.training import disk
from gesso_protocol.training.checkpoint import Resume
from gesso_protocol.training.trace import segments

from .conftest import BINDING

Inputs = Callable[..., TrainingInputs]
FIRST = TaskId(b"\x05" * 32)


def silent(_: TrainingStep) -> None:
    return None


def rest_of(whole: TrainingInputs, state: Path, step: int) -> TrainingInputs:
    """What a second node gets: the spec of the rest and the checkpoint's bytes."""
    raw = state.read_bytes()
    resume = Resume(task=FIRST, seed=whole.seed.hex(), step=step, state=BlobRef.of(raw), size=len(raw))
    return replace(whole, spec=whole.spec.rest(resume), state=state)


def test_a_base_whose_checkpoints_outgrow_what_was_thought_of_it_is_not_trained(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "model_index.json").touch()
    wanted = replace(inputs(), model_dir=base)
    with monkeypatch.context() as strict:
        strict.setattr(disk, "SMALL_RUN_BYTES", 0)
        with pytest.raises(InputInvalid, match=r"a checkpoint weighs [0-9]+ bytes with this base"):
            train(FakeTrainer(wanted), wanted, tmp_path / "out", str(FIRST), silent)
    assert not (tmp_path / "out").exists()
    assert train(FakeTrainer(wanted), wanted, tmp_path / "out", str(FIRST), silent).steps_done == wanted.spec.steps


def adapter_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "adapter").iterdir())}


@pytest.mark.parametrize("step", [5, 10])
def test_another_node_finishes_the_run_with_the_same_bytes(step: int, inputs: Inputs, tmp_path: Path) -> None:
    mine = inputs(sample_prompts=("a",), sample_every=6)
    whole = train(FakeTrainer(mine), mine, tmp_path / "whole", str(FIRST), silent)
    rest = rest_of(mine, checkpoint_file(tmp_path / "whole", step // 5), step)
    told: list[TrainingStep] = []
    run = train(FakeTrainer(rest), rest, tmp_path / "rest", "0x" + "09" * 32, told.append)
    assert [one.index for one in told if not one.sample] == list(range(step + 1, 14))
    assert [one.index for one in told if one.sample] == [at for at in (6, 12) if at > step]
    assert (run.steps_done, run.losses) == (13, whole.losses[step:])
    assert adapter_files(tmp_path / "rest") == adapter_files(tmp_path / "whole")
    for number in range(3 - step // 5 + 1):
        kept = checkpoint_file(tmp_path / "whole", step // 5 + number)
        assert checkpoint_file(tmp_path / "rest", number).read_bytes() == kept.read_bytes()


def test_the_second_node_may_be_killed_as_well(inputs: Inputs, tmp_path: Path) -> None:
    def stop(step: TrainingStep) -> None:
        if step.index == 12:
            raise Cancelled

    train(FakeTrainer(inputs()), inputs(), tmp_path / "whole", str(FIRST), silent)
    rest = rest_of(inputs(), checkpoint_file(tmp_path / "whole", 1), 5)
    with pytest.raises(Cancelled):
        train(FakeTrainer(rest), rest, tmp_path / "rest", "0x00", stop)
    again: list[TrainingStep] = []
    train(FakeTrainer(rest), rest, tmp_path / "rest", "0x00", again.append)
    assert again[0].index == 11
    assert adapter_files(tmp_path / "rest") == adapter_files(tmp_path / "whole")


@pytest.mark.anyio
async def test_the_trace_of_the_rest_begins_with_the_given_state(inputs: Inputs, tmp_path: Path) -> None:
    async def on_event(_: TrainingStep) -> None:
        return None

    train(FakeTrainer(inputs()), inputs(), tmp_path / "whole", str(FIRST), silent)
    rest = rest_of(inputs(), checkpoint_file(tmp_path / "whole", 1), 5)
    job = TrainingJob(rest, tmp_path / "rest", 60, BINDING)
    with anyio.fail_after(60):
        async with TrainingThreadExecutor() as executor:
            outcome = await executor.train(job, on_event=on_event)
    assert isinstance(outcome, Trained)
    assert (outcome.steps_done, len(outcome.losses)) == (13, 8)
    trace = TrainingTrace.read(job.out_dir, rest.spec)
    assert trace.layout.count == 3 + 2 * 2 + 1
    assert trace_root(trace.leaves(BINDING)) == outcome.trace_root
    given = trace.path(Slot(LeafKind.CHECKPOINT, step=0))
    assert given is not None
    assert BlobRef.of(given.read_bytes()) == rest.spec.resume.state if rest.spec.resume else None
    one = segments(rest.spec)[1]
    path, _ = retrain(FakeTrainer(rest), SegmentJob(rest, one, checkpoint_file(job.out_dir, 1)), tmp_path / "audit")
    assert path.read_bytes() == checkpoint_file(job.out_dir, 2).read_bytes()


def made(state: State, **changes: Any) -> State:
    return replace(state, **changes)


def poisoned(state: State) -> State:
    first = next(iter(state.weights))
    return made(state, weights={**state.weights, first: np.full_like(state.weights[first], np.nan)})


def negative(state: State) -> State:
    first = next(iter(state.second))
    return made(state, second={**state.second, first: -np.ones_like(state.second[first])})


def changed(state: State, change: Callable[[str, Array], tuple[str, Array]]) -> State:
    parts = (state.weights, state.first, state.second)
    return State(state.step, *(dict(change(name, array) for name, array in part.items()) for part in parts))


def narrowed(state: State) -> State:
    return changed(state, lambda name, array: (name, array[:, :1]))


def renamed(state: State) -> State:
    return changed(state, lambda name, array: (f"x{name}", array))


@pytest.mark.parametrize(
    ("forge", "word"),
    [
        (poisoned, "not numbers"),
        (negative, "below zero"),
        (narrowed, "another network"),
        (renamed, "another network"),
        (lambda state: made(state, step=10), "update 10, not after update 5"),
        (lambda state: made(state, step=0), "update 0"),
    ],
)
def test_forged_checkpoints_are_refused_with_a_sentence(
    forge: Callable[[State], State], word: str, inputs: Inputs, tmp_path: Path
) -> None:
    train(FakeTrainer(inputs()), inputs(), tmp_path / "whole", str(FIRST), silent)
    forged = tmp_path / "forged.safetensors"
    write_state(forged, forge(read_state(checkpoint_file(tmp_path / "whole", 1))))
    rest = rest_of(inputs(), forged, 5)
    with pytest.raises(ModelInvalid, match=word):
        train(FakeTrainer(rest), rest, tmp_path / "rest", "0x00", silent)
    assert not checkpoint_file(tmp_path / "rest", 0).exists()


@pytest.mark.parametrize(
    ("data", "word"),
    [(b"\x80\x04K\x01.", "pickle"), (b"\xff" * 64, "header"), (b"ab", "too short"), (None, "cannot be read")],
)
def test_what_is_no_checkpoint_at_all(data: bytes | None, word: str, inputs: Inputs, tmp_path: Path) -> None:
    path = tmp_path / "forged.safetensors"
    path.write_bytes(data or b"gone")
    rest = rest_of(inputs(), path, 5)
    if data is None:
        path.unlink()
    with pytest.raises(ModelInvalid, match=word):
        train(FakeTrainer(rest), rest, tmp_path / "rest", "0x00", silent)


def test_other_numbers_and_sizes_are_seen_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    notes = {"format": "gesso/checkpoint/1", "step": "5"}
    write_tensors(path, [(f"{part}/a", "F16", (2,), b"\0" * 4) for part in "wmv"], notes)
    with pytest.raises(ModelInvalid, match="no place in a checkpoint"):
        read_state(path, {"a": (2,)})
    write_tensors(path, [(f"{part}/a", "F32", (2,), b"\0" * 8) for part in "wmv"], {**notes, "step": "٥"})
    with pytest.raises(ModelInvalid, match="not a checkpoint"):
        read_state(path, {"a": (2,)})


def test_the_state_is_asked_for_where_the_spec_names_one(inputs: Inputs, tmp_path: Path) -> None:
    train(FakeTrainer(inputs()), inputs(), tmp_path / "whole", str(FIRST), silent)
    rest = replace(rest_of(inputs(), checkpoint_file(tmp_path / "whole", 1), 5), state=None)
    with pytest.raises(ModelInvalid, match="missing"):
        train(FakeTrainer(rest), rest, tmp_path / "rest", "0x00", silent)


def test_a_wish_to_stop_is_heeded_at_the_next_checkpoint(inputs: Inputs, tmp_path: Path) -> None:
    def wish(step: TrainingStep) -> None:
        if step.index == 7:
            ask_to_stop(tmp_path / "a", "its requester wants no more")
            ask_to_stop(tmp_path / "a", "another reason")

    run = train(FakeTrainer(inputs()), inputs(), tmp_path / "a", "0x00", wish)
    assert (run.steps_done, run.stopped) == (10, "its requester wants no more")
    kept = read_adapter(tmp_path / "a" / "adapter").diffusers_weights()
    last = read_state(checkpoint_file(tmp_path / "a", 2))
    assert all(np.array_equal(kept[name], last.weights[name]) for name in kept)
    again = train(FakeTrainer(inputs()), inputs(), tmp_path / "a", "0x00", silent)
    assert again == replace(run, seconds=again.seconds), "a crash before the commit does not lose the wish"


def test_a_wish_before_the_first_update_still_leaves_something(inputs: Inputs, tmp_path: Path) -> None:
    ask_to_stop(tmp_path / "a", "")
    run = train(FakeTrainer(inputs()), inputs(), tmp_path / "a", "0x00", silent)
    assert (run.steps_done, run.stopped) == (5, "it was asked to")


class Hopeless(FakeTrainer):
    def update(self, step: int) -> float:
        return float("nan") if step == 3 else super().update(step)


def test_nothing_learnt_is_no_result(inputs: Inputs, tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid, match=r"nothing was learnt: .* update 4"):
        train(Hopeless(inputs()), inputs(), tmp_path / "a", "0x00", silent)


def test_checkpoints_are_counted_from_the_own_start(inputs: Inputs, tmp_path: Path) -> None:
    train(FakeTrainer(inputs()), inputs(), tmp_path / "whole", str(FIRST), silent)
    rest = rest_of(inputs(), checkpoint_file(tmp_path / "whole", 1), 5).spec
    assert [checkpoint_after(inputs().spec, step) for step in (5, 10, 13)] == [1, 2, 3]
    assert [checkpoint_after(rest, step) for step in (5, 10, 13)] == [0, 1, 2]
