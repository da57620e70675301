"""What a model family draws best with, used where the caller leaves a choice open."""

from __future__ import annotations

from dataclasses import dataclass


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


def family_of(model: str) -> Family:
    """The family that a model's name begins with; a cautious middle for names that nobody knows."""
    return next((family for name, family in _FAMILIES.items() if model.startswith(name)), _UNKNOWN)
