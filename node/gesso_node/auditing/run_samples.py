"""How far a training's sample picture is from the one that an audit drew itself. The file is a stranger's. Blocking."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gesso import png
from gesso_node.auditing.inspect import CannotRunError
from gesso_protocol.errors import GessoError
from gesso_protocol.training.samples import sample_error


def apart(theirs: bytes, ours: Path, side: int) -> float:
    """In levels; infinite when it is no picture of that side. Raises CannotRunError for our own disk's failure."""
    try:
        own = _pixels(ours.read_bytes(), side)
    except (OSError, ValueError) as error:
        raise CannotRunError(f"our own sample: {error}", hopeless=False) from error
    try:
        return sample_error(_pixels(theirs, side), own)
    except (OSError, ValueError, SyntaxError, EOFError, zlib.error, Image.DecompressionBombError, GessoError):
        return float("inf")


def _pixels(data: bytes, side: int) -> NDArray[np.uint8]:
    if png.dimensions(data) != (side, side):
        raise ValueError("a sample is a square of the resolution")
    with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
        return np.asarray(picture.convert("RGB"))
