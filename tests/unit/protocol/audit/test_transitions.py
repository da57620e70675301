"""The check without a model, on real runs of the shipped model and on forgeries of them.

Every forgery here has flawless arithmetic: its outputs are solved so that each latent follows from the one before.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from forged import bridge, joined, single_jump, spread_jump
from gesso_protocol.audit.compare import Branches
from gesso_protocol.audit.envelope import Envelope, Look, fit, kind_of, shipped_envelope
from gesso_protocol.audit.transitions import (
    ARITHMETIC_LIMIT,
    OpenedPicture,
    TransitionReport,
    check_picture,
    check_transitions,
)
from gesso_protocol.spec import Scheduler
from trajectories import Painter, Trajectory, prompts

STEPS = 15
CASES: list[tuple[Scheduler, float]] = [("ddim", 3.0), ("dpmpp_2m", 7.5), ("euler_a", 3.0), ("euler", 1.0)]
Pair = tuple[Trajectory, Trajectory]


@pytest.fixture(scope="module")
def painter() -> Painter:
    return Painter()


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def pair(painter: Painter, request: pytest.FixtureRequest) -> Pair:
    """A run of the mandated seed, and another picture that a forger has in store."""
    scheduler, guidance = request.param
    first, second = (
        painter.paint(prompt, scheduler, STEPS, guidance, 500_000 + number)
        for number, prompt in enumerate(prompts(2, seed=8))
    )
    return first, second


def report(run: Trajectory, opened: OpenedPicture | None = None) -> TransitionReport:
    return check_transitions([opened or run.opened], run.schedule, run.guidance)


def test_an_honest_run_follows_from_its_own_outputs(pair: Pair) -> None:
    for run in pair:
        found = report(run)
        assert found.mismatches == ()
        assert found.worst_arithmetic < ARITHMETIC_LIMIT / 10
        assert len(found.steps) == STEPS
        assert len(found.suspects) <= 1


@pytest.mark.parametrize("at", [0, 1, STEPS // 2, STEPS - 2, STEPS - 1])
@pytest.mark.parametrize("push", [False, True])
def test_a_jump_is_seen_where_it_happens(pair: Pair, at: int, push: bool) -> None:
    mine, stored = pair
    latents = single_jump(mine.opened, stored.opened, at)
    forged = joined(mine.opened, latents, mine.schedule, mine.guidance, push=push)
    found = report(mine, forged)
    assert found.mismatches == ()
    assert found.suspects
    assert any(abs(step - at) <= 1 for _, step in found.suspects)


@pytest.mark.parametrize("over", [2, 5, STEPS - 2])
def test_a_jump_spread_over_many_steps_is_seen(pair: Pair, over: int) -> None:
    mine, stored = pair
    latents = spread_jump(mine.opened, stored.opened, 1, over)
    found = report(mine, joined(mine.opened, latents, mine.schedule, mine.guidance))
    assert found.mismatches == ()
    assert found.suspects


def test_a_bridge_is_wrong_at_every_step_whether_or_not_it_looks_so(pair: Pair) -> None:
    mine, stored = pair
    forged = joined(mine.opened, bridge(mine.opened, stored.opened, mine.schedule), mine.schedule, mine.guidance)
    assert report(mine, forged).mismatches == ()
    far = [np.linalg.norm(a.cond - b.cond) / np.linalg.norm(b.cond)
           for a, b in zip(forged.outputs, mine.opened.outputs, strict=True)]  # fmt: skip
    assert sum(value > 1e-2 for value in far) >= STEPS - 1


def test_another_guidance_than_asked_for_is_bad_arithmetic(pair: Pair) -> None:
    run = pair[0]
    if run.guidance <= 1:
        pytest.skip("there is no guidance to change")
    found = check_transitions([run.opened], run.schedule, run.guidance - 0.1)
    assert len(found.mismatches) >= STEPS // 2


def test_a_changed_latent_is_bad_arithmetic_on_both_sides(pair: Pair) -> None:
    run = pair[0]
    latents = list(run.opened.latents)
    latents[6] = latents[6] * np.float32(1.001)
    steps = {step for _, step in report(run, replace(run.opened, latents=latents)).mismatches}
    assert {6, 7} <= steps <= {6, 7, 8}


def test_another_start_is_bad_arithmetic_at_the_first_step(pair: Pair) -> None:
    run = pair[0]
    found = report(run, replace(run.opened, noise=pair[1].opened.noise))
    assert (0, 0) in found.mismatches


def test_ancestral_noise_must_be_that_of_the_seed(painter: Painter) -> None:
    run = painter.paint("a red circle", "euler_a", 6, 2.0, 3)
    assert report(run).mismatches == ()
    other = {step: -noise for step, noise in run.opened.step_noises.items()}
    assert len(report(run, replace(run.opened, step_noises=other)).mismatches) == 5
    assert len(report(run, replace(run.opened, step_noises={})).mismatches) == 5


def spoilt(run: Trajectory, what: str) -> OpenedPicture:
    latents, outputs = list(run.opened.latents), list(run.opened.outputs)
    match what:
        case "nan":
            latents[3] = np.full_like(latents[3], np.nan)
        case "huge":
            outputs[3] = Branches(np.full_like(outputs[3].cond, 3e38), outputs[3].uncond)
        case "shape":
            latents[3] = latents[3].reshape(-1)
        case "missing":
            del latents[-1]
        case "outputs":
            del outputs[-1]
        case "zero":
            latents[3] = np.zeros_like(latents[3])
    return replace(run.opened, latents=tuple(latents), outputs=tuple(outputs))


@pytest.mark.parametrize("what", ["nan", "huge", "shape", "missing", "outputs", "zero"])
def test_nonsense_is_a_mismatch_and_no_error(pair: Pair, what: str) -> None:
    found = report(pair[0], spoilt(pair[0], what))
    assert (0, 3) in found.mismatches
    if what in ("shape", "missing", "outputs"):
        assert len(found.mismatches) == STEPS


def test_pictures_are_counted_from_what_they_are(pair: Pair) -> None:
    run = pair[0]
    second = replace(spoilt(run, "nan"), image=1)
    found = check_transitions([run.opened, second], run.schedule, run.guidance)
    assert {image for image, _ in found.mismatches} == {1}


def test_every_kind_of_run_has_an_envelope() -> None:
    envelope = shipped_envelope()
    kinds = {kind_of(scheduler, guidance, steps) for scheduler in ("ddim", "euler", "euler_a", "dpmpp_2m")
             for guidance in (0.0, 1.0, 2.5, 4.0, 7.5, 30.0) for steps in (1, 12, 13, 32, 33, 200)}  # type: ignore[arg-type]  # fmt: skip
    assert {(cell.family, cell.guidance, cell.length) for cell in envelope.cells} == kinds
    assert Envelope.decode(envelope.encode()) == envelope
    for cell in envelope.cells:
        for lows, highs in zip(cell.lows, cell.highs, strict=True):
            assert all(low < high for low, high in zip(lows, highs, strict=True))


def look(at: float, norm: float = 1.0, turn: float = 1.0) -> Look:
    return Look(at, norm, turn, norm, turn, 0.05)


def test_an_envelope_holds_what_it_was_fitted_to() -> None:
    rng = np.random.default_rng(2)
    runs = [[look(i / 20, rng.uniform(0.9, 1.1), rng.uniform(0.95, 1)) for i in range(20)] for _ in range(10)]
    cell = fit("single", "low", "middle", runs)
    assert all(cell.strangeness(one) <= 0 for run in runs for one in run)
    assert cell.strangeness(look(0.5, norm=3.0)) > 1
    assert cell.strangeness(look(0.5, turn=0.5)) > 1
    assert cell.strangeness(Look.NONE) == float("inf")
    assert cell.strangeness(replace(look(0.5), gap=0.5)) > 1


def test_short_runs_leave_no_eighth_without_bounds() -> None:
    cell = fit("multi", "off", "short", [[look(0.0), look(0.5)]])
    assert all(cell.strangeness(look(at / 8)) <= 0 for at in range(8))


def test_the_default_is_the_shipped_envelope(pair: Pair) -> None:
    run: Any = pair[0]
    assert check_picture(run.opened, run.schedule, run.guidance) == check_picture(
        run.opened, run.schedule, run.guidance, shipped_envelope()
    )
