"""One loaded pipeline for all tests of the base model: loading costs fifteen times as much as an image."""

from __future__ import annotations

import os
from typing import Any

import pytest

from gesso_devnet import model


@pytest.fixture(scope="session")
def pipe() -> Any:
    """The shipped folder in fp32, loaded the way a stranger would, with the hub switched off."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    diffusers = pytest.importorskip("diffusers", reason="the base model needs the extra 'gpu'")
    loaded = diffusers.StableDiffusionPipeline.from_pretrained(
        model.path(), local_files_only=True, use_safetensors=True
    )
    loaded.set_progress_bar_config(disable=True)
    return loaded
