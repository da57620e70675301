"""A chain that takes blocks back, as the loop of audits sees it: pages, a beacon, and an arbiter that gives seats."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import anyio
from anyio import wait_all_tasks_blocked

from gesso.chain import Cursor, Page
from gesso.chain import events as on_chain
from gesso.chain.arbiter import AuditRecord, Filing, Reveal
from gesso_node.auditing.auditor import Auditor
from gesso_node.auditing.case import Case
from gesso_node.auditing.juror import Juror
from gesso_node.auditing.loop import Auditing
from gesso_node.auditing.record import AuditEntry, AuditRecords
from gesso_node.auditing.sending import Sending
from gesso_node.auditing.watch import Watch
from gesso_node.auditing.work import NO_PROJECTION, Finding
from gesso_node.metrics import Metrics
from gesso_node.state.journal import Journal
from gesso_protocol.audit.challenge import challenge
from gesso_protocol.audit.lifecycle import AuditPhase, AuditView
from gesso_protocol.audit.outcomes import AuditVerdict
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.audit.verdict import Decision, Verdict
from gesso_protocol.errors import ChainReverted, GessoError
from gesso_protocol.hashing import keccak256, word
from gesso_protocol.ids import Address, Root, TaskId
from gesso_protocol.lifecycle import Patience, TaskRecord, TaskState
from gesso_protocol.money import Wei
from gesso_protocol.spec import spec_ref
from gesso_protocol.terms import Terms

from .courts import NO_AUDIT, ArbiterDouble, ChainDouble
from .traces import NODE, REQUESTER, SPEC

ME, OTHER = Address("0x" + "0a" * 20), Address("0x" + "0b" * 20)
TASK = TaskId(b"\x07" * 32)
TERMS = Terms(requester=REQUESTER, fee=Wei(10**16), spec=spec_ref(SPEC), claim_window_s=60, commit_window_s=60, nonce=1)
ROOTS = Root(b"\x01" * 32), Root(b"\x02" * 32)
COMMITTED_AT, ROUND = 100, 11
NOW = 115
_SENT = ("commit", "reveal", "close")
"""In the audit's round, with time left for seats."""
SEED, OTHER_SEED = keccak256(b"a fork"), keccak256(b"another")
PATIENCE = Patience(resend_after_s=4)


def drawn(seed: bytes) -> bytes:
    return challenge(seed, TASK, *ROOTS)


RULES = AuditRules(vetting_rate_bps=10_000, auditor_seats=1, audit_commit_window_s=60, audit_reveal_window_s=50)


@dataclass
class Seats(ArbiterDouble):
    """The arbiter's seats as its contract gives them. `held`: calls of that name that wait until they are let go."""

    rules_: AuditRules = RULES
    seats: dict[Address, bytes] = field(default_factory=dict)
    told: dict[Address, AuditVerdict] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    held: dict[str, anyio.Event] = field(default_factory=dict)
    failing: dict[str, GessoError] = field(default_factory=dict)

    async def fix(self, _: int) -> None:
        await self._came("fix")

    async def is_drand(self) -> bool:
        return False

    async def commit_audit(self, _: Filing, commitment: bytes, *, joining: bool) -> None:
        await self._came("commit")
        if commitment[:10] != drawn(self.seeds[ROUND])[-10:]:
            raise self._no("SealOfAnotherDraw")
        if ME in self.seats:
            raise self._no("NotEligible")
        self.seats[ME] = commitment[-10:]

    async def reveal_audits(self, reveals: list[Reveal]) -> None:
        await self._came("reveal")
        for one in reveals:
            opened = keccak256(one.task.value + word(int(ME, 16)) + one.projection + one.salt)
            if self.seats.get(ME) != opened[-10:]:
                raise self._no("CommitmentMismatch")
            self.told[ME] = one.verdict

    async def audit(self, _: TaskId) -> AuditRecord:
        if not self.seats:
            return NO_AUDIT
        told = tuple(self.told.get(seat) for seat in self.seats)
        return AuditRecord(AuditPhase.OPEN, ROUND, tuple(self.seats), told, challenged=False)

    async def close_audit(self, _: Filing) -> None:
        await self._came("close")

    def hold(self, name: str) -> anyio.Event:
        """The next call of that name waits until this is set; those after it do not."""
        self.held[name] = event = anyio.Event()
        return event

    async def _came(self, name: str) -> None:
        self.asked.append(name)
        if (held := self.held.pop(name, None)) is not None:
            await held.wait()
        if (error := self.failing.pop(name, None)) is not None:
            raise error

    def _no(self, name: str) -> ChainReverted:
        self.refused.append(name)
        return ChainReverted(name)


@dataclass
class Forking(ChainDouble):
    """A board whose blocks are what a test says. The cursor's block is what counts."""

    pages: deque[Page] = field(default_factory=deque)
    address: Address = ME

    async def task(self, task: TaskId) -> TaskRecord:
        held = cast(Seats, self.arbiter).seats and self.state is TaskState.COMMITTED
        return TaskRecord(task, TaskState.HELD if held else self.state, self.node, self.since)

    def settled(self, block: int) -> None:
        """A page with the task's end."""
        place = {"block": block, "block_hash": f"0x{block:064x}", "tx_hash": "0x" + "00" * 32}
        ended = on_chain.TaskSettled.model_construct(**place, log_index=0, task=TASK)
        self.pages.append(Page((ended,), Cursor(block=block)))
        self.state = TaskState.SETTLED

    async def read_page(self, _: Cursor, __: object = None) -> Page | None:
        return self.pages.popleft() if self.pages else None

    async def block_number(self) -> int:
        return 0

    async def weight_of(self, _: Address) -> int:
        return 1

    async def total_weight(self) -> int:
        return 1

    def committed(self, block: int, *, reorged_to: int | None = None, at: int = COMMITTED_AT) -> None:
        """A page with the task's commit, after all above `reorged_to` is gone."""
        place = {"block": block, "block_hash": f"0x{block:064x}", "tx_hash": "0x" + "00" * 32}
        events = (
            on_chain.TaskSubmitted(**place, log_index=0, task=TASK, requester=REQUESTER, terms=TERMS, seed=0, at=at),
            on_chain.TaskCommitted(
                **place, log_index=1, task=TASK, node=NODE, result_root=ROOTS[0], trace_root=ROOTS[1],
                settle_after=at + 50,
            ),
        )  # fmt: skip
        self.pages.append(Page(events, Cursor(block=block), reorged_to))

    def taken_back(self, to_block: int) -> None:
        """A page with nothing but that."""
        self.pages.append(Page((), Cursor(block=to_block), to_block))


@dataclass
class Looked:
    """A work whose outputs are always the same."""

    challenge: bytes
    projection: bytes = NO_PROJECTION
    spec = SPEC
    tolerance = 256

    async def ready(self, *, seconds: float) -> None:
        return None

    async def opened(self, phase: str, seconds: float) -> str:
        return phase

    async def compute(self, opened: str, *, seconds: float) -> Looked:
        return self

    async def examine(self, opened: str, own: object, *, strict: bool, seconds: float) -> Finding:
        return Finding(Verdict(Decision.PASS, ()), self.projection, "fp32/fake", None)

    async def publish(self, opened: str) -> None:
        return None


class LookedAt:
    """Works of the task, by its draw."""

    def known(self, _: Case) -> bool:
        return True

    async def of(self, _: Case, view: AuditView) -> Looked | None:
        return None if view.challenge is None else Looked(view.challenge)

    async def over(self, _: TaskId) -> None:
        return None


@dataclass
class Stage:
    """A node's loop of audits on a chain that forks. `life` starts it, again and again on one journal."""

    path: Path
    arbiter: Seats = field(default_factory=lambda: Seats(seeds={ROUND: SEED}))
    now: int = NOW

    def __post_init__(self) -> None:
        self.chain = Forking(NODE, arbiter=self.arbiter, now_=self.now)
        self.chain.committed(10)

    @asynccontextmanager
    async def life(self) -> AsyncIterator[Life]:
        async with Journal(self.path / "journal.sqlite") as journal, anyio.create_task_group() as tasks:
            records, chain, arbiter = AuditRecords(journal), cast(Any, self.chain), cast(Any, self.arbiter)
            watch = Watch(chain, arbiter, journal, records, ME)
            loop = Auditing(
                chain=chain, arbiter=arbiter, records=records, watch=watch,
                auditor=Auditor(records, self.chain.now), juror=Juror(records, self.chain.now),
                works=cast(Any, LookedAt()), tasks=tasks, me=ME, patience=PATIENCE, seats=True, appeal=False,
                sending=lambda start: Sending(arbiter, records, Metrics(), ME, start, cheat=None),
                withdraw_at=Wei(0),
            )  # fmt: skip
            await loop.restore()
            yield Life(self, loop, watch, records, journal)
            tasks.cancel_scope.cancel()


@dataclass
class Life:
    """One life of the node, from its start to its end."""

    stage: Stage
    loop: Auditing
    watch: Watch
    records: AuditRecords
    journal: Journal

    @property
    def case(self) -> Case:
        return self.watch.cases[TASK]

    async def step(self, later: int = 0) -> None:
        """One pass, `later` seconds later. What it starts goes on by itself."""
        self.stage.now += later
        self.stage.chain.now_ = self.stage.now
        await self.loop.once(self.stage.now)

    async def pass_(self, later: int = 0) -> None:
        """A step, and all that it leads to but what waits for the chain."""
        await self.step(later)
        while any(not verb.startswith(_SENT) for case in self.watch.cases.values() for verb in case.busy):
            self.loop._passes.rearm()
            await self.loop._passes.wait()
        await wait_all_tasks_blocked()

    async def until(self, asked: str) -> AuditEntry:
        """Passes until the arbiter was asked this."""
        for _ in range(60):
            if asked in self.stage.arbiter.asked:
                break
            await self.pass_()
        assert asked in self.stage.arbiter.asked
        return self.entry

    @property
    def entry(self) -> AuditEntry:
        assert self.case.entry is not None
        return self.case.entry

    async def until_told(self) -> None:
        """Passes until our verdict is revealed, or half a minute is over."""
        for _ in range(30):
            if ME in self.stage.arbiter.told:
                return
            await self.pass_(later=1)
        raise AssertionError(f"nothing was revealed: {self.stage.arbiter.refused}")
