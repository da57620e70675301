"""Field types that specs share: bounded text, sides, names of models, numbers held in whole thousandths."""

from __future__ import annotations

import enum
from typing import Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from gesso_protocol.encoding import MAX_SAFE_INT, Document
from gesso_protocol.ids import BlobRef

MAX_SPEC_BYTES = 64 * 1024
MAX_PROMPT_CHARS = 2000
MAX_SIDE_PX = 2048
MAX_SEED = MAX_SAFE_INT
MAX_LORAS = 5
MAX_STRENGTH_MILLI = 5000

Scheduler: TypeAlias = Literal["ddim", "euler", "euler_a", "dpmpp_2m"]
Dtype: TypeAlias = Literal["fp32", "fp16", "bf16"]
KindName: TypeAlias = Literal["text_to_image", "train_lora"]


class TaskKind(enum.IntEnum):
    """The number that stands for a spec's kind in the terms on chain (uint8). 0 is never used."""

    TEXT_TO_IMAGE = 1
    TRAIN_LORA = 2


def plain_text(value: str) -> str:
    """Text without control characters other than line break and tab; raises ValueError."""
    if any((ord(c) < 32 and c not in "\n\t") or 0xD800 <= ord(c) <= 0xDFFF for c in value):
        raise ValueError("text holds no control characters except line break and tab")
    return value


Text = Annotated[str, AfterValidator(plain_text)]
Prompt = Annotated[Text, Field(max_length=MAX_PROMPT_CHARS)]
Side = Annotated[int, Field(ge=64, le=MAX_SIDE_PX, multiple_of=8)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]

MAX_NAME_CHARS = 64
MAX_TRAINING_STEPS = 20_000
MODEL_NAME = r"[a-z0-9][a-z0-9._-]*(?:/[a-z0-9][a-z0-9._-]*)?"
"""`zbx`, or `alice/zbx` under a publisher. No part begins with a dot or is empty, so a name is no path upwards."""
MODEL_VERSION = r"[1-9][0-9]{0,8}"


def short_name(value: str) -> str:
    """Raises ValueError when the name before an `@` is longer than the marketplace takes."""
    if len(value.partition("@")[0]) > MAX_NAME_CHARS:
        raise ValueError(f"a model's name has at most {MAX_NAME_CHARS} characters")
    return value


ModelName = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS, pattern=rf"^{MODEL_NAME}$")]
ModelRef = Annotated[
    str, Field(max_length=128, pattern=rf"^{MODEL_NAME}(@{MODEL_VERSION})?$"), AfterValidator(short_name)
]
AdapterLabel = Annotated[
    str, Field(max_length=128, pattern=rf"^({MODEL_NAME}@{MODEL_VERSION})?$"), AfterValidator(short_name)
]


class Adapter(Document):
    """A LoRA by the hash of its manifest. `ref` is its label on the marketplace; empty for one that is not listed."""

    MAX_BYTES: ClassVar[int] = 512

    ref: AdapterLabel = ""
    manifest: BlobRef


class UsedAdapter(Adapter):
    """A LoRA in a picture task. `strength_milli` thousandths: 1000 is full strength, negative turns it round."""

    strength_milli: Annotated[int, Field(ge=-MAX_STRENGTH_MILLI, le=MAX_STRENGTH_MILLI)] = 1000

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.strength_milli == 0:
            raise ValueError("an adapter of strength 0 does nothing; leave it out")
        return self

    @property
    def strength(self) -> float:
        """The factor on the adapter's contribution."""
        return self.strength_milli / 1000


def adapters_differ(adapters: tuple[UsedAdapter, ...]) -> tuple[UsedAdapter, ...]:
    """Raises ValueError when one adapter is named twice: their strengths would add up unseen."""
    if len({adapter.manifest for adapter in adapters}) != len(adapters):
        raise ValueError("an adapter is named twice; give it one strength")
    return adapters


UsedAdapters = Annotated[
    tuple[UsedAdapter, ...], Field(max_length=MAX_LORAS, strict=False), AfterValidator(adapters_differ)
]
