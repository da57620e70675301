"""The beat of a loop over the chain: a pass a tick while a block can come, the next at once when something happens,
fewer in trouble.

Nothing changes on a chain between its blocks, and asking costs: the node's processor, and its operator's endpoint,
which many pay for by the request. So a loop that has seen blocks come regularly leaves most of the time between two of
them out.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable

import anyio
import structlog

from gesso_node.state.journal import JournalFailedError
from gesso_protocol.errors import ChainError, Unreachable

MAX_PAUSE_S = 10.0
GAPS = 8
"""Times between blocks that a pulse is taken of."""
LEFT_OUT = 0.75
"""Of the shortest of them, so that a block that comes early is not noticed late."""
MAX_LEFT_OUT_S = 3.0
log = structlog.get_logger("gesso.node.passes")


class Pulse:
    """How regularly a chain's blocks are seen to come."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._gaps: deque[float] = deque(maxlen=GAPS)
        self._last: tuple[int, float] | None = None

    def saw(self, block: int) -> None:
        """The newest block that was read; several that came at once share their time."""
        if self._last is None or block < self._last[0]:
            self._gaps.clear()
        elif block > self._last[0]:
            self._gaps.append((self._clock() - self._last[1]) / (block - self._last[0]))
        else:
            return
        self._last = (block, self._clock())

    def pause_s(self, tick_s: float) -> float:
        """How long nobody needs to ask for the next one: a tick, or until it is nearly due."""
        if self._last is None or len(self._gaps) < GAPS:
            return tick_s
        due_s = self._last[1] + min(LEFT_OUT * min(self._gaps), MAX_LEFT_OUT_S) - self._clock()
        return max(tick_s, due_s)


class Passes:
    """What happens between `rearm` and `wait` ends the wait."""

    def __init__(self, name: str, pulse: Pulse | None = None) -> None:
        self._name = name
        self._pulse = pulse or Pulse()
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

    async def forever(self, one_pass: Callable[[], Awaitable[int]], tick_s: float) -> None:
        """Until cancelled. A pass says which block it has read. An endpoint that is away, or a full disk, only slows it
        down."""
        pause_s = tick_s
        while True:
            self.rearm()
            try:
                self._pulse.saw(await one_pass())
                pause_s = self._pulse.pause_s(tick_s)
            except (Unreachable, ChainError, JournalFailedError) as error:
                pause_s = min(max(pause_s * 2, 0.5), MAX_PAUSE_S)
                log.warning(f"{self._name}.held-up", code=error.code, reason=error.message, pause_s=pause_s)
            with anyio.move_on_after(pause_s):
                await self.wait()
