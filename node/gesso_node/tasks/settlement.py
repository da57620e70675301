"""Settling what is due: many tasks in one transaction, when there are enough of them or the first has waited."""

from __future__ import annotations

from dataclasses import replace

import structlog

from gesso.chain import Chain, revert_name
from gesso_node.metrics import Metrics
from gesso_node.state.book import Book, Known
from gesso_node.state.journal import Journal
from gesso_node.tasks.background import Background
from gesso_protocol.errors import GessoError

log = structlog.get_logger("gesso.node.reconcile")


class Settlement:
    """Of all tasks in hand; `batch` None leaves settling to others."""

    def __init__(
        self,
        chain: Chain,
        journal: Journal,
        book: Book,
        metrics: Metrics,
        background: Background,
        *,
        batch: int | None,
        wait_s: int,
    ) -> None:
        self._chain = chain
        self._journal = journal
        self._book = book
        self._metrics = metrics
        self._background = background
        self._batch = batch
        self._wait_s = wait_s

    async def settle(self, due: list[Known], now: int) -> None:
        """Write down that those that are due are being settled, then settle them in the background."""
        due = [known for known in due if "settle" not in known.busy]
        if self._batch is None or not due:
            return
        waited = now - min(self._book.view(known).due or now for known in due)
        if len(due) < self._batch and waited < self._wait_s:
            return
        batch = due[: self._batch]
        await self._journal.update_all([known.task for known in batch], "settle", settle_sent_at=now)
        for known in batch:
            if known.entry is not None:
                known.entry = replace(known.entry, settle_sent_at=now)
        self._background.together(batch, "settle", lambda: self._send(batch))

    async def _send(self, batch: list[Known]) -> None:
        try:
            await self._chain.settle([known.terms for known in batch])
            self._metrics.sent("settle", "ok")
        except GessoError as error:
            self._metrics.sent("settle", revert_name(error) or error.code)
            log.warning("reconcile.settle-failed", tasks=len(batch), code=error.code, reason=error.message)
