"""Ctrl-C during a training: the run is somebody else's process, so what it should do is asked, not guessed."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import anyio

from gesso_protocol.errors import GessoError
from gesso_protocol.events import Event

if TYPE_CHECKING:
    from gesso.cli.live import TaskLine
    from gesso.cli.output import Output
    from gesso.training import Adapter, AsyncTraining

QUESTION = "stop at the next checkpoint and take what is learnt?  [y] stop  [n] leave it running  [enter] go on: "


async def follow(out: Output, run: AsyncTraining, line: TaskLine) -> Adapter | None:
    """Wait for the adapter; None when the person chose to leave. The first Ctrl-C asks, one more while it asks ends
    the program; where nobody can answer, Ctrl-C is what it always is."""
    try:
        if not (out.live and sys.stdin.isatty()):
            return await run.result(on_event=line.show)
        adapter = None
        asker = _Asker(out, run, line)
        async with anyio.create_task_group() as group:
            group.start_soon(asker.listen, group.cancel_scope)
            adapter = await run.result(on_event=asker.show)
            group.cancel_scope.cancel()
        asker.catch_up()
        return adapter
    finally:
        line.close()


class _Asker:
    """Asks on Ctrl-C. What happens while the question stands is drawn after the answer."""

    def __init__(self, out: Output, run: AsyncTraining, line: TaskLine) -> None:
        self._out = out
        self._run = run
        self._line = line
        self._held: list[Event] | None = None

    def show(self, event: Event) -> None:
        if self._held is None:
            self._line.show(event)
        else:
            self._held.append(event)

    async def listen(self, scope: anyio.CancelScope) -> None:
        with anyio.open_signal_receiver(signal.SIGINT) as signals:
            async for _ in signals:
                self._line.close()
                self._held = []
                stays = await self._do(await self._answer())
                if not stays:
                    scope.cancel()
                    return
                self.catch_up()

    def catch_up(self) -> None:
        """Draw what was held back; the answer is there, or is not needed any more."""
        held, self._held = self._held or [], None
        for event in held:
            self._line.show(event)

    async def _answer(self) -> str:
        """The first letter of the answer; n when there is none to come."""
        self._out.ask(QUESTION)
        asked = signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            await anyio.wait_readable(sys.stdin)
            answer = sys.stdin.readline()
        finally:
            signal.signal(signal.SIGINT, asked)
        return answer.strip().lower()[:1] if answer else "n"

    async def _do(self, answer: str) -> bool:
        """False when the person leaves."""
        if answer == "n":
            self._out.say("it goes on without you")
            self._out.hint(f"gesso train --resume {self._run.id}")
            return False
        if answer == "y":
            try:
                await self._run.stop()
            except GessoError as error:
                self._out.say(f"it cannot be stopped: {error.message}")
        return True
