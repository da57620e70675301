"""The node's composition root: settings become parts here and nowhere else, and parts get each other by constructor."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

import anyio
import httpx
import structlog
from anyio.abc import TaskGroup

from gesso.blobs import BlobStore, LocalBlobs
from gesso.chain import Chain
from gesso.transport.port import Transport
from gesso_node.auditing.parts import AuditParts, open_auditing
from gesso_node.executors.port import Executor
from gesso_node.metrics import Metrics
from gesso_node.models.cache import ModelCache
from gesso_node.models.catalogue import Catalogue
from gesso_node.models.demand import Demand, Prefetcher
from gesso_node.models.room import backup_room, free_bytes
from gesso_node.network.addresses import Addresses
from gesso_node.network.progress import ProgressSender
from gesso_node.operator.status import money
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
from gesso_node.tasks.discover import Announcements
from gesso_node.tasks.parts import reconciler_of
from gesso_node.tasks.policy import Policy
from gesso_node.tasks.recall import Recall
from gesso_node.tasks.reconcile import Reconciler
from gesso_node.tasks.spare import Spare
from gesso_node.traces.handed import Handed
from gesso_node.traces.kept import Traces
from gesso_node.traces.lent import LentModels
from gesso_node.traces.opened import OwnTraces
from gesso_node.traces.openings import Openings
from gesso_node.traces.rights import Rights
from gesso_node.work.results import Outbox
from gesso_node.work.training import TrainingDesk
from gesso_node.work.workbench import Workbench
from gesso_protocol.lifecycle import Patience
from gesso_protocol.terms import BoardParams

log = structlog.get_logger("gesso.node")


@dataclass(frozen=True, slots=True)
class Given:
    """Parts that whoever opens a node brings along: used, and not closed."""

    chain: Chain | None = None
    transport: Transport | None = None
    blobs: BlobStore | None = None
    executor: Executor | None = None
    on_write: WriteHook | None = None


@dataclass(frozen=True, slots=True)
class Ground:
    """What reaches outside the process, and what lives as long as the node."""

    settings: NodeSettings
    chain: Chain
    params: BoardParams
    transport: Transport | None
    relays: Sequence[httpx.AsyncClient]
    local: LocalBlobs | None
    remotes: Sequence[BlobStore]
    blobs: BlobStore
    trainer: Executor
    executor: Executor
    traces: Traces
    journal: Journal
    tasks: TaskGroup
    metrics: Metrics

    @property
    def needs_model(self) -> bool:
        return self.executor.name != "fake"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a node knows of models, of its own speed and of others, and what it takes by that."""

    addresses: Addresses | None
    rivals: Rivals
    book: Book
    catalogue: Catalogue
    models: ModelCache
    training: TrainingPace
    drawing: PicturePace
    policy: Policy
    progress: ProgressSender
    observer: Observer
    prefetcher: Prefetcher | None


@dataclass(frozen=True, slots=True)
class NodeParts:
    """What a node is made of."""

    ground: Ground
    judgement: Judgement
    audits: AuditParts
    workbench: Workbench
    reconciler: Reconciler
    announcements: Announcements | None


async def assemble(stack: AsyncExitStack, settings: NodeSettings, given: Given) -> NodeParts:
    """Every part, open until `stack` is closed. Raises ConfigError, WalletError, Unreachable."""
    ground = await _open_ground(stack, settings, given)
    judgement = await _judgement(ground)
    desk = await _desk(ground, judgement)
    audits = await _open_audits(ground, judgement, desk)
    workbench = _workbench(ground, judgement, desk)
    outbox = Outbox(ground.local, ground.remotes)
    reconciler = reconciler_of(
        settings,
        ground.chain,
        ground.journal,
        book=judgement.book,
        observer=judgement.observer,
        policy=judgement.policy,
        models=judgement.models,
        needs_model=ground.needs_model,
        workbench=workbench,
        progress=judgement.progress,
        blobs=ground.blobs,
        outbox=outbox,
        metrics=ground.metrics,
        tasks=ground.tasks,
        engaged=audits.engaged,
    )
    announcements = _announcements(ground, judgement, reconciler, outbox)
    _serve_openings(ground, judgement, audits)
    return NodeParts(ground, judgement, audits, workbench, reconciler, announcements)


async def _open_ground(stack: AsyncExitStack, settings: NodeSettings, given: Given) -> Ground:
    data = settings.data_dir
    data.mkdir(parents=True, exist_ok=True)
    chain = given.chain or await open_chain(stack, settings)
    transport = given.transport or await open_transport(stack, settings)
    local, remotes, blobs = await open_blobs(stack, settings, given.blobs)
    trainer = given.executor or await open_executor(stack, settings)
    executor = dishonest(settings, trainer)
    traces = Traces(
        data / "work",
        budget_bytes=settings.executor.trace_budget_bytes,
        keep_s=settings.executor.trace_keep_s,
        drop=(lambda _: None) if local is None else local.remove,
    )
    await traces.prune()
    relays = await open_relays(stack, settings)
    journal = await stack.enter_async_context(Journal(data / "journal.sqlite", on_write=given.on_write))
    tasks = await stack.enter_async_context(anyio.create_task_group())
    stack.callback(tasks.cancel_scope.cancel)
    return Ground(
        settings=settings,
        chain=chain,
        params=await chain.params(),
        transport=transport,
        relays=relays,
        local=local,
        remotes=remotes,
        blobs=blobs,
        trainer=trainer,
        executor=executor,
        traces=traces,
        journal=journal,
        tasks=tasks,
        metrics=Metrics(),
    )


async def _judgement(ground: Ground) -> Judgement:
    settings, chain, transport, journal = ground.settings, ground.chain, ground.transport, ground.journal
    addresses = None if transport is None else Addresses(chain, transport, ground.relays)
    rivals = Rivals(chain, None if addresses is None else addresses.wallets)
    book = Book(chain.address, ground.params, Patience(resend_after_s=settings.resend_after_s), rivals)
    catalogue = Catalogue(chain)
    line = DownloadPace(journal)
    await line.restore()
    budget = settings.models.disk_budget_bytes
    models = ModelCache(settings.data_dir / "models", ground.blobs, budget_bytes=budget, fetched=line.learn)
    engine = ground.executor.name
    training = TrainingPace(journal, unmeasured=unmeasured_pace(settings.policy.training_pace_s, engine))
    await training.restore()
    drawing = PicturePace(journal, unmeasured=unmeasured_pace(settings.policy.picture_pace_s, engine))
    await drawing.restore()
    policy = Policy(
        settings.policy,
        ground.params,
        catalogue,
        models,
        needs_model=ground.needs_model,
        pace=training.of,
        picture_pace=drawing.of,
        free=partial(free_bytes, settings.data_dir),
        fetching=line.seconds,
    )
    demand = Demand()
    return Judgement(
        addresses=addresses,
        rivals=rivals,
        book=book,
        catalogue=catalogue,
        models=models,
        training=training,
        drawing=drawing,
        policy=policy,
        progress=ProgressSender(chain.address, transport, ground.relays if settings.progress_relay else ()),
        observer=Observer(chain, journal, book, catalogue, on_payment=_log_payment, demand=demand),
        prefetcher=prefetcher_of(settings.models, demand, catalogue, models, policy) if ground.needs_model else None,
    )


async def _desk(ground: Ground, judgement: Judgement) -> TrainingDesk:
    sharer = await open_sharer(
        ground.settings, ground.chain, ground.blobs, ground.local, judgement.progress, ground.journal, ground.tasks
    )
    return TrainingDesk(
        chain=ground.chain,
        executor=ground.trainer,
        models=judgement.models,
        blobs=ground.blobs,
        needs_model=ground.needs_model,
        sharer=sharer,
        pace=judgement.training,
    )


async def _open_audits(ground: Ground, judgement: Judgement, desk: TrainingDesk) -> AuditParts:
    return await open_auditing(
        ground.settings,
        ground.chain,
        ground.journal,
        transport=ground.transport,
        addresses=judgement.addresses,
        blobs=ground.blobs,
        local=ground.local,
        remotes=ground.remotes,
        relays=ground.relays,
        executor=ground.executor,
        models=judgement.models,
        bench=desk.bench,
        catalogue=judgement.catalogue,
        metrics=ground.metrics,
        tasks=ground.tasks,
        occupied=Spare(judgement.book, judgement.policy.seconds).lacks,
    )


def _workbench(ground: Ground, judgement: Judgement, desk: TrainingDesk) -> Workbench:
    section = ground.settings.executor
    return Workbench(
        chain_id=ground.chain.chain_id,
        board=ground.chain.settings.contracts.task_board,
        book=judgement.book,
        journal=ground.journal,
        executor=ground.executor,
        models=judgement.models,
        blobs=ground.blobs,
        progress=judgement.progress,
        metrics=ground.metrics,
        traces=ground.traces,
        secrets=trace_secrets(ground.chain),
        backups=ground.local or ground.blobs,
        needs_model=ground.needs_model,
        keep_traces=section.keep_traces,
        chain_now=ground.chain.now,
        training=desk,
        backup_room=partial(backup_room, ground.settings.data_dir, section.run_backup_bytes),
        pace=judgement.drawing,
    )


def _announcements(
    ground: Ground, judgement: Judgement, reconciler: Reconciler, outbox: Outbox
) -> Announcements | None:
    if ground.transport is None:
        return None
    return Announcements(
        ground.transport,
        judgement.observer,
        judgement.progress,
        chain_id=ground.chain.chain_id,
        board=ground.chain.settings.contracts.task_board,
        chain_now=ground.chain.now,
        wake=reconciler.wake,
        recall=Recall(ground.journal, ground.blobs, outbox, judgement.progress),
    )


def _serve_openings(ground: Ground, judgement: Judgement, audits: AuditParts) -> None:
    """Only with a transport to be asked through, and blobs of our own to answer with."""
    chain = ground.chain
    if ground.transport is None or ground.local is None:
        return
    own = OwnTraces(
        ground.journal,
        ground.blobs,
        ground.traces.path,
        trace_secrets(chain),
        chain_id=chain.chain_id,
        board=chain.settings.contracts.task_board,
        node=chain.address,
        lost=audits.lost_entry,
        adopt=judgement.observer.adopt,
    )
    withhold = ground.settings.executor.cheat == "withhold"
    handed = Handed(ground.local, ground.blobs)
    lent = LentModels(judgement.models, ground.journal).path
    Openings(own, Rights(chain, chain.address), handed, lent=lent, withhold=withhold).serve(ground.transport)


def _log_payment(known: Known) -> None:
    paid = known.entry.paid if known.entry else None
    log.info("node.paid", task=known.task.short, amount=money(paid or 0))
