"""One picture from anyone: opened within limits, turned the right way, made plain RGB, scaled to its bucket."""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gesso.datasets.report import Report
from gesso_protocol.errors import UsageError
from gesso_protocol.training.buckets import bucket_of

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

MAX_PIXELS = 64 * 1024 * 1024
MAX_SIDE_PX = 32_768
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "MPO")


@dataclass(frozen=True, slots=True)
class Shape:
    """How pictures are brought to size; see `gesso_protocol.training.buckets`. All in pixels."""

    resolution: int
    step: int
    buckets: bool = True


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture at its bucket's size. `pixels` is raw RGB, row by row; `digest` the SHA-256 of the whole picture's."""

    width: int
    height: int
    pixels: bytes
    digest: bytes


def prepare(name: str, data: bytes | PilImage, shape: Shape, report: Report) -> Prepared:
    """Raises UsageError with a sentence when the picture cannot be used; corrections are noted in the report."""
    picture = _upright(name, _open(data) if isinstance(data, bytes) else data, report)
    picture = _plain(name, picture, report)
    width, height = bucket_of(picture.width, picture.height, shape.resolution, shape.step, buckets=shape.buckets)
    if picture.width < width or picture.height < height:
        report.note("advice", "small", name, f"{picture.width}x{picture.height} is enlarged to {width}x{height}")
    digest = hashlib.sha256(f"{picture.width}x{picture.height}".encode() + picture.tobytes()).digest()
    return Prepared(width, height, _fit(picture, width, height).tobytes(), digest)


def _open(data: bytes) -> PilImage:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # Pillow warns of large pictures; the limit below is ours and refuses them
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
            _check_size(*picture.size)
            picture.load()
    except UsageError:
        raise
    except Image.DecompressionBombError as error:
        raise UsageError(f"it has more than {MAX_PIXELS // 2**20} million pixels") from error
    except Exception as error:  # decoders raise whatever they like on broken data
        raise UsageError("it is damaged or not a picture") from error
    return picture


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE_PX:
        raise UsageError(f"it claims {width}x{height} pixels; at most {MAX_PIXELS // 2**20} million are allowed")
    if min(width, height) < 8:
        raise UsageError(f"it is only {width}x{height} pixels large")


def _upright(name: str, picture: PilImage, report: Report) -> PilImage:
    from PIL import ImageOps

    _check_size(*picture.size)
    if getattr(picture, "n_frames", 1) > 1:
        report.note("changed", "animated", name, "only the first frame is used")
        picture.seek(0)
    try:
        turned = ImageOps.exif_transpose(picture)
    except Exception:  # broken EXIF is no reason to lose a picture
        report.note("changed", "bad-exif", name, "its orientation cannot be read and is ignored")
        return picture
    if turned.size != picture.size or picture.getexif().get(0x0112, 1) not in (0, 1):
        report.note("changed", "rotated", name, "turned upright as its EXIF data says")
    return turned


def _plain(name: str, picture: PilImage, report: Report) -> PilImage:
    from PIL import Image

    mode = picture.mode
    try:
        if mode in ("RGBA", "LA", "PA", "RGBa", "La") or (mode == "P" and "transparency" in picture.info):
            report.note("changed", "transparent", name, "laid on white")
            layer = picture.convert("RGBA")
            ground = Image.new("RGBA", layer.size, (255, 255, 255, 255))
            return Image.alpha_composite(ground, layer).convert("RGB")
        if mode.startswith("I") or mode == "F":
            report.note("changed", "deep", name, f"mode {mode} is reduced to 8 bits a channel")
            wide = picture.convert("I")
            return wide.point(lambda value: value / 256).convert("L").convert("RGB")
        if mode == "CMYK":
            report.note("changed", "cmyk", name, "converted from print colours to RGB")
        return picture.convert("RGB")
    except (OSError, ValueError, MemoryError) as error:
        raise UsageError(f"its mode {mode} cannot be converted to RGB") from error


def _fit(picture: PilImage, width: int, height: int) -> PilImage:
    """Scaled to cover the bucket, cropped in the middle."""
    from PIL import Image

    if picture.size == (width, height):
        return picture
    # whole numbers: the larger of the two scales covers both sides
    if picture.width * height >= picture.height * width:
        scaled = (max(width, round(picture.width * height / picture.height)), height)
    else:
        scaled = (width, max(height, round(picture.height * width / picture.width)))
    resized = picture.resize(scaled, Image.Resampling.LANCZOS)
    left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
    return resized.crop((left, top, left + width, top + height))
