"""Reads what a checkpoint knows about its run, without the optimiser."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from base_model.unet import BATCH


@dataclass(frozen=True)
class RunFacts:
    """Averaged weights, log and length of a finished or interrupted run."""

    ema: dict[str, Tensor]
    log: list[dict[str, float]]
    step: int
    seconds: float

    def summary(self, snapshot_step: int) -> dict[str, object]:
        return {
            "steps": self.step,
            "pictures": self.step * BATCH,
            "wall_seconds": round(self.seconds),
            "cores": len(os.sched_getaffinity(0)),
            "machine": platform.machine(),
            "torch": torch.__version__,
            "early_unet_steps": snapshot_step,
        }


def facts(file: Path) -> RunFacts:
    with safe_open(file, "pt") as stored:
        meta = json.loads(stored.metadata()["run"])
        ema = {key[4:]: stored.get_tensor(key) for key in stored.keys() if key.startswith("ema.")}  # noqa: SIM118 - no mapping
    return RunFacts(ema, meta["log"], meta["step"], meta["seconds"])
