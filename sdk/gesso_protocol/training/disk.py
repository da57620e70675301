"""What a run takes on its node's disk, and what work that is: every checkpoint stays until the task is settled, as
anyone may ask for it."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt

from gesso_protocol.training.checkpoint import most_state_bytes
from gesso_protocol.training.spec import Target, TrainLora

STATES_BESIDE = 4
"""The one that is being written, the one that a run starts from, that of a pause, and adapter and openings."""
SMALL_RUN_BYTES = 256 * 10**6
"""What a run may take beyond what was thought of it, with a base whose layers are unlike those of others."""
BYTES_A_PIXEL_STEP = 500
"""What is written, hashed and kept at the cost of one pixel-step: a gigabyte of checkpoints counts as two
megapixel-steps. They are some hundredths of what people train, and most of a run that makes one each update."""
_TEXT_ENCODER = 100
_PER_RANK: Mapping[Target, int] = {"attention": 250, "convolution": 150, "feed_forward": 200, "projection": 50}
"""Bytes of a state for each unit of rank and square root of the base's bytes: what a LoRA adds grows with the width of
layers, what they weigh with its square. Attention of SDXL has 211, that of SD 1.5 52."""


def likely_state_bytes(spec: TrainLora, base_bytes: int) -> int:
    """What one checkpoint weighs, before anything of the base is fetched: of bases as people use them rather too much
    than too little. One of many thin layers gives larger ones; its trainer knows, see `outgrown`."""
    if spec.resume is not None:
        return spec.resume.size
    per_rank = sum(_PER_RANK[target] for target in spec.targets) + (_TEXT_ENCODER if spec.text_encoder else 0)
    return min(most_state_bytes(base_bytes), per_rank * spec.rank * isqrt(base_bytes))


def run_bytes(spec: TrainLora, state_bytes: int) -> int:
    """What the task takes in all, with checkpoints of so many bytes."""
    return (spec.checkpoints + STATES_BESIDE) * state_bytes


def needed_bytes(spec: TrainLora, base_bytes: int) -> int:
    """What the task takes in all on a base of so many bytes, as far as can be said before anything is paid."""
    return run_bytes(spec, likely_state_bytes(spec, base_bytes))


def outgrown(spec: TrainLora, base_bytes: int, state_bytes: int) -> bool:
    """Whether a run whose states weigh so much takes more than its price and its node's disk were reckoned with."""
    return run_bytes(spec, state_bytes) > max(needed_bytes(spec, base_bytes), SMALL_RUN_BYTES)


def checkpoint_pixel_steps(spec: TrainLora, base_bytes: int) -> int:
    """The work that a task's checkpoints count as, in the unit of pictures, rounded up."""
    return -(-spec.checkpoints * likely_state_bytes(spec, base_bytes) // BYTES_A_PIXEL_STEP)
