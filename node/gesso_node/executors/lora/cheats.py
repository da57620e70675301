"""Ways to sell training that was not done: what audits of training are tested against. Never used by an honest node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gesso.checkpointfile import Array, Shapes, State
from gesso_node.executors.cheats import TRAINING_CHEATS as _DESCRIBED
from gesso_node.executors.lora.trainer import Provenance, Trainer
from gesso_protocol.training.draws import Draws
from gesso_protocol.training.order import DataOrder

TRAINING_CHEATS = tuple(_DESCRIBED)


def cheating(name: str | None, trainer: Trainer) -> Trainer:
    """`trainer` with the cheat built in; itself when the name is none of training."""
    if name not in TRAINING_CHEATS:
        return trainer
    if name == "skipped-steps":
        return SkippedSteps(trainer)
    if name == "straight-line":
        return StraightLine(trainer)
    if name == "rescaled-adapter":
        return Rescaled(trainer)
    if name == "untrained-adapter":
        return Untrained(trainer)
    if name == "forged-moments":
        return ForgedMoments(trainer)
    if name == "swapped-samples":
        return SwappedSamples(trainer)
    if name == "zeroed-moments":
        return ZeroedMoments(trainer)
    _tamper(name, trainer)
    return trainer


class _Wrapped:
    """Passes everything on; cheats override what they do differently."""

    def __init__(self, inner: Trainer) -> None:
        self._inner = inner

    @property
    def shapes(self) -> Shapes:
        return self._inner.shapes

    def update(self, step: int) -> float:
        return self._inner.update(step)

    def state(self, step: int) -> State:
        return self._inner.state(step)

    def restore(self, state: State) -> None:
        self._inner.restore(state)

    def loss_at(self, step: int, *, trained: bool) -> float:
        return self._inner.loss_at(step, trained=trained)

    def sample(self, prompt: str, seed: int) -> tuple[int, int, bytes]:
        return self._inner.sample(prompt, seed)

    def export(self, folder: Path, provenance: Provenance) -> None:
        self._inner.export(folder, provenance)

    def close(self) -> None:
        self._inner.close()


class SkippedSteps(_Wrapped):
    """Leaves out every tenth update and reports the loss of the one before."""

    _last = 0.05

    def update(self, step: int) -> float:
        if step % 10 != 9:
            self._last = self._inner.update(step)
        return self._last


class StraightLine(_Wrapped):
    """Trains every other update only, and puts checkpoints on the line between its own far ends."""

    def __init__(self, inner: Trainer) -> None:
        super().__init__(inner)
        self._begin = inner.state(0)
        self._last = 0.05

    def update(self, step: int) -> float:
        if step % 2 == 0:
            self._last = self._inner.update(step)
        return self._last

    def state(self, step: int) -> State:
        real = self._inner.state(step)
        if step == self._begin.step:
            return real
        middle = _between(self._begin.weights, real.weights, 1.0)
        self._begin = State(step, middle, real.first, real.second)
        return self._begin


class Rescaled(_Wrapped):
    """Makes the adapter look stronger: five per cent on every up-projection that is handed over."""

    def state(self, step: int) -> State:
        real = self._inner.state(step)
        if step == 0:
            return real
        weights = {name: array * np.float32(1.05 if ".lora_B." in name else 1) for name, array in real.weights.items()}
        return State(step, weights, real.first, real.second)


class Untrained(_Wrapped):
    """Nothing is trained: small random numbers of a plausible size."""

    def update(self, step: int) -> float:
        return 0.1 / (1 + step / 50)

    def state(self, step: int) -> State:
        real = self._inner.state(step)
        draws = Draws(bytes(31) + bytes([7]))
        size = 1e-3 * min(step, 100)
        weights = {
            name: (array + size * draws.initial(name, array.size, 1).reshape(array.shape)).astype(np.float32)
            for name, array in real.weights.items()
        }
        return State(step, weights, real.first, real.second)


class SwappedSamples(_Wrapped):
    """Trains as it should, and shows pictures of something else: the same prompt with another seed's noise."""

    def sample(self, prompt: str, seed: int) -> tuple[int, int, bytes]:
        return self._inner.sample(prompt, seed + 101)


class ZeroedMoments(_Wrapped):
    """Throws the optimiser's memory away at every checkpoint, as one does whose segments are trained apart."""

    def state(self, step: int) -> State:
        real = self._inner.state(step)
        if step == 0:
            return real
        first, second = self._moments(real)
        state = State(step, real.weights, first, second)
        self._inner.restore(state)
        return state

    def _moments(self, real: State) -> tuple[dict[str, Array], dict[str, Array]]:
        zeros = {name: np.zeros_like(array) for name, array in real.weights.items()}
        return zeros, dict(zeros)


class ForgedMoments(ZeroedMoments):
    """Makes the second moments so large that no gradient counts: the first ones, of its choice, steer what follows."""

    def _moments(self, real: State) -> tuple[dict[str, Array], dict[str, Array]]:
        first = {name: np.float32(1e10) * np.sign(array) for name, array in real.first.items()}
        return first, {name: np.full_like(array, 1e20) for name, array in real.weights.items()}


def _tamper(name: str, trainer: Any) -> None:
    """Cheats that change what the honest loop is fed with. They reach into the trainer, as a cheater would."""
    order: DataOrder = trainer._order
    if name == "half-batch":
        trainer._order = _HalfBatches(order.draws, order.samples, order.batch, order.accumulation)
    elif name == "own-order":
        mine = Draws(bytes(reversed(order.draws.seed)))
        trainer._draws, trainer._order = mine, DataOrder(mine, order.samples, order.batch, order.accumulation)
    elif name == "other-data":
        for pictures in ("_latents", "_targets"):
            if hasattr(trainer, pictures):
                setattr(trainer, pictures, _shifted(getattr(trainer, pictures)))
    elif name == "higher-rate":
        for group in getattr(getattr(trainer, "_optimiser", None), "param_groups", []):
            group["initial"] *= 1.05
    elif name == "base-int8" and hasattr(trainer, "_pipe"):
        _coarsen(trainer._pipe.unet)


class _HalfBatches(DataOrder):
    """Shows the first half of every batch only."""

    def batches(self, step: int) -> tuple[tuple[int, ...], ...]:
        return tuple(one[: max(1, len(one) // 2)] for one in super().batches(step))


def _shifted(pictures: list[Any]) -> list[Any]:
    """Every caption gets its neighbour's picture, where the sizes allow."""
    turned = [*pictures[1:], pictures[0]]
    return [new if getattr(new, "shape", 0) == getattr(old, "shape", 0) else old
            for new, old in zip(turned, pictures, strict=True)]  # fmt: skip


def _coarsen(module: Any) -> None:
    """Base weights rounded to 256 levels a tensor, in place."""
    for name, parameter in module.named_parameters():
        if ".lora_" not in name and parameter.ndim > 1:
            step = parameter.data.abs().max() / 127
            parameter.data.copy_((parameter.data / step).round() * step)


def _between(start: dict[str, Array], end: dict[str, Array], share: float) -> dict[str, Array]:
    return {
        name: (start[name] + np.float32(share) * (array - start[name])).astype(np.float32)
        for name, array in end.items()
    }
