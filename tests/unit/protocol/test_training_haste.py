"""A lost node's word for how far it came: believed within what machines can do."""

from __future__ import annotations

import pytest

from gesso_protocol.ids import BlobRef, TaskId
from gesso_protocol.training.checkpoint import Resume
from gesso_protocol.training.haste import FASTEST_MEGAPIXEL_STEPS_S, haste
from gesso_protocol.training.presets import make_training

SPEC = make_training("sd-1.5@1", dataset=BlobRef(bytes(32)), steps=4000, resolution=1000, buckets=False, batch=2,
                     sample_every=0)  # fmt: skip
A_STEP = 3  # megapixel-steps: two pictures, three passes each, two of which are a step


def test_the_fixture_says_what_an_update_costs() -> None:
    assert SPEC.pixel_steps == 10**6 * A_STEP * 4000
    assert FASTEST_MEGAPIXEL_STEPS_S == 100


@pytest.mark.parametrize(("seconds", "fine"), [(30, True), (29, False)])
def test_more_than_any_machine_can_do_is_not_believed(seconds: int, *, fine: bool) -> None:
    fault = haste(SPEC, 1000, seconds)
    assert (fault == "") is fine
    assert fine or fault == "1000 updates in 29 s are more than any machine can do"
    rest = SPEC.rest(Resume(task=TaskId(bytes(32)), seed="00" * 32, step=3000, state=BlobRef(bytes(32)), size=1))
    assert (haste(rest, 4000, seconds) == "") is fine, "only a task's own updates count"
