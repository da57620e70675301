"""Whether a lost node can have come as far as it says: what it signs for, nobody has proved. Pure.

What a node told of while it worked is left out of account: who lies tells of what it claims, and who listens may have
slept, or had no relay, while an honest node went on.
"""

from __future__ import annotations

from gesso_protocol.training.spec import TrainLora

FASTEST_MEGAPIXEL_STEPS_S = 100
"""Megapixel-steps a second that no machine of today does: several times what the fastest accelerators do."""


def haste(spec: TrainLora, step: int, seconds: int) -> str:
    """Why update `step` is too good to be believed; nothing when it is not. `seconds` are all that the node had."""
    rest = spec.passes(step) - spec.passes(spec.first_step)
    work = spec.resolution**2 * rest / 2 / 10**6
    if work > seconds * FASTEST_MEGAPIXEL_STEPS_S:
        return f"{step - spec.first_step} updates in {seconds} s are more than any machine can do"
    return ""
