"""A run that makes way after an update and goes on later ends with the bytes that it would have had."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gesso_node.executors.lora.fake_trainer import FakeTrainer
from gesso_node.executors.lora.pausing import PausedError, ask_to_pause, take_pause_back, wish_to_pause
from gesso_node.executors.lora.port import TrainingInputs, TrainingStep
from gesso_node.executors.lora.run import train
from gesso_node.executors.lora.runfolder import ask_to_stop, checkpoint_file

Inputs = Callable[..., TrainingInputs]
STEPS, EVERY = 13, 5


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def stretch(inputs: TrainingInputs, folder: Path, *pauses: int) -> list[int]:
    """The updates of one attempt, until it ends or has heeded a wish that comes after one of `pauses`."""
    seen: list[int] = []

    def told(step: TrainingStep) -> None:
        seen.append(step.index)
        assert not list(folder.glob("paused*")), "it would be one file more than the run has promised"
        if step.index in pauses:
            ask_to_pause(folder)

    take_pause_back(folder)
    train(FakeTrainer(inputs), inputs, folder, "0x00", told)
    return seen


@pytest.fixture
def run(inputs: Inputs) -> TrainingInputs:
    return inputs(steps=STEPS, checkpoint_every=EVERY)


@pytest.fixture
def whole(run: TrainingInputs, tmp_path: Path) -> dict[str, bytes]:
    stretch(run, tmp_path / "whole")
    return files(tmp_path / "whole")


@pytest.mark.parametrize("at", range(1, STEPS))
def test_a_pause_after_any_update_changes_no_byte(
    at: int, run: TrainingInputs, whole: dict[str, bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "paused"
    with pytest.raises(PausedError):
        stretch(run, folder, at)
    assert stretch(run, folder) == list(range(at + 1, STEPS + 1)), "no update is done twice"
    assert files(folder) == whole


def test_a_run_that_pauses_after_every_update_still_ends(
    run: TrainingInputs, whole: dict[str, bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "paused"
    for _ in range(STEPS - 1):
        with pytest.raises(PausedError):
            stretch(run, folder, *range(1, STEPS + 1))
    with pytest.raises(PausedError):
        stretch(run, folder, STEPS)
    assert stretch(run, folder) == [], "its last samples are all that was left"
    assert files(folder) == whole


def test_the_time_of_a_run_is_that_of_all_its_stretches(
    run: TrainingInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter([0.0, 5.0, 100.0, 107.0, 200.0, 200.5])
    monkeypatch.setattr("gesso_node.executors.lora.run.time.perf_counter", lambda: next(told))
    folder = tmp_path / "paused"
    for at in (2, 7):
        with pytest.raises(PausedError):
            stretch(run, folder, at)
    take_pause_back(folder)
    assert train(FakeTrainer(run), run, folder, "0x00", lambda _: None).seconds == 12.5
    told = iter([0.0, 3.0])
    assert train(FakeTrainer(run), run, folder, "0x00", lambda _: None).seconds == 3.0, "a pause counts once"


def test_a_run_makes_way_between_pictures_that_it_reads(inputs: Inputs, tmp_path: Path) -> None:
    """What we have sealed must not wait for a thousand of them."""
    read = list[int]()

    def between() -> None:
        read.append(len(read))
        if len(read) == 3:
            raise PausedError

    with pytest.raises(PausedError):
        FakeTrainer(replace(inputs(), between=between))
    assert len(read) == 3


def test_a_run_makes_way_between_pictures_that_it_draws(inputs: Inputs, tmp_path: Path) -> None:
    folder, drawn = tmp_path / "paused", list[str]()

    class Asked(FakeTrainer):
        def sample(self, prompt: str, seed: int) -> tuple[int, int, bytes]:
            drawn.append(prompt)
            ask_to_pause(folder)
            return super().sample(prompt, seed)

    run = inputs(steps=STEPS, checkpoint_every=EVERY, sample_prompts=("a", "b"), sample_every=EVERY)
    for many in range(1, 4):  # after updates 5 and 10, and after the last: what is only looked at is left out
        with pytest.raises(PausedError):
            train(Asked(run), run, folder, "0x00", lambda _: None)
        assert drawn == ["a"] * many
        take_pause_back(folder)
    stretch(run, tmp_path / "whole")
    assert stretch(run, folder) == []
    assert files(folder) == files(tmp_path / "whole")


def test_what_was_torn_is_not_gone_on_with(run: TrainingInputs, whole: dict[str, bytes], tmp_path: Path) -> None:
    folder = tmp_path / "paused"
    with pytest.raises(PausedError):
        stretch(run, folder, 8)
    (folder / "paused.bin").write_bytes(bytes(8))
    assert stretch(run, folder)[0] == 6, "from the checkpoint"
    assert files(folder) == whole


def test_a_disk_without_room_makes_way_all_the_same(
    run: TrainingInputs, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "paused"

    def full(path: Path, _: object) -> None:
        path.with_name(f"{path.name}.partial").write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("gesso_node.executors.lora.pausing.write_state", full)
        with pytest.raises(PausedError):
            stretch(run, folder, 8)
    assert not list(folder.glob("paused*")), "nothing of it takes room"
    assert stretch(run, folder)[0] == 6
    assert files(folder) == whole


@pytest.mark.parametrize("paused_at", [3, 8])
def test_a_run_that_was_killed_after_a_pause_of_another_claim_begins_anew(
    paused_at: int, run: TrainingInputs, inputs: Inputs, whole: dict[str, bytes], tmp_path: Path
) -> None:
    """Its blocks were taken back and it draws from another seed: nothing of the first run may be gone on with, neither
    where it stood nor a checkpoint."""
    folder, first = tmp_path / "paused", inputs(steps=STEPS, checkpoint_every=EVERY, seed=bytes(32))
    with pytest.raises(PausedError):
        stretch(first, folder, paused_at)

    def killed(step: TrainingStep) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(FakeTrainer(run), run, folder, "0x00", killed)
    stretch(run, folder)
    assert files(folder) == whole


def test_who_wants_it_to_stop_while_it_pauses_gets_the_next_checkpoint(run: TrainingInputs, tmp_path: Path) -> None:
    plain, folder = tmp_path / "plain", tmp_path / "paused"
    with pytest.raises(PausedError):
        stretch(run, folder, 7)
    ask_to_stop(folder, "its requester asked for it")
    assert stretch(run, folder) == [8, 9, 10]

    def stopping(step: TrainingStep) -> None:
        if step.index == 7:
            ask_to_stop(plain, "its requester asked for it")

    train(FakeTrainer(run), run, plain, "0x00", stopping)
    assert files(folder) == files(plain)
    assert not checkpoint_file(folder, 3).exists()


def test_a_wish_is_there_until_it_is_taken_back(tmp_path: Path) -> None:
    assert not wish_to_pause(tmp_path)
    for _ in range(2):
        ask_to_pause(tmp_path / "new")
        assert wish_to_pause(tmp_path / "new")
    for _ in range(2):
        take_pause_back(tmp_path / "new")
        assert not wish_to_pause(tmp_path / "new")
