"""gesso-tiny: the base model that ships with gesso, and an early snapshot of it that cheats use.

``path()`` is a standard ``StableDiffusionPipeline`` folder; nothing of gesso is needed to load it. The card
beside this file (``README.md``) says what it was trained on, how it scores and what it cannot do.
"""

from __future__ import annotations

from pathlib import Path

NAME = "gesso-tiny"
VERSION = 1
# The guidance scale at which the card's scores were taken.
GUIDANCE = 3.0
STEPS = 25


def path() -> Path:
    """The pipeline folder."""
    return Path(__file__).parent / NAME


def early_unet_path() -> Path:
    """The UNet of an earlier training step, fp16 safetensors: same shapes, other numbers, worse pictures."""
    return Path(__file__).parent / "early_unet.safetensors"


def calibration_path() -> Path:
    """Calibration vectors of this model: inputs of single steps and what strict fp32 gives for them."""
    return Path(__file__).parent / "calibration.npz"
