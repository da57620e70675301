"""What a task has under way beside the loop: each thing once at a time, and what goes wrong with it stays its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
from anyio.abc import TaskGroup

from gesso_node.state.book import Known
from gesso_node.state.passes import Passes
from gesso_protocol.errors import GessoError

log = structlog.get_logger("gesso.node.reconcile")

Step = Callable[[], Awaitable[None]]


class Background:
    """Runs steps in `tasks`, and has the next pass look at what came of them."""

    def __init__(self, tasks: TaskGroup, passes: Passes) -> None:
        self._tasks = tasks
        self._passes = passes
        self.now = 0
        """The chain second of the last pass."""

    def start(self, known: Known, verb: str, step: Step) -> None:
        """Do it, unless this task is at it already."""
        if verb in known.busy:
            return
        known.busy.add(verb)
        self._tasks.start_soon(self._run, known, verb, step)

    def together(self, batch: list[Known], verb: str, step: Step) -> None:
        """Do it for many tasks at once; `step` minds its own errors."""
        for known in batch:
            known.busy.add(verb)
        self._tasks.start_soon(self._run_together, batch, verb, step)

    def wake(self) -> None:
        """Something changed: do not wait for the next tick."""
        self._passes.wake()

    async def _run(self, known: Known, verb: str, step: Step) -> None:
        try:
            await step()
        except GessoError as error:
            log.warning(
                "reconcile.step-failed", task=known.task.short, verb=verb, code=error.code, reason=error.message
            )
            known.not_before = self.now + 1
        except Exception:  # one task must never end the node, and with it all others
            log.exception("reconcile.step-broke", task=known.task.short, verb=verb)
            known.not_before = self.now + 1
        finally:
            known.busy.discard(verb)
            self.wake()

    async def _run_together(self, batch: list[Known], verb: str, step: Step) -> None:
        try:
            await step()
        finally:
            for known in batch:
                known.busy.discard(verb)
            self.wake()
