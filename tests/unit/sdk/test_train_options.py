"""`gesso train`: every setting can be given, Ctrl-C does what the person answers, the line tells all that happens."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from gesso.cli import interrupt
from gesso.cli.live import TaskLine
from gesso.cli.output import Output
from gesso.cli.train import SampleLine
from gesso.cli.train_options import TrainOptions
from gesso.training import spec_fields
from gesso_protocol import events
from gesso_protocol.errors import TaskFailed
from gesso_protocol.ids import ZERO_ADDRESS, BlobRef, TaskId
from gesso_protocol.money import Wei
from gesso_protocol.spec import TrainLora
from gesso_protocol.training.presets import make_training

OF_THE_ORDER = {"format", "kind", "model", "model_manifest", "dataset", "continue_from", "trigger", "resume"}
GIVEN: dict[str, Any] = {
    "steps": 40, "rank": 5, "alpha": 6, "target": ("projection", "attention"), "text_encoder": True,
    "learning_rate": 1e-4, "text_learning_rate": 5e-5, "schedule": "linear", "warmup_steps": 7, "weight_decay": 0.02,
    "max_grad_norm": 0.5, "batch": 3, "accumulation": 2, "resolution": 128, "buckets": False, "bucket_step_px": 32,
    "caption_dropout": 0.2, "noise_offset": 0.05, "min_snr": 5.0, "prior": 0.25, "prior_prompt": ("a dog",),
    "sample_prompt": ("a zbx",), "sample_every": 10, "sample_steps": 9, "sample_guidance": 4.5, "checkpoint_every": 10,
    "seed": 3, "dtype": "bf16",
}  # fmt: skip


def test_every_setting_of_a_spec_can_be_given() -> None:
    assert {field.name for field in fields(TrainOptions)} == set(GIVEN)
    given = spec_fields(TrainOptions(**GIVEN).settings())
    assert set(given) == set(TrainLora.model_fields) - OF_THE_ORDER
    spec = make_training("gesso-tiny@1", dataset=BlobRef(bytes(32)), **given)
    preset = make_training("gesso-tiny@1", dataset=BlobRef(bytes(32)))
    assert all(getattr(spec, name) != getattr(preset, name) for name in set(given) - {"text_encoder"})
    assert (spec.min_snr_milli, spec.text_learning_rate_nano, spec.targets) == (
        5000,
        50_000,
        ("attention", "projection"),
    )


def test_what_is_left_out_is_the_presets() -> None:
    assert TrainOptions().settings() == {}
    assert TrainOptions(text_encoder=False, sample_every=0, seed=0).settings() == {
        "text_encoder": False, "sample_every": 0, "seed": 0,
    }  # fmt: skip


class Run:
    """A training as the line sees it: it waits until it is stopped."""

    id = TaskId(bytes(32))

    def __init__(self, problem: TaskFailed | None = None) -> None:
        self.stopped = anyio.Event()
        self.problem = problem

    async def stop(self) -> None:
        if self.problem is not None:
            raise self.problem
        self.stopped.set()

    async def result(self, *, on_event: Callable[[events.Event], None]) -> str:
        self.tell = on_event
        await self.stopped.wait()
        return "the adapter"


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """A job in the background is started deaf to Ctrl-C, and these tests with it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the person types: a function that types it."""
    reader, writer = os.pipe()
    stdin = os.fdopen(reader, "r")
    monkeypatch.setattr(stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True, fileno=stdin.fileno, readline=stdin.readline))
    monkeypatch.setenv("TERM", "xterm")
    yield lambda text: os.write(writer, text.encode())
    stdin.close()
    os.close(writer)


async def interrupted(run: Run, typed: Any, *answers: str) -> tuple[Any, str]:
    screen, found = Terminal(), list[Any]()
    out = Output("human", stderr=screen)

    async def follow() -> None:
        found.append(await interrupt.follow(out, run, TaskLine(out)))  # type: ignore[arg-type]

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(follow)
            for number, answer in enumerate(answers, 1):
                while signal.getsignal(signal.SIGINT) in (signal.default_int_handler, signal.SIG_DFL):
                    await anyio.lowlevel.checkpoint()
                os.kill(os.getpid(), signal.SIGINT)
                while screen.getvalue().count(interrupt.QUESTION) < number:
                    await anyio.lowlevel.checkpoint()
                standing = screen.getvalue()
                run.tell(events.TrainingStep(task=Run.id, at_ms=1, index=number, total=9))
                assert screen.getvalue() == standing, "nothing is drawn over the question"
                typed(answer)
                while signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
                    await anyio.lowlevel.checkpoint()
    return found[0], screen.getvalue()


@pytest.mark.anyio
async def test_yes_stops_and_waits_for_what_was_learnt(typed: Any) -> None:
    run = Run()
    found, screen = await interrupted(run, typed, "\n", "y\n")
    assert run.stopped.is_set()
    assert "step 1/9" in screen
    assert found == "the adapter"


@pytest.mark.anyio
async def test_no_leaves_it_running_and_says_how_to_come_back(typed: Any) -> None:
    run = Run()
    found, screen = await interrupted(run, typed, "n\n")
    assert found is None
    assert not run.stopped.is_set()
    assert f"gesso train --resume {run.id}" in screen


@pytest.mark.anyio
async def test_what_cannot_be_stopped_is_said(typed: Any) -> None:
    run = Run(TaskFailed("no node works on it"))
    found, screen = await interrupted(run, typed, "y\n", "n\n")
    assert found is None
    assert "it cannot be stopped: no node works on it" in screen


def ordered(*, steps: int, every: int) -> TrainLora:
    """A run that draws two samples every so many updates."""
    spec = make_training("gesso-tiny@1", dataset=BlobRef(bytes(32)), steps=steps)
    return spec.model_copy(update={"sample_every": every, "sample_prompts": ("a zbx", "a red zbx")})


def sampled(line: SampleLine, index: int, prompt: int, sample: bytes = b"\x89PNG of a stranger") -> None:
    line.show(events.TrainingStep(task=Run.id, at_ms=1, index=index, total=99_999, prompt=prompt, sample=sample))


def test_strangers_do_not_fill_the_folder_nor_write_over_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "zbx-sample-0-step-20.png").write_bytes(b"of last week")
    screen = io.StringIO()
    line = SampleLine(Output("human", stderr=screen), tmp_path / "zbx.safetensors", ordered(steps=60, every=20))
    for index in range(200):
        for prompt in range(4):
            sampled(line, index, prompt)
            sampled(line, index, prompt, b"and again")
    other = f"zbx-{str(Run.id)[2:10]}-sample-0-step-20.png"
    expected = {other, *(f"zbx-sample-{prompt}-step-{step}.png" for prompt in (0, 1) for step in (20, 40))}
    assert {path.name for path in tmp_path.iterdir()} == expected
    assert (tmp_path / "zbx-sample-0-step-20.png").read_bytes() == b"of last week"
    assert (tmp_path / other).read_bytes() == b"\x89PNG of a stranger"
    assert other in screen.getvalue()
    again = SampleLine(Output("human", stderr=screen), tmp_path / "zbx.safetensors", ordered(steps=60, every=20))
    sampled(again, 20, 0)
    assert {path.name for path in tmp_path.iterdir()} == expected
    assert "is here already" in screen.getvalue()


def test_a_run_without_samples_writes_none(tmp_path: Path) -> None:
    line = SampleLine(Output("human", stderr=io.StringIO()), tmp_path / "zbx.safetensors", ordered(steps=60, every=0))
    sampled(line, 20, 0)
    assert list(tmp_path.iterdir()) == []


def test_samples_that_cannot_be_written_do_not_end_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    screen = io.StringIO()
    line = SampleLine(Output("human", stderr=screen), tmp_path / "file" / "zbx.safetensors", ordered(steps=9, every=3))
    sampled(line, 3, 1)
    assert "sample after step 3 cannot be written" in screen.getvalue()


def story() -> list[events.Event]:
    at: dict[str, Any] = {"task": Run.id, "at_ms": 1}
    step = {**at, "index": 20, "total": 60, "loss": 0.25}
    return [
        events.Claimed(**at, node=ZERO_ADDRESS, commit_by=9),
        events.TrainingStep(**step, checkpoint=True),
        events.TrainingStep(**step, prompt=1, sample=b"\x89PNG small"),
        events.TrainingStep(**step, prompt=1, sample=b"\x89PNG small"),
        events.Checkpoint(
            **at, node=ZERO_ADDRESS, index=20, total=60, state=BlobRef(bytes(32)), size=9, seed="ab" * 32
        ),
        events.TrainingStep(**{**step, "index": 21}),
        events.Expired(**at, refund=Wei(10**17), node=ZERO_ADDRESS),
        events.Resumed(**at, earlier=Run.id, index=20, total=60, fee=Wei(10**16)),
    ]


@pytest.mark.parametrize("live", [False, True])
def test_a_training_is_told_with_its_samples_and_checkpoints(
    live: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Terminal() if live else io.StringIO()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    line = SampleLine(Output("human", stderr=screen), tmp_path / "new" / "zbx.safetensors", ordered(steps=60, every=20))
    for event in story():
        line.show(event)
    line.close()
    assert (tmp_path / "new" / "zbx-sample-1-step-20.png").read_bytes() == b"\x89PNG small"
    text = screen.getvalue()
    told = ["step 20/60 loss 0.2500", "sample after step 20: zbx-sample-1-step-20.png", "expired, fee refunded",
            f"goes on from step 20/60 for 0.01 as {Run.id.short}"]  # fmt: skip
    assert all(words in text for words in told)
    assert ("step 21/60 loss 0.2500, kept up to 20" in text) is live
    assert ("checkpoint 20/60 is kept" in text) is not live
