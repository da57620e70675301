"""The reader is only worth what it gets right on pictures whose content is known, and what it refuses to see."""

from __future__ import annotations

import numpy as np
import pytest

from gesso_devnet.world.draw import draw
from gesso_devnet.world.evaluate import read
from gesso_devnet.world.scene import ALL_COLOURS, ALL_SHAPES, Scene, Thing, held_out_scene
from gesso_devnet.world.score import Share, judge, tally


@pytest.mark.parametrize("pairs", [False, True])
def test_it_reads_drawn_pictures(pairs: bool) -> None:
    rng = np.random.default_rng(6)
    scenes = [held_out_scene(rng, float(pairs)) for _ in range(60)]
    shares = tally(judge(scene, read(draw(scene, rng))) for scene in scenes)
    assert shares["everything"].value >= 0.98


@pytest.mark.parametrize("shape", ALL_SHAPES)
@pytest.mark.parametrize("size", ["small", "big"])
def test_it_knows_every_shape_in_noise(shape: str, size: str) -> None:
    rng = np.random.default_rng(7)
    clean = draw(Scene("white", (Thing(shape, "blue", size, "centre"),)), rng).astype(float)  # type: ignore[arg-type]
    noisy = np.clip(clean + rng.normal(0, 8, clean.shape), 0, 255).astype(np.uint8)
    (seen,) = read(noisy).things
    assert (seen.shape, seen.colour, seen.size, seen.place) == (shape, "blue", size, "centre")


@pytest.mark.parametrize("colour", ALL_COLOURS)
def test_it_knows_every_colour(colour: str) -> None:
    background = "white" if colour != "white" else "black"
    reading = read(draw(Scene(background, (Thing("circle", colour, "big", "right"),)), np.random.default_rng(8)))
    assert (reading.background, reading.things[0].colour) == (background, colour)


def test_a_blob_has_no_shape() -> None:
    rng = np.random.default_rng(9)
    picture = np.full((64, 64, 3), 250, np.uint8)
    walk = np.cumsum(rng.integers(-2, 3, (400, 2)), axis=0) % 28 + 18
    picture[walk[:, 0], walk[:, 1]] = (30, 60, 200)
    assert all(seen.shape is None for seen in read(picture).things)


def test_an_empty_picture_scores_nothing_but_its_background() -> None:
    scene = Scene("red", (Thing("ring", "blue", "big", "top"),))
    verdict = judge(scene, read(np.full((64, 64, 3), ALL_COLOURS["red"], np.uint8)))
    assert verdict.background
    assert (verdict.colour, verdict.shape, verdict.size, verdict.place, verdict.everything) == (False,) * 5


def test_another_prompt_scores_badly_on_the_same_pictures() -> None:
    rng = np.random.default_rng(10)
    scenes = [held_out_scene(rng, 0.0) for _ in range(60)]
    readings = [read(draw(scene, rng)) for scene in scenes]
    shares = tally(judge(s, r) for s, r in zip([*scenes[1:], scenes[0]], readings, strict=True))
    assert shares["shape"].value < 0.5
    assert shares["everything"].value < 0.1


def test_a_relation_is_not_its_opposite() -> None:
    above = Scene("white", (Thing("ring", "red"), Thing("square", "blue")), "above")
    below = Scene("white", (Thing("ring", "red"), Thing("square", "blue")), "below")
    reading = read(draw(above, np.random.default_rng(11)))
    assert judge(above, reading).everything
    assert not judge(below, reading).relation


def test_larger_pictures_are_read_too() -> None:
    scene = Scene("green", (Thing("triangle", "yellow", "small", "bottom right"),))
    assert judge(scene, read(draw(scene, np.random.default_rng(12), side=192))).everything


@pytest.mark.parametrize("shape", [(64, 64), (64, 65, 3), (50, 50, 3), (64, 64, 4)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="picture is"):
        read(np.zeros(shape, np.uint8))


def test_shares_carry_wilson_intervals() -> None:
    low, high = Share(90, 100).interval
    assert (round(low, 3), round(high, 3)) == (0.826, 0.945)
    assert Share(0, 0).interval == (0.0, 1.0)
