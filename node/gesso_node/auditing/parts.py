"""The parts of auditing put together from a node's own, where the network has an arbiter."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import httpx
import structlog
from anyio.abc import TaskGroup

from gesso.blobs import BlobStore, LocalBlobs
from gesso.chain import Chain
from gesso.transport.port import Transport
from gesso_node.auditing.ask import Asker, FromNode
from gesso_node.auditing.auditor import Auditor
from gesso_node.auditing.case import Case
from gesso_node.auditing.cheats import AuditorCheat
from gesso_node.auditing.inspect import Inspector
from gesso_node.auditing.juror import Juror
from gesso_node.auditing.loop import Auditing
from gesso_node.auditing.pictures import Examiner
from gesso_node.auditing.record import AuditRecords
from gesso_node.auditing.rests import Rests
from gesso_node.auditing.sending import Sending
from gesso_node.auditing.shelf import Shelf
from gesso_node.auditing.watch import Watch
from gesso_node.auditing.works import Works
from gesso_node.executors.port import Executor
from gesso_node.metrics import Metrics
from gesso_node.models.cache import ModelCache
from gesso_node.models.catalogue import Catalogue
from gesso_node.network.addresses import Addresses
from gesso_node.settings import NodeSettings
from gesso_node.state.journal import Entry, Journal
from gesso_node.work.run_bench import RunBench
from gesso_protocol.errors import ConfigError, GessoError
from gesso_protocol.ids import TaskId
from gesso_protocol.lifecycle import Patience
from gesso_protocol.spec import MAX_SPEC_BYTES, Spec, parse_any_spec

log = structlog.get_logger("gesso.node.auditing")


@dataclass(frozen=True, slots=True)
class AuditParts:
    """What the node's composition root gets. `records` are kept where there is no arbiter too: they stay empty."""

    records: AuditRecords
    rests: Rests
    watch: Watch | None = None
    loop: Auditing | None = None
    asker: Asker | None = None
    blobs: BlobStore | None = None

    def engaged(self, now: int) -> bool:
        """Whether an audit of ours needs the executor before a training that is begun now could make way for it."""
        return self.loop is not None and self.loop.engaged(now)

    async def lost_entry(self, task: TaskId) -> Entry | None:
        """The journal's entry of a committed task of ours, from the chain and the stores, after a lost disk."""
        case = None if self.watch is None else self.watch.cases.get(task)
        if case is None or self.asker is None or self.blobs is None:
            return None
        result = await self.asker.result(task, case.filing, None)
        if result is None or result.node != case.filing.node:
            return None
        try:
            spec = parse_any_spec(await self.blobs.get(case.filing.terms.spec, max_bytes=MAX_SPEC_BYTES))
        except GessoError as error:
            log.warning("auditing.lost-task-unreadable", task=task.short, code=error.code)
            return None
        return Entry(
            task,
            case.filing.terms,
            case.heard_at,
            case.heard_at,
            spec,
            result.model_manifest,
            result=result,
            result_root=case.filing.result_root,
            trace_root=case.filing.trace_root,
            claim_sent_at=case.committed_at,
            commit_sent_at=case.committed_at,
        )


async def open_auditing(
    settings: NodeSettings,
    chain: Chain,
    journal: Journal,
    *,
    transport: Transport | None,
    addresses: Addresses | None,
    blobs: BlobStore,
    local: LocalBlobs | None,
    remotes: Sequence[BlobStore],
    relays: Sequence[httpx.AsyncClient],
    executor: Executor,
    models: ModelCache,
    bench: RunBench,
    catalogue: Catalogue,
    metrics: Metrics,
    tasks: TaskGroup,
    occupied: Callable[[Spec, int, int], bool],
) -> AuditParts:
    """Everything wired and restored. Raises ConfigError for a cheat that is not allowed, Unreachable."""
    records, rests = AuditRecords(journal), Rests(journal)
    arbiter = chain.arbiter
    if arbiter is None:
        return AuditParts(records, rests)
    cheat = _cheat(settings)
    asker = Asker(chain.address, blobs, transport, addresses, relays)
    needs_model = executor.name != "fake"
    inspector = Inspector(executor, models, needs_model=needs_model, source=partial(FromNode, asker))
    examiner = Examiner(asker, inspector)
    watch = Watch(chain, arbiter, journal, records, chain.address)
    data, budget = settings.data_dir.absolute(), settings.audits.disk_budget_bytes
    shelf = Shelf(data / "audits", blobs, budget_bytes=budget, evidence=data / "evidence", local=local, remotes=remotes)
    await shelf.open()

    def sending(start: Callable[[Case, str, Callable[[], Awaitable[None]]], None]) -> Sending:
        return Sending(arbiter, records, metrics, chain.address, start, cheat=cheat)

    loop = Auditing(
        chain=chain,
        arbiter=arbiter,
        records=records,
        watch=watch,
        auditor=Auditor(records, chain.now, cheat=cheat, rests=rests),
        juror=Juror(records, chain.now),
        works=Works(chain, blobs, catalogue, asker, examiner, bench, shelf),
        sending=sending,
        tasks=tasks,
        me=chain.address,
        patience=Patience(resend_after_s=settings.resend_after_s),
        seats=settings.audit,
        appeal=settings.audits.appeal,
        withdraw_at=settings.audits.withdraw_at,
        occupied=occupied,
    )
    await loop.restore()
    return AuditParts(records, rests, watch, loop, asker, blobs)


def _cheat(settings: NodeSettings) -> AuditorCheat | None:
    name = settings.audits.auditor_cheat
    if name is None:
        return None
    if not settings.executor.allow_cheats:
        raise ConfigError(
            f"the setting audits.auditor_cheat is {name!r}; an auditor that cheats loses its stake",
            hint="executor.allow_cheats exists for tests and devnets; remove audits.auditor_cheat",
        )
    log.warning("node.THIS-NODE-CHEATS-AS-AUDITOR", cheat=name)
    return AuditorCheat(name)
