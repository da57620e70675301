"""A checkpoint: weights, both moments of AdamW and the step; nothing else is needed to go on bit for bit.

The file is safetensors with `w/NAME`, `m/NAME`, `v/NAME`, all fp32, names sorted, so equal states are equal files.
It may come from anybody: sizes and shapes are checked against the header before a tensor is read, and every value is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gesso.tensorfile import TensorFile, open_tensors, write_tensors
from gesso_protocol.errors import ModelInvalid
from gesso_protocol.training.checkpoint import MAX_STATE_BYTES

Array = NDArray[np.float32]
Shapes = Mapping[str, tuple[int, ...]]
_PARTS = ("w", "m", "v")
MAX_WIDTH = 1 << 18
"""Numbers that a layer of a LoRA has a rank, kernels of convolutions included; the widest known have a tenth of it."""


@dataclass(frozen=True, slots=True)
class State:
    """After `step` updates. The three mappings have the same names and shapes."""

    step: int
    weights: dict[str, Array]
    first: dict[str, Array]
    second: dict[str, Array]

    @property
    def finite(self) -> bool:
        """Whether every number is one."""
        parts = (self.weights, self.first, self.second)
        return all(bool(np.isfinite(array).all()) for part in parts for array in part.values())


def write_state(path: Path, state: State) -> None:
    """Write the file, whole or not at all."""
    parts = zip(_PARTS, (state.weights, state.first, state.second), strict=True)
    rows = [
        (f"{part}/{name}", "F32", array.shape, np.ascontiguousarray(array, dtype="<f4").tobytes())
        for part, arrays in parts
        for name, array in sorted(arrays.items())
    ]
    write_tensors(path, rows, {"format": "gesso/checkpoint/1", "step": str(state.step)})


def read_state(path: Path, shapes: Shapes | None = None, *, step: int | None = None) -> State:
    """Raises ModelInvalid unless the file is a checkpoint of exactly these parameters, after update `step` (any, where
    None)."""
    file = open_tensors(path, max_bytes=MAX_STATE_BYTES)
    after = _step(file)
    found = _shapes(file)
    if shapes is not None and found != dict(shapes):
        raise ModelInvalid(f"{path.name} is a checkpoint of another network")
    if step is not None and after != step:
        raise ModelInvalid(f"{path.name} is the state after update {after}, not after update {step}")
    state = State(after, *(_part(file, part, found) for part in _PARTS))
    if not state.finite:
        raise ModelInvalid(f"{path.name} holds values that are not numbers")
    if any(bool((array < 0).any()) for array in state.second.values()):
        raise ModelInvalid(f"{path.name} holds squares below zero")
    return state


def check_state(path: Path, *, step: int, rank: int) -> None:
    """Raises ModelInvalid for what is no state of a LoRA of this rank after update `step`. For whoever has no network
    to compare with: whatever the file says, no more than one parameter of it is in memory at a time."""
    file = open_tensors(path, max_bytes=MAX_STATE_BYTES)
    if (after := _step(file)) != step:
        raise ModelInvalid(f"{path.name} is the state after update {after}, not after update {step}")
    for name, shape in _shapes(file).items():
        if rank not in shape[:2] or len(shape) not in (2, 4) or math.prod(shape) > rank * MAX_WIDTH:
            raise ModelInvalid(f"{path.name}: {name} has shape {shape}, which no layer of rank {rank} has")
        for part in _PARTS:
            array = np.frombuffer(file.read(f"{part}/{name}"), dtype="<f4")
            if not np.isfinite(array).all():
                raise ModelInvalid(f"{path.name} holds values that are not numbers")
            if part == "v" and (array < 0).any():
                raise ModelInvalid(f"{path.name} holds squares below zero")


def _step(file: TensorFile) -> int:
    step = file.metadata.get("step", "")
    if file.metadata.get("format") != "gesso/checkpoint/1" or not step.isascii() or not step.isdigit() or len(step) > 6:
        raise ModelInvalid(f"{file.path.name} is not a checkpoint of a training run")
    return int(step)


def _shapes(file: TensorFile) -> dict[str, tuple[int, ...]]:
    """The shapes of the parameters, which all three parts share."""
    parts: dict[str, dict[str, tuple[int, ...]]] = {part: {} for part in _PARTS}
    for name, info in file.tensors.items():
        kind, _, rest = name.partition("/")
        if kind not in parts or not rest or info.dtype != "F32":
            raise ModelInvalid(f"{file.path.name}: {name} has no place in a checkpoint")
        parts[kind][rest] = info.shape
    weights, first, second = parts.values()
    if first != weights or second != weights:
        raise ModelInvalid(f"{file.path.name} has moments that do not fit its weights")
    return weights


def _part(file: TensorFile, part: str, shapes: Shapes) -> dict[str, Array]:
    return {
        name: np.frombuffer(file.read(f"{part}/{name}"), dtype="<f4").reshape(shapes[name]) for name in sorted(shapes)
    }
