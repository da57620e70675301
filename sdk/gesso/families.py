"""What a model family draws best with, used where the caller leaves a choice open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gesso_protocol.fields import MAX_SIDE_PX


@dataclass(frozen=True, slots=True)
class Family:
    """`side_px` is the side of its square pictures in pixels; `guidance` the scale at which prompts are obeyed best."""

    side_px: int
    guidance: float


_FAMILIES = {
    "gesso-tiny": Family(64, 3.0),
    "sd-1": Family(512, 7.5),
    "sd-2": Family(768, 7.5),
    "sdxl": Family(1024, 6.0),
}
_UNKNOWN = Family(512, 7.5)
_MOST_STAGES = 6


def family_of(
    model: str, base_family: str = "", unet: Mapping[str, Any] | None = None, vae: Mapping[str, Any] | None = None
) -> Family:
    """The family that a model's name begins with, publisher aside; else its manifest's; else one by its size.

    `unet` and `vae` are its configurations. What nobody knows is drawn as a cautious middle.
    """
    for text in (model.rpartition("/")[2], base_family):
        for name, family in _FAMILIES.items():
            if text.startswith(name):
                return family
    side, stages = (unet or {}).get("sample_size"), (vae or {}).get("block_out_channels")
    if type(side) is int and isinstance(stages, list) and 1 <= len(stages) <= _MOST_STAGES:
        side_px = side * 2 ** (len(stages) - 1)  # the autoencoder halves between its stages
        if 64 <= side_px <= MAX_SIDE_PX and side_px % 8 == 0:
            return Family(side_px, _UNKNOWN.guidance)
    return _UNKNOWN


def is_known(text: str) -> bool:
    """Whether a name or a manifest's `base_family` tells the family by itself."""
    return any(text.rpartition("/")[2].startswith(name) for name in _FAMILIES)
