"""How far a training's sample picture is from the one that an audit drew itself. Blocking."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gesso_node.auditing.inspect import CannotRunError
from gesso_node.auditing.stranger import pixels_of
from gesso_protocol.training.samples import sample_error


def apart(theirs: bytes, ours: Path, side: int) -> float:
    """In levels; infinite when it is no picture of that side. Raises CannotRunError for our own disk's failure."""
    try:
        own = pixels_of(ours.read_bytes(), side, side)
    except OSError as error:
        raise CannotRunError(f"our own sample: {error}", hopeless=False) from error
    if own is None:
        raise CannotRunError("our own sample is no picture", hopeless=False)
    told = pixels_of(theirs, side, side)
    if told is None:
        return float("inf")
    return sample_error(np.frombuffer(told, np.uint8), np.frombuffer(own, np.uint8))
