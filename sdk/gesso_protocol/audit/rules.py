"""The arbiter's rules, fixed for its life: what its `rules()` answers, field by field."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from gesso_protocol.encoding import Document
from gesso_protocol.money import MAX_FEE, Wei
from gesso_protocol.terms import U32, Bps

Amount = Annotated[Wei, Field(le=MAX_FEE)]
Seats = Annotated[int, Field(ge=1, le=64)]


class AuditRules(Document):
    """Times are seconds, rates and shares basis points, amounts base units of the fee token. Defaults: production."""

    MAX_BYTES: ClassVar[int] = 4 * 1024

    format: Literal["gesso/audit-rules/1"] = "gesso/audit-rules/1"
    vetting_audits: Annotated[int, Field(ge=0, lt=2**16)] = 100
    trusted_audits: Annotated[int, Field(ge=0, lt=2**16)] = 1000
    vetting_rate_bps: Bps = 2000
    rate_bps: Bps = 500
    floor_rate_bps: Bps = 200
    large_fee: Amount = Wei(10 * 10**18)
    auditor_seats: Annotated[int, Field(ge=1, le=2)] = 2
    audit_step_s: Annotated[int, Field(ge=1, lt=2**32)] = 30
    audit_commit_window_s: U32 = 3600
    audit_reveal_window_s: U32 = 3600
    jurors: Seats = 21
    quorum: Seats = 14
    appeal_jurors: Seats = 31
    appeal_quorum: Seats = 21
    juror_step_s: Annotated[int, Field(ge=1, lt=2**32)] = 60
    vote_commit_window_s: U32 = 6 * 3600
    vote_reveal_window_s: U32 = 3 * 3600
    appeal_window_s: U32 = 6 * 3600
    auditor_fee: Amount = Wei(0)
    juror_fee: Amount = Wei(0)
    auditor_penalty: Amount = Wei(0)
    juror_penalty: Amount = Wei(0)
    challenge_bond: Amount = Wei(0)
    appeal_bond_factor: Annotated[int, Field(ge=1, le=16)] = 3
    penalty_factor: Annotated[int, Field(ge=1, lt=2**16)] = 1000
    penalty_bps: Bps = 500
    burn_bps: Bps = 5000
    requester_bps: Bps = 3000
    projection_tolerance: Annotated[int, Field(ge=0, lt=2**15)] = 256
    brake_slashes: Annotated[int, Field(ge=1, lt=2**16)] = 8

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        for quorum, jurors in ((self.quorum, self.jurors), (self.appeal_quorum, self.appeal_jurors)):
            if not jurors < 2 * quorum <= 2 * jurors:
                raise ValueError("a quorum is more than half of the jurors and at most all of them")
        if self.burn_bps + self.requester_bps > 10_000:
            raise ValueError("no more than the whole penalty can be given away")
        return self
