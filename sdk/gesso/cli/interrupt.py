"""Ctrl-C during a training: the run is somebody else's process, so what it should do is asked, not guessed."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import anyio

from gesso_protocol.errors import GessoError

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
        async with anyio.create_task_group() as group:
            group.start_soon(_listen, out, run, line, group.cancel_scope)
            adapter = await run.result(on_event=line.show)
            group.cancel_scope.cancel()
        return adapter
    finally:
        line.close()


async def _listen(out: Output, run: AsyncTraining, line: TaskLine, scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGINT) as signals:
        async for _ in signals:
            line.close()
            if not await _go_on(out, run):
                scope.cancel()


async def _go_on(out: Output, run: AsyncTraining) -> bool:
    """Ask, and do what is wanted; false when the person leaves."""
    out.ask(QUESTION)
    asked = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        await anyio.wait_readable(sys.stdin)
        answer = sys.stdin.readline()
    finally:
        signal.signal(signal.SIGINT, asked)
    word = answer.strip().lower()[:1]
    if word == "n" or not answer:
        out.say("it goes on without you")
        out.hint(f"gesso train --resume {run.id}")
        return False
    if word == "y":
        try:
            await run.stop()
        except GessoError as error:
            out.say(f"it cannot be stopped: {error.message}")
    return True
