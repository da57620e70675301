"""A data set as it travels: an index of captions and one file of pictures, already at the size they are trained at.

Nodes never parse pictures of strangers: `pictures.safetensors` holds raw RGB bytes, one uint8 tensor (height, width, 3)
a picture, named `0`, `1`, … in the order of the index. Both files stand in a `ModelManifest` of kind `dataset`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from gesso_protocol.encoding import Document
from gesso_protocol.fields import Prompt, Side, Text

INDEX_FILE = "index.json"
PICTURES_FILE = "pictures.safetensors"
MAX_PICTURES = 5_000
MAX_REPEATS = 1_000
MAX_DATASET_BYTES = 4 * 1024**3
MIN_SIDE_PX = 8
MAX_TRIGGER_CHARS = 64


class Sample(Document):
    """One picture: its words, how often an epoch shows it, and its size in pixels."""

    MAX_BYTES: ClassVar[int] = 16 * 1024

    caption: Prompt
    repeats: Annotated[int, Field(ge=1, le=MAX_REPEATS)] = 1
    width: Annotated[int, Field(ge=MIN_SIDE_PX, le=6144, multiple_of=8)]
    height: Annotated[int, Field(ge=MIN_SIDE_PX, le=6144, multiple_of=8)]

    @property
    def size_bytes(self) -> int:
        """Raw RGB bytes."""
        return self.width * self.height * 3


class DatasetIndex(Document):
    """Everything about a data set but its pixels."""

    MAX_BYTES: ClassVar[int] = 4 * 1024 * 1024

    format: Literal["gesso/dataset/1"] = "gesso/dataset/1"
    resolution: Side
    trigger: Annotated[Text, Field(max_length=MAX_TRIGGER_CHARS)] = ""
    samples: Annotated[tuple[Sample, ...], Field(min_length=1, max_length=MAX_PICTURES, strict=False)]

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        if sum(sample.size_bytes for sample in self.samples) > MAX_DATASET_BYTES:
            raise ValueError("the pictures are larger than 4 GiB")
        if any(sample.width * sample.height > self.resolution**2 for sample in self.samples):
            raise ValueError("a picture has more pixels than the resolution allows")
        return self

    @property
    def shown(self) -> int:
        """Pictures that one epoch shows, repeats counted."""
        return sum(sample.repeats for sample in self.samples)
