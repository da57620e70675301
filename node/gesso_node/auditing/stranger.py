"""Reading a picture that somebody hands over in order to be judged by it: whatever its file holds is an answer."""

from __future__ import annotations

import io
import warnings

from PIL import Image

from gesso import png
from gesso_protocol.errors import GessoError


def pixels_of(data: bytes, width: int, height: int) -> bytes | None:
    """The pixels of a PNG as RGB, row by row; None when it is no PNG of this size, seen before any are read."""
    try:
        if png.dimensions(data) != (width, height):
            return None
    except GessoError:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
                return picture.convert("RGB").tobytes()
        except Exception:  # decoders raise whatever they like; it is the picture that is wrong
            return None
