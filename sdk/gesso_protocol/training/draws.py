"""Every random number of a training run, as a pure function of the run's seed and its place: no generator has a state.

The seed comes from a beacon that is drawn after a node has claimed, so the node cannot choose its data order or noise.
Only exactly rounded operations (+, -, *, /, sqrt) are used, so every IEEE machine computes the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.hashing import keccak256, word

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

_LN2 = 0.6931471805599453
# Acklam's rational approximation of the normal quantile, relative error below 1.2e-9.
_A = (-3.969683028665376e1, 2.209460984245205e2, -2.759285104469687e2, 1.383577518672690e2, -3.066479806614716e1,
      2.506628277459239e0)  # fmt: skip
_B = (-5.447609879822406e1, 1.615858368580409e2, -1.556989798598866e2, 6.680131188771972e1, -1.328068155288572e1, 1.0)
_C = (-7.784894002430293e-3, -3.223964580411365e-1, -2.400758277161838e0, -2.549732539343734e0, 4.374664141464968e0,
      2.938163982698783e0)  # fmt: skip
_D = (7.784695709041462e-3, 3.224671290700398e-1, 2.445134137142996e0, 3.754408661907416e0, 1.0)
_TAIL = 0.02425


def run_seed(beacon: bytes, task: bytes, spec_seed: int) -> bytes:
    """The 32 bytes from which a run draws everything. Raises `EncodingInvalid` unless both inputs have 32 bytes."""
    if len(beacon) != 32 or len(task) != 32:
        raise EncodingInvalid("beacon and task of a training run have 32 bytes")
    return keccak256(b"gesso/train/1/seed" + beacon + task + word(spec_seed))


@dataclass(frozen=True, slots=True)
class Draw:
    """What one picture of one update is shown with. `offset` is the noise offset a channel, already scaled."""

    timestep: int
    dropped: bool
    noise: Singles
    offset: Singles


@dataclass(frozen=True, slots=True)
class PriorDraw:
    """One comparison with the base model: numbers of a prior prompt and of the picture that is noised."""

    timestep: int
    prompt: int
    picture: int
    noise: Singles


@dataclass(frozen=True)
class Draws:
    """The draws of one run. `seed` has 32 bytes."""

    seed: bytes

    def __post_init__(self) -> None:
        if len(self.seed) != 32:
            raise EncodingInvalid("the seed of a run has 32 bytes")

    def sample(
        self, step: int, slot: int, shape: Sequence[int], *, timesteps: int, dropout_milli: int, offset_milli: int
    ) -> Draw:
        """For picture `slot` (through all batches) of update `step`, both from 0; `shape`: channels, height, width."""
        head = self._stream(b"draw", step, slot)
        count = math.prod(shape)
        noise = normals(self._stream(b"noise", step, slot, 8 * count))
        offset = normals(self._stream(b"offset", step, slot, 8 * shape[0])) * np.float32(offset_milli / 1000)
        return Draw(
            timestep=below(head[:8], timesteps),
            dropped=below(head[8:16], 1000) < dropout_milli,
            noise=noise.reshape(tuple(shape)),
            offset=offset.astype(np.float32),
        )

    def prior(
        self, step: int, slot: int, shape: Sequence[int], *, timesteps: int, prompts: int, pictures: int
    ) -> PriorDraw:
        """For the prior, slot by slot like `sample`; `prompts` and `pictures` are how many there are to choose from."""
        head = self._stream(b"prior", step, slot)
        noise = normals(self._stream(b"prior-noise", step, slot, 8 * math.prod(shape)))
        first = timesteps * 3 // 10
        return PriorDraw(
            timestep=first + below(head[:8], timesteps - first),
            prompt=below(head[8:16], prompts),
            picture=below(head[16:24], pictures),
            noise=noise.reshape(tuple(shape)),
        )

    def order_key(self, epoch: int, item: int) -> bytes:
        """Sorting by these shuffles an epoch."""
        return self._stream(b"order", epoch, item)

    def initial(self, name: str, count: int, fan_in: int) -> Singles:
        """Start values of a down-projection: uniform within 1/sqrt(fan_in), the same for the same parameter name."""
        raw = blake3(b"gesso/train/1/init" + self.seed + name.encode()).digest(length=8 * count)
        return ((2 * uniforms(raw) - 1) / math.sqrt(fan_in)).astype(np.float32)

    def _stream(self, what: bytes, first: int, second: int, length: int = 32) -> bytes:
        place = what + b"/" + word(first) + word(second)
        return blake3(b"gesso/train/1/" + place + self.seed).digest(length=length)


def below(raw: bytes, limit: int) -> int:
    """A number from 0 to limit-1 out of eight bytes; every one as likely but for 2^-64."""
    return int.from_bytes(raw, "little") * limit >> 64


def uniforms(raw: bytes) -> Floats:
    """Numbers strictly between 0 and 1, one for each eight bytes (the upper 52 bits count)."""
    integers = np.frombuffer(raw, dtype="<u8") >> np.uint64(12)
    values: Floats = (integers.astype(np.float64) + 0.5) / float(2**52)
    return values


def normals(raw: bytes) -> Singles:
    """Standard normal numbers, one for each eight bytes, as float32."""
    p = uniforms(raw)
    q = p - 0.5
    r = q * q
    middle = _polynomial(_A, r) * q / _polynomial(_B, r)
    side = np.minimum(p, 1 - p)
    t = np.sqrt(-2 * _log(np.minimum(side, _TAIL)))
    tail = _polynomial(_C, t) / _polynomial(_D, t)
    values = np.where(side < _TAIL, np.where(q < 0, tail, -tail), middle)
    return values.astype(np.float32)


def _polynomial(coefficients: Sequence[float], x: Floats) -> Floats:
    value: Floats = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value


def _log(x: Floats) -> Floats:
    """Natural logarithm of positive numbers by exactly rounded operations only (libraries differ in the last bit)."""
    mantissa, exponent = np.frexp(x)
    ratio = (mantissa - 1) / (mantissa + 1)
    square = ratio * ratio
    total = np.zeros_like(x)
    for odd in range(39, 0, -2):
        total = total * square + 1.0 / odd
    logarithm: Floats = exponent * _LN2 + 2 * ratio * total
    return logarithm
