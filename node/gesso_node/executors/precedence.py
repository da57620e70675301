"""Who has the executor: one job at a time, in their order; but checks of others' work go before a training.

A seat in an audit or a jury has a window of its own and costs a penalty when it is missed, and a training lasts for an
hour. So a training makes way between two updates, leaves what it has in memory, and goes on when the checks are done:
both never need memory at once, and its bytes are those that it would have had.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import anyio
import structlog

from gesso_node.executors.lora.pausing import ask_to_pause, take_pause_back
from gesso_node.executors.port import TimedOut

log = structlog.get_logger("gesso.node.executor")

GRACE_S = 3.0
"""A check asks several times, with what it fetches in between: a training that went on each time would only load."""
T = TypeVar("T")


class Precedence:
    """Gives turns out. `grace_s`: how long a paused training waits for one more check."""

    def __init__(self, *, grace_s: float = GRACE_S) -> None:
        self._grace_s = grace_s
        self._lock = anyio.Lock()
        self._checks = 0
        self._checked_at = 0.0
        self._none_left = anyio.Event()
        self._training: Path | None = None
        self._paused = False

    @property
    def busy(self) -> bool:
        """Whether somebody has it, or will have it again."""
        return self._lock.locked() or self._paused

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """For whatever waits as long as it takes."""
        async with self._lock:
            yield

    @asynccontextmanager
    async def check(self, seconds: float) -> AsyncIterator[float]:
        """For a check of somebody's work, and the seconds that are left then. Raises TimeoutError when the turn does
        not come, which is our own doing and nobody's failure."""
        self._checks += 1
        try:
            if self._training is not None:
                ask_to_pause(self._training)
            async with _within(self._lock, seconds) as left_s:
                yield left_s
        finally:
            self._checks -= 1
            self._checked_at = anyio.current_time()
            if not self._checks:
                self._none_left.set()
                self._none_left = anyio.Event()

    async def train(
        self, folder: Path, seconds: float, attempt: Callable[[float], Awaitable[T | None]]
    ) -> T | TimedOut:
        """Do `attempt`, with the seconds that it has, again and again until it gives something: None says that it made
        way. Pauses count as its own time."""
        until = anyio.current_time() + seconds
        try:
            while True:
                async with self._of_training(folder, until - anyio.current_time()) as left_s:
                    outcome = await attempt(left_s)
                if outcome is not None:
                    return outcome
                log.info("executor.training-makes-way", checks=self._checks)
                self._paused = True
        except TimeoutError:
            return TimedOut("other work held the executor until the deadline", seconds)
        finally:
            self._paused = False

    @asynccontextmanager
    async def _of_training(self, folder: Path, seconds: float) -> AsyncIterator[float]:
        until = anyio.current_time() + seconds
        with anyio.fail_after(seconds):
            if self._paused:
                await self._calm()
            await self._lock.acquire()
        try:
            self._training = folder
            take_pause_back(folder)  # also what a node that died had wished
            if self._checks:
                ask_to_pause(folder)
            yield until - anyio.current_time()
        finally:
            self._training = None
            take_pause_back(folder)
            self._lock.release()

    async def _calm(self) -> None:
        """No check waits, and none has for a while."""
        while True:
            while self._checks:
                await self._none_left.wait()
            left_s = self._checked_at + self._grace_s - anyio.current_time()
            if left_s <= 0:
                return
            await anyio.sleep(left_s)


@asynccontextmanager
async def _within(lock: anyio.Lock, seconds: float) -> AsyncIterator[float]:
    until = anyio.current_time() + seconds
    with anyio.fail_after(seconds):
        await lock.acquire()
    try:
        yield until - anyio.current_time()
    finally:
        lock.release()
