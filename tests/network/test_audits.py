"""Audits on whole networks: honest work is audited and paid, each cheat is caught, slashed and refunded."""

from __future__ import annotations

import anyio
import pytest
from network_acts import PATIENCE_S, until_state

from gesso.chain.arbiter import AuditRecord
from gesso_devnet import Devnet
from gesso_protocol.audit.lifecycle import AuditPhase
from gesso_protocol.audit.outcomes import AuditVerdict, DisputeOutcome
from gesso_protocol.ids import TaskId
from gesso_protocol.lifecycle import TaskState

pytestmark = pytest.mark.anyio


async def audit_of(net: Devnet, task: TaskId) -> AuditRecord:
    assert net.chain.arbiter is not None
    return await net.chain.arbiter.audit(task)


async def test_an_honest_audit_passes_and_everybody_is_paid() -> None:
    async with Devnet.open(nodes=1, watchers=2, audit_rate=10_000) as net:
        assert net.chain.arbiter is not None
        task = await net.submitter.submit(await net.submitter.spec("an honest lighthouse"))
        with anyio.fail_after(PATIENCE_S):
            await until_state(net, task.id, TaskState.SETTLED)
            audit = await audit_of(net, task.id)
        assert audit.phase is AuditPhase.CLOSED
        assert set(audit.auditors) == {watcher.address for watcher in net.watchers}
        assert audit.verdicts == (AuditVerdict.PASS, AuditVerdict.PASS)
        assert await net.chain.arbiter.passed_of(net.nodes[0].address) == 1
        assert await net.earned(net.nodes[0].address) > 0
        assert await net.balanced()


async def test_a_node_that_runs_fewer_steps_is_slashed_and_the_requester_refunded() -> None:
    async with Devnet.open(nodes=1, watchers=5, audit_rate=10_000, cheats={0: "fewer-steps"}) as net:
        assert net.chain.arbiter is not None
        before = (await net.submitter.balance()).deposit
        stake = (await net.chain.node(net.nodes[0].address)).stake
        task = await net.submitter.submit(await net.submitter.spec("half a lighthouse"))
        with anyio.fail_after(PATIENCE_S):
            await until_state(net, task.id, TaskState.EXPIRED)
        dispute = await net.chain.arbiter.dispute(task.id)
        assert dispute.outcome is DisputeOutcome.GUILTY
        assert (await net.chain.node(net.nodes[0].address)).stake < stake
        assert (await net.submitter.balance()).deposit == before
        assert await net.chain.arbiter.credit_of(net.cast.submitter.address) > 0
        assert await net.balanced()
