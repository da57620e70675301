"""How far an auditor's own output lies from the node's. Everything is computed in float64 from fp32 tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from gesso_protocol.errors import EncodingInvalid

Tensor = npt.NDArray[np.float32] | npt.NDArray[np.float64]
NO_LIMIT = float("inf")


@dataclass(frozen=True)
class Branches:
    """The model's outputs of one step, each of one shape; `uncond` is None without guidance."""

    cond: Tensor
    uncond: Tensor | None = None

    def guided(self, guidance: float) -> npt.NDArray[np.float64]:
        """uncond + guidance * (cond - uncond), or cond alone."""
        cond = np.asarray(self.cond, np.float64)
        if self.uncond is None:
            return cond
        uncond = np.asarray(self.uncond, np.float64)
        return uncond + guidance * (cond - uncond)


@dataclass(frozen=True)
class StepErrors:
    """Relative errors of one checked step; `uncond` is 0 without guidance."""

    image: int
    step: int
    cond: float
    uncond: float
    guided: float

    @property
    def branch(self) -> float:
        """The larger one of the two branches; infinite for what is no number."""
        return NO_LIMIT if np.isnan(self.cond) or np.isnan(self.uncond) else max(self.cond, self.uncond)


def tensor(data: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """An fp32 tensor from its little-endian bytes; read-only. Raises `EncodingInvalid` if they do not fit its shape."""
    count = 1
    for side in shape:
        count *= side
    if len(data) != 4 * count or any(side < 1 for side in shape):
        raise EncodingInvalid("the tensor's bytes do not match its shape")
    return np.frombuffer(data, "<f4").reshape(shape)


def branch_error(own: Tensor, theirs: Tensor) -> float:
    """Relative L2 distance ||own - theirs|| / ||own||; infinite for other shapes, for NaN and for a zero `own`."""
    if own.shape != theirs.shape:
        return NO_LIMIT
    mine = np.asarray(own, np.float64).ravel()
    with np.errstate(invalid="ignore", over="ignore"):
        apart = float(np.linalg.norm(mine - np.asarray(theirs, np.float64).ravel()))
    size = float(np.linalg.norm(mine))
    if apart == 0:
        return 0.0
    return apart / size if np.isfinite(apart) and np.isfinite(size) and size > 0 else NO_LIMIT


def embedding_error(own: Tensor, theirs: Tensor, parts: Sequence[int] = ()) -> float:
    """`branch_error` of each part, the largest. `parts` are their lengths in order; none: all of it is one.

    A part with large numbers would otherwise hide what is wrong with one of small ones.
    """
    if not parts:
        return branch_error(own, theirs)
    if own.shape != theirs.shape or own.ndim != 1 or sum(parts) != len(own):
        return NO_LIMIT
    ends = list(accumulate(parts))
    return max(
        branch_error(own[end - part : end], theirs[end - part : end]) for part, end in zip(parts, ends, strict=True)
    )


def guided_error(own: Branches, theirs: Branches, guidance: float) -> float:
    """`branch_error` of the guided sums: what a push on both branches in opposite directions cannot hide from."""
    if (own.uncond is None) != (theirs.uncond is None) or not _same_shapes(own, theirs):
        return NO_LIMIT
    return branch_error(own.guided(guidance), theirs.guided(guidance))


def step_errors(image: int, step: int, own: Branches, theirs: Branches, guidance: float) -> StepErrors:
    """All errors of one checked step."""
    cond, uncond = branch_error(own.cond, theirs.cond), 0.0
    if own.uncond is not None:
        uncond = NO_LIMIT if theirs.uncond is None else branch_error(own.uncond, theirs.uncond)
    return StepErrors(image, step, cond, uncond, guided_error(own, theirs, guidance))


def residual_cosine(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> float:
    """Cosine between the residuals (own - theirs) of two checks; 0 when one of them is exact or shapes differ.

    Honest rounding is not correlated between steps; a steady push in one direction is.
    """
    if len({one.shape for one in (*first, *second)}) > 1:
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        a, b = (np.asarray(own, np.float64).ravel() - np.asarray(theirs, np.float64).ravel() for own, theirs in
                (first, second))  # fmt: skip
        size = float(np.linalg.norm(a) * np.linalg.norm(b))
        return float(a @ b) / size if size > 0 and np.isfinite(size) else 0.0


def rgb_error(own: bytes, theirs: bytes) -> tuple[int, float]:
    """Largest and mean absolute difference of two pictures in grey levels; 255 and 255.0 for other sizes."""
    if len(own) != len(theirs) or not own:
        return 255, 255.0
    apart = np.abs(np.frombuffer(own, np.uint8).astype(np.int16) - np.frombuffer(theirs, np.uint8))
    return int(apart.max()), float(apart.mean())


def _same_shapes(own: Branches, theirs: Branches) -> bool:
    pairs = [(own.cond, theirs.cond)]
    if own.uncond is not None and theirs.uncond is not None:
        pairs += [(own.uncond, theirs.uncond), (own.cond, own.uncond)]
    return all(one.shape == other.shape for one, other in pairs)
