"""A node learns how fast it trains, and leaves alone what it cannot finish in the time that is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from gesso_node.executors.lora.port import TrainingStep
from gesso_node.state.journal import Journal
from gesso_node.state.pace import (
    LARGE_BYTES,
    MAX_MODELS,
    WITHOUT_ACCELERATOR_S,
    DownloadPace,
    PicturePace,
    Stopwatch,
    TrainingPace,
    has_accelerator,
    unmeasured_pace,
)
from gesso_protocol.ids import BlobRef
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.policy import Refusal
from gesso_protocol.spec import TrainLora
from gesso_protocol.terms import Terms
from gesso_protocol.training.presets import make_training
from gesso_protocol.training.window import window_for, window_needed

from ..conftest import SPEC, World
from ..doubles import GENESIS_S
from ..trainings import TRAINS, refused, state_is, training

pytestmark = pytest.mark.anyio


def measured(steps: int, seconds: float) -> Stopwatch:
    watch = Stopwatch()
    watch.steps, watch.seconds = steps, seconds
    return watch


async def spec_of(world: World, model: str = "sample@1") -> TrainLora:
    return (await training(world, steps=100)).changed(model=model)


def test_a_stopwatch_counts_from_the_first_update_that_it_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([5.0, 6.0, 9.0])
    monkeypatch.setattr("gesso_node.state.pace.time.monotonic", lambda: next(ticks))
    watch = Stopwatch()
    for index in (6, 7, 8):
        watch.note(TrainingStep(index, 20, 0.5))
    assert (watch.steps, watch.seconds) == (2, 4.0)


async def test_the_best_pace_counts_and_outlives_the_node(world: World) -> None:
    node = await world.add_node(**TRAINS)
    journal, spec = node._journal, await spec_of(world)
    pace = TrainingPace(journal)
    await pace.learn(spec, measured(0, 1.0))
    assert pace.of(spec.model) == 0
    whole = spec.pixel_steps / 10**6
    for seconds, best in ((50.0, 100.0), (80.0, 100.0), (20.0, 40.0)):
        await pace.learn(spec, measured(50, seconds))
        assert pace.of(spec.model) * whole == pytest.approx(best)
    again = TrainingPace(journal)
    await again.restore()
    assert again.of(spec.model) == pace.of(spec.model)
    for at in range(MAX_MODELS):
        await pace.learn(await spec_of(world, f"m{at}@1"), measured(9, 1.0))
    assert pace.of(spec.model) == 0, "the oldest leaves"


async def test_what_was_damaged_is_measured_again(world: World) -> None:
    journal: Journal = (await world.add_node(**TRAINS))._journal
    await journal.set_note("training-pace", '{"a": "fast"}')
    pace = TrainingPace(journal)
    await pace.restore()
    assert pace.of("a") == 0


async def test_a_first_run_on_a_base_is_taken_at_the_pace_of_such_a_machine(world: World) -> None:
    node = await world.add_node(**TRAINS)
    spec = await spec_of(world)
    whole = spec.pixel_steps / 10**6
    pace = TrainingPace(node._journal, unmeasured=60 / whole)
    policy = node._policy
    policy._pace = pace.of
    terms: Terms = await world.submit(spec, commit_window_s=60)
    assert policy.judge(spec, terms, free_slots=1, claim_left_s=60).refusal is Refusal.EXPIRED
    await pace.learn(spec, measured(100, 55.0))
    assert policy.judge(spec, terms, free_slots=1, claim_left_s=60).refusal is Refusal.EXPIRED, "a slow machine"
    await pace.learn(spec, measured(100, 50.0))
    assert policy.judge(spec, terms, free_slots=1, claim_left_s=60).refusal is None


@pytest.mark.parametrize("family", ["gesso-tiny", "sd-1", "sd-2", "sdxl"])
async def test_every_preset_is_taken_at_the_unmeasured_pace_in_the_window_that_clients_give(
    family: str, world: World
) -> None:
    node = await world.add_node(policy={"max_training_steps": 10_000, "max_pixels": 1024 * 1024})
    spec = make_training("sample@1", family=family, dataset=BlobRef(bytes(32)))
    policy = node._policy
    policy._pace = TrainingPace(node._journal, unmeasured=WITHOUT_ACCELERATOR_S).of
    for order in (spec, spec.changed(steps=5 * spec.steps, checkpoint_every=100, sample_every=0)):
        window = window_for(order)
        terms: Terms = await world.submit(order, commit_window_s=window)
        fits = window_needed(order) <= window
        assert (policy.judge(order, terms, free_slots=1, claim_left_s=60).refusal is None) is fits
        assert fits or order is not spec


@pytest.mark.parametrize(
    ("said", "engine", "accelerator", "pace"),
    [(None, "diffusers", False, 10.0), (None, "diffusers", True, 1.0), (None, "fake", False, 0.0),
     (0.0, "diffusers", False, 0.0), (0.3, "diffusers", True, 0.3)],
)  # fmt: skip
def test_what_an_unmeasured_pace_is(
    said: float | None, engine: str, *, accelerator: bool, pace: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gesso_node.state.pace.has_accelerator", lambda: accelerator)
    assert unmeasured_pace(said, engine) == pace


@pytest.mark.parametrize(
    ("device", "seen"), [("nvidia0", True), ("nvidia3", True), ("kfd", True), ("dxg", True), ("nvidiactl", False)]
)
def test_an_accelerator_is_seen_by_its_device(
    device: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, seen: bool
) -> None:
    monkeypatch.setattr("gesso_node.state.pace.sys.platform", "linux")
    monkeypatch.setattr("gesso_node.state.pace.ROOT", tmp_path)
    assert not has_accelerator()
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / device).touch()
    assert has_accelerator() is seen


@pytest.mark.parametrize(("seconds", "refusal"), [(0.0, None), (53.9, None), (54.1, Refusal.EXPIRED)])
async def test_what_cannot_be_done_in_time_is_refused(seconds: float, refusal: Refusal | None, world: World) -> None:
    node = await world.add_node(**TRAINS)
    spec = await spec_of(world)
    policy = node._policy
    policy._pace = lambda model: seconds / (spec.pixel_steps / 10**6)
    terms: Terms = await world.submit(spec, commit_window_s=60)
    assert policy.judge(spec, terms, free_slots=1, claim_left_s=60).refusal is refusal
    picture: Terms = await world.submit(SPEC, commit_window_s=1, nonce=2)
    assert policy.judge(SPEC, picture, free_slots=1, claim_left_s=60).refusal is None
    assert world.board.now == GENESIS_S


async def test_a_picture_that_its_window_cannot_hold_is_refused(world: World) -> None:
    """Ten orders for the least window would take a node's whole standing, for gas."""
    node = await world.add_node(policy={"picture_pace_s": 10 / (SPEC.pixel_steps / 10**6)})
    short: Terms = await world.submit(commit_window_s=9)
    assert await refused(world, node) == {"expired": 1}
    enough: Terms = await world.submit(commit_window_s=10, nonce=2)
    await world.until(lambda: state_is(world, enough, TaskState.SETTLED))
    assert state_is(world, short, TaskState.SUBMITTED)


async def test_what_is_held_already_comes_first(world: World) -> None:
    node = await world.add_node(policy={"picture_pace_s": 10 / (SPEC.pixel_steps / 10**6)})
    first: Terms = await world.submit(commit_window_s=15)
    second: Terms = await world.submit(commit_window_s=15, nonce=2)
    await world.until(lambda: all(state_is(world, terms, TaskState.SETTLED) for terms in (first, second)))
    verbs = [attempt[0] for attempt in world.board.attempts if attempt[0] in ("claim", "commit")]
    assert verbs == ["claim", "commit"] * 2
    policy = node._policy
    policy._picture_pace = lambda _: 10 / (SPEC.pixel_steps / 10**6)
    for ahead, refusal in ((5.0, None), (5.1, Refusal.BUSY)):
        verdict = policy.judge(SPEC, second, free_slots=1, claim_left_s=60, ahead_s=ahead)
        assert verdict.refusal is refusal


async def test_a_quick_picture_never_makes_a_machine_look_slower_than_it_was_taken_for(world: World) -> None:
    journal = (await world.add_node())._journal
    pace, work = PicturePace(journal, unmeasured=10.0), SPEC.pixel_steps / 10**6
    await pace.learn(SPEC, 0.5)
    assert 0.5 / work > pace.of(SPEC.model) == 10.0
    await pace.learn(SPEC, 9 * work)
    assert pace.of(SPEC.model) == pytest.approx(9.0)
    slow = SPEC.model_copy(update={"model": "slow@1"})
    await pace.learn(slow, 20.0)
    assert pace.of("slow@1") == pytest.approx(20 / work)
    again = PicturePace(journal)
    await again.restore()
    assert again.of(SPEC.model) == pytest.approx(9.0)


async def test_how_fast_weights_come_is_the_best_of_the_last_few_of_an_hour(world: World) -> None:
    journal, now = (await world.add_node())._journal, [1000.0]
    line = DownloadPace(journal, lambda: now[0])
    assert line.seconds(7 * 10**9) == pytest.approx(350), "seven gigabytes are no half minute"
    await line.learn(LARGE_BYTES - 1, 1000.0)
    await line.learn(LARGE_BYTES, 0.0)
    assert line.seconds(20 * 10**6) == pytest.approx(1), "what says nothing is not taken in"
    for bytes_s, best in ((50e3, 20e6), (100e3, 20e6), (2e6, 2e6), (1e6, 2e6), (60e6, 60e6), (1e6, 60e6)):
        await line.learn(LARGE_BYTES, LARGE_BYTES / bytes_s)
        assert line.seconds(10**6) == pytest.approx(10**6 / best), "one slow server is not our line"
    again = DownloadPace(journal, lambda: now[0])
    await again.restore()
    assert again.seconds(1) == line.seconds(1)
    now[0] += 3600
    assert line.seconds(20 * 10**6) == pytest.approx(1), "after an hour nobody knows"
    for damaged in ("fast", "[[1.0, -1.0]]", "[[1.0, 0.0]]", "[[1.0]]", str([[1.0, 1.0]] * 4)):
        await journal.set_note("download-pace", damaged)
        fresh = DownloadPace(journal, lambda: now[0])
        await fresh.restore()
        assert fresh.seconds(20 * 10**6) == pytest.approx(1)


def test_a_pause_is_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([5.0, 6.0, 99.0, 102.0])
    monkeypatch.setattr("gesso_node.state.pace.time.monotonic", lambda: next(ticks))
    watch = Stopwatch()
    assert watch.at is None
    for index, resumed in ((6, False), (7, False), (8, True), (9, False)):
        watch.note(TrainingStep(index, 20, 0.5, resumed=resumed))
    assert (watch.steps, watch.seconds, watch.at) == (2, 4.0, 9)
