"""When a node asks for a second jury: where its re-run contradicts the first, or, for its own work, does not agree."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gesso.chain.arbiter import Filing
from gesso_node.auditing.case import UNABLE, Case
from gesso_node.auditing.loop import Auditing
from gesso_node.auditing.record import VoteEntry
from gesso_protocol.audit.disputes import DisputePhase, DisputeView
from gesso_protocol.audit.outcomes import Ballot, DisputeOutcome, Vote
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.ids import Address, BlobRef, Root, TaskId
from gesso_protocol.lifecycle import Patience
from gesso_protocol.money import Wei
from gesso_protocol.terms import Terms

from .traces import NODE, REQUESTER

pytestmark = pytest.mark.anyio
AUDITOR, TASK, NOW = Address("0x" + "0f" * 20), TaskId(b"\x07" * 32), 1_000
TERMS = Terms(requester=REQUESTER, fee=Wei(1), spec=BlobRef(bytes(32)), claim_window_s=60, commit_window_s=60, nonce=1)
NOT_LOOKED = VoteEntry(TASK, 0, bytes(32), 3, NOW)


class Losing(Auditing):
    """A loop over one case that a jury decided; `reviews` counts the looks that it takes itself."""

    def __init__(self, me: Address) -> None:
        nothing = cast(Any, None)
        self.reviews = 0
        super().__init__(
            chain=nothing, arbiter=nothing, records=nothing, watch=nothing, auditor=nothing, juror=nothing,
            works=nothing, sending=lambda _: nothing, tasks=nothing, me=me, patience=Patience(), seats=True,
            appeal=True, withdraw_at=Wei(0), occupied=lambda *_: False,
        )  # fmt: skip

    async def _work(self, *_: object) -> Any:
        return SimpleNamespace(spec=None)

    def _start(self, *_: object) -> None:
        self.reviews += 1

    async def wants(self, outcome: DisputeOutcome, entry: VoteEntry) -> bool:
        nothing = cast(Any, None)
        case = Case(TASK, Filing(TERMS, NODE, Root(bytes(32)), Root(bytes(32))), 0, 0, 0, 0, 0, nothing)
        case.votes[0] = entry
        rules = AuditRules()
        trial = DisputeView(
            TASK, TERMS, NODE, rules, DisputePhase.TALLIED, 0, 3, NOW, outcome=outcome, auditors=(AUDITOR,),
            appeal_by=NOW + 50,
        )  # fmt: skip
        return await self._wants_appeal(case, trial, cast(Any, SimpleNamespace(rules=rules)), NOW)


def looked(ballot: Ballot) -> VoteEntry:
    return replace(NOT_LOOKED, vote=Vote(ballot), salt=bytes(32))


GAVE_UP = (replace(NOT_LOOKED, closed=UNABLE), replace(NOT_LOOKED, failures=Patience().attempts))


@pytest.mark.parametrize(
    ("me", "outcome", "entry", "appeals"),
    [
        (NODE, DisputeOutcome.GUILTY, looked(Ballot.GOOD), True),
        (NODE, DisputeOutcome.GUILTY, looked(Ballot.CANNOT_TELL), True),
        (NODE, DisputeOutcome.GUILTY, looked(Ballot.BAD), False),
        *((NODE, DisputeOutcome.GUILTY, entry, True) for entry in GAVE_UP),
        (NODE, DisputeOutcome.INNOCENT, looked(Ballot.GOOD), False),
        (NODE, DisputeOutcome.UNDECIDED, looked(Ballot.GOOD), False),
        (AUDITOR, DisputeOutcome.GUILTY, looked(Ballot.GOOD), True),
        (AUDITOR, DisputeOutcome.GUILTY, looked(Ballot.CANNOT_TELL), False),
        *((AUDITOR, DisputeOutcome.GUILTY, entry, False) for entry in GAVE_UP),
        (REQUESTER, DisputeOutcome.INNOCENT, looked(Ballot.BAD), True),
        (REQUESTER, DisputeOutcome.INNOCENT, looked(Ballot.CANNOT_TELL), False),
    ],
)
async def test_who_appeals(me: Address, outcome: DisputeOutcome, entry: VoteEntry, appeals: bool) -> None:
    loop = Losing(me)
    assert await loop.wants(outcome, entry) is appeals
    assert not loop.reviews, "it has looked, or given up"


async def test_it_looks_before_it_says() -> None:
    loop = Losing(NODE)
    assert not await loop.wants(DisputeOutcome.GUILTY, NOT_LOOKED)
    assert loop.reviews == 1
