"""An arbiter, a beacon and a board's word on one task, as `Rights` and `Watch` ask them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from gesso.chain import Chain
from gesso.chain.arbiter import AuditRecord
from gesso.chain.beacon import BeaconClock
from gesso_protocol.audit.lifecycle import AuditPhase
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.ids import Address, TaskId
from gesso_protocol.lifecycle import TaskRecord, TaskState
from gesso_protocol.terms import BoardParams

NO_AUDIT = AuditRecord(AuditPhase.NONE, 0, (), (), challenged=False)


@dataclass
class ArbiterDouble:
    """Says what a test sets. `calls` counts what was asked."""

    rules_: AuditRules = field(default_factory=lambda: AuditRules(vetting_rate_bps=10_000, audit_commit_window_s=60))
    seeds: dict[int, bytes] = field(default_factory=dict)
    record: AuditRecord = NO_AUDIT
    calls: int = 0

    async def rules(self) -> AuditRules:
        return self.rules_

    async def clock(self) -> BeaconClock:
        return BeaconClock(0, 0, 10)

    async def seed_of(self, round_: int) -> bytes | None:
        self.calls += 1
        return self.seeds.get(round_)

    async def listen(self, round_: int) -> bytes | None:
        return await self.seed_of(round_)

    async def audit(self, _: TaskId) -> AuditRecord:
        return self.record

    async def passed_of(self, _: Address) -> int:
        return 0


@dataclass
class ChainDouble:
    """One task on one board."""

    node: Address
    state: TaskState = TaskState.COMMITTED
    since: int = 100
    now_: int = 105
    arbiter: ArbiterDouble | None = field(default_factory=ArbiterDouble)
    peers: dict[bytes, Address] = field(default_factory=dict)

    async def node_of_peer(self, peer_id: bytes) -> Address | None:
        return self.peers.get(peer_id)

    def as_chain(self) -> Chain:
        return cast(Chain, self)

    async def task(self, task: TaskId) -> TaskRecord:
        return TaskRecord(task, self.state, self.node, self.since)

    async def now(self) -> int:
        return self.now_

    async def params(self) -> BoardParams:
        return BoardParams(challenge_window_s=50, sortition_step_s=1)
