"""Reveals of several audits in one transaction: half of what a reveal costs is not its own.

Windows for reveals are hours, so an auditor that is early waits a little for others of its reveals to go along. A batch
of which one is refused is refused as a whole; then each goes alone, so that none waits for another's fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio
import structlog

from gesso.chain.arbiter import Arbiter, Reveal
from gesso_protocol.errors import ChainReverted, GessoError, Unreachable

log = structlog.get_logger("gesso.node.auditing")

MOST = 8
"""So many share a transaction; more would save little, and need the room of a whole block."""
WINDOW_SHARE = 60
MOST_WAIT_S = 120


def spare_s(window_s: int, left_s: int) -> int:
    """How long a reveal may wait for others: a sixtieth of its window, two minutes at most, in its first half."""
    return min(window_s // WINDOW_SHARE, MOST_WAIT_S) if 2 * left_s > window_s else 0


@dataclass(eq=False)
class _Waiting:
    """`woken` once it was sent, or is to send the others: whoever is first in the row does."""

    reveal: Reveal
    woken: anyio.Event = field(default_factory=anyio.Event)
    error: GessoError | None = field(default_factory=lambda: Unreachable("the batch of this reveal was not sent"))


class Reveals:
    """Gathers what one wallet has to reveal."""

    def __init__(self, arbiter: Arbiter) -> None:
        self._arbiter = arbiter
        self._gathered: list[_Waiting] = []
        self._enough = anyio.Event()

    async def send(self, reveal: Reveal, spare: float) -> None:
        """Send it within `spare` seconds, with others that come until then. Raises what the chain says of this one."""
        mine, latest = _Waiting(reveal), anyio.current_time() + spare
        self._gathered.append(mine)
        if not spare or len(self._gathered) >= MOST:
            self._enough.set()
        try:
            if self._gathered[0] is not mine:
                await mine.woken.wait()
            if mine in self._gathered:
                with anyio.CancelScope(deadline=latest):
                    await self._enough.wait()
                batch, self._gathered, self._enough = self._gathered, [], anyio.Event()
                await self._send(batch)
        finally:
            self._leave(mine)
        if mine.error is not None:
            raise mine.error

    def _leave(self, mine: _Waiting) -> None:
        """Who gives up before it is sent takes nobody along: the next sends what is left."""
        if mine in self._gathered:
            self._gathered.remove(mine)
            if self._gathered:
                self._gathered[0].woken.set()
            else:
                self._enough = anyio.Event()

    async def _send(self, batch: Sequence[_Waiting]) -> None:
        try:
            error = await self._tried(batch)
            if isinstance(error, ChainReverted) and len(batch) > 1:
                log.info("auditing.reveals-apart", count=len(batch), reason=error.message)
                for one in batch:
                    one.error = await self._tried([one])
            else:
                for one in batch:
                    one.error = error
        finally:
            for one in batch:
                one.woken.set()

    async def _tried(self, batch: Sequence[_Waiting]) -> GessoError | None:
        try:
            await self._arbiter.reveal_audits([one.reveal for one in batch])
        except GessoError as error:
            return error
        return None
