"""Every message between the node and an executor's child process: JSON, one a line, both directions.

The child is not trusted with more than its work: its lines are bounded before they are parsed, and whatever does not
parse ends the child.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gesso_node.executors.lora.messages import Revisit, RevisitDone, Train, TrainDone, TrainStep
from gesso_protocol.errors import ExecutorCrashed

MAX_LINE_BYTES = 256 * 1024
"""Longest line in either direction; a preview is at most 12 KiB, a spec at most 64 KiB."""
MAX_REPLAYED = 256
"""Steps, decodes or pictures that one replay may name."""
MAX_LATENT_BYTES = 64 * 1024 * 1024

_Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Profile = dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=256)]]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Run(_Message):
    """Node to child: do this job. `spec` is the canonical text; paths are absolute."""

    kind: Literal["run"] = "run"
    job: int
    spec: str
    model_dir: str | None
    out_dir: str
    manifest: _Hex32
    task: _Hex32
    loras: tuple[str, ...] = Field(default=(), max_length=5)


class ReplayPlace(_Message):
    image: int = Field(ge=0, le=64)
    step: int = Field(ge=0, le=10_000)


class Replay(_Message):
    """Node to child: compute these again. Latents lie one behind the other in `inputs.bin`: checks, then decodes.

    Answers are written into the same folder (see `replay_files.py`); tensors never travel in lines.
    """

    kind: Literal["replay"] = "replay"
    job: int
    spec: str
    model_dir: str | None
    folder: str
    manifest: _Hex32
    checks: tuple[ReplayPlace, ...] = Field(max_length=MAX_REPLAYED)
    decode: tuple[int, ...] = Field(max_length=MAX_REPLAYED)
    images: tuple[int, ...] = Field(max_length=MAX_REPLAYED)
    latent_bytes: int = Field(ge=0, le=MAX_LATENT_BYTES)
    embeddings: bool
    strict: bool
    loras: tuple[str, ...] = Field(default=(), max_length=5)


class Cancel(_Message):
    """Node to child: stop after the current step."""

    kind: Literal["cancel"] = "cancel"
    job: int


class Load(_Message):
    """Node to child: have this model ready, a job for it is likely."""

    kind: Literal["load"] = "load"
    model_dir: str


class Ready(_Message):
    """Child to node, first line: who I am."""

    kind: Literal["ready"] = "ready"
    engine: str = Field(max_length=32)


class Loaded(_Message):
    """Child to node: the model of the last `Load` is ready."""

    kind: Literal["loaded"] = "loaded"
    seconds: float = Field(ge=0)


class Stepped(_Message):
    """Child to node: one step done; `preview` is base64 of a small picture."""

    kind: Literal["stepped"] = "stepped"
    job: int
    image: int = Field(ge=0, le=64)
    index: int = Field(ge=1, le=10_000)
    total: int = Field(ge=1, le=10_000)
    preview: str | None = Field(default=None, max_length=64 * 1024)


class Picture(_Message):
    index: int = Field(ge=0, le=64)
    name: str = Field(pattern=r"^[a-z0-9-]{1,40}\.png$")
    sha256: _Hex32
    width: int = Field(ge=1, le=1 << 14)
    height: int = Field(ge=1, le=1 << 14)
    seed: int = Field(ge=0, le=2**53)


class Done(_Message):
    """Child to node: pictures and trace are in `out_dir`."""

    kind: Literal["done"] = "done"
    job: int
    pictures: tuple[Picture, ...] = Field(min_length=1, max_length=64)
    profile: _Profile = Field(max_length=32)
    seconds: float = Field(ge=0)
    load_seconds: float = Field(ge=0, default=0.0)


class ReplayDone(_Message):
    """Child to node: what was asked for is in the folder of the `Replay`."""

    kind: Literal["replay-done"] = "replay-done"
    job: int
    profile: _Profile = Field(max_length=32)
    seconds: float = Field(ge=0)


class Failed(_Message):
    """Child to node: it did not work, and the child can still say why. `job` is None for a `Load`."""

    kind: Literal["failed"] = "failed"
    job: int | None
    reason: Literal["error", "out-of-memory", "unfit", "input", "cancelled", "paused"]
    message: str = Field(max_length=4096)


ToChild: TypeAlias = Run | Replay | Train | Revisit | Load | Cancel
FromChild: TypeAlias = Ready | Loaded | Stepped | Done | ReplayDone | TrainStep | TrainDone | RevisitDone | Failed

_TO_CHILD: TypeAdapter[ToChild] = TypeAdapter(Annotated[ToChild, Field(discriminator="kind")])
_FROM_CHILD: TypeAdapter[FromChild] = TypeAdapter(Annotated[FromChild, Field(discriminator="kind")])


def encode(message: BaseModel) -> bytes:
    """One line, newline included."""
    return message.model_dump_json().encode() + b"\n"


def decode_to_child(line: bytes) -> ToChild:
    """Raises ExecutorCrashed for anything that is not a message of ours."""
    try:
        return _TO_CHILD.validate_json(line)
    except ValidationError as error:
        raise ExecutorCrashed(f"unreadable line from the node: {error.error_count()} problems") from error


def decode_from_child(line: bytes) -> FromChild:
    """Raises ExecutorCrashed for anything that is not a message of ours."""
    try:
        return _FROM_CHILD.validate_json(line)
    except ValidationError as error:
        raise ExecutorCrashed(f"unreadable line from the child: {error.error_count()} problems") from error
