"""What a run takes on a disk, from its spec and its base's size alone."""

from __future__ import annotations

import pytest

from gesso_protocol.ids import BlobRef, TaskId
from gesso_protocol.training.checkpoint import Resume, most_state_bytes
from gesso_protocol.training.disk import checkpoint_pixel_steps, likely_state_bytes, needed_bytes, outgrown, run_bytes
from gesso_protocol.training.presets import make_training

DATA = BlobRef.of(b"data")
GB = 10**9
ROOM = 64 * GB
"""What a node gives by default."""
ALL = ("attention", "convolution", "feed_forward", "projection")


def of(model: str, base: int, **fields: object) -> int:
    spec = make_training(model, dataset=DATA, **fields)
    assert needed_bytes(spec, base) == run_bytes(spec, likely_state_bytes(spec, base))
    return needed_bytes(spec, base)


@pytest.mark.parametrize(
    ("model", "base", "true_state"),
    [("sd-1@5", 2_100_000_000, 12 * 16 * 199_296), ("sdxl@1", 6_900_000_000, 12 * 32 * 1_458_000)],
)
def test_what_people_train_has_room_and_is_not_thought_smaller_than_it_is(
    model: str, base: int, true_state: int
) -> None:
    spec = make_training(model, dataset=DATA)
    assert true_state <= likely_state_bytes(spec, base)
    assert of(model, base) <= ROOM
    assert of("gesso-tiny@1", 20_000_000) <= 3 * GB


def test_an_order_that_would_fill_a_disk_has_none() -> None:
    cheap = {"steps": 1000, "checkpoint_every": 1, "rank": 128, "alpha": 128, "resolution": 64, "batch": 1}
    assert of("sd-1@5", 2_100_000_000, **cheap, sample_every=0) > ROOM
    assert of("sd-1@5", 2_100_000_000, **cheap, sample_every=0, targets=ALL) > 1000 * GB


def test_checkpoints_count_as_work_little_of_what_people_train_and_most_of_an_order_that_would_fill_a_disk() -> None:
    usual = make_training("sdxl@1", dataset=DATA)
    assert 0 < checkpoint_pixel_steps(usual, 6_900_000_000) < usual.pixel_steps / 20
    cheap = make_training(
        "sd-1@5", dataset=DATA, steps=1000, checkpoint_every=1, rank=128, alpha=128, resolution=64, batch=1
    )
    assert checkpoint_pixel_steps(cheap, 2_100_000_000) > 50 * cheap.pixel_steps
    # two megapixel-steps a gigabyte, to the byte: 25 checkpoints of 1,234 bytes
    given = Resume(task=TaskId(bytes(32)), seed="00" * 32, step=1000, state=DATA, size=1234)
    rest = usual.changed(steps=1500, checkpoint_every=20).rest(given)
    assert (rest.checkpoints, checkpoint_pixel_steps(rest, 1)) == (25, -(-25 * 1234 * 2 * 10**6 // GB))


def test_a_run_of_a_base_whose_layers_are_thin_is_not_begun_where_it_takes_more_than_was_thought() -> None:
    thin = make_training("x@1", dataset=DATA, steps=400, checkpoint_every=20, rank=128, alpha=128)
    thought = likely_state_bytes(thin, 34_000_000)
    assert not outgrown(thin, 34_000_000, thought)
    assert outgrown(thin, 34_000_000, 629_000_000)
    toy = make_training("x@1", dataset=DATA, steps=10, checkpoint_every=5, rank=4, alpha=4)
    assert likely_state_bytes(toy, 10_000) < 10**6
    assert not outgrown(toy, 10_000, 2 * 10**6), "nobody's disk is filled by it"


def test_a_state_is_no_larger_than_the_rules_let_it_be_and_a_given_one_is_known() -> None:
    wide = make_training("sdxl@1", dataset=DATA, rank=128, targets=ALL, text_encoder=True)
    assert likely_state_bytes(wide, 1000) <= most_state_bytes(1000)
    assert likely_state_bytes(wide, 1 << 40) == most_state_bytes(1 << 40)
    given = Resume(task=TaskId(bytes(32)), seed="00" * 32, step=1000, state=DATA, size=1234)
    rest = wide.rest(given)
    assert likely_state_bytes(rest, 6_900_000_000) == 1234
    assert run_bytes(rest, 1234) == (25 + 4) * 1234
