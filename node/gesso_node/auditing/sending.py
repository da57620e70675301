"""Transactions of audits and disputes: written down, then sent in the background, and what a refusal means."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from gesso.chain import revert_name
from gesso.chain.arbiter import Arbiter, Reveal
from gesso_node.auditing.case import Case
from gesso_node.auditing.cheats import AuditorCheat
from gesso_node.auditing.record import AuditEntry, AuditRecords, VoteEntry
from gesso_node.auditing.reveals import Reveals
from gesso_node.metrics import Metrics
from gesso_protocol.audit.challenge import audit_commitment, profile_id, vote_commitment
from gesso_protocol.audit.lifecycle import AuditPhase
from gesso_protocol.audit.outcomes import AuditVerdict
from gesso_protocol.errors import ChainReverted, GessoError
from gesso_protocol.ids import Address

log = structlog.get_logger("gesso.node.auditing")

_AGAIN = {"SortitionNotReached", "SeedUnknown", "TooEarly", "RoundAhead"}
"""The contract's clock was a moment behind ours; nothing was lost by asking."""
_ANOTHER_SEAL = "CommitmentMismatch"
LISTEN_EVERY_S = 2
Send = Callable[[], Awaitable[object]]
Start = Callable[[Case, str, Callable[[], Awaitable[None]]], None]


@dataclass(frozen=True, slots=True)
class _Noted:
    """A transaction that is written down. `undo` takes the note back; `salt` is that of the seal it is about."""

    key: str
    undo: Callable[[], Awaitable[None]]
    salt: bytes | None


def _key(verb: str, entry: AuditEntry | VoteEntry) -> str:
    """One of a kind at a time for each draw: what is still on its way for another must not hold this one up."""
    drawn = entry.challenge if isinstance(entry, AuditEntry) else entry.about
    return f"{verb} {drawn[:4].hex()}"


class Sending:
    """Sends for one wallet. `start` runs something in the background of a case, one of a kind at a time."""

    def __init__(
        self,
        arbiter: Arbiter,
        records: AuditRecords,
        metrics: Metrics,
        me: Address,
        start: Start,
        *,
        cheat: AuditorCheat | None,
    ) -> None:
        self._arbiter = arbiter
        self._records = records
        self._metrics = metrics
        self._me = me
        self._start = start
        self._cheat = cheat
        self._reveals = Reveals(arbiter)

    async def commit_audit(self, case: Case, now: int) -> None:
        """Seal the projection on chain."""
        entry = case.entry
        assert entry is not None
        assert entry.salt is not None
        assert entry.projection is not None
        commitment = audit_commitment(entry.challenge, case.task, self._me, entry.projection, entry.salt)
        joining, filing = case.audit is not None and case.audit.phase is AuditPhase.OPEN, case.filing

        async def send() -> None:
            await self._arbiter.commit_audit(filing, commitment, joining=joining)

        await self._audit(case, entry, "commit", now, send, round_=case.round)

    async def reveal_audit(self, case: Case, verdict: AuditVerdict, now: int, *, spare: float = 0) -> None:
        """Say the verdict, with the projection and its salt; within `spare` seconds, so that others may go along."""
        entry = case.entry
        assert entry is not None
        assert entry.salt is not None
        if self._cheat is not None and self._cheat.copies and not set(case.revealed) - {self._me}:
            case.not_before = now + 1
            return
        packed, profile = self._told_projection(case, entry), profile_id(entry.profile)
        reveal = Reveal(case.task, verdict, packed, entry.salt, entry.evidence, profile)

        async def send() -> None:
            await self._reveals.send(reveal, spare)

        await self._audit(case, entry, "reveal", now, send)

    async def close_audit(self, case: Case, now: int) -> None:
        """End an audit that is contested, or whose windows are over."""
        if case.entry is not None:
            await self._audit(case, case.entry, "close", now, lambda: self._arbiter.close_audit(case.filing))
        else:
            self._begin(case, "close", now, lambda: self._arbiter.close_audit(case.filing))

    async def commit_vote(self, case: Case, now: int) -> None:
        """Seal the vote on chain."""
        entry = case.votes[case.level]
        assert entry.vote is not None
        assert entry.salt is not None
        assert case.dispute is not None
        round_ = case.dispute.round
        sealed = vote_commitment(case.task, entry.level, self._me, entry.vote.code, entry.salt)
        await self._vote(
            case, entry, "commit", now, lambda: self._arbiter.commit_vote(case.task, sealed), round_=round_
        )

    async def reveal_vote(self, case: Case, now: int) -> None:
        """Say the vote, with its salt."""
        entry = case.votes[case.level]
        assert entry.vote is not None
        assert entry.salt is not None
        code, salt = entry.vote.code, entry.salt
        await self._vote(case, entry, "reveal", now, lambda: self._arbiter.reveal_vote(case.task, code, salt))

    async def tally(self, case: Case, entry: VoteEntry, now: int) -> None:
        """Count the votes of this level."""
        await self._vote(case, entry, "tally", now, lambda: self._arbiter.tally(case.task))

    async def appeal(self, case: Case, entry: VoteEntry, now: int) -> None:
        """Ask for the larger jury, at the price of its bond."""
        await self._vote(case, entry, "appeal", now, lambda: self._arbiter.appeal(case.task))

    async def execute(self, case: Case, entry: VoteEntry, now: int) -> None:
        """Carry out the outcome."""
        await self._vote(case, entry, "execute", now, lambda: self._arbiter.execute(case.filing))

    def resolve(self, case: Case, round_: int, now: int) -> None:
        """Have a beacon of block hashes fix a round."""
        self._begin(case, "beacon", now, lambda: self._arbiter.resolve(round_))

    def listen(self, case: Case, round_: int, now: int) -> None:
        """Ask drand for a round. Most tasks are not drawn, and theirs need never be on the chain."""

        async def work() -> None:
            case.not_before = 0 if await self._arbiter.listen(round_) is not None else now + LISTEN_EVERY_S

        self._start(case, "beacon", work)

    async def _audit(
        self, case: Case, entry: AuditEntry, verb: str, now: int, send: Send, *, round_: int | None = None
    ) -> None:
        key = _key(verb, entry)
        if key in case.busy:
            return
        case.keep(await self._records.change_audit(entry, f"audit-{verb}", **{f"{verb}_sent_at": now}))

        async def undo() -> None:
            case.keep(await self._records.unsend_audit(entry, verb, now))

        self._begin(case, verb, now, send, _Noted(key, undo, entry.salt), round_)

    async def _vote(
        self, case: Case, entry: VoteEntry, verb: str, now: int, send: Send, *, round_: int | None = None
    ) -> None:
        key = _key(verb, entry)
        if key in case.busy:
            return
        case.keep_vote(await self._records.change_vote(entry, f"vote-{verb}", **{f"{verb}_sent_at": now}))

        async def undo() -> None:
            case.keep_vote(await self._records.unsend_vote(entry, verb, now))

        self._begin(case, verb, now, send, _Noted(key, undo, entry.salt), round_)

    def _begin(
        self,
        case: Case,
        verb: str,
        now: int,
        send: Send,
        noted: _Noted | None = None,
        round_: int | None = None,
    ) -> None:
        """`noted`: what the journal says of it; `round_`: the beacon's round that the contract has to know first."""

        async def work() -> None:
            sent = False
            try:
                if round_ is not None:
                    await self._arbiter.fix(round_)
                sent = True
                await send()
            except GessoError as error:
                name = revert_name(error)
                self._metrics.sent(f"audit-{verb}", name or error.code)
                log.info(f"auditing.{verb}-refused", task=case.task.short, reason=name or error.message)
                if sent and name is None and not isinstance(error, ChainReverted):
                    return  # it may have been sent; the rules ask again when it stays unseen
                if (name in _AGAIN or not sent) and noted is not None:
                    await noted.undo()
                if name == _ANOTHER_SEAL and noted is not None and noted.salt is not None:
                    self._unopened(case, verb, noted.salt)
                case.touch()
                case.not_before = now + 1
                return
            self._metrics.sent(f"audit-{verb}", "ok")
            log.info(f"auditing.{verb}", task=case.task.short)
            case.touch()

        self._start(case, verb if noted is None else noted.key, work)

    def _unopened(self, case: Case, verb: str, salt: bytes) -> None:
        """Our seat holds another seal than ours. A node that answers may be a block behind, so the rules ask once more;
        then only a reorganisation could change it, and nothing is paid for asking on."""
        case.unopened[salt] += 1
        hint = "does another node use this wallet, or is the journal an old copy?"
        log.warning("auditing.seat-holds-another-seal", task=case.task.short, verb=verb, hint=hint)

    def _told_projection(self, case: Case, entry: AuditEntry) -> bytes:
        assert entry.projection is not None
        if self._cheat is not None and self._cheat.copies:
            others = [told.projection for who, told in case.revealed.items() if who != self._me]
            return others[0] if others else entry.projection
        return entry.projection
