"""One executor for trainings and audits: neither begins what the other would make it break off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gesso_node.auditing.case import LOOKING, Case, Revealed
from gesso_node.auditing.loop import Auditing
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


def loop(one: Case, occupied: Callable[[], bool]) -> Auditing:
    watch = cast(Any, SimpleNamespace(cases={one.task: one}))
    nothing = cast(Any, None)
    return Auditing(
        chain=nothing, arbiter=nothing, records=nothing, watch=watch, auditor=nothing, juror=nothing, works=nothing,
        sending=lambda _: nothing, tasks=nothing, me=ME, patience=Patience(), seats=True, appeal=True,
        withdraw_at=Wei(0), occupied=occupied,
    )  # fmt: skip


async def test_no_seat_is_taken_while_a_training_is_in_hand() -> None:
    one = case(entry=None)
    asked = loop(one, lambda: True)
    await asked._inspect(one, cast(Any, None), 50)
    assert (one.not_before, one.entry, one.busy) == (51, None, set())
    assert not asked.engaged()
    one.busy |= LOOKING
    assert asked.engaged()


async def test_no_juror_sits_down_while_a_training_is_in_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    one = case(entry=None)
    asked = loop(one, lambda: True)

    async def work(*_: object) -> object:
        return object()

    monkeypatch.setattr(asked, "_work", work)
    await asked._review(one, cast(Any, None), 90, 50)
    assert (one.not_before, one.votes, one.busy) == (51, {}, set())


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
