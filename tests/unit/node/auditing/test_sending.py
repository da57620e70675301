"""Seats need the beacon's round on the chain: it is put there first, and where that fails nothing counts as sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gesso.chain.arbiter import Arbiter, Filing
from gesso_node.auditing.case import Case
from gesso_node.auditing.record import AuditEntry, AuditRecords, VoteEntry
from gesso_node.auditing.sending import LISTEN_EVERY_S, Sending
from gesso_node.metrics import Metrics
from gesso_protocol.audit.outcomes import Ballot, Vote
from gesso_protocol.errors import ChainReverted, GessoError, Unreachable
from gesso_protocol.ids import TaskId

from .traces import NODE

pytestmark = pytest.mark.anyio
TASK = TaskId(b"\x07" * 32)
ROUND, JURY_ROUND, NOW = 5, 9, 1000


@dataclass
class Said:
    """An arbiter and its beacon, and in which order they were asked."""

    failing: dict[str, GessoError] = field(default_factory=dict)
    heard: bytes | None = None
    calls: list[tuple[str, int]] = field(default_factory=list)

    async def fix(self, round_: int) -> None:
        self._note("fix", round_)

    async def listen(self, round_: int) -> bytes | None:
        self._note("listen", round_)
        return self.heard

    async def commit_audit(self, *_: object, joining: bool) -> None:
        self._note("commit", 0)

    async def commit_vote(self, *_: object) -> None:
        self._note("vote", 0)

    async def reveal_vote(self, *_: object) -> None:
        self._note("say", 0)

    def _note(self, name: str, round_: int) -> None:
        self.calls.append((name, round_))
        if name in self.failing:
            raise self.failing[name]


class Journalled:
    """Records that change in memory."""

    async def change_audit(self, entry: AuditEntry, _: str, **changes: Any) -> AuditEntry:
        return replace(entry, **changes)

    async def change_vote(self, entry: VoteEntry, _: str, **changes: Any) -> VoteEntry:
        return replace(entry, **changes)

    async def unsend_audit(self, entry: AuditEntry, verb: str, _: int) -> AuditEntry:
        return replace(entry, **{f"{verb}_sent_at": None})

    async def unsend_vote(self, entry: VoteEntry, verb: str, _: int) -> VoteEntry:
        return replace(entry, **{f"{verb}_sent_at": None})


@dataclass
class Stage:
    """One case, and what `Sending` starts in its background."""

    said: Said
    started: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        entry = AuditEntry(TASK, NODE, bytes(32), 0, salt=bytes(32), projection=bytes(32))
        filing = cast(Filing, None)
        self.case = Case(TASK, filing, 0, 0, 0, ROUND, 0, None, entry=entry)  # type: ignore[arg-type]
        self.case.dispute = cast(Any, SimpleNamespace(round=JURY_ROUND, level=0))
        self.case.votes[0] = VoteEntry(TASK, 0, bytes(32), JURY_ROUND, 0, salt=bytes(32), vote=Vote(Ballot.GOOD))

        def start(_: Case, __: str, step: Callable[[], Awaitable[None]]) -> None:
            self.started.append(step)

        arbiter, records = cast(Arbiter, self.said), cast(AuditRecords, Journalled())
        self.sending = Sending(arbiter, records, Metrics(), NODE, start, cheat=None)

    async def finish(self) -> None:
        for step in self.started:
            await step()

    @property
    def sent_at(self) -> int | None:
        assert self.case.entry is not None
        return self.case.entry.commit_sent_at


async def test_the_round_stands_on_chain_before_a_seat_is_taken() -> None:
    stage = Stage(Said())
    await stage.sending.commit_audit(stage.case, NOW)
    await stage.sending.commit_vote(stage.case, NOW)
    await stage.finish()
    assert stage.said.calls == [("fix", ROUND), ("commit", 0), ("fix", JURY_ROUND), ("vote", 0)]
    assert (stage.sent_at, stage.case.votes[0].commit_sent_at) == (NOW, NOW)


async def test_a_round_that_cannot_be_had_leaves_nothing_sent() -> None:
    stage = Stage(Said({"fix": Unreachable("drand is silent")}))
    await stage.sending.commit_audit(stage.case, NOW)
    await stage.sending.commit_vote(stage.case, NOW)
    await stage.finish()
    assert [name for name, _ in stage.said.calls] == ["fix", "fix"]
    assert (stage.sent_at, stage.case.votes[0].commit_sent_at) == (None, None)
    assert stage.case.not_before == NOW + 1  # soon again, not after the patience for lost transactions


async def test_a_seat_that_may_have_been_taken_is_not_asked_for_at_once() -> None:
    stage = Stage(Said({"commit": Unreachable("the chain does not answer")}))
    await stage.sending.commit_audit(stage.case, NOW)
    await stage.finish()
    assert stage.sent_at == NOW


async def test_listening_comes_back_until_something_is_heard() -> None:
    stage = Stage(Said())
    stage.sending.listen(stage.case, ROUND, NOW)
    await stage.finish()
    assert stage.case.not_before == NOW + LISTEN_EVERY_S
    stage.said.heard = bytes(32)
    await stage.finish()
    assert stage.case.not_before == 0


async def test_a_vote_that_its_seat_does_not_hold_is_counted_and_nothing_else_is() -> None:
    for name, counted in (("CommitmentMismatch", 1), ("TooEarly", 0)):
        stage = Stage(Said({"say": ChainReverted(name)}))
        await stage.sending.reveal_vote(stage.case, NOW)
        await stage.finish()
        assert stage.case.unopened[bytes(32)] == counted
