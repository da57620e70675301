"""What is said while nothing happens: that nobody has taken a task yet, and what can be done about it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from gesso.cli.live import TaskLine
    from gesso.cli.output import Output
    from gesso_protocol.ids import TaskId

PATIENCE_S = 10.0


@asynccontextmanager
async def waiting(
    out: Output, line: TaskLine, task: TaskId, *, then: str, patience_s: float = PATIENCE_S
) -> AsyncIterator[None]:
    """Reminds once when no node was heard of in time; says how to go on, with `then`, when the person leaves."""

    async def remind() -> None:
        await anyio.sleep(patience_s)
        if line.unanswered:
            line.remark(
                f"no node has taken it in {patience_s:g} s; it waits on, and if nobody does the fee comes back\n"
                f"  give up from another terminal: gesso task cancel {task}"
            )

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(remind)
            yield
            group.cancel_scope.cancel()
    except anyio.get_cancelled_exc_class():
        line.close()
        out.say("the task goes on without this terminal")
        out.hint(then)
        raise
