"""The arbiter's rules, fixed for its life: what its `params()` answers, field by field and in the same order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationError, model_validator

from gesso_protocol.encoding import Document, explain
from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.money import MAX_FEE, Wei
from gesso_protocol.terms import U32, Bps

Amount = Annotated[Wei, Field(le=MAX_FEE)]
Seats = Annotated[int, Field(ge=2, le=40)]
Step = Annotated[int, Field(ge=1, lt=2**32)]
HOUR = 3600
TOKEN = 10**18


class AuditRules(Document):
    """Times are seconds, rates and shares basis points, amounts base units of the fee token. Defaults: production."""

    MAX_BYTES: ClassVar[int] = 4 * 1024

    format: Literal["gesso/audit-rules/1"] = "gesso/audit-rules/1"
    vetting_rate_bps: Bps = 2000
    steady_rate_bps: Bps = 500
    trusted_rate_bps: Bps = 200
    vetting_audits: U32 = 100
    trusted_audits: U32 = 1000
    large_fee: Amount = Wei(TOKEN)
    """So far below the least stake that losing that outweighs any gain at the lowest rate; see `economics.py`."""
    auditor_seats: Annotated[int, Field(ge=1, le=2)] = 2
    audit_step_s: Step = 30
    lot_doublings: Annotated[int, Field(ge=0, lt=2**8)] = 1
    """Who scores within the threshold after so many steps sits by lot; two accusers cast doubt only where both do."""
    audit_commit_window_s: U32 = 2 * HOUR
    """The first seat may be taken until the board's challenge window ends; the second needs the grace after that."""
    audit_reveal_window_s: U32 = HOUR
    projection_tolerance: Annotated[int, Field(ge=0, lt=2**16)] = 256
    auditor_fee: Amount = Wei(0)
    auditor_penalty: Amount = Wei(0)
    jurors: Seats = 21
    quorum: Seats = 14
    appeal_jurors: Seats = 35
    appeal_quorum: Seats = 20
    jury_step_s: Step = 7 * HOUR
    """Longer than jurors may take seats, so that waiting seats nobody: `sits_by_lot`."""
    vote_commit_window_s: U32 = 6 * HOUR
    vote_reveal_window_s: U32 = 3 * HOUR
    appeal_window_s: U32 = 6 * HOUR
    juror_fee: Amount = Wei(0)
    juror_penalty: Amount = Wei(0)
    challenge_bond: Amount = Wei(0)
    penalty_factor: U32 = 1000
    penalty_bps: Bps = 500
    burn_bps: Bps = 5000
    requester_bps: Bps = 3000
    brake_slashes: Annotated[int, Field(ge=0, lt=2**16)] = 8
    grace_s: U32 = HOUR
    reserve: Amount = Wei(0)

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if not self.trusted_rate_bps <= self.steady_rate_bps <= self.vetting_rate_bps:
            raise ValueError("rates fall as a node passes audits")
        if self.trusted_audits < self.vetting_audits:
            raise ValueError("trust is not earned before vetting ends")
        for quorum, jurors in ((self.quorum, self.jurors), (self.appeal_quorum, self.appeal_jurors)):
            if not jurors < 2 * quorum <= 2 * jurors:
                raise ValueError("a quorum is more than half of the jurors and at most all of them")
        if self.jurors * self.juror_fee > self.auditor_penalty:
            raise ValueError("a false alarm costs all that its jury earns")
        if self.burn_bps + self.requester_bps > 10_000:
            raise ValueError("no more than the whole penalty can be given away")
        return self

    @classmethod
    def from_tuple(cls, values: Sequence[Any]) -> Self:
        """From the decoded `params()`. Raises `EncodingInvalid` for another length or impossible rules."""
        names = [name for name in cls.model_fields if name != "format"]
        if len(values) != len(names):
            raise EncodingInvalid(f"an arbiter has {len(names)} rules")
        try:
            return cls(**dict(zip(names, values, strict=True)))
        except ValidationError as error:
            raise EncodingInvalid(explain(error)) from None

    def as_tuple(self) -> tuple[int, ...]:
        """The values in the order of the Solidity struct, as an ABI encoder wants them."""
        return tuple(int(getattr(self, name)) for name in type(self).model_fields if name != "format")

    @property
    def sits_by_lot(self) -> bool:
        """Whether no juror is seated by waiting. Else a party whose model nobody else can run has a whole jury, however
        little of the stake is its own: honest jurors that cannot run it do not come."""
        return self.jury_step_s > self.vote_commit_window_s

    def seats(self, level: int) -> int:
        """Seats of a committee: level 0, or 1 after an appeal."""
        return self.appeal_jurors if level else self.jurors
