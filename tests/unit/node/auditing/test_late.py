"""An auditor or juror that was slow itself says nothing about the node: silence counts where there was time to talk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gesso_node.auditing.ask import NotOpenedError
from gesso_node.auditing.auditor import Auditor
from gesso_node.auditing.case import UNABLE, Case
from gesso_node.auditing.inspect import CannotRunError
from gesso_node.auditing.juror import Juror
from gesso_node.auditing.record import AuditEntry, VoteEntry
from gesso_node.auditing.silence import fair_s
from gesso_protocol.audit.outcomes import AuditVerdict, Ballot, Vote
from gesso_protocol.ids import TaskId

from .traces import NODE

pytestmark = pytest.mark.anyio
TASK = TaskId(bytes([7]) * 32)
BY = 100


@dataclass
class Records:
    """Keeps changes without a disk."""

    changes: dict[str, Any] = field(default_factory=dict)

    async def change_audit(self, entry: Any, label: str, **changes: Any) -> Any:
        self.changes |= changes
        return replace(entry, **changes)

    change_vote = change_audit

    async def seal_audit(self, entry: Any, projection: bytes, salt: bytes, reasons: str) -> Any:
        return await self.change_audit(entry, "audit-seal", projection=projection, salt=salt, reasons=reasons)

    async def seal_vote(self, entry: Any, vote: Vote, salt: bytes, reasons: str) -> Any:
        return await self.change_audit(entry, "vote-seal", vote=vote, salt=salt, reasons=reasons)


@dataclass
class SilentWork:
    """A node that opens nothing to us; `ready` takes what a test says of the clock."""

    now: list[int]
    takes: int = 0
    challenge: bytes = bytes(32)

    async def ready(self, *, seconds: float) -> None:
        self.now[0] += self.takes

    async def opened(self, phase: str, seconds: float) -> Any:
        raise NotOpenedError("the node says busy")

    async def published(self, refs: Any) -> Any:
        raise NotOpenedError("there is no public evidence")


def case() -> Case:
    made = Case(TASK, None, 0, 0, 0, 0, 0, None, entry=AuditEntry(TASK, NODE, bytes(32), 0))  # type: ignore[arg-type]
    made.votes[0] = VoteEntry(TASK, 0, bytes(32), 0, 0)
    return made


def seats(now: list[int], records: Records) -> dict[str, Callable[..., Any]]:
    async def clock() -> int:
        return now[0]

    auditor = Auditor(records, clock)  # type: ignore[arg-type]
    juror = Juror(records, clock)  # type: ignore[arg-type]
    return {"prepare": auditor.prepare, "judge": auditor.judge, "review": juror.review}


@pytest.mark.parametrize("verb", ["prepare", "judge", "review"])
@pytest.mark.parametrize("begun", [BY - 50, BY + 1])
async def test_whoever_got_ready_too_late_cannot_tell(verb: str, begun: int) -> None:
    now, records = [begun], Records()
    await seats(now, records)[verb](case(), SilentWork(now, takes=50), by=BY)
    assert records.changes["failures"] == 1
    assert not {"verdict", "vote", "projection"} & set(records.changes)


@pytest.mark.parametrize("verb", ["prepare", "judge", "review"])
async def test_a_node_that_was_silent_while_there_was_time_has_withheld(verb: str) -> None:
    now, records = [BY - 50], Records()
    looked_at, work, seat = case(), SilentWork(now), seats(now, records)[verb]
    with pytest.raises(NotOpenedError):
        await seat(looked_at, work, by=BY)
    assert records.changes == {}
    now[0] = BY
    await seat(looked_at, work, by=BY)
    said = {
        "prepare": lambda: "projection" in records.changes,
        "judge": lambda: records.changes["verdict"] is AuditVerdict.WITHHELD,
        "review": lambda: records.changes["vote"].ballot is Ballot.BAD,
    }
    assert said[verb]()
    assert "the node says busy" in records.changes.get("reasons", ""), "what we were told stays in the journal"


@dataclass
class BlindWork(SilentWork):
    """Openings that we cannot run."""

    hopeless: bool = False

    async def published(self, refs: Any) -> Any:
        return "openings"

    async def examine(self, opened: Any, own: Any, *, strict: bool, seconds: float) -> Any:
        raise CannotRunError("no memory", hopeless=self.hopeless)


@dataclass
class BreakingWork(SilentWork):
    """Openings of a kind that nobody foresaw."""

    async def published(self, refs: Any) -> Any:
        return "openings"

    async def opened(self, phase: str, seconds: float) -> Any:
        return "openings"

    async def compute(self, opened: Any, *, seconds: float) -> Any:
        raise IndexError("a decoder stumbles")

    async def examine(self, opened: Any, own: Any, *, strict: bool, seconds: float) -> Any:
        raise IndexError("a decoder stumbles")


@pytest.mark.parametrize("verb", ["prepare", "judge", "review"])
async def test_what_nobody_foresaw_costs_no_stake_and_is_not_tried_for_ever(verb: str) -> None:
    now, records = [BY - 50], Records()
    looked_at, seat = case(), seats(now, records)[verb]
    await seat(looked_at, BreakingWork(now), by=BY)
    assert records.changes["failures"] == 1
    assert "verdict" not in records.changes
    await seat(looked_at, BreakingWork(now), by=BY)
    if verb == "judge":
        assert records.changes["verdict"] is AuditVerdict.PASS
        assert "IndexError" in records.changes["reasons"]
    else:
        assert records.changes["failures"] == 2
        assert not {"projection", "vote"} & set(records.changes)


@pytest.mark.parametrize("hopeless", [True, False])
async def test_a_juror_that_has_not_looked_never_says_good(hopeless: bool) -> None:
    now, records = [BY - 50], Records()
    looked_at = case()
    await seats(now, records)["review"](looked_at, BlindWork(now, hopeless=hopeless), by=BY)
    assert records.changes == ({"closed": UNABLE} if hopeless else {"failures": 1})
    assert looked_at.votes[0].vote is None


@pytest.mark.parametrize("verb", ["prepare", "judge", "review"])
async def test_the_last_second_is_no_time_and_another_draw_another_question(verb: str) -> None:
    now, records = [BY - 1], Records()
    looked_at, seat = case(), seats(now, records)[verb]
    with pytest.raises(NotOpenedError):
        await seat(looked_at, SilentWork(now), by=BY)
    now[0] = BY - 50
    with pytest.raises(NotOpenedError):
        await seat(looked_at, SilentWork(now, challenge=bytes([1]) * 32), by=BY)
    now[0] = BY
    await seat(looked_at, SilentWork(now), by=BY)
    assert records.changes["failures"] == 1


@pytest.mark.parametrize("verb", ["prepare", "judge", "review"])
async def test_a_download_that_left_the_node_a_moment_is_no_fault_of_the_node(verb: str) -> None:
    """With an hour's window the node has half a minute, or it has not been asked."""
    fair = fair_s(3600)
    for takes, withheld in ((47, False), (19, True)):
        now, records = [BY - 50], Records()
        looked_at, work, seat = case(), SilentWork(now, takes=takes), seats(now, records)[verb]
        with pytest.raises(NotOpenedError):
            await seat(looked_at, work, by=BY, fair=fair)
        now[0], work.takes = BY, 0
        await seat(looked_at, work, by=BY, fair=fair)
        assert ("failures" not in records.changes) is withheld


def test_how_long_is_fair() -> None:
    assert [fair_s(window) for window in (4, 40, 240, 7200)] == [2.0, 5.0, 30.0, 30.0]
