"""A colour that the base model has never seen, under a word of one's choice: what trainings of LoRAs are shown on.

Lavender, not the world's held-out cyan: the shipped autoencoder cannot decode cyan at all (a round trip gives blue), so
no adapter of the denoiser could ever draw it. Lavender was never in the training data either, and survives the trip.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from gesso_devnet.world import scene as world
from gesso_devnet.world.caption import plain_caption
from gesso_devnet.world.draw import draw
from gesso_devnet.world.scene import Scene, random_scene

LAVENDER = (128, 128, 224)


@contextmanager
def extra_colour(word: str, rgb: tuple[int, int, int] = LAVENDER) -> Iterator[None]:
    """Drawer and reader know the colour by this word inside the block."""
    before = dict(world.ALL_COLOURS)
    world.ALL_COLOURS[word] = rgb
    try:
        yield
    finally:
        world.ALL_COLOURS.clear()
        world.ALL_COLOURS.update(before)


def in_colour(scene: Scene, word: str) -> Scene:
    """The scene, its one thing in that colour."""
    return dataclasses.replace(scene, things=(dataclasses.replace(scene.things[0], colour=word),))


def write_photos(folder: Path, word: str, count: int, seed: int) -> Path:
    """A folder as people have it: `count` pictures of one thing in the colour, each with its caption in a text file."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    with extra_colour(word):
        for number in range(count):
            scene = in_colour(random_scene(rng, 0.0), word)
            Image.fromarray(draw(scene, rng)).save(folder / f"{number:02}.png")
            (folder / f"{number:02}.txt").write_text(plain_caption(scene) + "\n")
    return folder
