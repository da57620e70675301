"""What a run takes on its node's disk: every checkpoint stays until the task is settled, as anyone may ask for it."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt

from gesso_protocol.training.checkpoint import most_state_bytes
from gesso_protocol.training.spec import Target, TrainLora

STATES_BESIDE = 3
"""The one that is being written, the one that a run starts from, and adapter and openings."""
_TEXT_ENCODER = 100
_PER_RANK: Mapping[Target, int] = {"attention": 250, "convolution": 150, "feed_forward": 200, "projection": 50}
"""Bytes of a state for each unit of rank and square root of the base's bytes: what a LoRA adds grows with the width of
layers, what they weigh with its square. Attention of SDXL has 211, that of SD 1.5 52."""


def likely_state_bytes(spec: TrainLora, base_bytes: int) -> int:
    """What one checkpoint weighs, rather too much than too little, before anything of the base is fetched."""
    if spec.resume is not None:
        return spec.resume.size
    per_rank = sum(_PER_RANK[target] for target in spec.targets) + (_TEXT_ENCODER if spec.text_encoder else 0)
    return min(most_state_bytes(base_bytes), per_rank * spec.rank * isqrt(base_bytes))


def run_bytes(spec: TrainLora, state_bytes: int) -> int:
    """What the task takes in all, with checkpoints of so many bytes."""
    return (spec.checkpoints + STATES_BESIDE) * state_bytes
