"""The beat of a loop over the chain: a pass a tick, the next at once when something happens, fewer in trouble."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import structlog

from gesso_node.journal import JournalFailedError
from gesso_protocol.errors import ChainError, Unreachable

MAX_PAUSE_S = 10.0
log = structlog.get_logger("gesso.node.passes")


class Passes:
    """What happens between `rearm` and `wait` ends the wait."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._happened = anyio.Event()

    def wake(self) -> None:
        """Something happened: do not wait for the next tick."""
        self._happened.set()

    def rearm(self) -> None:
        """What happened so far is seen."""
        self._happened = anyio.Event()

    async def wait(self) -> None:
        """Until something has happened since."""
        await self._happened.wait()

    async def forever(self, one_pass: Callable[[], Awaitable[None]], tick_s: float) -> None:
        """Until cancelled. An endpoint that is away, or a full disk, only slows it down."""
        pause_s = tick_s
        while True:
            self.rearm()
            try:
                await one_pass()
                pause_s = tick_s
            except (Unreachable, ChainError, JournalFailedError) as error:
                pause_s = min(max(pause_s * 2, 0.5), MAX_PAUSE_S)
                log.warning(f"{self._name}.held-up", code=error.code, reason=error.message, pause_s=pause_s)
            with anyio.move_on_after(pause_s):
                await self.wait()
