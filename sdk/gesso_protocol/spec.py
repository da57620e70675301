"""What a requester asks for. The canonical bytes of a spec are a blob; its hash goes into the terms on chain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, ValidationError

from gesso_protocol.encoding import Document, Json, explain, parse
from gesso_protocol.errors import EncodingInvalid, SpecInvalid
from gesso_protocol.fields import (
    MAX_PROMPT_CHARS,
    MAX_SEED,
    MAX_SIDE_PX,
    MAX_SPEC_BYTES,
    Adapter,
    Dtype,
    ModelRef,
    Prompt,
    Scheduler,
    Seed,
    Side,
    TaskKind,
    Text,
    UsedAdapter,
    UsedAdapters,
)
from gesso_protocol.ids import BlobRef
from gesso_protocol.training.spec import TrainLora

__all__ = [
    "MAX_COUNT",
    "MAX_PROMPT_CHARS",
    "MAX_SEED",
    "MAX_SIDE_PX",
    "MAX_SPEC_BYTES",
    "MAX_STEPS",
    "Adapter",
    "Dtype",
    "ModelRef",
    "Scheduler",
    "Spec",
    "TaskKind",
    "Text",
    "TextToImage",
    "TrainLora",
    "UsedAdapter",
    "make_spec",
    "parse_any_spec",
    "parse_spec",
    "spec_bytes",
    "spec_ref",
]

MAX_STEPS = 200
MAX_COUNT = 16


def _in_thousandths(value: float) -> float:
    milli = round(value * 1000)
    if abs(milli / 1000 - value) > 1e-9:
        raise ValueError("guidance has at most three decimals")
    return milli / 1000


class TextToImage(Document):
    """Draw `count` pictures from a prompt. Everything that could change a pixel is in here or in the model."""

    MAX_BYTES: ClassVar[int] = MAX_SPEC_BYTES
    INVALID = SpecInvalid

    format: Literal["gesso/spec/1"] = "gesso/spec/1"
    kind: Literal["text_to_image"] = "text_to_image"
    prompt: Prompt
    negative_prompt: Prompt = ""
    model: ModelRef
    model_manifest: BlobRef | None = None
    width: Side = 512
    height: Side = 512
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] = 25
    guidance: Annotated[float, Field(ge=0, le=30, allow_inf_nan=False), AfterValidator(_in_thousandths)] = 7.5
    scheduler: Scheduler = "ddim"
    seed: Seed = 0
    count: Annotated[int, Field(ge=1, le=MAX_COUNT)] = 1
    dtype: Dtype = "fp32"
    loras: UsedAdapters = ()

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


Spec: TypeAlias = TextToImage | TrainLora
"""Any task, told apart by `kind`."""

_KINDS: dict[object, type[TextToImage] | type[TrainLora]] = {"text_to_image": TextToImage, "train_lora": TrainLora}


def spec_bytes(spec: Spec) -> bytes:
    """Canonical bytes of a spec: what is stored as a blob and hashed."""
    return spec.encode()


def spec_ref(spec: Spec) -> BlobRef:
    """BLAKE3 of the canonical bytes: what the terms on chain name."""
    return BlobRef.of(spec_bytes(spec))


def parse_any_spec(data: bytes) -> Spec:
    """Read a spec of any kind from anyone. At most 64 KiB; raises `SpecInvalid` for anything not exactly canonical."""
    try:
        value = parse(data, max_bytes=MAX_SPEC_BYTES)
    except EncodingInvalid as error:
        raise SpecInvalid(error.message) from None
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in _KINDS:
        raise SpecInvalid("kind: this is not a kind of task")
    return _KINDS[kind].decode(data)


def parse_spec(data: bytes) -> TextToImage:
    """Read a picture task from anyone. At most 64 KiB; raises `SpecInvalid` for anything that is not exactly one."""
    return TextToImage.decode(data)


def make_spec(fields: Mapping[str, Any]) -> TextToImage:
    """A spec from named values as a person or a form gives them; raises `SpecInvalid` with a readable sentence."""
    try:
        return TextToImage(**fields)
    except ValidationError as error:
        raise SpecInvalid(explain(error)) from None
