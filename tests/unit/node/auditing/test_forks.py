"""Seals across reorganisations and restarts: what was sealed for these parts is what we reveal."""

from __future__ import annotations

from pathlib import Path

import pytest

from gesso.chain import Cursor, Page
from gesso.chain.cursor import Checkpoint
from gesso_node.auditing.watch import NOTE
from gesso_protocol.audit.outcomes import AuditVerdict
from gesso_protocol.errors import Unreachable
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.money import Wei

from .forks import ME, OTHER_SEED, PATIENCE, ROUND, SEED, TASK, Stage, drawn

pytestmark = pytest.mark.anyio


async def test_a_seal_that_is_mined_again_after_its_commit_came_back_is_revealed(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    mined = stage.arbiter.hold("commit")
    async with stage.life() as life:
        sealed = await life.until("commit")
        stage.chain.committed(12, reorged_to=9)
        for _ in range(4):
            await life.pass_()
        mined.set()
        await life.until_told()
        assert life.entry.salt == sealed.salt
    assert stage.arbiter.refused == []


@pytest.mark.parametrize("to_block", [9, 10])
async def test_a_seat_whose_blocks_are_taken_back_is_taken_again_with_the_same_seal(
    tmp_path: Path, to_block: int
) -> None:
    stage = Stage(tmp_path)
    async with stage.life() as life:
        sealed = await life.until("commit")
        seat, stage.arbiter.seats = stage.arbiter.seats, {}
        if to_block < 10:
            stage.chain.committed(12, reorged_to=to_block)
        else:
            stage.chain.taken_back(to_block)
        await life.pass_()
        assert life.entry.salt == sealed.salt
        await life.until_told()
    assert stage.arbiter.seats == seat
    assert stage.arbiter.refused == []


@pytest.mark.parametrize("to_block", [9, 10])
async def test_a_fork_that_draws_other_parts_refuses_the_old_seal_and_gets_a_new_one(
    tmp_path: Path, to_block: int
) -> None:
    stage = Stage(tmp_path)
    mined = stage.arbiter.hold("commit")
    async with stage.life() as life:
        old = await life.until("commit")
        stage.arbiter.seeds[ROUND] = OTHER_SEED
        if to_block < 10:
            stage.chain.committed(12, reorged_to=to_block)
        else:
            stage.chain.taken_back(to_block)
        await life.pass_()
        await life.pass_()
        assert (life.entry.challenge, life.entry.sealed) == (drawn(OTHER_SEED), True)
        assert life.entry.salt != old.salt
        mined.set()  # the old one, which a pool of transactions still had
        await life.until_told()
        assert stage.arbiter.refused == ["SealOfAnotherDraw"]
        assert await life.records.audit_of(old.task, old.challenge) == old


async def test_a_fork_that_flips_back_finds_its_seal(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    async with stage.life() as life:
        first = await life.until("commit")
        seats, stage.arbiter.seats = stage.arbiter.seats, {}
        stage.arbiter.seeds[ROUND] = OTHER_SEED
        stage.chain.taken_back(10)
        await life.pass_()
        await life.pass_()
        assert life.entry.challenge == drawn(OTHER_SEED)
        stage.arbiter.seats, stage.arbiter.seeds[ROUND] = seats, SEED
        stage.chain.taken_back(10)
        await life.until_told()
        assert life.entry.salt == first.salt
    assert stage.arbiter.refused == []


async def test_a_node_that_dies_between_its_seal_and_its_seat_sends_the_same_seal(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.arbiter.hold("fix")
    async with stage.life() as life:
        await life.until("fix")
        sealed = life.entry
        assert sealed.sealed
        assert stage.arbiter.seats == {}
    stage.chain.committed(10)
    async with stage.life() as life:
        await life.until_told()
        assert life.entry.salt == sealed.salt
    assert stage.arbiter.refused == []


@pytest.mark.parametrize("seated", [False, True])
async def test_a_node_that_starts_on_another_fork_reveals_what_it_sealed(tmp_path: Path, seated: bool) -> None:
    """Its seal was mined while it was away, or is mined after it has looked again."""
    stage = Stage(tmp_path)
    async with stage.life() as life:
        sealed = await life.until("commit")
    seats = stage.arbiter.seats
    stage.arbiter.seats = dict(seats) if seated else {}
    stage.chain.committed(12)
    async with stage.life() as life:
        await life.pass_()
        await life.pass_()
        stage.arbiter.seats = seats
        await life.until_told()
        assert life.entry.salt == sealed.salt
    assert "CommitmentMismatch" not in stage.arbiter.refused


async def test_a_seal_that_was_left_with_its_case_is_never_replaced(tmp_path: Path) -> None:
    """Others had the seats, so we were done; then blocks are taken back, and the seats are free."""
    stage = Stage(tmp_path)
    stage.arbiter.failing["commit"] = Unreachable("the chain does not answer")
    async with stage.life() as life:
        sealed = await life.until("commit")
        await life.records.change_audit(sealed, "audit-left", closed="seats-taken", closed_at=stage.now)
    stage.chain.committed(12)
    async with stage.life() as life:
        await life.until_told()
        assert (life.entry.salt, life.entry.closed) == (sealed.salt, None)
    assert stage.arbiter.refused == []


@pytest.mark.parametrize(("to_block", "back"), [(9, True), (10, True), (19, True), (20, False)])
async def test_an_end_that_is_taken_back_brings_the_case_with_its_seal(
    tmp_path: Path, to_block: int, back: bool
) -> None:
    stage = Stage(tmp_path)
    async with stage.life() as life:
        sealed = await life.until("commit")
        await life.until_told()
        stage.chain.settled(20)
        await life.pass_()
        assert life.watch.cases == {}
        stage.chain.state = TaskState.COMMITTED
        stage.arbiter.told.clear()
        if to_block < 10:
            stage.chain.committed(12, reorged_to=to_block)
        else:
            stage.chain.taken_back(to_block)
        await life.pass_()
        assert (TASK in life.watch.cases) is back
        if back:
            await life.until_told()
            assert (life.entry.salt, life.entry.closed) == (sealed.salt, None)


async def test_money_that_is_read_again_after_a_start_counts_once_and_a_lost_fork_never(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    async with stage.life() as life:
        await life.until("commit")
        last = Cursor(block=30, trail=[Checkpoint(block=number, hash=f"0x{number:064x}") for number in (30, 8)])
        stage.chain.pages.append(Page((), last))
        await life.records.money(("0xa", 0, 9), "auditor-fee", Wei(5))
        await life.records.money(("0xb", 0, 29), "auditor-fee", Wei(7))
        await life.pass_()
        kept = Cursor.model_validate_json(await life.journal.note(NOTE) or "")
        assert (kept.block, [known.block for known in kept.trail]) == (9, [8]), "behind the commit of an open case"
    async with stage.life() as life:
        assert await life.records.totals() == {"auditor-fee": 5}


async def test_what_ends_late_for_an_old_draw_leaves_the_new_one_alone(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    silent = stage.arbiter.hold("fix")
    stage.arbiter.failing["fix"] = Unreachable("drand is silent")
    async with stage.life() as life:
        await life.until("fix")
        old = life.entry
        stage.arbiter.seeds[ROUND] = OTHER_SEED
        stage.chain.committed(12, reorged_to=9)
        held = stage.arbiter.hold("commit")
        stage.arbiter.failing, failing = {}, stage.arbiter.failing
        await life.until("commit")
        new = life.entry
        assert (new.challenge, new.commit_sent_at) == (drawn(OTHER_SEED), stage.now)
        stage.arbiter.failing = failing
        silent.set()
        await life.pass_()
        assert life.entry == new, "the old transaction takes its own note back"
        undone = await life.records.audit_of(old.task, old.challenge)
        assert undone is not None
        assert (undone.salt, undone.commit_sent_at) == (old.salt, None)
        held.set()
        await life.until_told()
    assert stage.arbiter.refused == []


async def test_a_note_that_is_taken_back_late_leaves_a_later_one(tmp_path: Path) -> None:
    async with Stage(tmp_path).life() as life:
        entry = await life.until("commit")
        later = await life.records.change_audit(entry, "audit-commit", commit_sent_at=500)
        assert await life.records.unsend_audit(entry, "commit", 499) == later
        undone = await life.records.unsend_audit(entry, "commit", 500)
        assert undone.commit_sent_at is None


async def test_two_that_seal_the_same_parts_have_one_seal(tmp_path: Path) -> None:
    async with Stage(tmp_path).life() as life:
        entry = await life.until("commit")
        again = await life.records.seal_audit(entry, bytes(32), b"\x09" * 32, "anew")
        assert (again.salt, again.projection) == (entry.salt, entry.projection)
        assert await life.records.begin_audit(entry) == again


async def test_a_seat_that_holds_another_seal_is_given_up(tmp_path: Path) -> None:
    """Nothing but a reorganisation can change it; then we try again."""
    stage = Stage(tmp_path)
    async with stage.life() as life:
        await life.until("commit")
        ours, stage.arbiter.seats = stage.arbiter.seats, {ME: bytes(10)}
        for _ in range(12):
            await life.pass_(later=PATIENCE.resend_after_s)
        assert stage.arbiter.refused == ["CommitmentMismatch"] * PATIENCE.attempts
        assert ME not in stage.arbiter.told
        stage.arbiter.seats = ours
        stage.chain.taken_back(10)
        await life.until_told()
    assert stage.arbiter.told == {ME: AuditVerdict.PASS}
