"""Events of the arbiter and of its beacon: audits, disputes, penalties, money."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from gesso.chain.event_base import Happened
from gesso_protocol.audit.outcomes import AuditOutcome, AuditVerdict, DisputeOutcome
from gesso_protocol.ids import Address, BlobRef, TaskId
from gesso_protocol.money import Wei

_NOTHING = bytes(32)
Word = Annotated[bytes, Field(min_length=32, max_length=32)]
MaybeBlob = Annotated[BlobRef | None, BeforeValidator(lambda value: None if value == _NOTHING else value)]


class AuditOpened(Happened):
    """The task is held, `auditor` has the first seat; others may take theirs up to second `commit_by`, included."""

    kind: Literal["audit-opened"] = "audit-opened"
    task: TaskId
    auditor: Address
    challenge: Word
    round: int
    commit_by: int


class AuditCommitted(Happened):
    """Another seat than the first was taken."""

    kind: Literal["audit-committed"] = "audit-committed"
    task: TaskId
    auditor: Address


class AuditRevealed(Happened):
    """`projection` is 32 bytes as packed on chain; `evidence` is None when the openings were withheld."""

    kind: Literal["audit-revealed"] = "audit-revealed"
    task: TaskId
    auditor: Address
    verdict: AuditVerdict
    evidence: MaybeBlob
    profile: Word
    projection: Word


class AuditClosed(Happened):
    kind: Literal["audit-closed"] = "audit-closed"
    task: TaskId
    outcome: AuditOutcome


class Challenged(Happened):
    """The requester put up a bond for jurors."""

    kind: Literal["challenged"] = "challenged"
    task: TaskId
    requester: Address
    bond: Wei


class DisputeOpened(Happened):
    """Beacon round `round` draws the jurors of this level; level 1 is the appeal."""

    kind: Literal["dispute-opened"] = "dispute-opened"
    task: TaskId
    by: Address
    level: int
    round: int


class VoteCommitted(Happened):
    kind: Literal["vote-committed"] = "vote-committed"
    task: TaskId
    juror: Address
    level: int


class VoteRevealed(Happened):
    kind: Literal["vote-revealed"] = "vote-revealed"
    task: TaskId
    juror: Address
    level: int
    vote: int


class DisputeTallied(Happened):
    """`appeal_by` is 0 when there is nothing to appeal to."""

    kind: Literal["dispute-tallied"] = "dispute-tallied"
    task: TaskId
    level: int
    outcome: DisputeOutcome
    appeal_by: int


class Appealed(Happened):
    kind: Literal["appealed"] = "appealed"
    task: TaskId
    by: Address


class DisputeExecuted(Happened):
    """What was slashed is `burned` + `to_requester` + `to_pool`."""

    kind: Literal["dispute-executed"] = "dispute-executed"
    task: TaskId
    outcome: DisputeOutcome
    slashed: Wei
    burned: Wei
    to_requester: Wei
    to_pool: Wei


class AuditorPenalised(Happened):
    kind: Literal["auditor-penalised"] = "auditor-penalised"
    task: TaskId
    auditor: Address
    amount: Wei
    reason: int


class JurorPenalised(Happened):
    kind: Literal["juror-penalised"] = "juror-penalised"
    task: TaskId
    juror: Address
    amount: Wei
    reason: int


class Credited(Happened):
    kind: Literal["credited"] = "credited"
    account: Address
    amount: Wei
    reason: int


class BrakeEngaged(Happened):
    """A guilty verdict slashed nothing: this profile was slashed too often that day (days since 1970)."""

    kind: Literal["brake-engaged"] = "brake-engaged"
    profile: Word
    day: int


class Collected(Happened):
    kind: Literal["collected"] = "collected"
    amount: Wei


class CreditWithdrawn(Happened):
    kind: Literal["credit-withdrawn"] = "credit-withdrawn"
    account: Address
    amount: Wei


class SeedFixed(Happened):
    """The beacon's round is known from here on."""

    kind: Literal["seed-fixed"] = "seed-fixed"
    round: int
    seed: Word


AuditEvent: TypeAlias = (
    AuditOpened
    | AuditCommitted
    | AuditRevealed
    | AuditClosed
    | Challenged
    | DisputeOpened
    | VoteCommitted
    | VoteRevealed
    | DisputeTallied
    | Appealed
    | DisputeExecuted
    | AuditorPenalised
    | JurorPenalised
    | Credited
    | BrakeEngaged
    | Collected
    | CreditWithdrawn
    | SeedFixed
)

_TASK = {"taskId": "task"}
_AUDITOR = _TASK | {"auditor": "auditor"}
_JUROR = _TASK | {"juror": "juror"}


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


KINDS: dict[str, tuple[type[Any], dict[str, str]]] = {
    "AuditOpened": (AuditOpened, _AUDITOR | _same("challenge", "round") | {"commitBy": "commit_by"}),
    "AuditCommitted": (AuditCommitted, _AUDITOR),
    "AuditRevealed": (AuditRevealed, _AUDITOR | _same("verdict", "evidence", "profile", "projection")),
    "AuditClosed": (AuditClosed, _TASK | _same("outcome")),
    "Challenged": (Challenged, _TASK | _same("requester", "bond")),
    "DisputeOpened": (DisputeOpened, _TASK | _same("by", "level", "round")),
    "VoteCommitted": (VoteCommitted, _JUROR | _same("level")),
    "VoteRevealed": (VoteRevealed, _JUROR | _same("level", "vote")),
    "DisputeTallied": (DisputeTallied, _TASK | _same("level", "outcome") | {"appealBy": "appeal_by"}),
    "Appealed": (Appealed, _TASK | _same("by")),
    "DisputeExecuted": (
        DisputeExecuted,
        _TASK | _same("outcome", "slashed", "burned") | {"toRequester": "to_requester", "toPool": "to_pool"},
    ),
    "AuditorPenalised": (AuditorPenalised, _AUDITOR | _same("amount", "reason")),
    "JurorPenalised": (JurorPenalised, _JUROR | _same("amount", "reason")),
    "Credited": (Credited, _same("account", "amount", "reason")),
    "BrakeEngaged": (BrakeEngaged, _same("profile", "day")),
    "Collected": (Collected, _same("amount")),
    "CreditWithdrawn": (CreditWithdrawn, _same("account", "amount")),
    "SeedFixed": (SeedFixed, _same("round", "seed")),
}
"""Name of the event in the contract to our type, and its field names to ours."""
