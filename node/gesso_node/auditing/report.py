"""What auditing and judging came to on this node: one read model for the command line, the status page and others."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from gesso_node.auditing.auditor import NOT_JUDGED
from gesso_node.auditing.record import PPM, AuditEntry, AuditRecords, VoteEntry
from gesso_node.auditing.rests import Rests, Unjudged
from gesso_protocol.audit.outcomes import AuditVerdict
from gesso_protocol.money import Wei, format_amount

FEES = ("auditor-fee", "juror-fee")
PENALTIES = ("auditor-penalty", "juror-penalty")
SHOWN = 50
COUNTED = 1_000
"""Counts are of so many latest audits and votes; money is of all."""


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class AuditLine(_View):
    """One audit. `of_limit`: largest error measured, as a share of its limit; None where nothing was measured."""

    task: str
    node: str
    said: str
    of_limit: float | None = None
    reasons: str = ""
    evidence: str = ""
    state: str


class VoteLine(_View):
    """One vote of one level of a dispute."""

    task: str
    level: int
    vote: str
    reasons: str = ""
    state: str


class AuditTotals(_View):
    """Counts, and money in whole tokens as text. `not_judged` are those of the passed that this machine could not look
    at. `largest_of_limit` is over the audits that passed: how far this machine lies from others, as a share of what is
    allowed."""

    audits: int = 0
    passed: int = 0
    flagged: int = 0
    withheld: int = 0
    not_judged: int = 0
    votes: int = 0
    open: int = 0
    largest_of_limit: float | None = None
    fees: str = "0"
    penalties: str = "0"


class AuditsReport(_View):
    """What `gesso node audits` shows. `failing`: models of which audits could not be judged here."""

    roles: tuple[str, ...]
    totals: AuditTotals
    audits: tuple[AuditLine, ...]
    votes: tuple[VoteLine, ...]
    failing: tuple[Unjudged, ...] = ()

    def summary(self) -> str:
        """A screenful for people."""
        totals = self.totals
        own = (
            "nothing measured yet" if totals.largest_of_limit is None else f"{totals.largest_of_limit:.2g} of the limit"
        )
        lines = [
            f"Roles      {', '.join(self.roles) or 'none'}",
            f"Audits     {totals.audits} done, {totals.passed} passed, {totals.flagged} flagged, "
            f"{totals.withheld} withheld, {totals.open} under way",
            f"Votes      {totals.votes}",
            f"Earned     {totals.fees}   lost {totals.penalties}",
            f"Own error  {own}",
        ]
        if totals.not_judged:
            lines.append(f"Not judged {totals.not_judged} of those passed: this machine could not look")
        lines += [f"Failing    {one.line()}" for one in self.failing]
        if any(one.resting for one in self.failing):
            lines.append("           once that is mended: gesso node audits --resume")
        lines += [_audit_text(line) for line in self.audits[:10]]
        lines += [
            f"  vote   {line.task[:14]}…  level {line.level}  {line.vote}  {line.state}" for line in self.votes[:10]
        ]
        return "\n".join(lines)


async def audits_report(records: AuditRecords, rests: Rests, roles: tuple[str, ...]) -> AuditsReport:
    """Read from the journal, so it works while the node is stopped too."""
    audits = await records.audits(limit=COUNTED)
    votes = await records.votes(limit=COUNTED)
    return AuditsReport(
        roles=roles,
        totals=_totals(audits, votes, await records.totals()),
        audits=tuple(_audit_line(entry) for entry in audits[:SHOWN]),
        votes=tuple(_vote_line(entry) for entry in votes[:SHOWN]),
        failing=await rests.all(),
    )


def _totals(audits: list[AuditEntry], votes: list[VoteEntry], money: dict[str, Wei]) -> AuditTotals:
    said = [entry.verdict for entry in audits if entry.reveal_sent_at is not None]
    passed = [entry.error_ppm for entry in audits if entry.verdict is AuditVerdict.PASS and entry.error_ppm is not None]
    return AuditTotals(
        audits=len(said),
        passed=said.count(AuditVerdict.PASS),
        flagged=said.count(AuditVerdict.FLAG),
        withheld=said.count(AuditVerdict.WITHHELD),
        not_judged=sum(entry.reasons.startswith(NOT_JUDGED) for entry in audits if entry.reveal_sent_at is not None),
        votes=sum(entry.reveal_sent_at is not None for entry in votes),
        open=sum(entry.closed is None for entry in audits),
        largest_of_limit=max(passed) / PPM if passed else None,
        fees=format_amount(sum(int(money.get(kind, 0)) for kind in FEES)),
        penalties=format_amount(sum(int(money.get(kind, 0)) for kind in PENALTIES)),
    )


def _audit_line(entry: AuditEntry) -> AuditLine:
    return AuditLine(
        task=str(entry.task),
        node=str(entry.node),
        said="" if entry.verdict is None else entry.verdict.name.lower(),
        of_limit=None if entry.error_ppm is None else entry.error_ppm / PPM,
        reasons=entry.reasons,
        evidence="" if entry.evidence is None else str(entry.evidence),
        state=entry.closed or _stage(entry),
    )


def _stage(entry: AuditEntry) -> str:
    if entry.reveal_sent_at is not None:
        return "revealed"
    if entry.commit_sent_at is not None:
        return "sealed"
    return "preparing"


def _vote_line(entry: VoteEntry) -> VoteLine:
    vote = "" if entry.vote is None else entry.vote.ballot.name.lower().replace("_", "-")
    state = entry.closed or ("revealed" if entry.reveal_sent_at is not None else "open")
    return VoteLine(task=str(entry.task), level=entry.level, vote=vote, reasons=entry.reasons, state=state)


def _audit_text(line: AuditLine) -> str:
    error = "" if line.of_limit is None else f"{line.of_limit:.2g} of limit"
    return f"  audit  {line.task[:14]}…  {line.said or '…':8}  {error:16}  {line.state}  {line.reasons[:60]}".rstrip()
