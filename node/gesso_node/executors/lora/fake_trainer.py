"""A trainer in numpy for networks without torch: a small least-squares problem with the shape of real training.

It says `fake` in its card, learns for real (its loss falls), and keeps every promise of the port: updates draw from
the run's seed and their number, states go in and out bit for bit, and a cheat shows in a re-run.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gesso.checkpointfile import Array, Shapes, State
from gesso.tensorfile import write_tensors
from gesso_node.executors.lora.adapter_file import ADAPTER_FILE, METADATA_KEY, read_adapter
from gesso_node.executors.lora.data import Pictures
from gesso_node.executors.lora.fault import from_requester
from gesso_node.executors.lora.port import TrainingInputs
from gesso_node.executors.lora.trainer import Provenance
from gesso_protocol.errors import ModelInvalid
from gesso_protocol.training.draws import Draws
from gesso_protocol.training.order import DataOrder
from gesso_protocol.training.rates import rate_factor

WIDTH = 8
BETAS = (np.float32(0.9), np.float32(0.999))
RATE = np.float32(0.05)
_DOWN, _UP = "unet.fake.to_q.lora_A.weight", "unet.fake.to_q.lora_B.weight"


class FakeTrainer:
    """Fits rank-r matrices to the mean colours of the pictures. Deterministic to the bit on one machine."""

    def __init__(self, inputs: TrainingInputs, before: Callable[[int], bool] = lambda _: True) -> None:
        """`before` is called with the number of each update; false makes its loss no number."""
        self._before = before
        spec = self._spec = inputs.spec
        pictures = Pictures.open(inputs.dataset_dir, spec)
        self._draws = Draws(inputs.seed)
        self._order = DataOrder(self._draws, pictures.index.samples, spec.batch, spec.accumulation)
        self._targets: list[Array] = []
        for number in range(len(pictures.index.samples)):
            inputs.between()
            self._targets.append(_features(pictures, number))
        self._shapes: Shapes = {_DOWN: (spec.rank, WIDTH), _UP: (WIDTH, spec.rank)}
        self._weights: dict[str, Array] = {
            _DOWN: self._draws.initial(_DOWN, spec.rank * WIDTH, WIDTH).reshape(spec.rank, WIDTH),
            _UP: np.zeros((WIDTH, spec.rank), np.float32),
        }
        if inputs.start_dir is not None:
            with from_requester():
                self._load(read_adapter(inputs.start_dir).diffusers_weights())
        self._first = {name: np.zeros(shape, np.float32) for name, shape in self.shapes.items()}
        self._second = {name: np.zeros(shape, np.float32) for name, shape in self.shapes.items()}

    @property
    def shapes(self) -> Shapes:
        return self._shapes

    def update(self, step: int) -> float:
        if not self._before(step):
            return float("nan")
        loss, slopes = self._loss(self._weights, step)
        rate = RATE * np.float32(rate_factor(self._spec, step))
        for name, slope in slopes.items():
            self._first[name] = BETAS[0] * self._first[name] + (1 - BETAS[0]) * slope
            self._second[name] = BETAS[1] * self._second[name] + (1 - BETAS[1]) * slope * slope
            first = self._first[name] / (1 - BETAS[0] ** np.float32(step + 1))
            second = self._second[name] / (1 - BETAS[1] ** np.float32(step + 1))
            change = rate * first / (np.sqrt(second) + np.float32(1e-8))
            self._weights[name] = (self._weights[name] - change).astype(np.float32)
        return loss

    def loss_at(self, step: int, *, trained: bool) -> float:
        weights = self._weights if trained else {**self._weights, _UP: np.zeros((WIDTH, self._spec.rank), np.float32)}
        return self._loss(weights, step)[0]

    def state(self, step: int) -> State:
        parts = (self._weights, self._first, self._second)
        return State(step, *({name: array.copy() for name, array in part.items()} for part in parts))

    def restore(self, state: State) -> None:
        self._load(state.weights)
        self._first, self._second = dict(state.first), dict(state.second)

    def sample(self, prompt: str, seed: int) -> tuple[int, int, bytes]:
        side = self._spec.resolution
        shade = int(abs(float(self._weights[_UP].sum())) * 50 + len(prompt) + seed) % 256
        return side, side, bytes((shade, 128, 255 - shade)) * side * side

    def export(self, folder: Path, provenance: Provenance) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        origin = {"base_manifest": provenance.base_manifest, **provenance.extra}
        notes = {"gesso.executor": "fake", "gesso.task": provenance.task, "gesso.base": provenance.base}
        notes |= {f"gesso.{name}": value for name, value in origin.items()}
        settings = {"unet.r": self._spec.rank, "unet.lora_alpha": self._spec.alpha}
        rows = [(name, "F32", array.shape, array.tobytes()) for name, array in sorted(self._weights.items())]
        write_tensors(folder / ADAPTER_FILE, rows, {**notes, METADATA_KEY: json.dumps(settings)})
        card = {"format": "gesso/adapter/1", "executor": "fake", "task": provenance.task, "steps": provenance.steps}
        (folder / "adapter.json").write_text(json.dumps(card, sort_keys=True))
        read_adapter(folder / ADAPTER_FILE)

    def close(self) -> None:
        return None

    def _load(self, weights: dict[str, Array]) -> None:
        if {name: array.shape for name, array in weights.items()} != dict(self.shapes):
            raise ModelInvalid("the weights are those of another rank or network")
        self._weights = {name: np.array(array, np.float32) for name, array in weights.items()}

    def _loss(self, weights: dict[str, Array], step: int) -> tuple[float, dict[str, Array]]:
        down, up = weights[_DOWN], weights[_UP]
        slopes = {_DOWN: np.zeros_like(down), _UP: np.zeros_like(up)}
        total, slot = 0.0, 0
        for number in (number for batch in self._order.batches(step) for number in batch):
            draw = self._draws.sample(step, slot, (WIDTH,), timesteps=1000, dropout_milli=0, offset_milli=0)
            # A state that somebody else opened may run away; that is found in the numbers, not in warnings.
            with np.errstate(over="ignore", invalid="ignore"):
                miss = up @ (down @ draw.noise) - self._targets[number] * draw.noise
                slopes[_UP] += np.outer(miss, down @ draw.noise)
                slopes[_DOWN] += np.outer(up.T @ miss, draw.noise)
                total += float(miss @ miss) / WIDTH
            slot += 1
        return total / slot, {name: (slope / slot).astype(np.float32) for name, slope in slopes.items()}


def _features(pictures: Pictures, number: int) -> Array:
    mean = pictures.pixels(number).reshape(-1, 3).astype(np.float64).mean(axis=0) / 255
    return np.resize(mean, WIDTH).astype(np.float32)
