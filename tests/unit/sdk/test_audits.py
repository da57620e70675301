"""What a receipt says of an audit: folded from events, one line for each way it can end."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso.audits.facts import AuditFacts, Draw, audit_facts, steps_text
from gesso.audits.story import told
from gesso.audits.watch import STRAGGLER_S, AuditWatch
from gesso.chain import audit_events as on_chain
from gesso_devnet.fraud import checked_text
from gesso_protocol import events
from gesso_protocol.audit.outcomes import AuditOutcome, AuditVerdict, DisputeOutcome
from gesso_protocol.errors import NoEligibleNode, TaskFailed, WorkRejected
from gesso_protocol.ids import Address, BlobRef, ListingId, Root, TaskId
from gesso_protocol.money import Wei
from gesso_protocol.terms import AuditMode, BoardParams, Terms

TASK = TaskId(b"\x07" * 32)
NODE, ONE, TWO = (Address("0x" + pair * 20) for pair in ("0e", "11", "22"))
JURORS = tuple(Address("0x" + pair * 20) for pair in ("31", "32", "33"))
EVIDENCE = BlobRef.of(b"openings")
AT: dict[str, Any] = {"task": TASK, "at_ms": 1}
HEX = "0x" + "05" * 32
PICKED = Draw(rate_bps=500, picked=True, steps=((0, 6), (0, 18)))

opened = events.AuditOpened(**AT, auditor=ONE, challenge=HEX, round=4, commit_by=9)
committed = events.Committed(**AT, node=NODE, result_root=Root(bytes(32)), trace_root=Root(bytes(32)), settle_after=100)
settled = events.Settled(**AT, node=NODE, paid=Wei(9))
expired = events.Expired(**AT, refund=Wei(10), node=NODE)


def revealed(who: Address, verdict: AuditVerdict) -> events.AuditRevealed:
    evidence = None if verdict is AuditVerdict.WITHHELD else EVIDENCE
    return events.AuditRevealed(
        **AT, auditor=who, verdict=verdict, evidence=evidence, profile=HEX, projection=(0,) * 16
    )


def seats(first: Address, *others: Address) -> list[events.Event]:
    start = opened.model_copy(update={"auditor": first})
    return [start, *(events.AuditCommitted(**AT, auditor=auditor) for auditor in others)]


def dispute(votes: tuple[int, ...], outcome: DisputeOutcome, level: int = 0, slashed: int = 0) -> list[events.Event]:
    cast = zip(JURORS, votes, strict=False)
    return [
        events.AuditClosed(**AT, outcome=AuditOutcome.DISPUTED),
        events.DisputeOpened(**AT, by=ONE, level=level, round=8),
        *(events.VoteCommitted(**AT, juror=juror, level=level) for juror in JURORS),
        *(events.VoteRevealed(**AT, juror=juror, level=level, vote=vote) for juror, vote in cast),
        events.DisputeTallied(**AT, level=level, outcome=outcome, appeal_by=50),
        events.DisputeExecuted(
            **AT, outcome=outcome, slashed=Wei(slashed), burned=Wei(slashed // 2), to_requester=Wei(slashed * 3 // 10),
            to_pool=Wei(slashed - slashed // 2 - slashed * 3 // 10),
        ),
    ]  # fmt: skip


flagged = [*seats(ONE, TWO), revealed(ONE, AuditVerdict.FLAG), revealed(TWO, AuditVerdict.FLAG)]
guilty = [*flagged, *dispute((2, 2, 2), DisputeOutcome.GUILTY, slashed=10**19), expired]


def test_a_passed_audit_says_by_whom_at_which_steps_and_how_close_it_was() -> None:
    happened = [
        *seats(ONE, TWO), revealed(ONE, AuditVerdict.PASS), revealed(TWO, AuditVerdict.PASS),
        events.AuditClosed(**AT, outcome=AuditOutcome.PASSED), settled,
    ]  # fmt: skip
    facts = audit_facts("sampled", happened, draw=PICKED)
    assert (facts.status, facts.over, facts.evidence) == ("passed", True, EVIDENCE)
    assert facts.line() == "yes (2 auditors, steps 7 and 19)"
    close = facts.model_copy(update={"error_of_limit": 0.031})
    assert close.line() == "yes (2 auditors, steps 7 and 19, max error 0.031 of limit)"


@pytest.mark.parametrize(
    ("asked", "happened", "draw", "line"),
    [
        ("none", [settled], None, "no, as asked"),
        ("sampled", [committed], None, "not decided yet"),
        ("sampled", [committed], Draw(rate_bps=2000, picked=None), "not decided yet"),
        ("sampled", [settled], Draw(rate_bps=500, picked=False), "not picked (5 %)"),
        ("sampled", [settled], Draw(rate_bps=2000, picked=None), "not decided yet"),
        ("sampled", [settled], PICKED, "picked, nobody audited"),
        ("always", [settled], None, "asked for, nobody audited, fee returned"),
        ("sampled", seats(ONE), PICKED, "under way (1 auditor)"),
        (
            "sampled", [*seats(ONE), events.AuditClosed(**AT, outcome=AuditOutcome.VOID)], PICKED,
            "1 auditor came and said nothing; the node is paid as if nobody had asked",
        ),
        ("sampled", guilty[:-2], PICKED, "2 of 2 auditors flagged it; before jurors (3 of 3 jurors found it bad)"),
        (
            "always", guilty, PICKED,
            "FAILED (2 of 2 auditors flagged it; 3 of 3 jurors found it bad); fee returned, "
            "node slashed 10, of which 3 to the requester",
        ),
        (
            "sampled", [*flagged, *dispute((1, 1, 3), DisputeOutcome.INNOCENT), settled], PICKED,
            "yes, after a dispute (2 of 2 auditors flagged it; 2 found it good, 1 could not tell)",
        ),
        (
            "sampled", [*flagged, *dispute((3, 3), DisputeOutcome.UNDECIDED), expired], PICKED,
            "undecided (2 of 2 auditors flagged it; 2 could not tell, 1 kept silent); fee burned, nobody slashed",
        ),
        (
            "none", [*dispute((1, 3, 3), DisputeOutcome.UPHELD)[1:], settled], None,
            "not proven (challenged by the requester; 1 found it good, 2 could not tell); "
            "node paid, a challenge's bond is lost",
        ),
        (
            "none", [*dispute((3,), DisputeOutcome.UNHEARD)[1:], settled], None,
            "not proven (challenged by the requester; too few jurors: 1 could not tell, 2 kept silent); "
            "node paid, a challenge's bond came back",
        ),
    ],
)  # fmt: skip
def test_every_ending_has_its_line(asked: str, happened: list[events.Event], draw: Draw | None, line: str) -> None:
    assert audit_facts(asked, happened, draw=draw).line() == line  # type: ignore[arg-type]


def test_withheld_openings_and_challenges_are_named_as_such() -> None:
    silent = [*seats(ONE, TWO), revealed(ONE, AuditVerdict.WITHHELD), revealed(TWO, AuditVerdict.WITHHELD)]
    happened = [*silent, *dispute((2, 2, 2), DisputeOutcome.GUILTY)]
    facts = audit_facts("sampled", happened)
    assert "2 of 2 auditors found the openings withheld" in facts.line()
    assert facts.evidence is None
    assert "challenged by the requester" in audit_facts("none", dispute((1, 1, 1), DisputeOutcome.INNOCENT)).line()


def test_a_staged_fraud_says_what_was_run_again_and_how_far_off_it_was() -> None:
    silent = [*seats(ONE, TWO), revealed(ONE, AuditVerdict.WITHHELD), revealed(TWO, AuditVerdict.WITHHELD)]
    assert checked_text(audit_facts("always", silent, draw=PICKED)) == "drawn: steps 7 and 19; the node opened nothing"
    facts = audit_facts("always", guilty, draw=PICKED)
    assert checked_text(facts) == "steps 7 and 19 run again"
    far = facts.model_copy(update={"error_of_limit": 12.8})
    assert checked_text(far) == "steps 7 and 19 run again, outputs 12.8 times the limit off"
    near = facts.model_copy(update={"error_of_limit": 0.01})  # right outputs, and another picture handed over
    assert checked_text(near) == checked_text(facts)
    assert checked_text(audit_facts("always", guilty)) == "nothing was run again"


def test_money_and_penalties_add_up_and_an_appeal_shows() -> None:
    happened = [
        *guilty[:-2], events.Appealed(**AT, by=NODE), *dispute((2, 2, 1), DisputeOutcome.GUILTY, 1, 10),
        *(events.AuditorPenalised(**AT, auditor=TWO, amount=Wei(amount)) for amount in (3, 4)),
        events.JurorPenalised(**AT, juror=JURORS[2], amount=Wei(5)), expired,
    ]  # fmt: skip
    facts = audit_facts("sampled", happened)
    assert facts.burned + facts.to_requester + facts.to_pool == facts.slashed == 10
    assert facts.refund == 10
    assert facts.appealed_by == NODE
    assert next(entry.lost for entry in facts.auditors if entry.auditor == TWO) == 7
    assert [entry.lost for entry in facts.jurors if entry.juror == JURORS[2]] == [0, 5]
    assert "2 found it bad, 1 found it good, on appeal" in facts.line()


def test_steps_are_counted_as_progress_is() -> None:
    assert steps_text(((0, 0),)) == "step 1"
    assert steps_text(((0, 2), (0, 3), (0, 9))) == "steps 3, 4 and 10"
    assert steps_text(((0, 2), (1, 3))) == "picture 1 step 3 and picture 2 step 4"


happenings = st.sampled_from([committed, *guilty, settled, events.AuditClosed(**AT, outcome=AuditOutcome.PASSED)])


@given(st.lists(happenings, max_size=20), st.sampled_from(["sampled", "always", "none"]))
def test_any_order_of_events_has_a_line_and_survives_json(happened: list[events.Event], asked: str) -> None:
    facts = audit_facts(asked, happened, draw=PICKED)  # type: ignore[arg-type]
    assert facts.line()
    assert AuditFacts.model_validate_json(facts.model_dump_json()) == facts


PLACE: dict[str, Any] = {"block": 1, "block_hash": "0x", "log_index": 0, "tx_hash": "0x" + "ab" * 32}


def test_the_chains_words_become_the_requesters() -> None:
    bound: dict[str, Any] = {"task": TASK, **PLACE}
    seen = told(
        on_chain.AuditRevealed(
            **bound, auditor=ONE, verdict=AuditVerdict.FLAG, evidence=EVIDENCE, profile=b"\x05" * 32,
            projection=b"\xff\xfe" * 16,
        ),
        1,
    )  # fmt: skip
    assert isinstance(seen, events.AuditRevealed)
    assert (seen.projection[:2], seen.profile, seen.tx) == ((-2, -2), HEX, PLACE["tx_hash"])
    drawn = told(on_chain.AuditOpened(**bound, auditor=ONE, challenge=b"\x05" * 32, round=4, commit_by=9), 1)
    assert drawn == opened.model_copy(update={"tx": PLACE["tx_hash"]})
    assert told(on_chain.Collected(amount=Wei(1), **PLACE), 1) is None


def watch(audit: AuditMode = AuditMode.SAMPLED) -> AuditWatch:
    terms = Terms(
        requester=TWO, fee=Wei(10), spec=EVIDENCE, model=ListingId(1), claim_window_s=9, commit_window_s=9, nonce=1,
        audit=audit,
    )  # fmt: skip
    return AuditWatch(None, TASK, terms, BoardParams(challenge_window_s=8, sortition_step_s=1))


def test_work_in_doubt_says_that_the_fee_is_burned() -> None:
    seen = watch()
    seen.take([committed, opened, *dispute((3, 3, 3), DisputeOutcome.UNDECIDED)[:-1], expired])
    seen.take(dispute((3, 3, 3), DisputeOutcome.UNDECIDED)[-1:])
    problem = seen.problem()
    assert isinstance(problem, WorkRejected)
    assert "fee burned" in problem.message
    assert "neither side has the fee" in problem.hint


def test_a_task_is_over_when_its_audit_is(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watch()
    for event in guilty[:-2]:
        seen.note(event)
        assert not seen.over()
    seen.note(expired)
    assert not seen.over()
    assert seen.problem() is None
    seen.note(guilty[-2])
    assert seen.over()
    assert isinstance(seen.problem(), WorkRejected)
    brought = watch(AuditMode.NONE)
    brought.take([committed, *dispute((2, 2, 2), DisputeOutcome.GUILTY, slashed=10)[:-1], expired])
    assert not brought.over(), "the arbiter's last word is still to come"
    late = watch()
    late.take([opened, settled])
    assert not late.over()
    now = time.monotonic() + STRAGGLER_S + 1
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert late.over()


def test_a_task_that_nobody_audits_ends_as_before() -> None:
    for ending, problem in (
        (settled, type(None)),
        (events.Cancelled(**AT, refund=Wei(1)), TaskFailed),
        (events.Expired(**AT, refund=Wei(1), node=None), NoEligibleNode),
        (expired, TaskFailed),
    ):
        seen = watch()
        seen.take([committed, ending])
        assert seen.over()
        assert type(seen.problem()) is problem
