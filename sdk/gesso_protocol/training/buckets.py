"""Aspect-ratio buckets: which sizes a training run uses, and which of them a picture goes to."""

from __future__ import annotations

MAX_ASPECT = 3


def bucket_sizes(resolution: int, step: int) -> tuple[tuple[int, int], ...]:
    """Every (width, height) in pixels: multiples of `step`, no more pixels than the square, at most 3 to 1."""
    area = resolution * resolution
    sizes = {(resolution, resolution)}
    width = step
    while width <= resolution * MAX_ASPECT:
        height = min(area // width // step * step, resolution * MAX_ASPECT)
        if height >= step and max(width, height) <= MAX_ASPECT * min(width, height):
            sizes |= {(width, height), (height, width)}
        width += step
    return tuple(sorted(sizes))


def bucket_of(width: int, height: int, resolution: int, step: int, *, buckets: bool = True) -> tuple[int, int]:
    """The size that a picture is scaled and cropped to: the nearest aspect ratio, then the most pixels."""
    if not buckets:
        return resolution, resolution

    def distance(size: tuple[int, int]) -> tuple[int, int, tuple[int, int]]:
        # aspect ratios compared in whole numbers, so that no machine rounds differently
        wide, high = width * size[1], height * size[0]
        ratio = max(wide, high) * 1_000_000 // min(wide, high)
        return ratio, -size[0] * size[1], size

    return min(bucket_sizes(resolution, step), key=distance)
