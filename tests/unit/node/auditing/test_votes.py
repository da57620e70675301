"""Votes across reorganisations: a juror votes once on the same parts, whichever round draws its jury."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gesso_node.auditing.case import Case
from gesso_node.auditing.kept import Kept
from gesso_node.auditing.record import AuditRecords, VoteEntry
from gesso_node.state.journal import MIGRATIONS, Journal
from gesso_protocol.audit.disputes import DisputePhase
from gesso_protocol.audit.outcomes import Ballot, Vote
from gesso_protocol.ids import Address, TaskId
from gesso_protocol.lifecycle import Patience

pytestmark = pytest.mark.anyio
TASK = TaskId(b"\x07" * 32)
HERE, THERE = b"\x01" * 32, b"\x02" * 32
GOOD, BAD = Vote(Ballot.GOOD), Vote(Ballot.BAD)
SALT = b"\x05" * 32
ONE, OTHER = Address("0x" + "0a" * 20), Address("0x" + "0b" * 20)


@pytest.fixture
async def records(tmp_path: Path) -> AsyncIterator[AuditRecords]:
    async with Journal(tmp_path / "journal.sqlite") as journal:
        yield AuditRecords(journal)


def disputed(round_: int) -> Case:
    nothing = cast(Any, None)
    case = Case(TASK, nothing, 0, 0, 0, 0, 0, nothing)
    case.dispute = cast(Any, SimpleNamespace(level=0, round=round_, phase=DisputePhase.VOTING))
    return case


async def test_a_vote_stays_when_another_round_draws_the_jury(records: AuditRecords) -> None:
    kept, case = Kept(records), disputed(5)
    await kept.attach(case, HERE)
    case.keep_vote(await records.seal_vote(await kept.vote(case, 100), GOOD, SALT, ""))
    case.undo()
    assert case.votes[0].vote == GOOD
    case.dispute = cast(Any, SimpleNamespace(level=0, round=6, phase=DisputePhase.VOTING))
    for again in (case, disputed(6)):  # the same life, and the next
        await kept.attach(again, HERE)
        entry = await kept.vote(again, 200)
        assert (entry.vote, entry.salt) == (GOOD, SALT)


async def test_a_vote_on_other_parts_is_another_one_and_both_stay(records: AuditRecords) -> None:
    kept, case = Kept(records), disputed(5)
    for challenge, vote, salt in ((HERE, GOOD, SALT), (THERE, BAD, b"\x06" * 32)):
        await kept.attach(case, challenge)
        case.keep_vote(await records.seal_vote(await kept.vote(case, 100), vote, salt, ""))
    await kept.attach(case, HERE)
    assert (case.votes[0].vote, case.votes[0].salt) == (GOOD, SALT)


async def test_who_sits_in_which_seat_is_part_of_what_a_vote_says(records: AuditRecords) -> None:
    """Its marks of wrong projections are by seat: the same vote on other seats would accuse whoever was right."""
    kept, case = Kept(records), disputed(5)
    seats = [(ONE, OTHER), (OTHER, ONE), (ONE, OTHER)]
    votes = [Vote(Ballot.GOOD, (True, False)), Vote(Ballot.GOOD, (False, True)), None]
    for number, (auditors, vote) in enumerate(zip(seats, votes, strict=True)):
        case.audit = cast(Any, SimpleNamespace(auditors=auditors))
        await kept.attach(case, HERE)
        entry = await kept.vote(case, 100)
        if vote is None:
            assert entry.vote == votes[0]
        else:
            assert entry.vote is None
            case.keep_vote(await records.seal_vote(entry, vote, bytes([number]) * 32, ""))


async def test_what_another_round_left_unsealed_is_over(records: AuditRecords) -> None:
    kept, case = Kept(records), disputed(5)
    await kept.attach(case, HERE)
    entry = await records.change_vote(await kept.vote(case, 100), "vote-failure", failures=2, tally_sent_at=101)
    case.keep_vote(entry)
    case.dispute = cast(Any, SimpleNamespace(level=0, round=6, phase=DisputePhase.VOTING))
    await kept.attach(case, HERE)
    fresh = await kept.vote(case, 200)
    assert (fresh.round, fresh.failures, fresh.tally_sent_at) == (6, 0, None)
    assert await records.votes() == [fresh]


async def test_what_is_over_is_closed_for_every_draw_and_opens_again_with_its_seal(records: AuditRecords) -> None:
    kept, case = Kept(records), disputed(5)
    for challenge in (THERE, HERE):
        await kept.attach(case, challenge)
        case.keep_vote(await records.seal_vote(await kept.vote(case, 100), GOOD, SALT, ""))
    await kept.over(case, "over", 300)
    assert [(vote.closed, vote.closed_at) for vote in await records.votes()] == [("over", 300)] * 2
    await kept.attach(case, HERE)
    await kept.reopen(case)
    assert (case.votes[0].closed, case.votes[0].salt) == (None, SALT)
    assert case.votes[0] in await records.votes()


async def test_two_that_vote_on_the_same_parts_have_one_vote(records: AuditRecords) -> None:
    entry = await records.begin_vote(VoteEntry(TASK, 0, HERE, 5, 100))
    first = await records.seal_vote(entry, GOOD, SALT, "")
    assert await records.seal_vote(entry, BAD, b"\x06" * 32, "late") == first
    assert await records.begin_vote(replace(entry, round=6, heard_at=200)) == first
    assert await records.unsend_vote(
        await records.change_vote(first, "vote-commit", commit_sent_at=9), "commit", 8
    ) == (replace(first, commit_sent_at=9))


async def test_a_review_of_other_parts_that_ends_late_leaves_this_vote_alone(records: AuditRecords) -> None:
    kept, case = Kept(records), disputed(5)
    await kept.attach(case, THERE)
    under_way = await kept.vote(case, 100)
    await kept.attach(case, HERE)
    mine = await kept.vote(case, 100)
    case.keep_vote(await records.seal_vote(under_way, BAD, SALT, ""))
    assert case.votes[0] == mine


async def test_a_seal_is_on_disk_even_where_its_entry_was_forgotten(records: AuditRecords) -> None:
    entry = VoteEntry(TASK, 0, HERE, 5, 100)
    assert (await records.seal_vote(entry, GOOD, SALT, "")).salt == SALT
    assert [vote.salt for vote in await records.votes()] == [SALT]


async def test_an_older_journal_keeps_its_seals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.sqlite"
    monkeypatch.setattr("gesso_node.state.journal.MIGRATIONS", MIGRATIONS[:3])
    node = "0x" + "0d" * 20
    async with Journal(path) as journal:
        await journal.write(
            "old",
            ("INSERT INTO audit (task, node, challenge, heard_at, salt, projection) VALUES (?, ?, ?, 1, ?, ?)",
             (str(TASK), node, HERE, SALT, bytes(32))),
            ("INSERT INTO vote (task, level, round, heard_at, salt, vote) VALUES (?, 0, 5, 1, ?, 1)",
             (str(TASK), SALT)),
        )  # fmt: skip
    monkeypatch.undo()
    async with Journal(path) as journal:
        records = AuditRecords(journal)
        audit = await records.audit_of(TASK, HERE)
        assert audit is not None
        assert audit.salt == SALT
        case = disputed(5)
        await Kept(records).attach(case, HERE)
        entry = await records.change_vote(case.votes[0], "vote-commit", commit_sent_at=7)
        assert (entry.vote, entry.salt, entry.commit_sent_at) == (GOOD, SALT, 7)
        assert await records.votes() == [entry]


def test_a_vote_that_does_not_open_its_seat_is_given_up_until_the_chain_changes() -> None:
    case, patience = disputed(5), Patience()
    case.votes[0] = VoteEntry(TASK, 0, HERE, 5, 100, salt=SALT, vote=GOOD)

    def told() -> Vote | None:
        return case.juror_memory(cast(Any, None), (1, 1), patience, keeper=False, appeal=False).vote

    assert told() == GOOD
    case.unopened[SALT] = patience.attempts
    assert told() is None
    case.undo()
    assert told() == GOOD
