"""Latents of drawn scenes, encoded once and kept in a file, a few more with every step.

Scene ``i`` is a pure function of (seed, i), so the file can be deleted at any time and comes back the same.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from base_model.vae import encode
from gesso_devnet.world.draw import Picture, draw
from gesso_devnet.world.scene import Scene, training_scene

START = 12_000
PER_STEP = 12
SHAPE = (4, 16, 16)


class LatentPool:
    """A growing pool: ``START`` scenes before the first step, ``PER_STEP`` more for each later one."""

    def __init__(self, file: Path, vae: AutoencoderKL, seed: int, capacity: int = 400_000) -> None:
        self._vae, self._seed = vae, seed
        exists = file.exists()
        file.parent.mkdir(parents=True, exist_ok=True)
        self._store = np.lib.format.open_memmap(
            file, mode="r+" if exists else "w+", dtype=np.float16, shape=(capacity, *SHAPE)
        )
        # An all-zero entry was never written; entries are filled in order.
        self._filled = int(np.argmin(self._store[:, 0, 0].any(axis=1))) if exists else 0

    def scene(self, index: int) -> tuple[Scene, Picture]:
        rng = np.random.default_rng([self._seed, 1, index])
        scene = training_scene(rng, pair_share=0.4)
        return scene, draw(scene, rng)

    def grow_to(self, step: int, ahead: int = 8) -> None:
        """Makes sure the scenes of ``step`` are there; encodes those of the next ``ahead`` steps in one go."""
        if self._filled >= START + step * PER_STEP:
            return
        target = START + (step + ahead) * PER_STEP
        while self._filled < target:
            end = min(target, self._filled + 512)
            pictures = np.stack([self.scene(i)[1] for i in range(self._filled, end)])
            with torch.autocast("cpu", torch.bfloat16):
                self._store[self._filled : end] = encode(self._vae, pictures).float().numpy()
            self._filled = end

    def sample(self, rng: np.random.Generator, step: int, count: int) -> tuple[Tensor, list[Scene]]:
        """``count`` latents (N, 4, 16, 16) and their scenes, uniformly from what ``step`` may see."""
        chosen = rng.integers(0, START + step * PER_STEP, count)
        latents = torch.from_numpy(self._store[chosen].astype(np.float32))
        return latents, [self.scene_only(int(i)) for i in chosen]

    def scene_only(self, index: int) -> Scene:
        return training_scene(np.random.default_rng([self._seed, 1, index]), pair_share=0.4)
