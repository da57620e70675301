"""The node's composition root: settings become parts here and nowhere else, and parts get each other by constructor."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import anyio
import structlog

from gesso.blobs import BlobStore
from gesso.chain import Chain, NodeState
from gesso.transport.keys import peer_id_bytes
from gesso.transport.port import Transport
from gesso_node.auditing.parts import AuditParts, open_auditing
from gesso_node.auditing.report import AuditsReport, audits_report
from gesso_node.executors.port import Executor
from gesso_node.metrics import Metrics
from gesso_node.models.cache import ModelCache
from gesso_node.models.catalogue import Catalogue
from gesso_node.models.demand import Demand, Prefetcher
from gesso_node.models.room import backup_room, free_bytes
from gesso_node.network.addresses import Addresses
from gesso_node.network.neighbours import Neighbours
from gesso_node.network.progress import ProgressSender
from gesso_node.operator.doctor import Doctor, Finding
from gesso_node.operator.lines import ended_line, task_line
from gesso_node.operator.status import ExecutorLine, NodeStatus, TaskLine, money
from gesso_node.parts import (
    dishonest,
    open_blobs,
    open_chain,
    open_executor,
    open_relays,
    open_sharer,
    open_transport,
    prefetcher_of,
    trace_secrets,
)
from gesso_node.settings import NodeSettings
from gesso_node.state.book import Book, Known
from gesso_node.state.journal import Journal, WriteHook
from gesso_node.state.observe import Observer
from gesso_node.state.pace import DownloadPace, PicturePace, TrainingPace, unmeasured_pace
from gesso_node.state.rivals import Rivals
from gesso_node.tasks.discover import Adverts, Announcements
from gesso_node.tasks.intake import Intake
from gesso_node.tasks.policy import Policy
from gesso_node.tasks.recall import Recall
from gesso_node.tasks.reconcile import Reconciler
from gesso_node.tasks.spare import Spare
from gesso_node.traces.handed import Handed
from gesso_node.traces.kept import Traces
from gesso_node.traces.opened import OwnTraces
from gesso_node.traces.openings import Openings
from gesso_node.traces.rights import Rights
from gesso_node.work.results import Outbox
from gesso_node.work.training import TrainingDesk
from gesso_node.work.workbench import Workbench
from gesso_protocol.errors import GessoError
from gesso_protocol.lifecycle import Patience

log = structlog.get_logger("gesso.node")

RECENT = 20
HEALTHY_WITHIN_S = 30.0
FLUSH_S = 3.0


class Node:
    """One worker on the network. Make it with `Node.open`; then `serve`, or call `once` yourself."""

    def __init__(
        self,
        *,
        settings: NodeSettings,
        chain: Chain,
        transport: Transport | None,
        executor: Executor,
        journal: Journal,
        book: Book,
        observer: Observer,
        catalogue: Catalogue,
        policy: Policy,
        models: ModelCache,
        workbench: Workbench,
        progress: ProgressSender,
        reconciler: Reconciler,
        announcements: Announcements | None,
        metrics: Metrics,
        audits: AuditParts,
        prefetcher: Prefetcher | None,
        addresses: Addresses | None,
        rivals: Rivals,
    ) -> None:
        self.settings = settings
        self.address = book.me
        self.transport = transport
        self.metrics = metrics
        self.doctor = Doctor(settings, chain, book.me, executor, catalogue, transport)
        self._chain = chain
        self._executor = executor
        self._journal = journal
        self._book = book
        self._observer = observer
        self._catalogue = catalogue
        self._policy = policy
        self._models = models
        self._workbench = workbench
        self._progress = progress
        self._reconciler = reconciler
        self._announcements = announcements
        self._audits = audits
        self._prefetcher = prefetcher
        self._addresses = addresses
        self._rivals = rivals
        self._begun = time.monotonic()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        settings: NodeSettings,
        *,
        chain: Chain | None = None,
        transport: Transport | None = None,
        blobs: BlobStore | None = None,
        executor: Executor | None = None,
        on_write: WriteHook | None = None,
        joins: bool = True,
    ) -> AsyncIterator[Node]:
        """Build a node; parts that are given are used and not closed, the others are made from the settings.

        Raises ConfigError, WalletError, Unreachable. `on_write` hears of every journal write, for fault tests. One that
        does not join sends no transaction: it is only looked at.
        """
        async with AsyncExitStack() as stack:
            node = await _build(cls, stack, settings, chain, transport, blobs, executor, on_write)
            if joins:
                await node.register()
            await node._observer.restore(await node._chain.now())
            yield node

    async def serve(self) -> None:
        """Run until cancelled, or until `drain` has brought everything to its end."""
        async with anyio.create_task_group() as tasks:
            if self._announcements is not None:
                tasks.start_soon(self._announcements.run)
            if self.transport is not None:
                adverts = Adverts(
                    self.transport,
                    chain_id=self._chain.chain_id,
                    wallet=self.address,
                    offer=self._policy.offer,
                    free=self._free,
                )
                tasks.start_soon(adverts.run)
            tasks.start_soon(self._progress.run)
            tasks.start_soon(self._prefetch)
            if self._prefetcher is not None:
                tasks.start_soon(self._prefetcher.run)
            if self._addresses is not None and self.transport is not None:
                tasks.start_soon(self._addresses.run)
                tasks.start_soon(self._rivals.run)
                tasks.start_soon(Neighbours(self.transport, self._addresses).run)
            if self._audits.loop is not None:
                tasks.start_soon(self._audits.loop.forever, self.settings.audits.tick_s)
            tasks.start_soon(self._reconciler.forever, self.settings.tick_s)
            await self._until_drained()
            await self._progress.flush(FLUSH_S)
            tasks.cancel_scope.cancel()

    async def once(self, now: int | None = None) -> None:
        """One pass of the loop at chain second `now` (the chain's own when not given)."""
        await self._reconciler.once(await self._chain.now() if now is None else now)

    async def quiesce(self) -> None:
        """Wait until nothing is being done in the background."""
        await self._reconciler.quiesce()

    def drain(self) -> None:
        """Take nothing new, bring what is claimed to its commit, then let `serve` return."""
        log.info("node.draining", held=self._book.held())
        self._reconciler.drain()

    async def status(self) -> NodeStatus:
        """The read model; also sets the gauges."""
        cached = self._models.cached()
        health = self._executor.health()
        earned = await self._journal.earned()
        size = sum(model.size for model in cached)
        peers = len(self.transport.peers()) if self.transport else 0
        self.metrics.observe(
            earned_tokens=float(money(earned)),
            held=self._book.held(),
            cache_bytes=size,
            peers=peers,
            block=self._observer.block,
        )
        return NodeStatus(
            name=self.settings.name,
            wallet=str(self.address),
            peer=str(self.transport.peer_id) if self.transport else None,
            peers=peers,
            addresses=self.transport.addresses if self.transport else (),
            chain_id=self._chain.chain_id,
            block=self._observer.block,
            healthy=self._reconciler.idle_s() < HEALTHY_WITHIN_S,
            draining=self._reconciler.draining,
            weight=self._book.weights.mine,
            total_weight=self._book.weights.total,
            slots=self.settings.policy.max_waiting,
            held=self._book.held(),
            free=self._free(),
            uptime_s=int(time.monotonic() - self._begun),
            earned=money(earned),
            current=self._current(),
            open_tasks=tuple(task_line(known) for known in self._book if known.entry is not None)[:100],
            recent=tuple(ended_line(entry) for entry in await self._journal.recent(RECENT)),
            refused=await self._journal.tally("refused"),
            ended=await self._journal.tally("ended"),
            failed=await self._journal.tally("failed"),
            models=tuple(model.label for model in cached),
            model_bytes=size,
            executor=ExecutorLine(
                engine=health.name, busy=health.busy, warm=health.warm, started=health.started, ended=health.ended
            ),
            heard=self._announcements.heard if self._announcements else 0,
            roles=self.settings.roles,
            auditing=(await self.audits()).totals,
        )

    async def audits(self) -> AuditsReport:
        """What `gesso node audits` shows."""
        return await audits_report(self._audits.records, self.settings.roles)

    async def examine(self) -> tuple[Finding, ...]:
        """What `gesso node doctor` shows."""
        return await self.doctor.examine()

    async def register(self) -> None:
        """Join the registry with the stake of the settings, or bring our record up to date."""
        record = await self._chain.node(self.address)
        peer = peer_id_bytes(self.transport.peer_id) if self.transport else self.address.raw
        offer = self._policy.offer().digest()
        if record.state is NodeState.NONE:
            if not self.settings.stake:
                log.warning("node.not-registered", hint="set `stake`, or register this wallet yourself")
                return
            receipt = await self._chain.register_node(peer, offer, self.settings.stake)
            log.info("node.registered", stake=money(self.settings.stake), gas=receipt.gas_used)
        elif record.peer_id != peer:
            await self._chain.update_node(peer, offer)
            log.info("node.updated")

    def _free(self) -> int:
        return self._book.free(self.settings.policy.max_waiting)

    def _current(self) -> TaskLine | None:
        if self._workbench.current is None:
            return None
        known, step = self._workbench.current
        line = task_line(known)
        return line if step is None else line.model_copy(update={"step": step.index, "total": step.total})

    async def _prefetch(self) -> None:
        """Have the wanted models loaded before a task needs them; what cannot be had now is fetched with its task."""
        if self._executor.name == "fake":
            await self._executor.warm(None)
            return
        for label in self.settings.models.prefetch:
            manifest = self._catalogue.models().get(label)
            if manifest is None:
                log.warning("node.prefetch-unknown", model=label)
                continue
            try:
                folder = await self._models.ensure(manifest)
                with self._models.using(manifest):
                    await self._executor.warm(folder)
            except GessoError as error:
                log.warning("node.prefetch-failed", model=label, code=error.code, reason=error.message)
            else:
                log.info("node.model-ready", model=label)

    async def _until_drained(self) -> None:
        while not (self._reconciler.draining and self._reconciler.finished()):
            await self._reconciler.passed()


async def _build(
    kind: type[Node],
    stack: AsyncExitStack,
    settings: NodeSettings,
    chain: Chain | None,
    transport: Transport | None,
    blobs: BlobStore | None,
    executor: Executor | None,
    on_write: WriteHook | None,
) -> Node:
    data = settings.data_dir
    data.mkdir(parents=True, exist_ok=True)
    chain = chain or await open_chain(stack, settings)
    transport = transport or await open_transport(stack, settings)
    local, remotes, blobs = await open_blobs(stack, settings, blobs)
    trainer = executor or await open_executor(stack, settings)
    executor = dishonest(settings, trainer)
    kept = Traces(
        data / "work",
        budget_bytes=settings.executor.trace_budget_bytes,
        keep_s=settings.executor.trace_keep_s,
        drop=(lambda _: None) if local is None else local.remove,
    )
    await kept.prune()
    relays = await open_relays(stack, settings)
    journal = await stack.enter_async_context(Journal(data / "journal.sqlite", on_write=on_write))
    tasks = await stack.enter_async_context(anyio.create_task_group())
    stack.callback(tasks.cancel_scope.cancel)

    needs_model = executor.name != "fake"
    board = chain.settings.contracts.task_board
    params = await chain.params()
    metrics = Metrics()
    addresses = None if transport is None else Addresses(chain, transport, relays)
    rivals = Rivals(chain, None if addresses is None else addresses.wallets)
    book = Book(chain.address, params, Patience(resend_after_s=settings.resend_after_s), rivals)
    catalogue = Catalogue(chain)
    line = DownloadPace(journal)
    await line.restore()
    models = ModelCache(data / "models", blobs, budget_bytes=settings.models.disk_budget_bytes, fetched=line.learn)
    pace = TrainingPace(journal, unmeasured=unmeasured_pace(settings.policy.training_pace_s, executor.name))
    await pace.restore()
    drawing = PicturePace(journal, unmeasured=unmeasured_pace(settings.policy.picture_pace_s, executor.name))
    await drawing.restore()
    policy = Policy(
        settings.policy,
        params,
        catalogue,
        models,
        needs_model=needs_model,
        pace=pace.of,
        picture_pace=drawing.of,
        free=partial(free_bytes, data),
        fetching=line.seconds,
    )
    progress = ProgressSender(chain.address, transport, relays if settings.progress_relay else ())
    sharer = await open_sharer(settings, chain, blobs, local, progress, journal, tasks)
    demand = Demand()
    observer = Observer(chain, journal, book, catalogue, on_payment=_log_payment, demand=demand)
    prefetcher = prefetcher_of(settings.models, demand, catalogue, models, policy) if needs_model else None
    secrets = trace_secrets(chain)
    desk = TrainingDesk(
        chain=chain, executor=trainer, models=models, blobs=blobs, needs_model=needs_model, sharer=sharer, pace=pace
    )
    audits = await open_auditing(
        settings,
        chain,
        journal,
        transport=transport,
        addresses=addresses,
        blobs=blobs,
        local=local,
        remotes=remotes,
        relays=relays,
        executor=executor,
        models=models,
        bench=desk.bench,
        catalogue=catalogue,
        metrics=metrics,
        tasks=tasks,
        occupied=Spare(book, policy.seconds).lacks,
    )
    own = OwnTraces(
        journal,
        blobs,
        kept.path,
        secrets,
        chain_id=chain.chain_id,
        board=board,
        node=chain.address,
        lost=audits.lost_entry,
        adopt=observer.adopt,
    )
    workbench = Workbench(
        chain_id=chain.chain_id,
        board=board,
        book=book,
        journal=journal,
        executor=executor,
        models=models,
        blobs=blobs,
        progress=progress,
        metrics=metrics,
        traces=kept,
        secrets=secrets,
        backups=local or blobs,
        needs_model=needs_model,
        keep_traces=settings.executor.keep_traces,
        chain_now=chain.now,
        training=desk,
        backup_room=partial(backup_room, data, settings.executor.run_backup_bytes),
        pace=drawing,
    )
    outbox = Outbox(local, remotes)
    reconciler = Reconciler(
        chain=chain,
        journal=journal,
        book=book,
        observer=observer,
        policy=policy,
        workbench=workbench,
        intake=Intake(
            chain,
            blobs,
            models,
            needs_model=needs_model,
            room_bytes=settings.policy.max_training_disk_bytes,
            free=partial(free_bytes, data),
            pays=policy.pays,
        ),
        progress=progress,
        blobs=blobs,
        outbox=outbox,
        metrics=metrics,
        tasks=tasks,
        slots=settings.policy.max_waiting,
        settle_batch=settings.settle_batch if settings.settle else None,
        settle_wait_s=settings.settle_wait_s,
        working=settings.work,
        engaged=audits.engaged,
    )
    announcements = None
    if transport is not None:
        announcements = Announcements(
            transport,
            observer,
            progress,
            chain_id=chain.chain_id,
            board=board,
            chain_now=chain.now,
            wake=reconciler.wake,
            recall=Recall(journal, blobs, outbox, progress),
        )
        if local is not None:
            withhold = settings.executor.cheat == "withhold"
            handed = Handed(local, blobs)
            Openings(own, Rights(chain, chain.address), handed, withhold=withhold).serve(transport)
    return kind(
        settings=settings,
        chain=chain,
        transport=transport,
        executor=executor,
        journal=journal,
        book=book,
        observer=observer,
        catalogue=catalogue,
        policy=policy,
        models=models,
        workbench=workbench,
        progress=progress,
        reconciler=reconciler,
        announcements=announcements,
        metrics=metrics,
        audits=audits,
        prefetcher=prefetcher,
        addresses=addresses,
        rivals=rivals,
    )


def _log_payment(known: Known) -> None:
    paid = known.entry.paid if known.entry else None
    log.info("node.paid", task=known.task.short, amount=money(paid or 0))
