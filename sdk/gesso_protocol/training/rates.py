"""The learning rate of each update, and the weight of each timestep in the loss."""

from __future__ import annotations

import math

from gesso_protocol.training.spec import TrainLora

_FLOOR = 0.02


def rate_factor(spec: TrainLora, step: int) -> float:
    """What the learning rate is multiplied with in update `step` (from 0): warm-up, then the schedule."""
    warm = min(1.0, (step + 1) / (spec.warmup_steps + 1)) if spec.warmup_steps else 1.0
    if spec.schedule == "constant":
        return warm
    done = step / spec.steps
    fall = 1 - done if spec.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return warm * max(fall, _FLOOR)


def loss_weight(spec: TrainLora, alpha_bar: float, prediction: str) -> float:
    """Min-SNR weight of a timestep with cumulative signal share `alpha_bar`; 1 when it is switched off."""
    if not spec.min_snr_milli:
        return 1.0
    snr = alpha_bar / max(1 - alpha_bar, 1e-12)
    capped = min(snr, spec.min_snr_milli / 1000)
    return capped / (snr + 1) if prediction == "v_prediction" else capped / max(snr, 1e-12)
