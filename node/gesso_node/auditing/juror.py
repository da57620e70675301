"""One dispute before a juror: open everything, run the drawn parts again in strict fp32, and say what that shows."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from gesso_node.auditing.ask import LEAST_S, NotOpenedError, in_time
from gesso_node.auditing.auditor import MAX_REASON_CHARS
from gesso_node.auditing.case import UNABLE, Case
from gesso_node.auditing.inspect import CannotRunError, unforeseen
from gesso_node.auditing.record import AuditRecords, VoteEntry
from gesso_node.auditing.silence import Silence
from gesso_node.auditing.work import Finding, Work
from gesso_protocol.audit.outcomes import Ballot, Vote
from gesso_protocol.audit.projection import differ, unpack
from gesso_protocol.audit.verdict import projection_wrong
from gesso_protocol.audit.verdict import vote as ballot_of
from gesso_protocol.errors import GessoError
from gesso_protocol.ids import Address

log = structlog.get_logger("gesso.node.auditing")

Clock = Callable[[], Awaitable[int]]


class Juror:
    """Reviews disputes; the vote and its salt are in the journal before it returns."""

    def __init__(self, records: AuditRecords, now: Clock) -> None:
        self._records = records
        self._now = now
        self._silence = Silence()

    async def review(self, case: Case, work: Work[Any, Any], *, by: int, fair: float = LEAST_S) -> None:
        """Write a vote down. Openings that nobody has by chain second `by` count against the node if we asked for
        them `fair` seconds before: it had from its commit until now. Raises NotOpenedError to be called again, and
        what stores and chain raise."""
        entry = case.votes[case.level]
        now = await self._now()
        try:
            await work.ready(seconds=max(by - now, 1))
            now = await self._now()
            with in_time(by - now):
                opened = await self._open(case, work, by - now)
            finding = await work.examine(opened, None, strict=True, seconds=max(by - now, 1))
        except NotOpenedError as error:
            self._silence.met(asked := (case.task, work.challenge, f"vote {entry.level}"), by - now, fair)
            if now < by:
                raise
            if excuse := self._silence.excuse(asked):
                await self._failed(case, entry, excuse)
                return
            await self._voted(case, entry, Vote(Ballot.BAD), f"nobody opens it: {error.message}")
            return
        except CannotRunError as error:
            await self._failed(case, entry, error)
            return
        except GessoError:
            raise
        except Exception as error:  # made by a stranger: what nobody foresaw must not end in a vote, nor the node
            log.exception("dispute.broke", task=case.task.short, kind=type(error).__name__)
            await self._failed(case, entry, unforeseen(error))
            return
        wrong = self._wrong(case, work, finding)
        reasons = "; ".join(map(str, finding.verdict.reasons))
        await self._voted(case, entry, Vote(ballot_of(finding.verdict), wrong), reasons)

    async def abstain(self, case: Case, entry: VoteEntry, why: str) -> None:
        """Write down that this cannot be told."""
        await self._voted(case, entry, Vote(Ballot.CANNOT_TELL), why)

    async def _open(self, case: Case, work: Work[Any, Any], seconds: float) -> Any:
        """What an auditor published, or what the node opens now."""
        public = [told.evidence for told in case.revealed.values() if told.evidence is not None]
        try:
            return await work.published(public)
        except NotOpenedError:
            return await work.opened("outputs", seconds)

    def _wrong(self, case: Case, work: Work[Any, Any], finding: Finding) -> tuple[bool, bool]:
        """Which auditors' projections are not of these parts, by seat."""
        seats = () if case.audit is None else case.audit.auditors
        if finding.projection is None:
            return (False, False)
        ours = unpack(finding.projection)
        verdicts = [self._is_wrong(case, auditor, ours, work.tolerance) for auditor in seats]
        first, second = (*verdicts, False, False)[:2]
        return first, second

    def _is_wrong(self, case: Case, auditor: Address, ours: tuple[int, ...], tolerance: int) -> bool:
        told = case.revealed.get(auditor)
        return told is not None and projection_wrong(differ(ours, unpack(told.projection)), tolerance, told.verdict)

    async def _voted(self, case: Case, entry: VoteEntry, vote: Vote, reasons: str) -> None:
        log.info("dispute.reviewed", task=case.task.short, level=entry.level, vote=vote.ballot.name.lower(),
                 wrong=vote.wrong, reasons=reasons[:200])  # fmt: skip
        case.keep_vote(await self._records.seal_vote(entry, vote, secrets.token_bytes(32), reasons[:MAX_REASON_CHARS]))

    async def _failed(self, case: Case, entry: VoteEntry, error: CannotRunError) -> None:
        log.warning("dispute.cannot-run", task=case.task.short, reason=error.message)
        if error.hopeless:
            # A juror that cannot run the step may say so, which costs nothing and takes the seat of nobody who can.
            case.keep_vote(await self._records.change_vote(entry, "vote-failure", closed=UNABLE))
            return
        case.keep_vote(await self._records.change_vote(entry, "vote-failure", failures=entry.failures + 1))
