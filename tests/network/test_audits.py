"""Audits on whole networks: honest work is audited and paid, each cheat is caught, slashed and refunded."""

from __future__ import annotations

import pytest
from audit_acts import ALWAYS, PATIENT, RULES, arbiter_of, ended, filing_of, order, outcome, said, stake
from network_acts import until_state

from gesso.earnings.reader import read_earnings
from gesso_devnet import Devnet
from gesso_protocol.audit.outcomes import AuditOutcome, AuditVerdict, DisputeOutcome
from gesso_protocol.lifecycle import TaskState

pytestmark = pytest.mark.anyio
SILENT = ("withhold", "copied-root")
"""What opens nothing is waited for until the windows are over."""


async def test_an_honest_audit_passes_and_everybody_is_paid() -> None:
    async with Devnet.open(nodes=1, watchers=2, rules=PATIENT, audit_rate=ALWAYS) as net:
        node = net.nodes[0].address
        task = await order(net, "an honest lighthouse")
        assert await ended(net, task) is TaskState.SETTLED
        assert await outcome(net, task) is AuditOutcome.PASSED
        assert await said(net, task) == dict.fromkeys([watcher.address for watcher in net.watchers], AuditVerdict.PASS)
        assert await arbiter_of(net).passed_of(node) == 1
        assert await net.earned(node) > 0
        assert await net.balanced()


@pytest.mark.parametrize(
    "cheat",
    ["wrong-model", "fewer-steps", "low-guidance", "other-prompt", "wrong-noise", "swap-image", "withhold",
     "copied-root"],
)  # fmt: skip
async def test_a_cheat_is_caught_slashed_and_refunded(cheat: str) -> None:
    rules = RULES if cheat in SILENT else PATIENT
    async with Devnet.open(nodes=1, watchers=5, rules=rules, audit_rate=ALWAYS, cheats={0: cheat}) as net:
        node = net.nodes[0].address
        before, staked = await net.earned(net.cast.submitter.address), await stake(net, node)
        honest = {watcher.address: await stake(net, watcher.address) for watcher in net.watchers}
        task = await order(net, "a lighthouse that was never drawn")
        assert await ended(net, task) is TaskState.EXPIRED
        dispute = await arbiter_of(net).dispute(task)
        assert dispute.outcome is DisputeOutcome.GUILTY
        rules, fee = await arbiter_of(net).rules(), int((await filing_of(net, task)).terms.fee)
        slashed = max(rules.penalty_factor * fee, staked * rules.penalty_bps // 10_000)
        assert staked - await stake(net, node) == slashed
        assert await net.earned(net.cast.submitter.address) - before == slashed * rules.requester_bps // 10_000
        assert {watcher: await stake(net, watcher) for watcher in honest} == honest
        assert await arbiter_of(net).passed_of(node) == 0
        assert await net.balanced()
        for account in net.cast.addresses:  # slashes, fees of auditors and jurors, compensation: to the wei
            assert (await read_earnings(net.chain, account)).reconciled


async def test_a_trace_sold_twice_is_caught_the_second_time() -> None:
    async with Devnet.open(nodes=1, watchers=5, rules=PATIENT, audit_rate=ALWAYS, cheats={0: "sold-twice"}) as net:
        staked = await stake(net, net.nodes[0].address)
        assert await ended(net, await order(net, "the first buyer", seed=1)) is TaskState.SETTLED
        assert await ended(net, await order(net, "the second buyer", seed=2)) is TaskState.EXPIRED
        assert await stake(net, net.nodes[0].address) < staked
        assert await net.balanced()


async def test_a_task_without_audits_is_paid_without_one() -> None:
    async with Devnet.open(nodes=1, watchers=2, rules=RULES, audit_rate=ALWAYS) as net:
        spec = await net.submitter.spec("no questions asked", steps=10)
        task = (await net.submitter.submit(spec, audit="none")).id
        await until_state(net, task, TaskState.COMMITTED)
        await net.warp((await net.chain.params()).challenge_window_s)
        assert await ended(net, task) is TaskState.SETTLED
        assert await outcome(net, task) is AuditOutcome.NONE
