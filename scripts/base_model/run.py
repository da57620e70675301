"""One resumable training run: a folder with weights, optimiser state, a log and its plot.

Everything is safetensors and JSON, no pickle. Randomness is a function of (seed, step), so a run that is
stopped and resumed sees the same pictures as one that was not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from base_model.muon import Muon


@dataclass
class Run:
    """State of one stage. ``step`` counts finished optimiser steps, ``seconds`` training wall time."""

    folder: Path
    model: nn.Module
    optimisers: tuple[torch.optim.Optimizer, ...]
    total_steps: int
    seed: int = 0
    ema: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0
    seconds: float = 0.0
    log: list[dict[str, float]] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    def rng(self, step: int) -> np.random.Generator:
        """The generator for everything drawn in ``step``."""
        return np.random.default_rng([self.seed, step])

    def steps(self, save_every: int) -> Iterator[int]:
        """Yields step numbers until the end, saving on the way and on every exit."""
        started = time.monotonic()
        before = self.seconds
        try:
            while self.step < self.total_steps:
                yield self.step
                self.step += 1
                self.seconds = before + time.monotonic() - started
                if self.step % save_every == 0:
                    self.save()
        finally:
            self.save()

    def descend(self, loss: Tensor, rate: float) -> None:
        """One clipped step of every optimiser at ``rate``."""
        for optimiser in self.optimisers:
            optimiser.zero_grad()
            for group in optimiser.param_groups:
                group["lr"] = rate
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()

    def note(self, **values: float) -> None:
        """Adds a row to the log and prints it."""
        row = {"step": float(self.step), "seconds": round(self.seconds, 1), **values}
        self.log.append(row)
        print("  ".join(f"{k}={v:.4g}" for k, v in row.items()), flush=True)

    def update_ema(self, decay: float) -> None:
        """Moves the averaged weights; the decay warms up with the step count."""
        decay = min(decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                if name in self.ema:
                    self.ema[name].lerp_(value, 1 - decay)
                else:
                    self.ema[name] = value.detach().clone()

    def save(self) -> None:
        """Writes the checkpoint whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.items()}
        for name, parameter in self.model.named_parameters():
            for optimiser in (o for o in self.optimisers if parameter in o.state):
                state = optimiser.state[parameter]
                tensors |= {f"optimiser.{k}.{name}": torch.as_tensor(v) for k, v in state.items()}
        meta = {"step": self.step, "seconds": self.seconds, "log": self.log}
        part = self.file.with_suffix(".part")
        save_file({k: v.detach().contiguous() for k, v in tensors.items()}, part, {"run": json.dumps(meta)})
        part.replace(self.file)

    def resume(self) -> bool:
        """Loads the checkpoint if there is one."""
        if not self.file.exists():
            return False
        with safe_open(self.file, "pt") as stored:
            meta = json.loads(stored.metadata()["run"])
            groups: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}, "optimiser": {}}
            for key in stored.keys():  # noqa: SIM118 - safe_open is not a mapping
                group, name = key.split(".", 1)
                groups[group][name] = stored.get_tensor(key)
        self.model.load_state_dict(groups["model"])
        self.ema = groups["ema"]
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        for optimiser in self.optimisers:
            kept = ("momentum",) if isinstance(optimiser, Muon) else ("step", "exp_avg", "exp_avg_sq")
            for parameter in (p for group in optimiser.param_groups for p in group["params"]):
                state = {k: groups["optimiser"].get(f"{k}.{names[parameter]}") for k in kept}
                if all(value is not None for value in state.values()):
                    optimiser.state[parameter] = state
        self.step, self.seconds, self.log = meta["step"], meta["seconds"], meta["log"]
        print(f"resumed {self.folder.name} at step {self.step} of {self.total_steps}", flush=True)
        return True


def cosine_rate(step: int, total: int, peak: float, warmup: int = 100, floor: float = 0.01) -> float:
    """Linear warm-up, then a half cosine down to ``floor`` times the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return peak * (floor + (1 - floor) * 0.5 * (1 + float(np.cos(np.pi * progress))))


def to_model(pictures: np.ndarray) -> Tensor:
    """uint8 pictures (N, H, W, 3) to floats (N, 3, H, W) in [-1, 1], the range of a VAE."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pictures(samples: Tensor) -> np.ndarray:
    """The inverse of :func:`to_model`, rounded and clipped."""
    return ((samples.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
