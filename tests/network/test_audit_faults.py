"""Things that break while an audit is under way: it ends by itself, and whoever did its part loses nothing."""

from __future__ import annotations

import shutil

import anyio
import pytest
from audit_acts import (
    ALWAYS,
    PATIENT,
    RULES,
    arbiter_of,
    ended,
    filing_of,
    happened,
    order,
    outcome,
    quick,
    said,
    stake,
    start,
    stop,
    until_jurors,
    until_phase,
    until_sealed,
)
from network_acts import PATIENCE_S, until_state

from gesso.chain.arbiter import BURN_ADDRESS
from gesso.chain.audit_events import AuditOpened
from gesso.chain.chain import Chain
from gesso.chain.events import TaskExpired
from gesso_devnet import Devnet, controls
from gesso_protocol.audit.lifecycle import AuditPhase
from gesso_protocol.audit.outcomes import AuditOutcome, AuditVerdict, DisputeOutcome
from gesso_protocol.ids import TaskId
from gesso_protocol.lifecycle import TaskState

pytestmark = pytest.mark.anyio


async def test_an_auditor_that_dies_after_it_sealed_comes_back_and_reveals() -> None:
    async with Devnet.open(nodes=1, watchers=2, rules=PATIENT, audit_rate=ALWAYS, reconfigure=quick) as net:
        first, second = net.watchers
        await second.stop()  # while one seat is free nobody reveals
        task = await order(net, "interrupted auditor")
        assert await until_sealed(net, task, 1) == (first.address,)
        await first.stop()
        await second.start()
        await until_sealed(net, task, 2)
        await first.start()
        assert await ended(net, task) is TaskState.SETTLED
        assert list((await said(net, task)).values()) == [AuditVerdict.PASS] * 2
        assert await net.balanced()


async def test_an_auditor_that_never_comes_back_loses_its_penalty_and_the_node_is_paid() -> None:
    async with Devnet.open(nodes=1, watchers=2, rules=RULES, audit_rate=ALWAYS, reconfigure=quick) as net:
        gone, there = net.watchers
        await there.stop()  # while one seat is free nobody reveals
        task = await order(net, "an auditor is missing")
        assert await until_sealed(net, task, 1) == (gone.address,)
        await gone.stop()
        await there.start()
        staked = await stake(net, gone.address)
        assert await ended(net, task) is TaskState.SETTLED
        assert staked - await stake(net, gone.address) == (await arbiter_of(net).rules()).auditor_penalty
        assert await net.earned(net.nodes[0].address) > 0
        assert await net.balanced()


async def test_a_juror_that_seals_and_vanishes_loses_its_penalty_and_the_others_decide() -> None:
    assert PATIENT.audits is not None
    rules = PATIENT.model_copy(update={"audits": PATIENT.audits.model_copy(update={"vote_reveal_window_s": 15})})
    async with Devnet.open(nodes=1, watchers=5, rules=rules, audit_rate=ALWAYS, cheats={0: "wrong-noise"}) as net:
        *auditors, gone, early, late = net.watchers
        await stop([gone, early, late])
        task = await order(net, "a juror is missing")
        assert set(await until_sealed(net, task, 2)) == {auditor.address for auditor in auditors}
        await until_phase(net, task, AuditPhase.DISPUTED)
        await gone.start()
        await until_jurors(net, task, 1)  # while a seat is free nobody reveals
        await gone.stop()
        await start([early, late])
        staked = await stake(net, gone.address)
        assert await ended(net, task) is TaskState.EXPIRED
        assert (await arbiter_of(net).dispute(task)).outcome is DisputeOutcome.GUILTY
        assert staked - await stake(net, gone.address) == (await arbiter_of(net).rules()).juror_penalty
        assert await net.balanced()


async def test_a_node_that_goes_away_for_good_counts_as_withholding() -> None:
    async with Devnet.open(nodes=1, watchers=5, rules=RULES, audit_rate=ALWAYS) as net:
        task = await order(net, "nobody at home")
        await until_state(net, task, TaskState.COMMITTED)
        await net.nodes[0].stop()
        staked = await stake(net, net.nodes[0].address)
        assert await ended(net, task) is TaskState.EXPIRED
        assert AuditVerdict.WITHHELD in (await said(net, task)).values()
        assert (await arbiter_of(net).dispute(task)).outcome is DisputeOutcome.GUILTY
        assert await stake(net, net.nodes[0].address) < staked
        assert await net.balanced()


async def test_a_node_that_is_killed_while_auditors_ask_and_comes_back_is_paid() -> None:
    async with Devnet.open(nodes=1, watchers=2, rules=PATIENT, audit_rate=ALWAYS, reconfigure=quick) as net:
        task = await order(net, "back in a moment")
        await until_sealed(net, task, 2)
        await net.nodes[0].stop()
        await net.nodes[0].start()
        assert await ended(net, task) is TaskState.SETTLED
        assert list((await said(net, task)).values()) == [AuditVerdict.PASS] * 2
        assert await net.earned(net.nodes[0].address) > 0
        assert await net.balanced()


async def test_a_node_that_lost_its_disk_opens_from_its_backup() -> None:
    async with Devnet.open(nodes=1, watchers=2, rules=PATIENT, audit_rate=ALWAYS, reconfigure=quick) as net:
        node = net.nodes[0]
        task = await order(net, "all is lost but the wallet")
        await until_sealed(net, task, 2)
        await node.stop()
        shutil.rmtree(node.settings.data_dir)
        await node.start()
        assert await ended(net, task) is TaskState.SETTLED
        assert list((await said(net, task)).values()) == [AuditVerdict.PASS] * 2
        assert await net.earned(node.address) > 0
        assert await net.balanced()


async def test_audits_go_on_without_the_relay() -> None:
    async with Devnet.open(nodes=1, watchers=2, rules=PATIENT, audit_rate=ALWAYS, reconfigure=quick) as net:
        task = await order(net, "alone at sea")
        await until_state(net, task, TaskState.COMMITTED)
        await net.relay.stop()
        assert await ended(net, task) is TaskState.SETTLED
        assert list((await said(net, task)).values()) == [AuditVerdict.PASS] * 2
        assert await net.balanced()


assert PATIENT.audits is not None
TWICE = PATIENT.model_copy(
    update={
        "challenge_window_s": 200,
        "hold_window_s": 2400,
        "unbonding_period_s": 2400,
        "audits": PATIENT.audits.model_copy(update={"audit_commit_window_s": 240, "audit_reveal_window_s": 240}),
    }
)
"""Time for one audit after the other on the same commit. Nothing of it is waited out."""


async def opened(net: Devnet, task: TaskId) -> list[str]:
    """Hashes of the blocks in which an audit of it began."""
    events = await happened(net)
    return [event.block_hash for event in events if isinstance(event, AuditOpened) and event.task == task]


async def test_an_audit_whose_blocks_are_taken_back_is_done_again() -> None:
    """Whatever was on its way is refused or revealed; what could still happen by chance is in `test_forks.py`."""
    async with Devnet.open(nodes=1, watchers=2, rules=TWICE, audit_rate=ALWAYS, reconfigure=quick) as net:
        await stop(net.watchers)
        task = await order(net, "on a fork")
        await until_state(net, task, TaskState.COMMITTED)
        fork = await controls.snapshot(net.running.rpc_url)
        await start(net.watchers)
        await until_sealed(net, task, 1)
        (lost,) = await opened(net, task)
        await controls.restore(net.running.rpc_url, fork)
        assert await ended(net, task) is TaskState.SETTLED
        assert await opened(net, task) != [lost]
        assert list((await said(net, task)).values()) == [AuditVerdict.PASS] * 2
        assert await net.balanced()


async def test_a_challenge_that_too_few_jurors_hear_refunds_nobody() -> None:
    """Else whoever orders what nobody can judge has every picture for nothing."""
    async with Devnet.open(nodes=1, watchers=1, rules=RULES, audit_rate=0) as net:
        task = await order(net, "an empty court")
        await until_state(net, task, TaskState.COMMITTED)
        async with Chain.open(net.chain_settings, net.cast.submitter) as chain:
            assert chain.arbiter is not None
            await chain.arbiter.challenge(await filing_of(net, task))
            assert await ended(net, task) is TaskState.SETTLED
            assert (await chain.arbiter.dispute(task)).outcome is DisputeOutcome.UNHEARD
            bond = (await chain.arbiter.rules()).challenge_bond
            assert await chain.arbiter.credit_of(net.cast.submitter.address) == bond
        assert await net.earned(net.nodes[0].address) > 0
        assert await net.balanced()


async def test_a_requester_that_challenges_honest_work_loses_its_bond() -> None:
    async with Devnet.open(nodes=1, watchers=5, rules=PATIENT, audit_rate=0) as net:
        node, bond = net.nodes[0].address, (await arbiter_of(net).rules()).challenge_bond
        lost = 0
        for prompt in ("not pleased", "never pleased"):
            task = await order(net, prompt)
            await until_state(net, task, TaskState.COMMITTED)
            async with Chain.open(net.chain_settings, net.cast.submitter) as chain:
                assert chain.arbiter is not None
                await chain.arbiter.challenge(await filing_of(net, task))
            assert await ended(net, task) is TaskState.SETTLED
            assert (await arbiter_of(net).dispute(task)).outcome is DisputeOutcome.INNOCENT
            lost += bond
        assert await net.earned(net.cast.submitter.address) <= -lost
        assert await net.earned(node) > 0
        assert await stake(net, node) == 100 * 10**18
        assert await net.balanced()


async def test_nobody_audits_and_the_node_is_paid_all_the_same() -> None:
    async with Devnet.open(nodes=1, watchers=1, rules=RULES, audit_rate=ALWAYS) as net:
        await stop(net.watchers)
        task = await order(net, "an empty bench")
        await until_state(net, task, TaskState.COMMITTED)
        await net.warp((await net.chain.params()).challenge_window_s)
        with anyio.fail_after(PATIENCE_S):
            assert await ended(net, task) is TaskState.SETTLED
        assert await outcome(net, task) is AuditOutcome.NONE


IMPATIENT = PATIENT.model_copy(
    update={"audits": PATIENT.audits.model_copy(update={"vote_commit_window_s": 15, "vote_reveal_window_s": 15})}
)
"""Time for the audit, and a jury that is waited out."""


async def test_a_jury_that_never_comes_together_burns_the_fee_without_a_slash() -> None:
    async with Devnet.open(nodes=1, watchers=2, rules=IMPATIENT, audit_rate=ALWAYS, cheats={0: "wrong-noise"}) as net:
        staked = await stake(net, net.nodes[0].address)
        task = await order(net, "no jury")
        await until_phase(net, task, AuditPhase.DISPUTED)
        assert await ended(net, task) is TaskState.EXPIRED
        assert (await arbiter_of(net).dispute(task)).outcome is DisputeOutcome.UNDECIDED
        assert await stake(net, net.nodes[0].address) == staked
        (expired,) = [event for event in await happened(net) if isinstance(event, TaskExpired)]
        assert expired.refund == 0, "what `Bench.doubt_returns` says of the contracts"
        assert await arbiter_of(net).credit_of(BURN_ADDRESS) > 0
        assert await net.balanced()
