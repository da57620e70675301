"""Reads a picture back into words: background, and each object's colour, shape, size and place.

Pure analysis, nothing learnt, so nothing can leak from training: the frame gives the background, connected pixels that
differ from it are objects, and each object is fitted with every shape of the world (the held-out one too).
A blob that fits nothing well has shape ``None``. ``scripts/bench/base_model`` prints the reader's own accuracy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from gesso_devnet.world.draw import Floats, Picture, coverage
from gesso_devnet.world.scene import ALL_COLOURS, ALL_SHAPES, PICTURE_SIDE, PLACES, SIZE_BOUNDARY_PX, Size

FRAME_PX = 2
OBJECT_CONTRAST = 45.0
MIN_OBJECT_PX = 24
MAX_COLOUR_DISTANCE = 95.0
MIN_FIT = 0.72
# Finer than the drawing, so that a fit is found even where the outline is soft.
_FIT_SHIFTS_PX = (-0.7, 0.0, 0.7)
_FIT_SCALES = (0.92, 1.0, 1.08)


@dataclass(frozen=True)
class Seen:
    """One object. Lengths are pixels of a 64-pixel picture; ``fit`` is the soft overlap with the shape, 0 to 1."""

    colour: str | None
    shape: str | None
    size: Size
    place: str
    x: float
    y: float
    radius: float
    fit: float


@dataclass(frozen=True)
class Reading:
    """What a picture shows; objects from the largest to the smallest."""

    background: str | None
    things: tuple[Seen, ...]


def read(picture: Picture) -> Reading:
    """Reads one picture of shape (S, S, 3), dtype uint8, S a multiple of 64."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.shape[0] != picture.shape[1] or picture.shape[0] % 64:
        raise ValueError(f"a picture is (S, S, 3) with S a multiple of 64, not {picture.shape}")
    pixels = _shrink(picture.astype(np.float32))
    background = _background(pixels)
    things = [_look_at(pixels, background, region) for region in _regions(pixels, background)]
    things.sort(key=lambda t: -t.radius)
    return Reading(_name(background), tuple(things))


def _shrink(pixels: Floats) -> Floats:
    factor = pixels.shape[0] // PICTURE_SIDE
    small: Floats = pixels.reshape(PICTURE_SIDE, factor, PICTURE_SIDE, factor, 3).mean(axis=(1, 3))
    return small


def _background(pixels: Floats) -> Floats:
    inner = np.ones(pixels.shape[:2], bool)
    inner[FRAME_PX:-FRAME_PX, FRAME_PX:-FRAME_PX] = False
    return np.median(pixels[inner], axis=0).astype(np.float32)


def _name(rgb: Floats) -> str | None:
    names = list(ALL_COLOURS)
    distances = np.linalg.norm(np.array([ALL_COLOURS[n] for n in names], np.float32) - rgb, axis=1)
    best = int(distances.argmin())
    return names[best] if distances[best] <= MAX_COLOUR_DISTANCE else None


def _regions(pixels: Floats, background: Floats) -> Iterator[NDArray[np.bool_]]:
    """Masks of the connected regions (four neighbours) that stand out from the background."""
    left = np.linalg.norm(pixels - background, axis=2) > OBJECT_CONTRAST
    while left.any():
        region = np.zeros_like(left)
        region[np.unravel_index(int(left.argmax()), left.shape)] = True
        while True:
            grown = region.copy()
            grown[1:] |= region[:-1]
            grown[:-1] |= region[1:]
            grown[:, 1:] |= region[:, :-1]
            grown[:, :-1] |= region[:, 1:]
            grown &= left
            if (grown == region).all():
                break
            region = grown
        left &= ~region
        if region.sum() >= MIN_OBJECT_PX:
            yield region


def _look_at(pixels: Floats, background: Floats, region: NDArray[np.bool_]) -> Seen:
    contrast = np.linalg.norm(pixels - background, axis=2)
    core = region & (contrast >= 0.75 * np.percentile(contrast[region], 80))
    colour = np.median(pixels[core], axis=0).astype(np.float32)
    line = colour - background
    opacity = np.clip((pixels - background) @ line / max(1.0, float(line @ line)), 0, 1)
    # A pixel-wide rim keeps the object's soft edge and drops its neighbours.
    near = region.copy()
    near[1:] |= region[:-1]
    near[:-1] |= region[1:]
    near[:, 1:] |= region[:, :-1]
    near[:, :-1] |= region[:, 1:]
    shape, fit, x, y, radius = _best_shape(np.where(near, opacity, 0.0).astype(np.float32))
    place = min(PLACES, key=lambda p: float(np.hypot(x - PLACES[p][0] * 64, y - PLACES[p][1] * 64)))
    size: Size = "small" if radius < SIZE_BOUNDARY_PX else "big"
    return Seen(_name(colour), shape if fit >= MIN_FIT else None, size, place, x, y, radius, fit)


def _best_shape(opacity: Floats) -> tuple[str, float, float, float, float]:
    rows, cols = np.nonzero(opacity > 0.5)
    if not len(rows):
        rows, cols = np.nonzero(opacity > 0)
    x0, x1, y0, y1 = cols.min(), cols.max() + 1.0, rows.min(), rows.max() + 1.0
    return max((_fit(shape, opacity, x0, x1, y0, y1) for shape in ALL_SHAPES), key=lambda found: found[1])


def _fit(
    shape: str, opacity: Floats, x0: float, x1: float, y0: float, y1: float
) -> tuple[str, float, float, float, float]:
    """The best soft overlap of one shape around the place that the bounding box suggests."""
    left, right, top, bottom = _extent(shape)
    radius = ((x1 - x0) / (right - left) + (y1 - y0) / (bottom - top)) / 2
    x, y = (x0 + x1 - radius * (left + right)) / 2, (y0 + y1 - radius * (top + bottom)) / 2
    rows, cols = np.mgrid[0:PICTURE_SIDE, 0:PICTURE_SIDE].astype(np.float32) + 0.5
    best = (shape, -1.0, x, y, radius)
    for scale in _FIT_SCALES:
        for dx in _FIT_SHIFTS_PX:
            for dy in _FIT_SHIFTS_PX:
                cover = coverage(shape, cols - x - dx, rows - y - dy, radius * scale)
                overlap = float(np.minimum(cover, opacity).sum() / np.maximum(cover, opacity).sum())
                if overlap > best[1]:
                    best = (shape, overlap, x + dx, y + dy, radius * scale)
    return best


@cache
def _extent(shape: str) -> tuple[float, float, float, float]:
    """Left, right, top and bottom of the shape of radius 1."""
    rows, cols = np.mgrid[-150:150, -150:150].astype(np.float32) + 0.5
    inside = np.nonzero(coverage(shape, cols, rows, 100.0) > 0.5)
    return (
        (inside[1].min() - 150) / 100,
        (inside[1].max() - 149) / 100,
        (inside[0].min() - 150) / 100,
        (inside[0].max() - 149) / 100,
    )
