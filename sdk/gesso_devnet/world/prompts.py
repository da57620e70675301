"""Held-out prompts with fixed seeds, for scores that can be compared between runs and models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gesso_devnet.world.caption import caption, plain_caption
from gesso_devnet.world.scene import Scene, held_out_scene


@dataclass(frozen=True)
class Prompt:
    """A scene that no training picture was drawn from, in words, and the seed of its start noise."""

    scene: Scene
    text: str
    seed: int


def held_out_prompts(count: int, *, pairs: bool, seed: int = 2026) -> list[Prompt]:
    """``count`` prompts of one object (or two); every other one in free wording, the rest in the plain one."""
    rng = np.random.default_rng([seed, int(pairs)])
    scenes = [held_out_scene(rng, float(pairs)) for _ in range(count)]
    wordings = [caption(s, rng) if i % 2 else plain_caption(s) for i, s in enumerate(scenes)]
    return [Prompt(s, w, 10_000 + i) for i, (s, w) in enumerate(zip(scenes, wordings, strict=True))]
