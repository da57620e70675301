"""Telling again where an old result is, to whoever announces a task that this node has done.

The chain keeps a result's root and not its name, and a relay may have lost both name and bytes. The node that was paid
for it still knows them. Answering is a courtesy with a bound: so often altogether, one connection a task.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

import structlog

from gesso.blobs import BlobStore
from gesso_node.network.progress import ProgressSender
from gesso_node.state.journal import Journal
from gesso_node.work.results import Outbox
from gesso_protocol.errors import GessoError
from gesso_protocol.ids import TaskId
from gesso_protocol.result import ResultManifest
from gesso_protocol.spec import Spec, spec_bytes

log = structlog.get_logger("gesso.node.recall")

EVERY_S = 1.0
SAME_TASK_EVERY_S = 5.0
MAX_RECALLED = 16


class Recall:
    """`recall` is asked for every announcement; True when the task is one of ours that is done."""

    def __init__(
        self,
        journal: Journal,
        blobs: BlobStore,
        outbox: Outbox,
        progress: ProgressSender,
        *,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._blobs = blobs
        self._outbox = outbox
        self._progress = progress
        self._clock_s = clock_s
        self._told_at_s: OrderedDict[TaskId, float] = OrderedDict()

    async def recall(self, task: TaskId, peer: str | None, reply_to: tuple[str, ...]) -> bool:
        """Give stores and requester the result of a task that is over for us."""
        entry = await self._journal.entry(task)
        if entry is None or entry.result is None or entry.closed is None:
            return False
        if not self._may_answer(task):
            return True
        log.info("recall.told", task=task.short)
        self._progress.remember(task, peer, reply_to)
        await self._give(entry.spec, entry.result)
        self._progress.stage(task, "committed", str(entry.result.ref))
        while len(self._told_at_s) > MAX_RECALLED:
            await self._progress.release(self._told_at_s.popitem(last=False)[0])
        return True

    async def _give(self, spec: Spec | None, result: ResultManifest) -> None:
        try:
            if spec is not None:
                await self._blobs.put(spec_bytes(spec))
            await self._outbox.offer(result)
        except GessoError as error:
            log.info("recall.store-away", task=result.task.short, code=error.code)

    def _may_answer(self, task: TaskId) -> bool:
        now_s = self._clock_s()
        latest_s = next(reversed(self._told_at_s.values()), -EVERY_S)
        if now_s - latest_s < EVERY_S or now_s - self._told_at_s.get(task, -SAME_TASK_EVERY_S) < SAME_TASK_EVERY_S:
            return False
        self._told_at_s[task] = now_s
        self._told_at_s.move_to_end(task)
        return True
