"""An auditor whose machine cannot judge what it sealed says that it found nothing, says so loudly, and rests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from gesso.chain.arbiter import Filing
from gesso_node.auditing.auditor import NOT_JUDGED, Auditor
from gesso_node.auditing.case import Case
from gesso_node.auditing.inspect import CannotRunError
from gesso_node.auditing.loop import Auditing
from gesso_node.auditing.record import AuditEntry, AuditRecords
from gesso_node.auditing.report import audits_report
from gesso_node.auditing.rests import MAX_MODELS, NOTE, RESTING, Rests
from gesso_node.state.journal import Journal
from gesso_protocol.audit.limits import shipped_limits
from gesso_protocol.audit.outcomes import AuditVerdict
from gesso_protocol.audit.verdict import Inspection, judge
from gesso_protocol.errors import BlobMissing
from gesso_protocol.ids import Address, Root, TaskId
from gesso_protocol.lifecycle import Patience
from gesso_protocol.money import Wei
from gesso_protocol.spec import TextToImage

from .traces import NODE, REQUESTER

pytestmark = pytest.mark.anyio
SPEC = TextToImage(model="tiny@1", prompt="a hill", seed=7, width=64, height=64, steps=4)
OTHER = Address("0x" + "0c" * 20)
BY, UNTIL, ATTEMPTS = 100, 200, 2
CHALLENGE = bytes([5]) * 32


@dataclass
class Failing:
    """Work whose comparison raises what a test says; None: nothing is wrong with it."""

    error: Exception | None
    spec: TextToImage = SPEC
    challenge: bytes = CHALLENGE
    seconds: float = 0
    times: int = 0

    async def ready(self, *, seconds: float) -> None:
        return None

    async def opened(self, phase: str, seconds: float) -> Any:
        return "openings"

    async def examine(self, opened: Any, own: Any, *, strict: bool, seconds: float) -> Any:
        self.seconds, self.times = seconds, self.times + 1
        if self.error is not None:
            raise self.error
        verdict = judge(Inspection(limit=shipped_limits().row("", "")))
        return SimpleNamespace(verdict=verdict, evidence=None, profile="")

    async def publish(self, opened: Any) -> None:
        return None


class Bench:
    """An auditor with a journal, and a clock that a test sets."""

    def __init__(self, journal: Journal) -> None:
        self.journal, self.records, self.rests, self.now = journal, AuditRecords(journal), Rests(journal), BY - 50

        async def now() -> int:
            return self.now

        self.auditor = Auditor(self.records, now, rests=self.rests, attempts=ATTEMPTS)

    async def sealed(self, number: int, node: Address = NODE) -> Case:
        task = TaskId(bytes([number]) * 32)
        filing = Filing(cast(Any, None), node, Root(bytes(32)), Root(bytes(32)))
        entry = await self.records.begin_audit(AuditEntry(task, node, CHALLENGE, 0))
        entry = await self.records.seal_audit(entry, bytes(128), bytes(32), "")
        return Case(task, filing, 0, 0, 0, 0, 0, cast(Any, None), entry=entry)

    async def judged(self, case: Case, work: Failing) -> AuditEntry:
        """Until there is a verdict, as the loop asks."""
        for _ in range(ATTEMPTS):
            assert case.entry is not None
            if case.entry.verdict is None:
                await self.auditor.judge(case, cast(Any, work), by=BY, until=UNTIL)
        assert case.entry is not None
        return case.entry


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with Journal(tmp_path / "journal.sqlite") as journal:
        yield Bench(journal)


@pytest.mark.parametrize("hopeless", [True, False])
async def test_a_machine_that_cannot_judge_reveals_that_it_found_nothing(bench: Bench, hopeless: bool) -> None:
    case, work = await bench.sealed(1), Failing(CannotRunError("OutOfMemory: 8 GB", hopeless=hopeless))
    with capture_logs() as logs:
        entry = await bench.judged(case, work)
    assert (entry.verdict, entry.closed, entry.evidence) == (AuditVerdict.PASS, None, None)
    assert entry.reasons == NOT_JUDGED + "OutOfMemory: 8 GB"
    assert work.times == (1 if hopeless else ATTEMPTS), "another try where it may help"
    assert [line["log_level"] for line in logs if line["event"] == "audit.not-judged"] == ["error"]


async def test_what_failed_before_the_seal_leaves_the_verdict_its_tries(bench: Bench) -> None:
    case = await bench.sealed(1)
    begun = await bench.records.begin_audit(AuditEntry(TaskId(bytes([2]) * 32), NODE, CHALLENGE, 0, failures=1))
    case = replace(case, task=begun.task, entry=await bench.records.seal_audit(begun, bytes(128), bytes(32), ""))
    work = Failing(CannotRunError("TimedOut", hopeless=False))
    await bench.judged(case, work)
    assert work.times == ATTEMPTS


async def test_stores_that_stay_away_end_in_a_verdict_too_while_there_is_time_to_reveal_it(bench: Bench) -> None:
    case, work = await bench.sealed(1), Failing(BlobMissing("nobody has the base"))
    for now in (BY - 50, BY, UNTIL - 1):
        bench.now = now
        with pytest.raises(BlobMissing):
            await bench.judged(case, work)
    bench.now = UNTIL
    entry = await bench.judged(case, work)
    assert entry.verdict is AuditVerdict.PASS
    assert entry.reasons.startswith(NOT_JUDGED)


async def test_openings_of_the_last_second_leave_us_the_time_to_judge_them(bench: Bench) -> None:
    """Or whoever opens late would have every auditor fail."""
    bench.now, work = BY - 1, Failing(None)
    entry = await bench.judged(await bench.sealed(1), work)
    assert (entry.verdict, entry.reasons) == (AuditVerdict.PASS, "")
    assert work.seconds == UNTIL - (BY - 1)


async def test_no_more_seats_for_what_failed_with_two_nodes_until_the_operator_has_looked(bench: Bench) -> None:
    broken, good = Failing(CannotRunError("Failed: no kernel", hopeless=True)), Failing(None)
    unlike = Failing(None, spec=SPEC.model_copy(update={"dtype": "fp16"}))
    for number, node in ((1, NODE), (2, NODE)):
        await bench.judged(await bench.sealed(number, node), broken)
        assert await bench.auditor.takes(cast(Any, broken)), "one node alone may know what our machine cannot bear"
    await bench.judged(await bench.sealed(3, OTHER), broken)
    assert not await bench.auditor.takes(cast(Any, broken))
    assert await bench.auditor.takes(cast(Any, unlike))
    (one,) = await bench.rests.all()
    assert (one.model, one.reason, one.nodes) == ("tiny@1", "Failed: no kernel", (str(NODE), str(OTHER)))
    assert await Rests(bench.journal).resume() == (one,)
    assert await bench.auditor.takes(cast(Any, broken))
    await bench.judged(await bench.sealed(4, NODE), broken)
    await bench.judged(await bench.sealed(5, NODE), good)
    assert await bench.rests.all() == (), "an audit that was judged ends the row"


async def test_a_stranger_s_openings_that_break_our_code_put_no_model_to_rest(bench: Bench) -> None:
    for number, node in ((1, NODE), (2, OTHER)):
        entry = await bench.judged(await bench.sealed(number, node), Failing(IndexError("a decoder stumbles")))
        assert entry.verdict is AuditVerdict.PASS
    assert await bench.rests.all() == ()


async def test_what_failed_is_bounded_and_a_note_that_is_none_is_nothing(bench: Bench) -> None:
    for number in range(MAX_MODELS + 3):
        spec = SPEC.model_copy(update={"model": f"tiny@{number + 1}"})
        await bench.rests.failed(spec, TaskId(bytes(32)), NODE, "x" * 10_000, 1)
    kept = await bench.rests.all()
    assert [one.model for one in kept] == [f"tiny@{number + 1}" for number in range(3, MAX_MODELS + 3)]
    await bench.journal.set_note(NOTE, "[")
    assert await bench.rests.all() == ()


async def test_the_operator_sees_what_was_not_judged_and_what_rests(bench: Bench) -> None:
    broken = Failing(CannotRunError("Failed: no kernel", hopeless=True))
    for number, node in ((1, NODE), (2, OTHER)):
        entry = await bench.judged(await bench.sealed(number, node), broken)
        await bench.records.change_audit(entry, "audit-reveal", reveal_sent_at=1)
    report = await audits_report(bench.records, bench.rests, ("audit",))
    assert (report.totals.passed, report.totals.not_judged, len(report.failing)) == (2, 2, 1)
    for said in ("this machine could not look", "text_to_image tiny@1 fp32", "no kernel", "--resume"):
        assert said in report.summary()
    await bench.rests.resume()
    assert "--resume" not in (await audits_report(bench.records, bench.rests, ())).summary()


class OneCase(Auditing):
    """A loop over one case; looking at it takes `work`, or None for a spec that is away."""

    def __init__(self, bench: Bench, work: Any) -> None:
        nothing, self.work = cast(Any, None), work
        self.begun: list[str] = []
        super().__init__(
            chain=nothing, arbiter=nothing, records=bench.records, watch=cast(Any, SimpleNamespace(cases={})),
            auditor=bench.auditor, juror=nothing, works=nothing, sending=lambda _: nothing, tasks=nothing, me=REQUESTER,
            patience=Patience(), seats=True, appeal=True, withdraw_at=Wei(0),
        )  # fmt: skip

    async def _work(self, *_: object) -> Any:
        return self.work

    def _start(self, case: Case, verb: str, *_: object) -> None:
        self.begun.append(verb)


def view(reveal_by: int) -> Any:
    rules = SimpleNamespace(audit_reveal_window_s=120)
    return SimpleNamespace(full=True, reveal_by=reveal_by, seats_by=60, round_starts=0, commit_by=60, rules=rules)


async def test_the_loop_takes_no_seat_that_it_could_not_reveal_by_itself(bench: Bench) -> None:
    broken = Failing(CannotRunError("Failed: no kernel", hopeless=True))
    loop, case = OneCase(bench, broken), replace(await bench.sealed(9), entry=None)
    for node in (NODE, OTHER):
        await bench.rests.failed(SPEC, TaskId(bytes(32)), node, "no kernel", 1)
    await loop._inspect(case, view(180), 5)
    assert (case.left, case.entry, loop.begun) == (RESTING, None, [])
    await bench.rests.resume()
    case.touch()
    await loop._inspect(case, view(180), 5)
    assert (case.left, loop.begun) == ("", ["inspect"])


async def test_a_seal_whose_spec_is_away_is_revealed_before_its_time_is_over(bench: Bench) -> None:
    """As after a start on an empty disk, with the relay away."""
    loop, case = OneCase(bench, None), await bench.sealed(1)
    await loop._judge(case, view(180), 159)
    assert case.entry is not None
    assert case.entry.verdict is None
    await loop._judge(case, view(180), 160)
    assert case.entry.verdict is AuditVerdict.PASS
    assert case.entry.reasons.startswith(NOT_JUDGED)
