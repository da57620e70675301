"""Runs an engine in a child process that holds no keys, and turns every way it can end into an outcome.

One warm child a model: start-up costs more than a picture. The child's environment is built from an allow-list, its
lines are bounded, its stderr is kept only as a short tail, and it never outlives this object.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import signal
import sys
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import anyio
import anyio.abc
import anyio.to_thread
from anyio.streams.buffered import BufferedByteReceiveStream
from pydantic import BaseModel, ConfigDict, Field

from gesso_node.executors.lora.messages import RevisitDone, TrainDone
from gesso_node.executors.messages import (
    MAX_LINE_BYTES,
    Cancel,
    Done,
    Failed,
    FromChild,
    Load,
    Loaded,
    Ready,
    ReplayDone,
    Run,
    Stepped,
    decode_from_child,
    encode,
)
from gesso_node.executors.port import (
    Crashed,
    ExecutorHealth,
    Finished,
    ImageFile,
    Job,
    OnEvent,
    Outcome,
    OutOfMemory,
    Replayed,
    ReplayJob,
    ReplayOutcome,
    StepDone,
    TimedOut,
    Unfit,
)
from gesso_node.executors.precedence import Precedence
from gesso_node.executors.replay_files import answered, ask
from gesso_node.executors.trace import RecordedTrace
from gesso_protocol.errors import ExecutorCrashed, ExecutorTimeout, ModelInvalid
from gesso_protocol.spec import spec_bytes

PASSED_ON = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "CUDA_HOME",
    "NVIDIA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "OMP_NUM_THREADS",
    "PYTHONPATH",
)
"""The only variables of ours that a child sees; keys and passwords are in none of them."""

FIXED = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DIFFUSERS_DISABLE_REMOTE_CODE": "1",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "PYTHONUNBUFFERED": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
TAIL_BYTES = 8 * 1024
_Result = TypeVar("_Result")


class ChildSettings(BaseModel):
    """How children are run. Times in seconds, memory in bytes (0: no limit of ours)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start_s: float = Field(default=120.0, gt=0)
    stall_s: float = Field(default=300.0, gt=0)
    """No line for this long means that the child hangs; loading a model counts as silence."""
    memory_limit_bytes: int = Field(default=0, ge=0)
    cancel_s: float = Field(default=3.0, gt=0)
    """How long a child may take to stop a job that is not wanted any more, before it is killed."""
    max_warm: int = Field(default=1, ge=1, le=16)
    threads: int = Field(default=0, ge=0, le=1024)
    """CPU threads of a child; 0: as many as there are cores, or as `OMP_NUM_THREADS` says."""
    wait: Literal["passive", "active"] = "passive"
    """How a child's threads wait for each other. Active ones spin: a little faster where nothing else wants a core, and
    many times slower where something does, as others spin for the thread that has no core."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Passed to the engine as they are (see `FakeFaults`, `DiffusersOptions`)."""


def child_environment(
    home: Path, ours: Mapping[str, str] | None = None, settings: ChildSettings | None = None
) -> dict[str, str]:
    """The whole environment of a child. `home` keeps libraries from reading or writing the operator's own caches."""
    ours = os.environ if ours is None else ours
    settings = settings or ChildSettings()
    kept = {name: ours[name] for name in PASSED_ON if name in ours}
    places = {"HOME": home, "HF_HOME": home / "hf", "XDG_CACHE_HOME": home / "cache"}
    places["TORCHINDUCTOR_CACHE_DIR"] = home / "cache" / "inductor"  # else it leaves a folder where temporary files go
    return {**kept, **FIXED, **_threads(settings), **{name: str(place) for name, place in places.items()}}


def _threads(settings: ChildSettings) -> dict[str, str]:
    """For GNU's and Intel's OpenMP; what a process started with is all that they heed."""
    count = {"OMP_NUM_THREADS": str(settings.threads)} if settings.threads else {}
    if settings.wait == "active":
        return count  # a few milliseconds of it are their own choice; to be told so means for ever
    return {**count, "OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}


class _Child:
    """One process and its pipes. Methods raise ExecutorCrashed and ExecutorTimeout; the caller then kills it."""

    def __init__(self, process: anyio.abc.Process, stall_s: float) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._lines = BufferedByteReceiveStream(process.stdout)
        self._stall_s = stall_s
        self._tail = bytearray()
        self._jobs = 0
        self.working = False

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def drain_stderr(self) -> None:
        """Reads stderr to its end, keeping the last few lines."""
        assert self._process.stderr is not None
        with suppress(anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
            while True:
                self._tail += await self._process.stderr.receive(65536)
                del self._tail[:-TAIL_BYTES]

    def tail(self) -> str:
        return self._tail.decode(errors="replace").strip()

    async def started(self, start_s: float) -> None:
        if not isinstance(await self._line(start_s), Ready):
            raise ExecutorCrashed("the child did not introduce itself")

    async def load(self, model_dir: Path) -> None:
        await self._send(encode(Load(model_dir=str(model_dir))))
        while not isinstance(reply := await self._line(self._stall_s), Loaded | Failed):
            raise ExecutorCrashed(f"unexpected {reply.kind} while loading")

    async def run(self, job: Job, on_event: OnEvent) -> Done | Failed:
        self._jobs += 1
        self.working = True
        await self._send(encode(_run_message(self._jobs, job)))
        while True:
            message = await self._line(self._stall_s)
            if not isinstance(message, Stepped | Done | Failed) or message.job != self._jobs:
                raise ExecutorCrashed(f"unexpected {message.kind} from the child")
            if not isinstance(message, Stepped):
                self.working = False
                return message
            await on_event(_step(message))

    async def converse(
        self, ask: Callable[[int], BaseModel], told: Callable[[FromChild], Awaitable[bool]]
    ) -> FromChild:
        """Send what `ask` makes of the job's number; every answer goes to `told` until it says that it was the last."""
        self._jobs += 1
        self.working = True
        await self._send(encode(ask(self._jobs)))
        while True:
            message = await self._line(self._stall_s)
            if isinstance(message, Ready | Loaded) or message.job != self._jobs:
                raise ExecutorCrashed(f"unexpected {message.kind} from the child")
            if await told(message):
                self.working = False
                return message

    async def replay(self, job: ReplayJob, folder: Path) -> Replayed | Failed:
        """Compute parts of a task again; tensors lie in `folder`. Raises ModelInvalid for what cannot be asked."""
        self._jobs += 1
        asked = await anyio.to_thread.run_sync(ask, self._jobs, job, folder)
        await self._send(encode(asked))
        message = await self._line(self._stall_s)
        if not isinstance(message, ReplayDone | Failed) or message.job != self._jobs:
            raise ExecutorCrashed(f"unexpected {message.kind} from the child")
        if isinstance(message, Failed):
            return message
        return await anyio.to_thread.run_sync(answered, job, message, folder)

    async def stop_job(self, patience_s: float) -> bool:
        """Ask for an end of the present job; true when the child gave one and can go on with another."""
        with suppress(ExecutorCrashed, ExecutorTimeout), anyio.move_on_after(patience_s, shield=True):
            await self._send(encode(Cancel(job=self._jobs)))
            while self.working:
                self.working = not isinstance(await self._line(patience_s), Done | TrainDone | RevisitDone | Failed)
        return not self.working

    async def kill(self) -> None:
        """Ends the process now and waits for it. Safe to call twice, and during cancellation."""
        with anyio.CancelScope(shield=True):
            if self._process.returncode is None:
                with suppress(ProcessLookupError):
                    self._process.kill()
            await self._process.wait()
            await self._process.aclose()

    async def describe_end(self) -> str:
        """Why the process is gone; call it when its pipe ended."""
        with anyio.move_on_after(2):
            await self._process.wait()
        code = self._process.returncode
        if code is None:
            return "it closed its pipe and lives on"
        if code < 0:
            hint = ", often the kernel's out-of-memory killer" if code == -signal.SIGKILL else ""
            return f"signal {signal.Signals(-code).name}{hint}"
        return f"exit code {code}"

    async def _send(self, line: bytes) -> None:
        try:
            await self._stdin.send(line)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
            raise ExecutorCrashed(f"the child is gone: {await self.describe_end()}") from error

    async def _line(self, patience_s: float) -> FromChild:
        try:
            with anyio.fail_after(patience_s):
                line = await self._lines.receive_until(b"\n", MAX_LINE_BYTES)
        except TimeoutError as error:
            raise ExecutorTimeout(f"no sign of life for {patience_s:g} s") from error
        except anyio.DelimiterNotFound as error:
            raise ExecutorCrashed(f"the child wrote a line of over {MAX_LINE_BYTES} bytes") from error
        except (anyio.IncompleteRead, anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
            raise ExecutorCrashed(f"the child ended: {await self.describe_end()}") from error
        return decode_from_child(line)


class ChildExecutor:
    """An executor whose engine lives in child processes, one warm child a model."""

    def __init__(
        self, engine: str, home: Path, settings: ChildSettings | None = None, *, command: Sequence[str] | None = None
    ) -> None:
        self._engine = engine
        self._home = home
        self._settings = settings or ChildSettings()
        self._command = list(command) if command else self._default_command()
        self._children: OrderedDict[str, _Child] = OrderedDict()
        self.precedence = Precedence()
        self._tasks = anyio.create_task_group()
        self._started = 0
        self._ended: Counter[str] = Counter()

    @property
    def name(self) -> str:
        return self._engine

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children.values():
            await child.kill()
        self._children.clear()
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)

    def health(self) -> ExecutorHealth:
        warm = tuple(key for key, child in self._children.items() if child.alive)
        return ExecutorHealth(self._engine, warm, self.precedence.busy, self._started, dict(self._ended))

    async def warm(self, model_dir: Path | None) -> None:
        """Start the child of this model and have it load. Failures are left for the job to report."""
        async with self.precedence.turn():
            key = _key(model_dir)
            try:
                child = await self._child(key)
                if model_dir is not None:
                    await child.load(model_dir)
            except (ExecutorCrashed, ExecutorTimeout):
                await self._drop(key)
            except BaseException:
                await self._drop(key)
                raise

    async def run(self, job: Job, *, on_event: OnEvent) -> Outcome:
        async with self.precedence.turn():
            key = _key(job.model_dir)
            outcome = await self._attempt(key, job, on_event)
            if not isinstance(outcome, Finished | Unfit):
                self._ended[type(outcome).__name__] += 1
                await self._drop(key)
            return outcome

    async def replay(self, job: ReplayJob) -> ReplayOutcome:
        try:
            async with self.precedence.check(job.deadline_s) as left_s:
                key = _key(job.model_dir)
                # A name of its own: a node that was killed leaves its folder behind.
                folder = self._home / f"replay-{secrets.token_hex(8)}"
                outcome = await self._bounded(key, left_s, lambda child: self._replayed(child, job, folder))
                if not isinstance(outcome, Replayed | Unfit):
                    self._ended[type(outcome).__name__] += 1
                    await self._drop(key)
                return outcome
        except TimeoutError:
            return TimedOut("other work held the executor until the deadline", job.deadline_s)

    async def _replayed(self, child: _Child, job: ReplayJob, folder: Path) -> ReplayOutcome:
        try:
            answer = await child.replay(job, folder)
        except ModelInvalid as error:
            return Unfit(error.message)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))
        return answer if isinstance(answer, Replayed) else failure(answer, child.tail())

    async def _attempt(self, key: str, job: Job, on_event: OnEvent) -> Outcome:
        async def run(child: _Child) -> Outcome:
            return _outcome(await child.run(job, on_event), job, self._engine, child.tail())

        return await self._bounded(key, job.deadline_s, run)

    async def _bounded(
        self, key: str, deadline_s: float, work: Callable[[_Child], Awaitable[_Result]]
    ) -> _Result | TimedOut | Crashed:
        """`work` with the child of this key; how a child fails becomes an outcome, and a cancelled call kills it."""
        try:
            with anyio.fail_after(deadline_s):
                return await work(await self._child(key))
        except TimeoutError:
            return TimedOut("the deadline passed", deadline_s)
        except ExecutorTimeout as error:
            return TimedOut(error.message, self._settings.stall_s)
        except ExecutorCrashed as error:
            return Crashed(error.message, self._tail_of(key))
        except BaseException:
            # Starting a child costs seconds, so a job that is merely not wanted any more does not cost the child.
            busy = self._children.get(key)
            if busy is None or not busy.working or not await busy.stop_job(self._settings.cancel_s):
                await self._drop(key)
            raise

    async def _child(self, key: str) -> _Child:
        child = self._children.get(key)
        if child is not None and child.alive:
            self._children.move_to_end(key)
            return child
        await self._drop(key)
        while len(self._children) >= self._settings.max_warm:
            await self._drop(next(iter(self._children)))
        self._home.mkdir(parents=True, exist_ok=True)
        process = await anyio.open_process(
            self._command,
            cwd=self._home,
            env=child_environment(self._home, settings=self._settings),
            start_new_session=True,  # a Ctrl-C in the terminal drains the node; it must not hit the child first
        )
        child = self._children[key] = _Child(process, self._settings.stall_s)
        self._started += 1
        self._tasks.start_soon(child.drain_stderr)
        await child.started(self._settings.start_s)
        return child

    async def _drop(self, key: str) -> None:
        child = self._children.pop(key, None)
        if child is not None:
            await child.kill()

    def _tail_of(self, key: str) -> str:
        child = self._children.get(key)
        return child.tail() if child else ""

    def _default_command(self) -> list[str]:
        settings = self._settings
        return [
            sys.executable,
            "-m",
            "gesso_node.executors.worker",
            self._engine,
            json.dumps(settings.options, default=str),
            str(settings.memory_limit_bytes),
        ]


def _key(model_dir: Path | None) -> str:
    return str(model_dir) if model_dir else ""


def _run_message(number: int, job: Job) -> Run:
    return Run(
        job=number,
        spec=spec_bytes(job.spec).decode(),
        model_dir=str(job.model_dir) if job.model_dir else None,
        out_dir=str(job.out_dir),
        manifest=job.manifest.hex(),
        task=job.binding.task.hex(),
        loras=tuple(map(str, job.loras)),
    )


def _step(message: Stepped) -> StepDone:
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


def _outcome(message: Done | Failed, job: Job, engine: str, tail: str) -> Outcome:
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
