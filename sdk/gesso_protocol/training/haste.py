"""Whether a lost node can have come as far as it says: what it signs for, nobody has proved. Pure."""

from __future__ import annotations

from gesso_protocol.training.spec import TrainLora

FASTEST_MEGAPIXEL_STEPS_S = 100
"""Megapixel-steps a second that no machine of today does: several times what the fastest accelerators do."""


def haste(spec: TrainLora, step: int, seconds: int, heard: int | None) -> str:
    """Why update `step` of the run is too good to be believed; nothing when it is not.

    `seconds` are all that the node had. `heard`: the last update that it told of while it worked, None where nobody
    listened; it tells of a checkpoint after that.
    """
    rest = spec.passes(step) - spec.passes(spec.first_step)
    work = spec.resolution**2 * rest / 2 / 10**6
    if work > seconds * FASTEST_MEGAPIXEL_STEPS_S:
        return f"{step - spec.first_step} updates in {seconds} s are more than any machine can do"
    if heard is not None and step > heard + spec.checkpoint_every:
        return f"it speaks of update {step}, and had told of {heard} while it worked"
    return ""
