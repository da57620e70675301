"""What a picture of the world can hold: colours, shapes, sizes, places, and one or two objects.

``HELD_OUT_SHAPE`` and ``HELD_OUT_COLOUR`` can be drawn and recognised but never occur in training data:
LoRA training later teaches them. Every tenth description (by hash) is held out of training too; it is
what the model is scored on.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

Rgb = tuple[int, int, int]
Size = Literal["small", "big"]
Relation = Literal["above", "below", "left of", "right of", "next to"]

COLOURS: dict[str, Rgb] = {
    "red": (214, 38, 44),
    "orange": (247, 138, 24),
    "yellow": (250, 222, 52),
    "green": (46, 160, 64),
    "blue": (36, 78, 210),
    "purple": (126, 44, 160),
    "pink": (250, 150, 195),
    "white": (246, 246, 246),
    "black": (22, 22, 24),
}
HELD_OUT_COLOUR = "cyan"
ALL_COLOURS: dict[str, Rgb] = {**COLOURS, HELD_OUT_COLOUR: (40, 205, 215)}

SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "cross", "ring")
HELD_OUT_SHAPE = "star"
ALL_SHAPES: tuple[str, ...] = (*SHAPES, HELD_OUT_SHAPE)

SIZES: tuple[Size, ...] = ("small", "big")
RELATIONS: tuple[Relation, ...] = ("above", "below", "left of", "right of", "next to")

# Columns and rows of the 3 x 3 place grid, as fractions of the picture's side.
PLACES: dict[str, tuple[float, float]] = {
    "top left": (0.24, 0.24),
    "top": (0.5, 0.24),
    "top right": (0.76, 0.24),
    "left": (0.24, 0.5),
    "centre": (0.5, 0.5),
    "right": (0.76, 0.5),
    "bottom left": (0.24, 0.76),
    "bottom": (0.5, 0.76),
    "bottom right": (0.76, 0.76),
}

PICTURE_SIDE = 64
# Half the side of an object's bounding box, in pixels of a 64-pixel picture.
RADIUS_PX: dict[Size, float] = {"small": 8.5, "big": 14.0}
PAIR_RADIUS_PX: dict[Size, float] = {"small": 8.0, "big": 12.5}
SIZE_BOUNDARY_PX = 10.4


@dataclass(frozen=True)
class Thing:
    """One object: a shape in a colour. ``size`` or ``place`` None means "the describer left it open"."""

    shape: str
    colour: str
    size: Size | None = None
    place: str | None = None


@dataclass(frozen=True)
class Scene:
    """A background and one thing, or two things and how the first lies to the second."""

    background: str
    things: tuple[Thing, ...]
    relation: Relation | None = None

    def __post_init__(self) -> None:
        if len(self.things) not in (1, 2):
            raise ValueError(f"a scene holds one or two things, not {len(self.things)}")
        if (self.relation is not None) != (len(self.things) == 2):
            raise ValueError("two things need a relation, one thing has none")

    @property
    def is_held_out(self) -> bool:
        """Whether this description belongs to the tenth kept out of all training data."""
        things = [f"{t.size} {t.colour} {t.shape} {t.place}" for t in self.things]
        text = f"{self.background}|{'|'.join(things)}|{self.relation}"
        return hashlib.sha256(text.encode()).digest()[0] % 10 == 0


def random_scene(rng: np.random.Generator, pair_share: float = 0.35) -> Scene:
    """A scene from the training vocabulary; any description, held out or not."""
    colours = rng.permutation(list(COLOURS))
    if rng.random() < pair_share:
        first, second = (_thing(rng, str(c), open_place=True) for c in colours[1:3])
        relation = RELATIONS[rng.integers(len(RELATIONS))]
        return Scene(str(colours[0]), (first, second), relation)
    return Scene(str(colours[0]), (_thing(rng, str(colours[1]), open_place=False),))


def training_scene(rng: np.random.Generator, pair_share: float = 0.35) -> Scene:
    """A scene that may be trained on."""
    while (scene := random_scene(rng, pair_share)).is_held_out:
        pass
    return scene


def held_out_scene(rng: np.random.Generator, pair_share: float) -> Scene:
    """A scene that no training picture was drawn from."""
    while not (scene := random_scene(rng, pair_share)).is_held_out:
        pass
    return scene


def _thing(rng: np.random.Generator, colour: str, *, open_place: bool) -> Thing:
    shape = SHAPES[rng.integers(len(SHAPES))]
    size = None if rng.random() < 0.3 else SIZES[rng.integers(len(SIZES))]
    places = list(PLACES)
    place = None if open_place or rng.random() < 0.2 else places[rng.integers(len(places))]
    return Thing(shape, colour, size, place)
