"""What a requester gives for a training by default is enough for a node that has never trained its base."""

from __future__ import annotations

import pytest

from gesso_protocol.fields import MAX_TRAINING_STEPS
from gesso_protocol.ids import BlobRef
from gesso_protocol.policy import MEGAPIXEL_STEP
from gesso_protocol.spec import TextToImage
from gesso_protocol.training.presets import make_training
from gesso_protocol.training.share import late_from
from gesso_protocol.training.window import (
    LOADING_S,
    LONGEST_WINDOW_S,
    SHORTEST_WINDOW_S,
    UNMEASURED_S,
    haste_of,
    window_for,
    window_needed,
)
from gesso_protocol.windows import commit_window


@pytest.mark.parametrize(
    ("base", "steps", "window_s"),
    [("gesso-tiny@1", 400, 900), ("sd-1.5@1", 1500, 13_442), ("sdxl@1", 1500, 52_763), ("sdxl@1", 5000, 86_400)],
)
def test_a_node_may_take_as_long_as_the_work_is_large(base: str, steps: int, window_s: int) -> None:
    assert window_for(make_training(base, dataset=BlobRef(bytes(32)), steps=steps)) == window_s


@pytest.mark.parametrize("base", ["gesso-tiny@1", "sd-1.5@1", "sd-2.1@1", "sdxl@1"])
@pytest.mark.parametrize("steps", [1, 400, 1500, 2000, 10_000])
def test_the_window_holds_the_work_at_the_unmeasured_pace(base: str, steps: int) -> None:
    spec = make_training(base, dataset=BlobRef(bytes(32)), steps=steps, sample_every=0, checkpoint_every=100)
    window = window_for(spec)
    assert SHORTEST_WINDOW_S <= window <= LONGEST_WINDOW_S
    fits = late_from(0, window) >= spec.pixel_steps / MEGAPIXEL_STEP * UNMEASURED_S + LOADING_S
    assert fits is (window_needed(spec) <= LONGEST_WINDOW_S)


@pytest.mark.parametrize(("side", "steps", "count", "window_s"), [(512, 30, 1, 600), (1024, 50, 16, 8449)])
def test_a_picture_s_window_holds_it_at_that_pace_too(side: int, steps: int, count: int, window_s: int) -> None:
    spec = TextToImage(prompt="a", model="sd-1.5@1", width=side, height=side, steps=steps, count=count, seed=1)
    assert commit_window(spec) == window_s >= spec.pixel_steps / MEGAPIXEL_STEP * UNMEASURED_S
    run = make_training("sd-1.5@1", dataset=BlobRef(bytes(32)))
    assert commit_window(run) == window_for(run)


def test_no_window_is_longer_than_a_day_however_large_the_work() -> None:
    spec = make_training("sdxl@1", dataset=BlobRef(bytes(32)), steps=MAX_TRAINING_STEPS, checkpoint_every=100)
    assert window_for(spec.changed(sample_every=0)) == LONGEST_WINDOW_S < window_needed(spec)


def test_a_window_that_not_every_machine_can_keep_is_said_in_words() -> None:
    spec = make_training("sd-1.5@1", dataset=BlobRef(bytes(32)))
    assert not haste_of(spec, window_needed(spec))
    assert (
        haste_of(spec, 2000)
        == "only nodes that need less than 1.53 s a megapixel-step can do this in 2,000 s and take it"
    )
