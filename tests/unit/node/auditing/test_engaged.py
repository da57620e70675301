"""One executor for trainings and audits: no seat is taken, and no training begun, where one would cost the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gesso_node.auditing.case import LOOKING, Case, Revealed
from gesso_node.auditing.loop import BEGIN_S, Auditing
from gesso_node.auditing.record import AuditEntry
from gesso_protocol.audit.outcomes import AuditVerdict
from gesso_protocol.audit.verdict import Decision
from gesso_protocol.ids import TaskId
from gesso_protocol.lifecycle import Patience
from gesso_protocol.money import Wei

from .runs import train
from .traces import NODE, REQUESTER

pytestmark = pytest.mark.anyio
ME = REQUESTER
SEALED = AuditEntry(TaskId(b"\x07" * 32), NODE, bytes(32), 0, salt=bytes(32), projection=bytes(32))


def case(**changes: Any) -> Case:
    nothing = cast(Any, None)
    return Case(SEALED.task, nothing, 0, 0, 0, 0, 0, nothing, **{"entry": SEALED, **changes})


@pytest.mark.parametrize(
    ("engaged", "changes"),
    [
        (True, {}),
        (True, {"entry": replace(SEALED, commit_sent_at=1, verdict=AuditVerdict.PASS, reveal_sent_at=2)}),
        (True, {"entry": None, "busy": {"review"}}),
        (False, {"entry": None}),
        (False, {"entry": replace(SEALED, salt=None, projection=None)}),
        (False, {"entry": replace(SEALED, closed="over")}),
        (False, {"revealed": {ME: Revealed(AuditVerdict.PASS, None, bytes(128))}}),
        (False, {"left": "not ours"}),
        (False, {"closed": True}),
    ],
)  # fmt: skip
def test_a_seal_engages_until_it_is_revealed_on_chain(engaged: bool, changes: dict[str, Any]) -> None:
    assert case(**changes).engages(ME) is engaged


class Asked(Auditing):
    """A loop over one case; `work` is what looking at it would be, `asked` how many seats it has beside it."""

    def __init__(self, one: Case, *others: Case, occupied: bool = True) -> None:
        nothing = cast(Any, None)
        watch = cast(Any, SimpleNamespace(cases=dict(enumerate((one, *others)))))
        self.asked = list[int]()

        def is_occupied(_: Any, now: int, seats: int) -> bool:
            self.asked.append(seats)
            return occupied

        super().__init__(
            chain=nothing, arbiter=nothing, records=nothing, watch=watch, auditor=nothing, juror=nothing, works=nothing,
            sending=lambda _: nothing, tasks=nothing, me=ME, patience=Patience(), seats=True, appeal=True,
            withdraw_at=Wei(0), occupied=is_occupied,
        )  # fmt: skip

    async def _work(self, *_: object) -> Any:
        return SimpleNamespace(spec=None)


async def test_no_seat_is_taken_that_a_training_has_no_time_for() -> None:
    one = case(entry=None)
    asked = Asked(one, case(), case(entry=None), case(closed=True))
    await asked._inspect(one, cast(Any, None), 50)
    assert (one.not_before, one.entry, one.busy) == (51, None, set())
    assert asked.asked == [1], "those that we have count"


async def test_no_juror_sits_down_that_a_training_has_no_time_for() -> None:
    one = case(entry=None)
    asked = Asked(one)
    await asked._review(one, cast(Any, None), 90, 50)
    assert (one.not_before, one.votes, one.busy) == (51, {}, set())


def test_a_training_is_begun_where_it_can_make_way_before_we_have_to_judge() -> None:
    one = case(entry=None)
    asked = Asked(one)
    assert not asked.engaged(50)
    one.busy |= LOOKING
    assert asked.engaged(50), "an audit of ours looks"
    for judge_by, engaged in ((0, True), (50 + BEGIN_S - 1, True), (50 + BEGIN_S, False)):
        assert Asked(case(judge_by=judge_by)).engaged(50) is engaged


async def test_a_remark_is_left_out_where_the_executor_has_other_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await train(tmp_path)
    assignment, answers = await run.answers()
    work = run.work(assignment, answers)
    await work.ready(seconds=60)
    own = await work.compute(await work.opened("inputs", 60), seconds=60)
    revisited = list[Any]()
    revisit = run.bench.revisit

    async def noted(job: Any, out_dir: Path) -> Any:
        revisited.append(job)
        return await revisit(job, out_dir)

    monkeypatch.setattr(run.bench, "revisit", noted)
    for busy, asked in ((True, []), (False, [True])):
        revisited.clear()
        executor = cast(Any, run.bench._executor)
        monkeypatch.setattr(executor, "health", lambda busy=busy: SimpleNamespace(busy=busy))
        finding = await work.examine(await work.opened("outputs", 60), own, strict=False, seconds=60)
        assert finding.verdict.decision is Decision.PASS
        assert [job.weigh is not None for job in revisited] == asked
