"""Auditors that do not audit: guessing, accusing everybody, copying and colluding all cost more than they bring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from audit_acts import (
    ALWAYS,
    PATIENT,
    RULES,
    arbiter_of,
    ended,
    filing_of,
    order,
    said,
    stake,
    start,
    stop,
    until_phase,
    until_sealed,
)

from gesso.chain.chain import Chain
from gesso_devnet import Devnet
from gesso_protocol.audit.lifecycle import AuditPhase
from gesso_protocol.audit.outcomes import AuditVerdict, DisputeOutcome
from gesso_protocol.lifecycle import TaskState

pytestmark = pytest.mark.anyio
Reconfigure = Callable[[int, dict[str, Any]], dict[str, Any]]


def cheating(cheats: dict[int, str]) -> Reconfigure:
    """Node number n (workers first) audits as `cheats[n]` says."""

    def change(number: int, document: dict[str, Any]) -> dict[str, Any]:
        if number not in cheats:
            return document
        executor = {**document["executor"], "allow_cheats": True}
        return {**document, "executor": executor, "audits": {"auditor_cheat": cheats[number]}}

    return change


async def test_guessers_and_accusers_of_honest_work_lose_and_the_node_is_paid() -> None:
    wrong = cheating({1: "lazy", 2: "always-flag"})
    async with Devnet.open(nodes=1, watchers=5, rules=PATIENT, audit_rate=ALWAYS, reconfigure=wrong) as net:
        lazy, accuser, *jurors = net.watchers
        await stop(jurors)
        task = await order(net, "an honest harbour")
        assert set(await until_sealed(net, task, 2)) == {lazy.address, accuser.address}
        await start(jurors)
        assert await ended(net, task) is TaskState.SETTLED
        assert (await arbiter_of(net).dispute(task)).outcome is DisputeOutcome.INNOCENT
        rules = await arbiter_of(net).rules()
        assert await net.earned(lazy.address) == -rules.auditor_penalty
        # An accusation that jurors do not share costs what these earn: nobody can tell whether it was a lie.
        assert await net.earned(accuser.address) == -rules.jurors * rules.juror_fee
        for juror in jurors:
            assert await net.earned(juror.address) >= 0
        assert await stake(net, net.nodes[0].address) == 100 * 10**18
        assert await net.earned(net.nodes[0].address) > 0
        assert await net.balanced()


async def test_a_guesser_beside_an_honest_auditor_loses_alone() -> None:
    async with Devnet.open(
        nodes=1, watchers=5, rules=PATIENT, audit_rate=ALWAYS, reconfigure=cheating({1: "lazy"})
    ) as net:
        lazy, honest, *jurors = net.watchers
        await stop(jurors)
        task = await order(net, "another honest harbour")
        assert set(await until_sealed(net, task, 2)) == {lazy.address, honest.address}
        await start(jurors)
        assert await ended(net, task) is TaskState.SETTLED
        assert await net.earned(lazy.address) == -(await arbiter_of(net).rules()).auditor_penalty
        assert await net.earned(honest.address) >= 0
        assert await net.balanced()


async def test_a_false_alarm_costs_the_jury_that_it_calls_and_no_more() -> None:
    async with Devnet.open(
        nodes=1, watchers=5, rules=PATIENT, audit_rate=ALWAYS, reconfigure=cheating({1: "alarm"})
    ) as net:
        alarmist, honest, *jurors = net.watchers
        await stop(jurors)
        task = await order(net, "nobody opened the door")
        assert set(await until_sealed(net, task, 2)) == {alarmist.address, honest.address}
        await start(jurors)
        assert await ended(net, task) is TaskState.SETTLED
        assert await said(net, task) == {
            alarmist.address: AuditVerdict.WITHHELD, honest.address: AuditVerdict.PASS,
        }  # fmt: skip
        dispute, rules = await arbiter_of(net).dispute(task), await arbiter_of(net).rules()
        assert dispute.outcome is DisputeOutcome.INNOCENT
        assert await net.earned(alarmist.address) == -dispute.seats * rules.juror_fee
        assert await stake(net, net.nodes[0].address) == 100 * 10**18
        assert await net.balanced()


async def test_a_copier_has_sealed_something_else_and_cannot_reveal_what_it_copied() -> None:
    async with Devnet.open(
        nodes=1, watchers=2, rules=RULES, audit_rate=ALWAYS, reconfigure=cheating({1: "copy"})
    ) as net:
        copier, honest = net.watchers
        task = await order(net, "a harbour to copy")
        assert await ended(net, task) is TaskState.SETTLED
        assert await said(net, task) == {honest.address: AuditVerdict.PASS}
        assert await net.earned(copier.address) == -(await arbiter_of(net).rules()).auditor_penalty
        assert await net.balanced()


async def test_a_colluding_pair_passes_fraud_until_the_requester_challenges_it() -> None:
    wrong = cheating({1: "collude", 2: "collude"})
    cheats = {0: "wrong-model"}
    async with Devnet.open(
        nodes=1, watchers=5, rules=PATIENT, audit_rate=ALWAYS, cheats=cheats, reconfigure=wrong
    ) as net:
        first, second, *jurors = net.watchers
        await stop(jurors)
        # What audits do not prove: two of two auditors that agree beforehand let anything pass.
        task = await order(net, "bought silence")
        assert await ended(net, task) is TaskState.SETTLED
        assert list((await said(net, task)).values()) == [AuditVerdict.PASS] * 2
        before = await stake(net, first.address) + await stake(net, second.address)

        # An audit with all its seats may be over before anybody has looked: one of the pair comes after the challenge.
        await stop([second])
        again = await order(net, "bought silence, once too often")
        await until_phase(net, again, AuditPhase.OPEN)
        async with Chain.open(net.chain_settings, net.cast.submitter) as chain:
            assert chain.arbiter is not None
            await chain.arbiter.challenge(await filing_of(net, again))
        await start([second])
        # Whoever is up may take a seat, so the others come back only when the pair holds both.
        assert set(await until_sealed(net, again, 2)) == {first.address, second.address}
        await start(jurors)
        assert await ended(net, again) is TaskState.EXPIRED
        assert (await arbiter_of(net).dispute(again)).outcome is DisputeOutcome.GUILTY
        rules = await arbiter_of(net).rules()
        after = await stake(net, first.address) + await stake(net, second.address)
        assert before - after == 2 * rules.auditor_penalty
        assert await stake(net, net.nodes[0].address) < 100 * 10**18
        assert await net.balanced()
