"""Calibration: how far this machine's arithmetic lies from the reference, on inputs that are the same for everybody.

A set of vectors (latent before a step, the spec that says how to condition it, and what strict fp32 gives) is named by
the hash of its bytes. Running it gives quantiles of the honest error; from these follow the limits of a profile.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gesso_node.executors.port import Executor, ReplayCheck, Replayed, ReplayJob
from gesso_protocol.audit.compare import Branches, rgb_error, step_errors
from gesso_protocol.audit.limits import BILLION, Limit
from gesso_protocol.encoding import explain
from gesso_protocol.errors import EncodingInvalid, ExecutorCrashed, GessoError
from gesso_protocol.ids import BlobRef
from gesso_protocol.spec import Dtype, TextToImage, parse_spec, spec_bytes

MAX_SET_BYTES = 256 * 1024 * 1024
MAX_VECTORS = 4096
MAX_PUBLISHED_BYTES = 16 * 1024
MULTIPLES: dict[str, tuple[float, float, float]] = {"fp32": (3, 10, 6), "fp16": (3, 10, 6), "bf16": (1.5, 4.5, 4.5)}
"""Of the 99.9th percentile of honest errors: for the score, for evidence a branch, for the guided sum. Ten times the
rounding of bf16 is what a wrong model differs by; closer limits still find some of those, and prove nothing."""
APART = 3
"""How far the least error of a cheat has to lie above a limit, so that it is told from honest work."""
MOST_GUIDANCE = 30
"""The highest that a spec may order: it multiplies what rounding does to two branches in opposite directions."""
FLOORS: dict[str, tuple[float, int]] = {"fp32": (1e-4, 2), "fp16": (1e-2, 4), "bf16": (5e-2, 8)}
"""Least hard limit of a branch, and least grey levels, a dtype: a few honest machines are not all honest machines."""
_F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Vector:
    """One step to compute. Tensors are flat; `uncond` is None without guidance."""

    spec: TextToImage
    step: int
    latent: _F32
    cond: _F32
    uncond: _F32 | None

    @property
    def reference(self) -> Branches:
        return Branches(self.cond, self.uncond)


@dataclass(frozen=True, slots=True)
class Picture:
    """One last latent and the pixels it decodes to."""

    spec: TextToImage
    latent: _F32
    rgb: bytes


@dataclass(frozen=True, slots=True)
class VectorSet:
    """Vectors and pictures, all of one model; `ref` names the very bytes."""

    vectors: tuple[Vector, ...]
    pictures: tuple[Picture, ...]
    ref: BlobRef

    @classmethod
    def encode(cls, vectors: Sequence[Vector], pictures: Sequence[Picture]) -> bytes:
        """The bytes of a set: an npz archive without pickles. Latents are kept as fp16 and must be exact in it."""
        every: list[Vector | Picture] = [*vectors, *pictures]
        specs = [spec_bytes(one.spec).decode() for one in every]
        arrays: dict[str, Any] = {
            "specs": np.frombuffer(json.dumps(specs).encode(), np.uint8),
            "steps": np.array([vector.step for vector in vectors], np.int32),
            "latents": np.stack([one.latent for one in every]).astype(np.float16),
            "cond": np.stack([vector.cond for vector in vectors]),
            "uncond": np.stack([vector.cond if vector.uncond is None else vector.uncond for vector in vectors]),
            "rgb": np.stack([np.frombuffer(picture.rgb, np.uint8) for picture in pictures]),
        }
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a set from anyone. Raises EncodingInvalid for whatever is not one."""
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                if sum(item.file_size for item in archive.infolist()) > MAX_SET_BYTES:
                    raise EncodingInvalid("a set of vectors has at most 256 MiB")
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return cls._from_arrays({name: arrays[name] for name in arrays.files}, BlobRef.of(data))
        except GessoError:
            raise
        except Exception as error:
            raise EncodingInvalid(f"this is not a set of calibration vectors: {type(error).__name__}") from error

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a file. Raises EncodingInvalid, OSError."""
        if path.stat().st_size > MAX_SET_BYTES:
            raise EncodingInvalid("a set of vectors has at most 256 MiB")
        return cls.decode(path.read_bytes())

    @classmethod
    def _from_arrays(cls, arrays: dict[str, Any], ref: BlobRef) -> Self:
        specs = [parse_spec(text.encode()) for text in json.loads(arrays["specs"].tobytes())]
        steps, rgb = arrays["steps"], arrays["rgb"]
        latents = arrays["latents"].astype("<f4")
        count = len(steps)
        if not 1 <= count <= MAX_VECTORS or len(specs) != count + len(rgb) or len(latents) != len(specs):
            raise EncodingInvalid("the arrays of a set of vectors do not fit each other")
        vectors = []
        for at, step in enumerate(int(step) for step in steps):
            uncond = arrays["uncond"][at] if specs[at].guidance > 1 else None
            if not 0 <= step < specs[at].steps:
                raise EncodingInvalid("a vector is of a step that its spec does not have")
            vectors.append(Vector(specs[at], step, latents[at], arrays["cond"][at], uncond))
        pictures = tuple(Picture(specs[count + at], latents[count + at], rgb[at].tobytes()) for at in range(len(rgb)))
        return cls(tuple(vectors), pictures, ref)


class Quantiles(BaseModel):
    """Of a relative error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    p50: float = Field(ge=0, allow_inf_nan=False)
    p99: float = Field(ge=0, allow_inf_nan=False)
    p999: float = Field(ge=0, allow_inf_nan=False)
    worst: float = Field(ge=0, allow_inf_nan=False)

    @classmethod
    def of(cls, errors: Sequence[float]) -> Self:
        p50, p99, p999 = (float(value) for value in np.quantile(np.asarray(errors, np.float64), (0.5, 0.99, 0.999)))
        return cls(p50=p50, p99=p99, p999=p999, worst=float(max(errors)))


class Calibration(BaseModel):
    """What one machine measured, as it is published."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: Annotated[str, Field(pattern=r"^(fp32|fp16|bf16)/[a-z0-9][a-z0-9._-]{0,47}$")]
    vectors: Annotated[str, Field(pattern=r"^b3:[0-9a-f]{64}$|^[0-9a-f]{64}$")]
    samples: int = Field(ge=1)
    branch: Quantiles
    guided: Quantiles
    rgb_levels: int = Field(ge=0, le=255)
    seconds_a_step: float = Field(ge=0)
    machine: dict[str, str]

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read what somebody published. Raises EncodingInvalid for whatever is no calibration."""
        if len(data) > MAX_PUBLISHED_BYTES:
            raise EncodingInvalid(f"a calibration has at most {MAX_PUBLISHED_BYTES} bytes")
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise EncodingInvalid(f"this is no calibration: {explain(error)}") from None

    def encode(self) -> bytes:
        """As it is published: a blob of JSON, which whoever keeps the table of limits collects and looks at."""
        return self.model_dump_json(indent=1).encode()

    def within(self, limit: Limit) -> float:
        """The largest own error in units of a limit: below 1 this machine is safe to be audited."""
        return max(self.branch.worst / limit.tau_hard, self.guided.worst / limit.guided)


async def calibrate(
    executor: Executor,
    model_dir: Path | None,
    manifest: BlobRef,
    vectors: VectorSet,
    *,
    dtype: Dtype = "fp32",
    on_progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Run every vector in `dtype` and compare with the set's strict fp32. Raises ExecutorCrashed when a run fails."""
    errors, levels, seconds = [], [0], []
    replayed: Replayed | None = None
    total = len(vectors.vectors) + len(vectors.pictures)
    for done, vector in enumerate(vectors.vectors):
        check = ReplayCheck(0, vector.step, vector.latent.tobytes())
        replayed = await _replay(executor, _job(vector.spec, dtype, model_dir, manifest, (check,)))
        cond, uncond = (None if raw is None else np.frombuffer(raw, "<f4") for raw in replayed.outputs[0, vector.step])
        assert cond is not None
        errors.append(step_errors(0, vector.step, vector.reference, Branches(cond, uncond), vector.spec.guidance))
        seconds.append(replayed.seconds)
        if on_progress:
            on_progress(done + 1, total)
    for done, picture in enumerate(vectors.pictures):
        job = _job(picture.spec, dtype, model_dir, manifest, ())
        replayed = await _replay(executor, replace(job, decode=((0, picture.latent.tobytes()),)))
        levels.append(rgb_error(picture.rgb, replayed.rgb[0])[0])
        if on_progress:
            on_progress(len(vectors.vectors) + done + 1, total)
    assert replayed is not None
    return Calibration(
        profile=replayed.profile_key,
        vectors=str(vectors.ref),
        samples=len(errors),
        branch=Quantiles.of([error.branch for error in errors]),
        guided=Quantiles.of([error.guided for error in errors]),
        rgb_levels=max(levels),
        seconds_a_step=float(np.median(seconds)),
        machine=replayed.profile,
    )


def limit_row(measured: Sequence[Calibration], source: str, *, cheat: float | None = None) -> Limit:
    """The row of the limits table that several machines (or kernels of one) of the same profile give together.

    It may slash (`calibrated`) where honest rounding cannot reach it at any guidance, and where `cheat`, the least
    error of the weakest cheat measured on the same vectors, lies well above it. Raises EncodingInvalid when the
    measurements are of different profiles or vectors.
    """
    profiles, sets = {one.profile for one in measured}, {one.vectors for one in measured}
    if len(profiles) != 1 or len(sets) != 1:
        raise EncodingInvalid("a row is made from measurements of one profile on one set of vectors")
    profile = profiles.pop()
    dtype = profile.partition("/")[0]
    floor, levels = FLOORS[dtype]
    for_score, for_branch, for_guided = MULTIPLES[dtype]
    branch = max(one.branch.p999 for one in measured)
    hard = max(for_branch * branch, floor)
    guided = max(for_guided * max(one.guided.p999 for one in measured), 2 * floor)
    safe = (2 * MOST_GUIDANCE - 1) * max(one.branch.worst for one in measured) < guided
    return Limit(
        profile=profile,
        tau_soft_ppb=round(max(for_score * branch, 0.15 * floor) * BILLION),
        tau_hard_ppb=round(hard * BILLION),
        guided_ppb=round(guided * BILLION),
        rgb_levels=max(levels, 2 * max(one.rgb_levels for one in measured)),
        calibrated=safe and (cheat is None or APART * hard <= cheat),
        samples=sum(one.samples for one in measured),
        source=source[:200],
    )


def _job(
    spec: TextToImage, dtype: Dtype, model_dir: Path | None, manifest: BlobRef, checks: tuple[ReplayCheck, ...]
) -> ReplayJob:
    wanted = spec.model_copy(update={"dtype": dtype})
    return ReplayJob(wanted, model_dir, manifest, checks, embeddings=False)


async def _replay(executor: Executor, job: ReplayJob) -> Replayed:
    outcome = await executor.replay(job)
    if not isinstance(outcome, Replayed):
        raise ExecutorCrashed(f"a calibration vector could not be run: {outcome.reason}")
    return outcome
