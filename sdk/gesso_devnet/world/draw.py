"""Draws a scene: flat colours, anti-aliased outlines, from signed distances (negative inside).

Distance formulas for boxes and polygons follow the well-known forms collected by Inigo Quilez.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from gesso_devnet.world.scene import (
    ALL_COLOURS,
    PAIR_RADIUS_PX,
    PICTURE_SIDE,
    PLACES,
    RADIUS_PX,
    SIZES,
    Rgb,
    Scene,
    Size,
    Thing,
)

Floats = NDArray[np.floating]
Picture = NDArray[np.uint8]

COLOUR_JITTER = 8
PLACE_JITTER_PX = 2.0
PAIR_GAP_PX = (3.0, 8.0)


def draw(scene: Scene, rng: np.random.Generator, side: int = PICTURE_SIDE) -> Picture:
    """A ``side`` x ``side`` x 3 picture of the scene; what the description leaves open is drawn from ``rng``."""
    scale = side / PICTURE_SIDE
    rows, cols = np.mgrid[0:side, 0:side].astype(np.float32) + 0.5
    canvas = np.broadcast_to(_jitter(ALL_COLOURS[scene.background], rng), (side, side, 3)).copy()
    for thing, (x, y, radius) in zip(scene.things, layout(scene, rng), strict=True):
        cover = coverage(thing.shape, cols - x * scale, rows - y * scale, radius * scale)[..., None]
        canvas += cover * (_jitter(ALL_COLOURS[thing.colour], rng) - canvas)
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def layout(scene: Scene, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Centre x, centre y and radius of each thing, in pixels of a 64-pixel picture."""
    if len(scene.things) == 1:
        return [_place_single(scene.things[0], rng)]
    radii = [_radius(t, PAIR_RADIUS_PX, rng) for t in scene.things]
    gap = rng.uniform(*PAIR_GAP_PX)
    span = 2 * radii[0] + gap + 2 * radii[1]
    start = (PICTURE_SIDE - span) / 2 + rng.uniform(-1, 1) * max(0.0, min(3.0, (PICTURE_SIDE - span) / 2 - 2))
    subject_first = scene.relation in ("above", "left of", "next to")
    near, far = (0, 1) if subject_first else (1, 0)
    along = {near: start + radii[near], far: start + 2 * radii[near] + gap + radii[far]}
    across = [PICTURE_SIDE / 2 + rng.uniform(-PLACE_JITTER_PX, PLACE_JITTER_PX) for _ in radii]
    if scene.relation in ("above", "below"):
        return [(across[i], along[i], radii[i]) for i in (0, 1)]
    return [(along[i], across[i], radii[i]) for i in (0, 1)]


def coverage(shape: str, x: Floats, y: Floats, radius: float) -> Floats:
    """How much of each pixel the shape covers, 0 to 1; x and y are pixel offsets from its centre."""
    cover: Floats = np.clip(0.5 - _DISTANCE[shape](x, y, radius), 0.0, 1.0).astype(np.float32)
    return cover


def _place_single(thing: Thing, rng: np.random.Generator) -> tuple[float, float, float]:
    places = list(PLACES)
    fx, fy = PLACES[thing.place or places[rng.integers(len(places))]]
    radius = _radius(thing, RADIUS_PX, rng)
    low, high = radius + 1.0, PICTURE_SIDE - radius - 1.0
    x, y = (f * PICTURE_SIDE + rng.uniform(-PLACE_JITTER_PX, PLACE_JITTER_PX) for f in (fx, fy))
    return float(np.clip(x, low, high)), float(np.clip(y, low, high)), radius


def _radius(thing: Thing, radii: Mapping[Size, float], rng: np.random.Generator) -> float:
    size = thing.size or SIZES[rng.integers(len(SIZES))]
    return float(radii[size] * rng.uniform(0.94, 1.06))


def _jitter(rgb: Rgb, rng: np.random.Generator) -> Floats:
    return np.asarray(rgb, np.float32) + rng.uniform(-COLOUR_JITTER, COLOUR_JITTER, 3).astype(np.float32)


def _circle(x: Floats, y: Floats, radius: float) -> Floats:
    return np.hypot(x, y) - radius


def _box(x: Floats, y: Floats, half_width: float, half_height: float) -> Floats:
    dx, dy = np.abs(x) - half_width, np.abs(y) - half_height
    return np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)) + np.minimum(np.maximum(dx, dy), 0)


def _square(x: Floats, y: Floats, radius: float) -> Floats:
    return _box(x, y, radius * 0.92, radius * 0.92)


def _cross(x: Floats, y: Floats, radius: float) -> Floats:
    return np.minimum(_box(x, y, radius, radius * 0.34), _box(x, y, radius * 0.34, radius))


def _ring(x: Floats, y: Floats, radius: float) -> Floats:
    return np.abs(np.hypot(x, y) - radius * 0.74) - radius * 0.26


def _triangle(x: Floats, y: Floats, radius: float) -> Floats:
    return _polygon(x, y, radius * np.array([[0.0, -1.0], [1.06, 0.92], [-1.06, 0.92]]))


def _star(x: Floats, y: Floats, radius: float) -> Floats:
    angles = -np.pi / 2 + np.arange(10) * np.pi / 5
    reach = radius * np.where(np.arange(10) % 2 == 0, 1.12, 0.47)
    return _polygon(x, y, np.stack([reach * np.cos(angles), reach * np.sin(angles)], axis=1))


def _polygon(x: Floats, y: Floats, corners: NDArray[np.float64]) -> Floats:
    squared = np.full(x.shape, np.inf, np.float32)
    inside = np.zeros(x.shape, bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        ex, ey, wx, wy = bx - ax, by - ay, x - ax, y - ay
        along = np.clip((wx * ex + wy * ey) / (ex * ex + ey * ey), 0, 1)
        squared = np.minimum(squared, (wx - ex * along) ** 2 + (wy - ey * along) ** 2)
        crosses = (ay > y) != (by > y)
        inside ^= crosses & (wx < ex * wy / (ey if ey else 1.0))
    return np.sqrt(squared) * np.where(inside, -1.0, 1.0)


_DISTANCE: dict[str, Callable[[Floats, Floats, float], Floats]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
    "ring": _ring,
    "star": _star,
}
