"""What the journal keeps of a case, brought to it whenever the chain says what the case is about.

A reorganisation may take a commit back, bring it again in another block, or have a beacon draw other parts. Seals that
were on their way are mined all the same, so an entry that was sealed for these parts is always found again.
"""

from __future__ import annotations

import structlog

from gesso_node.auditing.case import UNABLE, Case
from gesso_node.auditing.record import AuditEntry, AuditRecords, VoteEntry
from gesso_protocol.hashing import keccak256, word
from gesso_protocol.ids import Address

log = structlog.get_logger("gesso.node.auditing")


class Kept:
    """Entries of audits and votes for the cases of one loop."""

    def __init__(self, records: AuditRecords) -> None:
        self._records = records

    async def attach(self, case: Case, challenge: bytes | None) -> None:
        """Give a case what the journal knows of the parts that are drawn; nothing changes before they are."""
        if challenge is not None and challenge != case.drawn:
            entry = await self._records.audit_of(case.task, challenge)
            if case.entry is not None:
                log.warning("auditing.drawn-anew", task=case.task.short, sealed=entry is not None and entry.sealed)
            case.drawn, case.entry = challenge, entry
        if challenge is not None and case.dispute is not None:
            await self._attach_votes(case, challenge, case.dispute.round)

    async def _attach_votes(self, case: Case, challenge: bytes, round_: int) -> None:
        about = _about(challenge, () if case.audit is None else case.audit.auditors)
        if about != case.about:
            case.about, case.votes = about, await self._records.votes_of(case.task, about)
        known = case.votes.get(case.level)
        if known is not None and known.vote is None and known.round != round_:
            del case.votes[case.level]  # another jury's round: its failures and what was sent in it are over

    async def audit(self, case: Case, challenge: bytes, now: int) -> AuditEntry:
        """The entry of an audit that we take part in."""
        if case.entry is None or case.entry.challenge != challenge:
            case.entry = await self._records.begin_audit(AuditEntry(case.task, case.filing.node, challenge, now))
        return case.entry

    async def vote(self, case: Case, now: int) -> VoteEntry:
        """The entry of this level of a dispute."""
        known = case.votes.get(case.level)
        if known is None:
            assert case.dispute is not None
            entry = VoteEntry(case.task, case.level, case.about or b"", case.dispute.round, now)
            known = case.votes[entry.level] = await self._records.begin_vote(entry)
        return known

    async def reopen(self, case: Case) -> None:
        """We take part again in what we had left, or what was over before blocks were taken back."""
        if case.entry is not None and case.entry.closed not in (None, UNABLE):
            case.keep(await self._records.change_audit(case.entry, "audit-reopened", closed=None, closed_at=None))
        vote = case.votes.get(case.level)
        if case.disputed and vote is not None and vote.closed not in (None, UNABLE):
            case.keep_vote(await self._records.change_vote(vote, "vote-reopened", closed=None, closed_at=None))

    async def left(self, case: Case, why: str, now: int) -> None:
        """Nothing is to be done in the case for now. A seat that may be ours stays open."""
        if case.entry is not None and case.entry.closed is None and case.entry.commit_sent_at is None:
            case.keep(await self._records.change_audit(case.entry, "audit-left", closed=why, closed_at=now))

    async def over(self, case: Case, why: str, now: int) -> None:
        """The case is over, whatever was drawn for it; should it come back, the journal has what we sealed."""
        await self._records.close_all(case.task, why, now)
        case.drawn, case.entry, case.about, case.votes = None, None, None, {}


def _about(challenge: bytes, auditors: tuple[Address, ...]) -> bytes:
    """What a vote judges: the node by drawn parts, and auditors by their seats."""
    return keccak256(challenge + b"".join(word(int(auditor, 16)) for auditor in auditors))
