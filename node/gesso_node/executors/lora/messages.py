"""What node and child say to each other about training. Paths are absolute; the spec is its canonical text."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from gesso_protocol.fields import MAX_TRAINING_STEPS

_Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Profile = dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=256)]]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Inputs(_Message):
    job: int
    spec: str
    model_dir: str | None
    dataset_dir: str
    start_dir: str | None
    resume_file: str | None = None
    manifest: _Hex32
    seed: _Hex32
    out_dir: str


class Train(_Inputs):
    """Node to child: train, or go on where `out_dir` ends."""

    kind: Literal["train"] = "train"
    task: _Hex32


class Stretch(_Message):
    """One segment to run again, from the checkpoint file `state`."""

    state: str
    number: int = Field(ge=0)
    first: int = Field(ge=0, le=MAX_TRAINING_STEPS)
    last: int = Field(ge=1, le=MAX_TRAINING_STEPS)


class Revisit(_Inputs):
    """Node to child: parts of a run again. `weigh` is a checkpoint file."""

    kind: Literal["revisit"] = "revisit"
    begin: bool
    segments: tuple[Stretch, ...] = Field(max_length=16)
    weigh: str | None
    draws: tuple[int, ...] = Field(max_length=64)
    sample: int | None = Field(default=None, ge=0, le=15)
    strict: bool


class TrainStep(_Message):
    """Child to node: an update is done. A sample picture is named, as it may be larger than a line."""

    kind: Literal["train-step"] = "train-step"
    job: int
    index: int = Field(ge=1, le=MAX_TRAINING_STEPS)
    total: int = Field(ge=1, le=MAX_TRAINING_STEPS)
    loss: float
    checkpoint: bool = False
    prompt: int = Field(default=0, ge=0, le=16)
    sample: str | None = Field(default=None, max_length=192 * 1024)


class TrainedPicture(_Message):
    """A last sample in `out_dir`."""

    index: int = Field(ge=0, le=16)
    name: str = Field(pattern=r"^image-[0-9]{1,2}\.png$")
    sha256: _Hex32
    width: int = Field(ge=1, le=1 << 14)
    height: int = Field(ge=1, le=1 << 14)
    seed: int = Field(ge=0, le=2**53)


class TrainDone(_Message):
    """Child to node: adapter, checkpoints, losses and samples are in `out_dir`."""

    kind: Literal["trained"] = "trained"
    job: int
    pictures: tuple[TrainedPicture, ...] = Field(min_length=1, max_length=16)
    steps_done: int = Field(ge=0, le=MAX_TRAINING_STEPS)
    stopped: str = Field(max_length=300)
    profile: _Profile = Field(max_length=32)
    seconds: float = Field(ge=0)
    load_seconds: float = Field(ge=0)


class Restretched(_Message):
    """How a segment went: `whole` when its end state is in `out_dir`; losses that are numbers, one an update."""

    whole: bool
    losses: tuple[float, ...] = Field(max_length=1000)


class RevisitDone(_Message):
    """Child to node: checkpoint files and a sample that was wanted are in `out_dir`. `base` and `trained` are None when
    one of them is no number."""

    kind: Literal["revisited"] = "revisited"
    job: int
    segments: tuple[Restretched, ...] = Field(max_length=16)
    base: float | None = None
    trained: float | None = None
    profile: _Profile = Field(max_length=32)
    seconds: float = Field(ge=0)
