"""The arbiter's events, turned into facts about audits. Each is kept under the id of the task that it is about."""

from __future__ import annotations

from gesso.chain import audit_events as on_chain
from gesso_protocol.audit.outcomes import AuditOutcome, AuditVerdict, DisputeOutcome, Vote
from gesso_protocol.errors import EncodingInvalid
from gesso_relay.index.entries import Document, Fact

PENALTIES = ("none", "missing-reveal", "wrong-verdict", "wrong-projection", "incoherent")
"""By the numbers of the arbiter's `PenaltyReason`."""


def audit_fact(event: object) -> Fact | None:
    """What the event says of one audit; None for events of other kinds."""
    told = _told(event)
    if told is None or not isinstance(event, _OF_A_TASK):
        return None
    return "audit", str(event.task), event.kind, told


_OF_A_TASK = (
    on_chain.AuditOpened, on_chain.AuditCommitted, on_chain.AuditRevealed, on_chain.AuditClosed, on_chain.Challenged,
    on_chain.DisputeOpened, on_chain.VoteCommitted, on_chain.VoteRevealed, on_chain.DisputeTallied, on_chain.Appealed,
    on_chain.DisputeExecuted, on_chain.AuditorPenalised, on_chain.JurorPenalised,
)  # fmt: skip


def _told(event: object) -> Document | None:
    match event:
        case on_chain.AuditOpened():
            return {
                "auditor": str(event.auditor), "challenge": f"0x{event.challenge.hex()}", "round": event.round,
                "commit_by": event.commit_by,
            }  # fmt: skip
        case on_chain.AuditCommitted():
            return {"auditor": str(event.auditor)}
        case on_chain.AuditRevealed():
            return _revealed(event)
        case on_chain.AuditClosed():
            return {"outcome": _word(AuditOutcome(event.outcome))}
        case on_chain.Challenged():
            return {"requester": str(event.requester), "bond": str(int(event.bond))}
        case _:
            return _disputed(event) or _penalised(event)


def _disputed(event: object) -> Document | None:
    match event:
        case on_chain.DisputeOpened():
            return {"by": str(event.by), "level": event.level, "round": event.round}
        case on_chain.VoteCommitted():
            return {"juror": str(event.juror), "level": event.level}
        case on_chain.VoteRevealed():
            return {"juror": str(event.juror), "level": event.level, "said": _ballot(event.vote), "vote": event.vote}
        case on_chain.DisputeTallied():
            outcome = _word(DisputeOutcome(event.outcome))
            return {"level": event.level, "outcome": outcome, "appeal_by": event.appeal_by}
        case on_chain.Appealed():
            return {"by": str(event.by)}
        case on_chain.DisputeExecuted():
            return {
                "outcome": _word(DisputeOutcome(event.outcome)), "slashed": str(int(event.slashed)),
                "burned": str(int(event.burned)), "to_requester": str(int(event.to_requester)),
                "to_pool": str(int(event.to_pool)),
            }  # fmt: skip
        case _:
            return None


def _penalised(event: object) -> Document | None:
    match event:
        case on_chain.AuditorPenalised():
            return {"auditor": str(event.auditor), "amount": str(int(event.amount)), "reason": _reason(event.reason)}
        case on_chain.JurorPenalised():
            return {"juror": str(event.juror), "amount": str(int(event.amount)), "reason": _reason(event.reason)}
        case _:
            return None


def _revealed(event: on_chain.AuditRevealed) -> Document:
    return {
        "auditor": str(event.auditor),
        "said": _word(AuditVerdict(event.verdict)),
        "evidence": None if event.evidence is None else str(event.evidence),
        "profile": f"0x{event.profile.hex()}",
        "projection": event.projection.hex(),
    }


def _ballot(vote: int) -> str | None:
    # The contract takes only votes that mean something; another reading of one must not stop the index.
    try:
        return _word(Vote.of(vote).ballot)
    except EncodingInvalid:
        return None


def _word(value: AuditVerdict | AuditOutcome | DisputeOutcome | object) -> str:
    return str(getattr(value, "name", value)).lower().replace("_", "-")


def _reason(number: int) -> str:
    return PENALTIES[number] if number < len(PENALTIES) else str(number)
