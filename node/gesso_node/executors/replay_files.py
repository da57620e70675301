"""A replay's tensors between node and child: one folder, one file each way, every size checked before it is read.

The node writes `inputs.bin`: latents of one size, checks first, then decodes. The child writes `outputs.bin` and
`outputs.json`, which says what lies where. The folder is the node's and is removed with the job.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from gesso_node.executors.messages import MAX_LATENT_BYTES, Replay, ReplayDone, ReplayPlace
from gesso_node.executors.port import ReplayCheck, Replayed, ReplayJob
from gesso_protocol.errors import ExecutorCrashed, ModelInvalid
from gesso_protocol.ids import BlobRef
from gesso_protocol.spec import parse_spec, spec_bytes

INPUTS, OUTPUTS, INDEX = "inputs.bin", "outputs.bin", "outputs.json"
MAX_INDEX_BYTES = 8 * 1024 * 1024
MAX_OUTPUT_BYTES = 4 * 1024**3


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["cond", "uncond", "embed-cond", "embed-uncond", "noise", "step-noise", "rgb"]
    image: int = Field(default=0, ge=0)
    step: int = Field(default=0, ge=0)
    length: int = Field(ge=0, le=MAX_LATENT_BYTES)


class _Outputs(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    scheduler_config: dict[str, Any]
    executor: str = Field(max_length=32)
    embedding_parts: tuple[Annotated[int, Field(ge=1, le=MAX_LATENT_BYTES)], ...] = Field(default=(), max_length=8)
    parts: tuple[_Part, ...] = Field(max_length=16_384)


def ask(number: int, job: ReplayJob, folder: Path) -> Replay:
    """Write the inputs of `job` and say so in a message. Raises ModelInvalid when its latents differ in size."""
    latents = [*(check.latent for check in job.checks), *(latent for _, latent in job.decode)]
    size = len(latents[0]) if latents else 0
    if any(len(latent) != size for latent in latents) or size > MAX_LATENT_BYTES:
        raise ModelInvalid("the latents of one task have one size")
    folder.mkdir(parents=True)
    with (folder / INPUTS).open("wb") as file:
        file.writelines(latents)
    try:
        return _message(number, job, folder, size)
    except ValidationError as error:
        raise ModelInvalid(f"this cannot be replayed: {error.error_count()} values are out of bounds") from error


def _message(number: int, job: ReplayJob, folder: Path, size: int) -> Replay:
    return Replay(
        job=number,
        spec=spec_bytes(job.spec).decode(),
        model_dir=str(job.model_dir) if job.model_dir else None,
        folder=str(folder),
        manifest=job.manifest.hex(),
        checks=tuple(ReplayPlace(image=check.image, step=check.step) for check in job.checks),
        decode=tuple(image for image, _ in job.decode),
        images=job.images,
        latent_bytes=size,
        embeddings=job.embeddings,
        strict=job.strict,
        loras=tuple(map(str, job.loras)),
    )


def asked(message: Replay) -> ReplayJob:
    """In the child: the job that a message and its inputs describe."""
    with (Path(message.folder) / INPUTS).open("rb") as file:
        checks = tuple(
            ReplayCheck(place.image, place.step, file.read(message.latent_bytes)) for place in message.checks
        )
        decode = tuple((image, file.read(message.latent_bytes)) for image in message.decode)
    return ReplayJob(
        spec=parse_spec(message.spec.encode()),
        model_dir=Path(message.model_dir) if message.model_dir else None,
        manifest=BlobRef(bytes.fromhex(message.manifest)),
        checks=checks,
        decode=decode,
        embeddings=message.embeddings,
        strict=message.strict,
        images=message.images,
        loras=tuple(map(Path, message.loras)),
    )


def answer(message: Replay, replayed: Replayed) -> ReplayDone:
    """In the child: write what was computed."""
    folder = Path(message.folder)
    parts: list[dict[str, object]] = []
    with (folder / OUTPUTS).open("wb") as file:
        for kind, image, step, data in _flat(replayed):
            parts.append({"kind": kind, "image": image, "step": step, "length": len(data)})
            file.write(data)
    index = {
        "scheduler_config": replayed.scheduler_config,
        "executor": replayed.executor,
        "embedding_parts": replayed.embedding_parts,
        "parts": parts,
    }
    (folder / INDEX).write_text(json.dumps(index, default=str))
    return ReplayDone(job=message.job, profile=replayed.profile, seconds=replayed.seconds)


def _flat(replayed: Replayed) -> Iterator[tuple[str, int, int, bytes]]:
    for (image, step), (cond, uncond) in replayed.outputs.items():
        yield "cond", image, step, cond
        if uncond is not None:
            yield "uncond", image, step, uncond
    for kind, data in zip(("embed-cond", "embed-uncond"), replayed.embeddings or (), strict=False):
        yield kind, 0, 0, data
    for image, data in replayed.noises.items():
        yield "noise", image, 0, data
    for (image, step), data in replayed.step_noises.items():
        yield "step-noise", image, step, data
    for image, data in replayed.rgb.items():
        yield "rgb", image, 0, data


def answered(job: ReplayJob, message: ReplayDone, folder: Path) -> Replayed:
    """Back in the node: read the answer. Raises ExecutorCrashed when it is unreadable or not what was asked for."""
    try:
        index_size, size = (folder / INDEX).stat().st_size, (folder / OUTPUTS).stat().st_size
        if index_size > MAX_INDEX_BYTES or size > MAX_OUTPUT_BYTES:
            raise ExecutorCrashed("the replay's answer is too large")
        outputs = _Outputs.model_validate(from_json((folder / INDEX).read_bytes()))
        if sum(part.length for part in outputs.parts) != size:
            raise ExecutorCrashed("the replay's answer has another size than its index says")
        with (folder / OUTPUTS).open("rb") as file:
            replayed = _collect(outputs, message, file)
    except (OSError, ValueError) as error:
        raise ExecutorCrashed(f"the child left no readable replay: {error}") from error
    if set(replayed.outputs) != {(check.image, check.step) for check in job.checks}:
        raise ExecutorCrashed("the child replayed other steps than it was asked for")
    if set(replayed.rgb) != {image for image, _ in job.decode} or job.embeddings != (replayed.embeddings is not None):
        raise ExecutorCrashed("the child replayed other parts than it was asked for")
    return replayed


def _collect(outputs: _Outputs, message: ReplayDone, file: IO[bytes]) -> Replayed:
    found: dict[str, dict[tuple[int, int], bytes]] = {}
    for part in outputs.parts:
        found.setdefault(part.kind, {})[part.image, part.step] = file.read(part.length)
    uncond = found.get("uncond", {})
    embedded = [found.get(kind, {}).get((0, 0)) for kind in ("embed-cond", "embed-uncond")]
    both = (embedded[0], embedded[1]) if embedded[0] is not None and embedded[1] is not None else None
    return Replayed(
        outputs={place: (cond, uncond.get(place)) for place, cond in found.get("cond", {}).items()},
        embeddings=both,
        noises={image: data for (image, _), data in found.get("noise", {}).items()},
        step_noises=found.get("step-noise", {}),
        rgb={image: data for (image, _), data in found.get("rgb", {}).items()},
        scheduler_config=outputs.scheduler_config,
        profile=dict(message.profile),
        seconds=message.seconds,
        executor=outputs.executor,
        embedding_parts=outputs.embedding_parts,
    )
