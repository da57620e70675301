"""What a child says of a job, as the events and outcomes of the port, believed no further than it can be checked."""

from __future__ import annotations

import base64

from gesso_node.executors.messages import Done, Failed, Stepped
from gesso_node.executors.port import Crashed, Finished, ImageFile, Job, Outcome, OutOfMemory, StepDone, Unfit
from gesso_node.executors.trace import RecordedTrace
from gesso_protocol.errors import ExecutorCrashed


def step_of(message: Stepped) -> StepDone:
    try:
        preview = base64.b64decode(message.preview, validate=True) if message.preview else None
    except ValueError as error:
        raise ExecutorCrashed("a preview is not base64") from error
    return StepDone(message.image, message.index, message.total, preview)


def failure(message: Failed, tail: str) -> OutOfMemory | Unfit | Crashed:
    if message.reason == "out-of-memory":
        return OutOfMemory(message.message)
    if message.reason in ("unfit", "input"):
        return Unfit(message.message, by_input=message.reason == "input")
    return Crashed(message.message, tail)


def outcome_of(message: Done | Failed, job: Job, engine: str, tail: str) -> Outcome:
    if isinstance(message, Failed):
        return failure(message, tail)
    images = tuple(
        ImageFile(
            index=picture.index,
            path=job.out_dir / picture.name,
            sha256=bytes.fromhex(picture.sha256),
            width=picture.width,
            height=picture.height,
            seed=picture.seed,
        )
        for picture in message.pictures
    )
    if [image.index for image in images] != list(range(job.spec.count)):
        return Crashed(f"the child made {len(images)} pictures, {job.spec.count} were ordered", tail)
    root = RecordedTrace.read(job.out_dir, job.spec).root(job.binding)
    return Finished(images, root, dict(message.profile), engine, message.seconds, message.load_seconds)
