"""The parts of the reconcile loop put together from a node's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from anyio.abc import TaskGroup

from gesso.blobs import BlobStore
from gesso.chain import Chain
from gesso_node.metrics import Metrics
from gesso_node.models.cache import ModelCache
from gesso_node.models.room import free_bytes
from gesso_node.network.progress import ProgressSender
from gesso_node.settings import NodeSettings
from gesso_node.state.book import Book
from gesso_node.state.journal import Journal
from gesso_node.state.observe import Observer
from gesso_node.state.passes import Passes
from gesso_node.tasks.background import Background
from gesso_node.tasks.delivery import Delivery
from gesso_node.tasks.intake import Intake
from gesso_node.tasks.judging import Judge
from gesso_node.tasks.policy import Policy
from gesso_node.tasks.reconcile import Reconciler
from gesso_node.tasks.sending import Sending
from gesso_node.tasks.settlement import Settlement
from gesso_node.work.results import Outbox
from gesso_node.work.workbench import Workbench


def reconciler_of(
    settings: NodeSettings,
    chain: Chain,
    journal: Journal,
    *,
    book: Book,
    observer: Observer,
    policy: Policy,
    models: ModelCache,
    needs_model: bool,
    workbench: Workbench,
    progress: ProgressSender,
    blobs: BlobStore,
    outbox: Outbox,
    metrics: Metrics,
    tasks: TaskGroup,
    engaged: Callable[[int], bool],
) -> Reconciler:
    """The loop over all tasks; `tasks` is where its background work lives."""
    passes = Passes("reconcile")
    background = Background(tasks, passes)
    intake = Intake(
        chain,
        blobs,
        models,
        needs_model=needs_model,
        room_bytes=settings.policy.max_training_disk_bytes,
        free=partial(free_bytes, settings.data_dir),
        pays=policy.pays,
    )
    return Reconciler(
        chain=chain,
        journal=journal,
        book=book,
        observer=observer,
        workbench=workbench,
        progress=progress,
        metrics=metrics,
        passes=passes,
        background=background,
        judge=Judge(
            policy=policy,
            intake=intake,
            book=book,
            journal=journal,
            blobs=blobs,
            metrics=metrics,
            slots=settings.policy.max_waiting,
        ),
        sending=Sending(chain, journal, observer, progress, metrics, background),
        delivery=Delivery(chain, book, progress, outbox, background),
        settlement=Settlement(
            chain,
            journal,
            book,
            metrics,
            background,
            batch=settings.settle_batch if settings.settle else None,
            wait_s=settings.settle_wait_s,
        ),
        working=settings.work,
        engaged=engaged,
    )
