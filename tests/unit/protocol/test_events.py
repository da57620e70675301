"""Events: one tree, each survives its JSON, nothing else is read."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gesso_protocol import events
from gesso_protocol.audit.outcomes import AuditOutcome, AuditVerdict, DisputeOutcome
from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.events import Event, event_json, parse_event
from gesso_protocol.ids import Address, BlobRef, Root, TaskId
from gesso_protocol.money import Wei
from gesso_protocol.policy import Refusal

TASK = TaskId(bytes(32))
SEED = "ab" * 32
NODE = Address("0x" + "22" * 20)
ROOT = Root(bytes(32))
TX = "0x" + "ab" * 32
EVENTS: list[Event] = [
    events.Submitted(task=TASK, at_ms=1, fee=Wei(2**96), tx=TX, gas_used=21000),
    events.Announced(task=TASK, at_ms=1, peers=3),
    events.Refused(task=TASK, at_ms=1, node=NODE, reason=Refusal.BUSY),
    events.Claimed(task=TASK, at_ms=1, node=NODE, commit_by=5),
    events.Started(task=TASK, at_ms=1, node=NODE),
    events.Step(task=TASK, at_ms=1, index=1, total=2, node=NODE, preview=b"\x89PNG\x00\xff"),
    events.Checkpoint(task=TASK, at_ms=1, node=NODE, index=20, total=60, state=BlobRef(bytes(32)), size=9, seed=SEED),
    events.Resumed(task=TASK, at_ms=1, earlier=TASK, index=20, total=60, fee=Wei(7)),
    events.TrainingStep(task=TASK, at_ms=1, index=1, total=2, loss=0.25, checkpoint=True, prompt=1, sample=b"x"),
    events.TrainingPaused(task=TASK, at_ms=1, index=0, total=60, node=NODE),
    events.Delivered(task=TASK, at_ms=1, node=NODE, manifest=BlobRef(bytes(32)), images=2),
    events.StopRequested(task=TASK, at_ms=1, node=NODE),
    events.PartCommitted(task=TASK, at_ms=1, node=NODE, done_bps=2500, stop_requested=True),
    events.RestReturned(task=TASK, at_ms=1, refund=Wei(5)),
    events.Committed(task=TASK, at_ms=1, node=NODE, result_root=ROOT, trace_root=ROOT, settle_after=9),
    events.Fetched(task=TASK, at_ms=1, manifest=BlobRef(bytes(32)), images=1),
    events.Settled(task=TASK, at_ms=1, node=NODE, paid=Wei(5), royalty=Wei(1), royalty_to=NODE, protocol_fee=Wei(1)),
    events.Cancelled(task=TASK, at_ms=1, refund=Wei(7)),
    events.Expired(task=TASK, at_ms=1, refund=Wei(7), node=NODE),
    events.AuditOpened(task=TASK, at_ms=1, auditor=NODE, challenge=TX, round=7, commit_by=9, tx=TX),
    events.AuditCommitted(task=TASK, at_ms=1, auditor=NODE),
    events.AuditRevealed(
        task=TASK, at_ms=1, auditor=NODE, verdict=AuditVerdict.FLAG, evidence=BlobRef(bytes(32)), profile=TX,
        projection=(-(2**15), 2**15 - 1) * 8,
    ),
    events.AuditClosed(task=TASK, at_ms=1, outcome=AuditOutcome.DISPUTED),
    events.DisputeOpened(task=TASK, at_ms=1, by=NODE, level=0, round=8),
    events.VoteCommitted(task=TASK, at_ms=1, juror=NODE, level=1),
    events.VoteRevealed(task=TASK, at_ms=1, juror=NODE, level=1, vote=6),
    events.DisputeTallied(task=TASK, at_ms=1, level=0, outcome=DisputeOutcome.GUILTY, appeal_by=5),
    events.Appealed(task=TASK, at_ms=1, by=NODE),
    events.DisputeExecuted(
        task=TASK, at_ms=1, outcome=DisputeOutcome.GUILTY, slashed=Wei(10), burned=Wei(5), to_requester=Wei(3),
        to_pool=Wei(2),
    ),
    events.AuditorPenalised(task=TASK, at_ms=1, auditor=NODE, amount=Wei(3)),
    events.JurorPenalised(task=TASK, at_ms=1, juror=NODE, amount=Wei(3)),
    events.Failed(task=TASK, at_ms=1, code="executor-crashed", message="it died", hint="run doctor", final=False),
]  # fmt: skip


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.kind)
def test_round_trip(event: Event) -> None:
    assert parse_event(event_json(event)) == event


def test_every_event_is_tried_and_kinds_are_unique() -> None:
    assert {type(event) for event in EVENTS} == set(get_args(Event))
    assert len({event.kind for event in EVENTS}) == len(EVENTS)


def test_events_are_frozen() -> None:
    with pytest.raises(ValidationError):
        EVENTS[0].at_ms = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"{}",
        b'{"kind":"submitted"}',
        b'{"kind":"unheard-of","task":"0x00","at_ms":1}',
        event_json(EVENTS[0]).replace(b'"at_ms":1', b'"at_ms":-1'),
        event_json(EVENTS[0]).replace(b'"at_ms":1', b'"at_ms":1,"surprise":1'),
        event_json(EVENTS[2]).replace(b'"busy"', b'"bored"'),
        b"[" * 100_000,
        b" " * 70_000,
        event_json(EVENTS[0]) + b" " * 70_000,
    ],
)
def test_refused(data: bytes) -> None:
    with pytest.raises(EncodingInvalid):
        parse_event(data)


@given(data=st.binary(max_size=100))
def test_hostile_bytes(data: bytes) -> None:
    with pytest.raises(EncodingInvalid):
        parse_event(data)


def test_a_preview_is_small() -> None:
    with pytest.raises(ValidationError):
        events.Step(task=TASK, at_ms=1, index=1, total=2, preview=bytes(12 * 1024 + 1))
