"""A node on the network: its loops side by side, its place in the registry, and what is to be seen of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import structlog

from gesso.blobs import BlobStore
from gesso.chain import Chain, NodeState
from gesso.transport.keys import peer_id_bytes
from gesso.transport.port import Transport
from gesso_node.assembly import Given, NodeParts, assemble
from gesso_node.auditing.report import AuditsReport, audits_report
from gesso_node.executors.port import Executor
from gesso_node.network.neighbours import Neighbours
from gesso_node.operator.doctor import Doctor, Finding
from gesso_node.operator.overview import Overview
from gesso_node.operator.status import NodeStatus, money
from gesso_node.settings import NodeSettings
from gesso_node.state.journal import WriteHook
from gesso_node.tasks.discover import Adverts
from gesso_node.work.warming import warm_up

log = structlog.get_logger("gesso.node")

FLUSH_S = 3.0


class Node:
    """One worker on the network. Make it with `Node.open`; then `serve`, or call `once` yourself."""

    def __init__(self, parts: NodeParts) -> None:
        ground, judgement = parts.ground, parts.judgement
        self.settings = ground.settings
        self.address = judgement.book.me
        self.transport = ground.transport
        self.metrics = ground.metrics
        self._chain = ground.chain
        self._executor = ground.executor
        self._journal = ground.journal
        self._book = judgement.book
        self._observer = judgement.observer
        self._catalogue = judgement.catalogue
        self._policy = judgement.policy
        self._models = judgement.models
        self._progress = judgement.progress
        self._prefetcher = judgement.prefetcher
        self._addresses = judgement.addresses
        self._rivals = judgement.rivals
        self._workbench = parts.workbench
        self._reconciler = parts.reconciler
        self._announcements = parts.announcements
        self._audits = parts.audits
        self.doctor = Doctor(
            self.settings,
            self._chain,
            self.address,
            self._executor,
            self._catalogue,
            self.transport,
            self._audits.rests,
        )
        self._overview = Overview(
            self.settings,
            self._chain,
            transport=self.transport,
            executor=self._executor,
            journal=self._journal,
            book=self._book,
            observer=self._observer,
            models=self._models,
            workbench=self._workbench,
            reconciler=self._reconciler,
            announcements=self._announcements,
            metrics=self.metrics,
            audits=self.audits,
        )

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
            node = cls(await assemble(stack, settings, Given(chain, transport, blobs, executor, on_write)))
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
            tasks.start_soon(warm_up, self._executor, self._catalogue, self._models, self.settings.models.prefetch)
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
        return await self._overview.status()

    async def audits(self) -> AuditsReport:
        """What `gesso node audits` shows."""
        return await audits_report(self._audits.records, self._audits.rests, self.settings.roles)

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
        elif record.peer_id != peer and record.state is NodeState.UNBONDING:
            # The registry keeps the key of who leaves. What is still owed has to be answered all the same.
            log.warning("node.key-is-not-registered", hint="restore the peer key of this node; others cannot find it")
        elif record.peer_id != peer:
            await self._chain.update_node(peer, offer)
            log.info("node.updated")

    def _free(self) -> int:
        return self._book.free(self.settings.policy.max_waiting)

    async def _until_drained(self) -> None:
        while not (self._reconciler.draining and self._reconciler.finished()):
            await self._reconciler.passed()
