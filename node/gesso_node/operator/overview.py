"""Looking at a running node: its parts to the one read model."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from gesso.chain import Chain
from gesso.transport.port import Transport
from gesso_node.auditing.report import AuditsReport
from gesso_node.executors.port import Executor
from gesso_node.metrics import Metrics
from gesso_node.models.cache import ModelCache
from gesso_node.operator.lines import ended_line, task_line
from gesso_node.operator.status import ExecutorLine, NodeStatus, TaskLine, money
from gesso_node.settings import NodeSettings
from gesso_node.state.book import Book
from gesso_node.state.journal import Journal
from gesso_node.state.observe import Observer
from gesso_node.tasks.discover import Announcements
from gesso_node.tasks.reconcile import Reconciler
from gesso_node.work.workbench import Workbench

RECENT = 20
OPEN = 100
HEALTHY_WITHIN_S = 30.0


class Overview:
    """Reads, and changes nothing but the gauges."""

    def __init__(
        self,
        settings: NodeSettings,
        chain: Chain,
        *,
        transport: Transport | None,
        executor: Executor,
        journal: Journal,
        book: Book,
        observer: Observer,
        models: ModelCache,
        workbench: Workbench,
        reconciler: Reconciler,
        announcements: Announcements | None,
        metrics: Metrics,
        audits: Callable[[], Awaitable[AuditsReport]],
    ) -> None:
        self._settings = settings
        self._chain = chain
        self._transport = transport
        self._executor = executor
        self._journal = journal
        self._book = book
        self._observer = observer
        self._models = models
        self._workbench = workbench
        self._reconciler = reconciler
        self._announcements = announcements
        self._metrics = metrics
        self._audits = audits
        self._begun = time.monotonic()

    async def status(self) -> NodeStatus:
        """The read model; also sets the gauges."""
        cached = self._models.cached()
        earned = await self._journal.earned()
        size = sum(model.size for model in cached)
        peers = len(self._transport.peers()) if self._transport else 0
        self._metrics.observe(
            earned_tokens=float(money(earned)),
            held=self._book.held(),
            cache_bytes=size,
            peers=peers,
            block=self._observer.block,
        )
        return NodeStatus(
            name=self._settings.name,
            wallet=str(self._book.me),
            peer=str(self._transport.peer_id) if self._transport else None,
            peers=peers,
            addresses=self._transport.addresses if self._transport else (),
            chain_id=self._chain.chain_id,
            block=self._observer.block,
            healthy=self._reconciler.idle_s() < HEALTHY_WITHIN_S,
            draining=self._reconciler.draining,
            weight=self._book.weights.mine,
            total_weight=self._book.weights.total,
            slots=self._settings.policy.max_waiting,
            held=self._book.held(),
            free=self._book.free(self._settings.policy.max_waiting),
            uptime_s=int(time.monotonic() - self._begun),
            earned=money(earned),
            current=self._current(),
            open_tasks=tuple(task_line(known) for known in self._book if known.entry is not None)[:OPEN],
            recent=tuple(ended_line(entry) for entry in await self._journal.recent(RECENT)),
            refused=await self._journal.tally("refused"),
            ended=await self._journal.tally("ended"),
            failed=await self._journal.tally("failed"),
            models=tuple(model.label for model in cached),
            model_bytes=size,
            executor=self._engine(),
            heard=self._announcements.heard if self._announcements else 0,
            roles=self._settings.roles,
            auditing=(await self._audits()).totals,
        )

    def _engine(self) -> ExecutorLine:
        health = self._executor.health()
        return ExecutorLine(
            engine=health.name, busy=health.busy, warm=health.warm, started=health.started, ended=health.ended
        )

    def _current(self) -> TaskLine | None:
        if self._workbench.current is None:
            return None
        known, step = self._workbench.current
        line = task_line(known)
        return line if step is None else line.model_copy(update={"step": step.index, "total": step.total})
