"""A data set, a run and a fake trainer for the tests of training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gesso.datasets import pack
from gesso.datasets.pictures import Shape
from gesso_node.executors.lora.port import TrainingInputs, TrainingJob
from gesso_protocol.ids import Address, BlobRef, TaskId
from gesso_protocol.trace import Binding
from gesso_protocol.training.presets import make_training

COLOURS = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30), (30, 200, 200)]
SEED = bytes(range(32))
BINDING = Binding(1, Address("0x" + "11" * 20), TaskId(bytes(32)), Address("0x" + "22" * 20), bytes(32))


def dataset(folder: Path) -> BlobRef:
    """Five flat pictures with captions."""
    pictures = [(Image.new("RGB", (64, 64), colour), f"picture {at} of zbx") for at, colour in enumerate(COLOURS)]
    return pack(pictures, folder, Shape(64, 16)).ref


@pytest.fixture
def inputs(tmp_path: Path) -> Callable[..., TrainingInputs]:
    ref = dataset(tmp_path / "dataset")

    def make(
        seed: bytes = SEED, start_dir: Path | None = None, state: Path | None = None, **fields: Any
    ) -> TrainingInputs:
        small = {"steps": 13, "checkpoint_every": 5, "batch": 2, "rank": 4, "alpha": 4, **fields}
        spec = make_training("gesso-tiny@1", dataset=ref, **small)
        return TrainingInputs(spec, None, tmp_path / "dataset", start_dir, BlobRef(bytes(32)), seed, state)

    return make


@pytest.fixture
def job(inputs: Callable[..., TrainingInputs], tmp_path: Path) -> Callable[..., TrainingJob]:
    def make(folder: str = "out", deadline_s: float = 60, **fields: Any) -> TrainingJob:
        return TrainingJob(inputs(**fields), tmp_path / folder, deadline_s, BINDING)

    return make
