"""One child process and its pipes: bounded lines in both directions, silence that ends, a short tail of its stderr."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.abc
import anyio.to_thread
from anyio.streams.buffered import BufferedByteReceiveStream
from pydantic import BaseModel

from gesso_node.executors.answers import step_of
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
from gesso_node.executors.port import Job, OnEvent, Replayed, ReplayJob
from gesso_node.executors.replay_files import answered, ask
from gesso_protocol.errors import ExecutorCrashed, ExecutorTimeout
from gesso_protocol.spec import spec_bytes

TAIL_BYTES = 8 * 1024


class Child:
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
            await on_event(step_of(message))

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
