"""The child process: reads jobs from stdin, runs them with one engine, writes events to its message pipe.

It holds no keys and needs no network; an audit hook refuses sockets and unpickling, whatever a library would like to
do. When the node goes away, stdin ends and so does this process, in the middle of a step if need be.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import resource
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Literal, TypeAlias, TypeVar

from gesso_node.executors.engine import Cancelled, Engine, EngineJob, EngineResult, load_engine
from gesso_node.executors.lora.fault import InputInvalid
from gesso_node.executors.lora.inside import revisit_inside, train_inside
from gesso_node.executors.lora.messages import Revisit, RevisitDone, Train, TrainDone, TrainStep
from gesso_node.executors.lora.pausing import PausedError
from gesso_node.executors.messages import (
    MAX_LINE_BYTES,
    Cancel,
    Done,
    Failed,
    FromChild,
    Load,
    Loaded,
    Picture,
    Ready,
    Replay,
    ReplayDone,
    Run,
    Stepped,
    decode_to_child,
    encode,
)
from gesso_node.executors.port import StepDone
from gesso_node.executors.replay_files import answer, asked
from gesso_protocol.errors import ExecutorCrashed, ModelInvalid
from gesso_protocol.ids import BlobRef, TaskId
from gesso_protocol.spec import parse_spec

FORBIDDEN_EVENTS = ("socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen", "os.system")


Work: TypeAlias = Run | Replay | Train | Revisit | Load


class Inbox:
    """Lines from the node, read in a thread so that a cancel, and the node's end, are seen during a step."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._messages: queue.Queue[Work] = queue.Queue(maxsize=4)
        self._cancelled: set[int] = set()
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def messages(self) -> Iterator[Work]:
        while True:
            yield self._messages.get()

    def cancelled(self, job: int) -> bool:
        return job in self._cancelled

    def _read(self) -> None:
        while line := self._stream.readline(MAX_LINE_BYTES):
            try:
                message = decode_to_child(line)
            except ExecutorCrashed:
                os._exit(65)
            if isinstance(message, Cancel):
                self._cancelled.add(message.job)
            else:
                self._messages.put(message)
        os._exit(0)


class Worker:
    """Runs one job after the other and reports on the message pipe."""

    def __init__(self, engine: Engine, inbox: Inbox, pipe: IO[bytes]) -> None:
        self._engine = engine
        self._inbox = inbox
        self._pipe = pipe

    def forever(self) -> None:
        self._send(Ready(engine=self._engine.name))
        for message in self._inbox.messages():
            self._send(self._reply(message))

    def _reply(self, message: Work) -> FromChild:
        if isinstance(message, Run):
            return self._run(message)
        if isinstance(message, Train):
            return self._train(message)
        if isinstance(message, Revisit):
            return _or_failed(message.job, lambda: revisit_inside(self._engine, message))
        return self._replay(message) if isinstance(message, Replay) else self._load(message)

    def _send(self, message: FromChild) -> None:
        self._pipe.write(encode(message))
        self._pipe.flush()

    def _load(self, load: Load) -> Loaded | Failed:
        return _or_failed(None, lambda: Loaded(seconds=self._engine.load(Path(load.model_dir))))

    def _run(self, run: Run) -> Done | Failed:
        def emit(step: StepDone) -> None:
            if self._inbox.cancelled(run.job):
                raise Cancelled
            preview = base64.b64encode(step.preview).decode() if step.preview else None
            self._send(Stepped(job=run.job, image=step.image, index=step.index, total=step.total, preview=preview))

        return _or_failed(run.job, lambda: _done(run, self._engine.run(_job(run), emit)))

    def _train(self, train: Train) -> TrainDone | Failed:
        def emit(step: TrainStep) -> None:
            if self._inbox.cancelled(train.job):
                raise Cancelled
            self._send(step)

        return _or_failed(train.job, lambda: train_inside(self._engine, train, emit))

    def _replay(self, replay: Replay) -> ReplayDone | Failed:
        return _or_failed(replay.job, lambda: answer(replay, self._engine.replay(asked(replay))))


_Reply = TypeVar("_Reply", Done, ReplayDone, TrainDone, RevisitDone, Loaded)


def _or_failed(job: int | None, work: Callable[[], _Reply]) -> _Reply | Failed:
    """What `work` gave, or why it gave nothing; anything that is not foreseen ends the child."""
    try:
        return work()
    except Cancelled:
        return Failed(job=job, reason="cancelled", message="stopped at the node's request")
    except PausedError:
        return Failed(job=job, reason="paused", message="made way for other work")
    except ModelInvalid as error:
        reason: Literal["input", "unfit"] = "input" if isinstance(error, InputInvalid) else "unfit"
        return Failed(job=job, reason=reason, message=error.message[:4000])
    except MemoryError as error:
        return Failed(job=job, reason="out-of-memory", message=str(error)[:4000] or "out of memory")


def _job(run: Run) -> EngineJob:
    return EngineJob(
        spec=parse_spec(run.spec.encode()),
        model_dir=Path(run.model_dir) if run.model_dir else None,
        out_dir=Path(run.out_dir),
        manifest=BlobRef(bytes.fromhex(run.manifest)),
        task=TaskId(bytes.fromhex(run.task)),
        loras=tuple(map(Path, run.loras)),
    )


def _done(run: Run, result: EngineResult) -> Done:
    pictures = tuple(
        Picture(
            index=image.index,
            name=image.path.name,
            sha256=image.sha256.hex(),
            width=image.width,
            height=image.height,
            seed=image.seed,
        )
        for image in result.images
    )
    return Done(
        job=run.job,
        pictures=pictures,
        profile=result.profile,
        seconds=result.seconds,
        load_seconds=result.load_seconds,
    )


def _forbid(event: str, _: tuple[object, ...]) -> None:
    if event in FORBIDDEN_EVENTS:
        raise PermissionError(f"an executor's child may not do {event}")


def _message_pipe() -> IO[bytes]:
    """The real stdout, for us alone: what libraries print goes to stderr."""
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return pipe


def main(arguments: list[str]) -> None:
    """`worker ENGINE OPTIONS_JSON MEMORY_LIMIT_BYTES`; started by `child.py` and by nobody else."""
    name, options, memory_limit = arguments[0], json.loads(arguments[1]), int(arguments[2])
    pipe = _message_pipe()
    if memory_limit:
        resource.setrlimit(resource.RLIMIT_AS, (memory_limit, memory_limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    inbox = Inbox(sys.stdin.buffer)
    engine = load_engine(name, options)
    sys.addaudithook(_forbid)
    Worker(engine, inbox, pipe).forever()


if __name__ == "__main__":
    main(sys.argv[1:])
