"""Outputs never leave a node early: whoever asks, whatever the phase, whatever the race."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gesso.chain.arbiter import AuditRecord
from gesso_node.traces.rights import Right, Rights, picture_inputs
from gesso_protocol.audit.challenge import challenge, checks_of, input_slots, steps_to_check
from gesso_protocol.audit.lifecycle import AuditPhase
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.ids import Address
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.terms import AuditMode
from gesso_protocol.trace import LeafKind

from .courts import ArbiterDouble, ChainDouble
from .traces import NODE, SPEC, Sold, sell

pytestmark = pytest.mark.anyio
SEED = b"\x05" * 32
ROUND = 11
"""The round after the one that is current at second 100, the commit."""
AUDITORS = (Address("0x" + "a1" * 20), Address("0x" + "a2" * 20))


@pytest.fixture
async def sold(tmp_path: Path) -> Sold:
    return await sell(tmp_path)


async def ask(chain: ChainDouble, sold: Sold, phase: str, *, audit: AuditMode = AuditMode.SAMPLED) -> Right:
    filing = sold.assignment.filing
    terms = filing.terms.model_copy(update={"audit": audit})
    rights = Rights(chain.as_chain(), NODE)
    return await rights.of(
        sold.assignment.task,
        terms,
        (filing.result_root, filing.trace_root),
        picture_inputs(SPEC),
        phase,  # type: ignore[arg-type]
    )


def seeded(node: Address = NODE) -> ChainDouble:
    chain = ChainDouble(node)
    assert chain.arbiter is not None
    chain.arbiter.seeds[ROUND] = SEED
    return chain


async def test_nothing_is_opened_before_the_beacon_speaks(sold: Sold) -> None:
    for phase in ("inputs", "outputs"):
        assert (await ask(ChainDouble(NODE), sold, phase)).status == "not-yet"


async def test_inputs_are_those_of_the_drawn_steps_and_nothing_more(sold: Sold) -> None:
    filing = sold.assignment.filing
    drawn = challenge(SEED, sold.assignment.task, filing.result_root, filing.trace_root)
    right = await ask(seeded(), sold, "inputs")
    assert right == Right("ok", input_slots(steps_to_check(drawn, 1, SPEC.steps, checks_of(1, SPEC.steps))))
    assert right.slots is not None
    assert {slot.kind for slot in right.slots}.isdisjoint({LeafKind.COND, LeafKind.UNCOND, LeafKind.RGB})


async def test_outputs_of_a_picked_task_wait_until_every_auditor_has_sealed(sold: Sold) -> None:
    chain = seeded()
    assert (await ask(chain, sold, "outputs")).status == "not-yet"
    chain.state, chain.since, chain.now_ = TaskState.HELD, 115, 120
    assert chain.arbiter is not None
    chain.arbiter.record = AuditRecord(AuditPhase.OPEN, ROUND, AUDITORS[:1], (None,), challenged=False)
    assert (await ask(chain, sold, "outputs")).status == "not-yet", "one auditor could tell the other"
    chain.arbiter.record = AuditRecord(AuditPhase.OPEN, ROUND, AUDITORS, (None, None), challenged=False)
    assert (await ask(chain, sold, "outputs")) == Right("ok", None)


async def test_outputs_are_opened_when_the_time_for_seats_is_over(sold: Sold) -> None:
    chain = seeded()
    chain.state, chain.since = TaskState.HELD, 115
    assert chain.arbiter is not None
    chain.arbiter.record = AuditRecord(AuditPhase.OPEN, ROUND, AUDITORS[:1], (None,), challenged=False)
    chain.now_ = ROUND * 10 + 60
    assert (await ask(chain, sold, "outputs")).status == "not-yet"
    chain.now_ += 1
    assert (await ask(chain, sold, "outputs")).status == "ok"


async def test_outputs_of_a_task_that_was_not_picked_are_free(sold: Sold) -> None:
    assert (await ask(seeded(), sold, "outputs", audit=AuditMode.NONE)).status == "ok"
    chain = seeded()
    assert chain.arbiter is not None
    chain.arbiter.rules_ = AuditRules(vetting_rate_bps=0, steady_rate_bps=0, trusted_rate_bps=0)
    assert (await ask(chain, sold, "outputs")).status == "ok"
    assert (await ask(chain, sold, "outputs", audit=AuditMode.ALWAYS)).status == "not-yet"


async def test_a_dispute_and_an_ending_open_everything(sold: Sold) -> None:
    chain = seeded()
    chain.state = TaskState.HELD
    assert chain.arbiter is not None
    chain.arbiter.record = AuditRecord(AuditPhase.DISPUTED, ROUND, (), (), challenged=True)
    assert (await ask(chain, sold, "outputs")).status == "ok"
    chain.arbiter.seeds.clear()
    assert (await ask(chain, sold, "outputs")).status == "ok", "a challenge that was quicker than the beacon"
    for state in (TaskState.SETTLED, TaskState.EXPIRED):
        assert (await ask(replace(chain, state=state), sold, "outputs")).status == "ok"


async def test_what_cannot_be_held_any_more_is_open_whatever_the_beacon_says(sold: Sold) -> None:
    chain = ChainDouble(NODE, now_=149)
    assert (await ask(chain, sold, "outputs")).status == "not-yet"
    chain.now_ = 150
    assert (await ask(chain, sold, "outputs")).status == "ok"
    upheld = ChainDouble(NODE, since=60, now_=110)
    assert (await ask(upheld, sold, "outputs")).status == "ok", "an audit that passed sets the clock back"


async def test_other_peoples_tasks_and_unfinished_ones_are_not_opened(sold: Sold) -> None:
    assert (await ask(seeded(AUDITORS[0]), sold, "inputs")).status == "unknown"
    chain = seeded()
    for state in (TaskState.UNKNOWN, TaskState.SUBMITTED, TaskState.CLAIMED):
        chain.state = state
        assert (await ask(chain, sold, "outputs")).status == "not-yet"


async def test_asking_again_and_again_does_not_ask_the_chain_each_time(sold: Sold) -> None:
    chain = ChainDouble(NODE)
    clock = [0.0]
    rights = Rights(chain.as_chain(), NODE, clock=lambda: clock[0])
    filing = sold.assignment.filing
    roots = (filing.result_root, filing.trace_root)
    for _ in range(100):
        await rights.of(sold.assignment.task, filing.terms, roots, picture_inputs(SPEC), "outputs")
    assert isinstance(chain.arbiter, ArbiterDouble)
    assert chain.arbiter.calls == 1
    clock[0] = 1.0
    chain.arbiter.seeds[ROUND] = SEED
    assert (await rights.of(sold.assignment.task, filing.terms, roots, picture_inputs(SPEC), "inputs")).status == "ok"
