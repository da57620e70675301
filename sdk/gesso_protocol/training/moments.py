"""How far the optimiser's memory at a segment's end is from ours: what the next segment takes for granted.

A moment is worth what AdamW makes of it, so two ratios are taken in its own units and the larger one counts. Of the
step `m / (sqrt(v) + epsilon)` that would follow: the distance relative to ours, over all weights, as for updates. Of
the scale `sqrt(v)`: the root mean square of the relative distance of every single one. Norms of `m` and `v` themselves
would hear the largest gradients only, and let a node choose the course of all the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[np.float32]]

EPSILON = 1e-8
"""That of AdamW in PROTOCOL.md."""
_TINY = 1e-12


class End(Protocol):
    """Where a segment ends: the weights and both moments of each."""

    @property
    def weights(self) -> Arrays: ...

    @property
    def first(self) -> Arrays: ...

    @property
    def second(self) -> Arrays: ...


def moments_error(theirs: End, ours: End) -> float:
    """The larger of the two ratios. Infinite when names or shapes differ, or for what is no number or below zero."""
    parts = ((theirs.first, ours.first), (theirs.second, ours.second))
    if any(set(their) != set(own) for their, own in parts) or set(ours.first) != set(ours.second):
        return float("inf")
    apart = size = scales = 0.0
    count = 0
    for name, own in ours.first.items():
        if len({own.shape, *(part[name].shape for pair in parts for part in pair)}) > 1:
            return float("inf")
        with np.errstate(invalid="ignore"):
            their_scale, scale = np.sqrt(theirs.second[name], dtype=np.float64), np.sqrt(ours.second[name], dtype=float)
            step = own / (scale + EPSILON)
            apart += float(((theirs.first[name] / (their_scale + EPSILON) - step) ** 2).sum())
            size += float((step**2).sum())
            scales += float((((their_scale - scale) / (scale + EPSILON)) ** 2).sum())
        count += own.size
    worst = max(apart / max(size, _TINY**2), scales / max(count, 1)) ** 0.5
    return worst if np.isfinite(apart) and np.isfinite(scales) and np.isfinite(worst) else float("inf")
