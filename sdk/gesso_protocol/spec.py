"""What a requester asks for. The canonical bytes of a spec are a blob; its hash goes into the terms on chain."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, ValidationError

from gesso_protocol.encoding import MAX_SAFE_INT, Document, Json, explain
from gesso_protocol.errors import SpecInvalid
from gesso_protocol.ids import BlobRef

MAX_SPEC_BYTES = 64 * 1024
MAX_PROMPT_CHARS = 2000
MAX_STEPS = 200
MAX_COUNT = 16
MAX_SIDE_PX = 2048
MAX_SEED = MAX_SAFE_INT

Scheduler: TypeAlias = Literal["ddim", "euler", "euler_a", "dpmpp_2m"]
Dtype: TypeAlias = Literal["fp32", "fp16", "bf16"]


class TaskKind(enum.IntEnum):
    """The number that stands for a spec's kind in the terms on chain (uint8). 0 is never used."""

    TEXT_TO_IMAGE = 1


def _in_thousandths(value: float) -> float:
    milli = round(value * 1000)
    if abs(milli / 1000 - value) > 1e-9:
        raise ValueError("guidance has at most three decimals")
    return milli / 1000


def _plain_text(value: str) -> str:
    if any((ord(c) < 32 and c not in "\n\t") or 0xD800 <= ord(c) <= 0xDFFF for c in value):
        raise ValueError("text holds no control characters except line break and tab")
    return value


Text = Annotated[str, AfterValidator(_plain_text)]
Side = Annotated[int, Field(ge=64, le=MAX_SIDE_PX, multiple_of=8)]
ModelRef = Annotated[str, Field(max_length=128, pattern=r"^[a-z0-9][a-z0-9._-]{0,63}(@[1-9][0-9]{0,8})?$")]


class TextToImage(Document):
    """Draw `count` pictures from a prompt. Everything that could change a pixel is in here or in the model."""

    MAX_BYTES: ClassVar[int] = MAX_SPEC_BYTES
    INVALID = SpecInvalid

    format: Literal["gesso/spec/1"] = "gesso/spec/1"
    kind: Literal["text_to_image"] = "text_to_image"
    prompt: Annotated[Text, Field(max_length=MAX_PROMPT_CHARS)]
    negative_prompt: Annotated[Text, Field(max_length=MAX_PROMPT_CHARS)] = ""
    model: ModelRef
    model_manifest: BlobRef | None = None
    width: Side = 512
    height: Side = 512
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] = 25
    guidance: Annotated[float, Field(ge=0, le=30, allow_inf_nan=False), AfterValidator(_in_thousandths)] = 7.5
    scheduler: Scheduler = "ddim"
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    count: Annotated[int, Field(ge=1, le=MAX_COUNT)] = 1
    dtype: Dtype = "fp32"

    @property
    def guidance_milli(self) -> int:
        """Guidance in thousandths, as the canonical form holds it."""
        return round(self.guidance * 1000)

    @property
    def task_kind(self) -> TaskKind:
        """The number for the terms on chain."""
        return TaskKind.TEXT_TO_IMAGE

    def image_seed(self, index: int) -> int:
        """Seed of picture `index`: the spec's seed plus the index, wrapping at 2^53."""
        return (self.seed + index) % (MAX_SEED + 1)

    @property
    def pixel_steps(self) -> int:
        """Work of the whole task: pixels x steps x pictures."""
        return self.width * self.height * self.steps * self.count

    def _to_json(self) -> Json:
        fields: dict[str, Json] = self.model_dump(mode="json")
        del fields["guidance"]
        fields["guidance_milli"] = self.guidance_milli
        return fields

    @classmethod
    def _from_json(cls, value: Json) -> Self:
        if not isinstance(value, dict) or "guidance" in value:
            raise SpecInvalid("a spec is an object and holds guidance_milli, not guidance")
        fields: dict[str, Any] = dict(value)
        milli = fields.pop("guidance_milli", None)
        if not isinstance(milli, int) or isinstance(milli, bool):
            raise SpecInvalid("guidance_milli: a whole number of thousandths is needed")
        return cls.model_validate({**fields, "guidance": milli / 1000})


# One kind so far; a second one turns this into a union discriminated by `kind`.
Spec: TypeAlias = TextToImage


def spec_bytes(spec: Spec) -> bytes:
    """Canonical bytes of a spec: what is stored as a blob and hashed."""
    return spec.encode()


def spec_ref(spec: Spec) -> BlobRef:
    """BLAKE3 of the canonical bytes: what the terms on chain name."""
    return BlobRef.of(spec_bytes(spec))


def parse_spec(data: bytes) -> Spec:
    """Read a spec from anyone. At most 64 KiB; raises `SpecInvalid` for anything that is not exactly canonical."""
    return TextToImage.decode(data)


def make_spec(fields: Mapping[str, Any]) -> Spec:
    """A spec from named values as a person or a form gives them; raises `SpecInvalid` with a readable sentence."""
    try:
        return TextToImage(**fields)
    except ValidationError as error:
        raise SpecInvalid(explain(error)) from None
