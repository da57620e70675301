"""What the benches of training share: pictures of concepts that the base has never seen, runs, and scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gesso.datasets import pack
from gesso.datasets.pictures import Shape
from gesso_devnet import model
from gesso_devnet.world import caption as words
from gesso_devnet.world.caption import plain_caption
from gesso_devnet.world.concept import extra_colour
from gesso_devnet.world.draw import Picture, draw
from gesso_devnet.world.evaluate import read
from gesso_devnet.world.prompts import Prompt, held_out_prompts
from gesso_devnet.world.scene import Scene, random_scene
from gesso_devnet.world.score import judge, tally
from gesso_node.executors.diffusers import DiffusersEngine
from gesso_node.executors.lora.port import TrainingInputs
from gesso_node.executors.lora.run import Run, train
from gesso_protocol.ids import BlobRef
from gesso_protocol.training.presets import make_training

WORDS = {"colour": "lavender", "shape": "star"}
SEED = bytes(range(32))
BASE = BlobRef(bytes(32))
BATCH = 20


@contextmanager
def new_colour() -> Iterator[None]:
    """The reader and the drawer know lavender inside the block."""
    words.COLOUR_WORDS["lavender"] = ("lavender",)
    words.SHAPE_WORDS["star"] = ("star",)
    try:
        with extra_colour("lavender"):
            yield
    finally:
        del words.COLOUR_WORDS["lavender"], words.SHAPE_WORDS["star"]


def with_concept(scene: Scene, concept: str) -> Scene:
    """The scene, its one thing in the new colour or of the new shape."""
    changed: dict[str, Any] = {concept: WORDS[concept]}
    thing = dataclasses.replace(scene.things[0], **changed)
    return dataclasses.replace(scene, things=(thing,))


def concept_data(folder: Path, concept: str, count: int = 15, seed: int = 5) -> BlobRef:
    """`count` captioned pictures of the concept."""
    rng = np.random.default_rng(seed)
    scenes = [with_concept(random_scene(rng, 0.0), concept) for _ in range(count)]
    pictures = [(Image.fromarray(draw(scene, rng)), plain_caption(scene)) for scene in scenes]
    return pack(pictures, folder, Shape(64, 16)).ref


def inputs_for(folder: Path, data: BlobRef, **changes: Any) -> TrainingInputs:
    """A run on gesso-tiny without a prior, as plain loops are, for benches of time and of errors."""
    fields: dict[str, Any] = {"rank": 8, "alpha": 8, "learning_rate_nano": 2_000_000, "text_learning_rate_nano": 0,
                              "batch": 8, "prior_milli": 0, **changes}  # fmt: skip
    return ordered(folder, data, SEED, **fields)


def ordered(folder: Path, data: BlobRef, seed: bytes, **changes: Any) -> TrainingInputs:
    """A run on gesso-tiny with the settings that one gets who says nothing."""
    spec = make_training("gesso-tiny@1", dataset=data, **changes)
    return TrainingInputs(spec, model.path(), folder, None, BASE, seed)


def run(engine: DiffusersEngine, inputs: TrainingInputs, folder: Path) -> Run:
    """The whole run, through the node's own loop."""
    trainer = engine.trainer(inputs)
    try:
        return train(trainer, inputs, folder, "0x" + "00" * 32, lambda _: None)
    finally:
        trainer.close()


def pipeline(engine: DiffusersEngine) -> Any:
    """The engine's loaded base."""
    engine.load(model.path())
    return engine._pipeline(model.path(), "fp32")


def concept_prompts(count: int, concept: str, seed: int) -> list[Prompt]:
    """Held-out scenes with the concept put in."""
    found = []
    for prompt in held_out_prompts(count, pairs=False, seed=seed):
        scene = with_concept(prompt.scene, concept)
        found.append(Prompt(scene, plain_caption(scene), prompt.seed))
    return found


def pictures(pipe: Any, prompts: Sequence[Prompt]) -> list[Picture]:
    """One picture a prompt, each from its own seed."""
    import torch

    made: list[Picture] = []
    for start in range(0, len(prompts), BATCH):
        part = prompts[start : start + BATCH]
        noises = [torch.Generator("cpu").manual_seed(one.seed) for one in part]
        found = pipe([one.text for one in part], num_inference_steps=20, guidance_scale=model.GUIDANCE,
                     generator=noises, output_type="np")  # fmt: skip
        made += list(np.rint(found.images * 255).astype(np.uint8))
    return made


def right(pipe: Any, prompts: Sequence[Prompt], part: str) -> float:
    """Per cent of the pictures that are right in this part of the verdict."""
    verdicts = [judge(one.scene, read(picture)) for one, picture in zip(prompts, pictures(pipe, prompts), strict=True)]
    return 100 * tally(verdicts)[part].value
