"""Every message between the node and an executor's child process: JSON, one a line, both directions.

The child is not trusted with more than its work: its lines are bounded before they are parsed, and whatever does not
parse ends the child.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gesso_protocol.errors import ExecutorCrashed

MAX_LINE_BYTES = 256 * 1024
"""Longest line in either direction; a preview is at most 12 KiB, a spec at most 64 KiB."""

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


class Failed(_Message):
    """Child to node: it did not work, and the child can still say why. `job` is None for a `Load`."""

    kind: Literal["failed"] = "failed"
    job: int | None
    reason: Literal["error", "out-of-memory", "unfit", "cancelled"]
    message: str = Field(max_length=4096)


ToChild = Annotated[Run | Load | Cancel, Field(discriminator="kind")]
FromChild = Annotated[Ready | Loaded | Stepped | Done | Failed, Field(discriminator="kind")]

_TO_CHILD: TypeAdapter[Run | Load | Cancel] = TypeAdapter(ToChild)
_FROM_CHILD: TypeAdapter[Ready | Loaded | Stepped | Done | Failed] = TypeAdapter(FromChild)


def encode(message: _Message) -> bytes:
    """One line, newline included."""
    return message.model_dump_json().encode() + b"\n"


def decode_to_child(line: bytes) -> Run | Load | Cancel:
    """Raises ExecutorCrashed for anything that is not a message of ours."""
    try:
        return _TO_CHILD.validate_json(line)
    except ValidationError as error:
        raise ExecutorCrashed(f"unreadable line from the node: {error.error_count()} problems") from error


def decode_from_child(line: bytes) -> Ready | Loaded | Stepped | Done | Failed:
    """Raises ExecutorCrashed for anything that is not a message of ours."""
    try:
        return _FROM_CHILD.validate_json(line)
    except ValidationError as error:
        raise ExecutorCrashed(f"unreadable line from the child: {error.error_count()} problems") from error
