"""The work of open cases stays, with the files that prove it; that of cases which were left makes room."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gesso.chain.records import Done
from gesso_node.auditing import works
from gesso_node.auditing.case import UNABLE, Case
from gesso_node.auditing.loop import Auditing
from gesso_node.auditing.nothing import NothingWork
from gesso_node.auditing.record import AuditEntry, VoteEntry
from gesso_node.auditing.shelf import Shelf
from gesso_node.auditing.trainings import TrainingWork
from gesso_node.auditing.work import NO_PROJECTION
from gesso_node.auditing.works import TooManyCasesError, Works
from gesso_protocol.audit.outcomes import Ballot
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.audit.verdict import vote
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import TaskId

from .runs import train
from .traces import MODEL, NODE, SPEC

pytestmark = pytest.mark.anyio
VIEW = cast(Any, SimpleNamespace(challenge=bytes(32)))


class Doubles:
    """A store and a catalogue that know one spec."""

    async def get(self, *_: Any, **__: Any) -> bytes:
        return SPEC.encode()

    def models(self) -> Any:
        return {SPEC.model: MODEL}


class Forgetting(Works):
    """Notes what is forgotten."""

    def __init__(self) -> None:
        doubles = cast(Any, Doubles())
        super().__init__(doubles, doubles, doubles, doubles, doubles, doubles, doubles)
        self.gone: list[TaskId] = []

    async def _made(self, case: Case, *_: Any) -> Any:
        return SimpleNamespace(challenge=VIEW.challenge, forget=lambda: self.gone.append(case.task))


def case(number: int) -> Case:
    filing = SimpleNamespace(terms=SimpleNamespace(kind=1, spec=None))
    return Case(TaskId(keccak256(bytes([number]))), cast(Any, filing), 0, 0, 0, 0, 0, cast(Any, None))


async def test_only_cases_that_were_left_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(works, "MAX_WORKS", 3)
    monkeypatch.setattr(works, "resolve_model", lambda *_: MODEL)
    kept, cases = Forgetting(), [case(number) for number in range(6)]
    for one in cases[:3]:
        await kept.of(one, VIEW)
    with pytest.raises(TooManyCasesError):
        await kept.of(cases[3], VIEW)
    assert await kept.of(cases[0], VIEW) is not None  # what is open goes on
    cases[0].left = cases[1].left = "over"
    cases[0].busy.add("judge")
    await kept.of(cases[3], VIEW)
    assert kept.gone == [cases[1].task]
    cases[0].busy.clear()
    await kept.of(cases[4], VIEW)
    assert kept.gone == [cases[1].task, cases[0].task]
    with pytest.raises(TooManyCasesError):
        await kept.of(cases[5], VIEW)
    assert len(kept._kept) == 3


async def test_cases_with_a_seat_of_ours_find_room_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(works, "MAX_WORKS", 6)
    monkeypatch.setattr(works, "MAX_WITHOUT_SEAT", 2)
    monkeypatch.setattr(works, "resolve_model", lambda *_: MODEL)
    kept, refused = Forgetting(), 0
    for number in range(40):  # a stranger's cases in plenty, on each of which we would take a seat
        one = case(number)
        try:
            await kept.of(one, VIEW)
        except TooManyCasesError:
            refused += 1
        else:
            if number % 2:
                one.entry = AuditEntry(one.task, NODE, bytes(32), 0, commit_sent_at=1)
    assert (len(kept._kept), refused) == (3, 37)
    restarted, seated = Forgetting(), [entered for entered, _ in kept._kept.values() if entered.entry is not None]
    assert seated
    for number in range(40, 60):
        with contextlib.suppress(TooManyCasesError):
            await restarted.of(case(number), VIEW)
    for one in seated:
        assert await restarted.of(one, VIEW) is not None
    assert len(restarted._kept) <= works.MAX_WORKS + works.MAX_WITHOUT_SEAT
    assert (kept.gone, restarted.gone) == ([], [])


async def test_cases_that_are_only_looked_at_count_as_seatless_until_their_seal_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(works, "MAX_WITHOUT_SEAT", 2)
    monkeypatch.setattr(works, "resolve_model", lambda *_: MODEL)
    kept, cases = Forgetting(), [case(number) for number in range(4)]
    for one in cases[:2]:
        await kept.of(one, VIEW)
    cases[0].entry = AuditEntry(cases[0].task, NODE, bytes(32), 0)  # looked at, and a jury's case too
    cases[1].votes[0] = VoteEntry(cases[1].task, 0, bytes(32), 7, 0)
    with pytest.raises(TooManyCasesError):
        await kept.of(cases[2], VIEW)
    cases[1].votes[0] = VoteEntry(cases[1].task, 0, bytes(32), 7, 0, commit_sent_at=1)
    assert await kept.of(cases[2], VIEW) is not None
    with pytest.raises(TooManyCasesError):
        await kept.of(cases[3], VIEW)


async def test_nobody_takes_a_seat_for_a_part_of_nothing_and_a_juror_finds_no_fault(tmp_path: Path) -> None:
    run = await train(tmp_path, steps=3)
    chain = SimpleNamespace(chain_id=1, settings=SimpleNamespace(contracts=SimpleNamespace(task_board=NODE)))
    shares = {"bps": 0}

    async def done_of(_: TaskId) -> Done:
        return Done(stop_requested=False, **shares)

    chain.done_of = done_of
    nothing = cast(Any, None)
    found = Works(
        cast(Any, chain), run.blobs, nothing, nothing, nothing, run.bench, Shelf(tmp_path, run.blobs, budget_bytes=1)
    )
    one = Case(run.assignment.task, run.assignment.filing, 200, 0, 0, 0, 0, nothing, claimed_at=100)
    view = cast(Any, SimpleNamespace(challenge=bytes(32), rules=AuditRules()))
    work = await found._made(one, view, run.assignment.spec, MODEL)
    assert isinstance(work, NothingWork)
    await work.ready(seconds=1)
    opened = await work.published(())
    finding = await work.examine(opened, None, strict=True, seconds=1)
    assert (vote(finding.verdict), finding.projection, finding.evidence) == (Ballot.GOOD, NO_PROJECTION, None)

    class Loop(Auditing):
        def __init__(self) -> None:
            self._occupied = lambda *_: False

        async def _work(self, *_: Any) -> Any:
            return work

    await Loop()._inspect(one, view, 0)
    assert (one.left, one.entry) == (UNABLE, None)
    shares["bps"] = 1
    assert isinstance(await found._made(one, view, run.assignment.spec, MODEL), TrainingWork)
