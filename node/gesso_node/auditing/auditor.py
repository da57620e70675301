"""One audit, in two parts that never mix: seal what we computed from the inputs, then judge what the node committed."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from gesso_node.auditing.ask import LEAST_S, NotOpenedError, in_time
from gesso_node.auditing.case import UNABLE, Case
from gesso_node.auditing.cheats import AuditorCheat
from gesso_node.auditing.inspect import CannotRunError, unforeseen
from gesso_node.auditing.record import PPM, AuditEntry, AuditRecords
from gesso_node.auditing.rests import Rests
from gesso_node.auditing.silence import Silence
from gesso_node.auditing.work import NO_PROJECTION, Computed, Finding, Work
from gesso_protocol.audit.outcomes import AuditVerdict
from gesso_protocol.audit.verdict import Decision
from gesso_protocol.errors import GessoError
from gesso_protocol.ids import BlobRef, TaskId
from gesso_protocol.lifecycle import Patience

log = structlog.get_logger("gesso.node.auditing")

MAX_REMEMBERED = 8
MAX_REASON_CHARS = 500
MAX_ERROR_PPM = 10**15
NOT_JUDGED = "not judged: "
"""How the reasons of a verdict begin that says nothing because our own machine could not look."""
Clock = Callable[[], Awaitable[int]]


class Auditor:
    """Prepares and judges audits; what it found is in the journal before it returns."""

    def __init__(
        self,
        records: AuditRecords,
        now: Clock,
        *,
        cheat: AuditorCheat | None = None,
        rests: Rests | None = None,
        attempts: int = Patience.attempts,
    ) -> None:
        self._records = records
        self._rests = rests
        self._attempts = attempts
        self._now = now
        self._cheat = cheat
        self._own: dict[TaskId, tuple[bytes, Computed]] = {}
        self._silence = Silence()

    async def prepare(self, case: Case, work: Work[Any, Any], *, by: int, fair: float = LEAST_S) -> None:
        """Run the drawn parts from the node's inputs and seal the projection; after chain second `by` without inputs,
        seal that there were none, if the node was asked `fair` seconds before. Raises NotOpenedError to be called
        again, and what stores and chain raise."""
        entry = case.entry
        assert entry is not None
        now = await self._now()
        try:
            if self._cheat is not None and (made_up := self._cheat.projection(work.challenge)) is not None:
                await self._seal(case, entry, made_up)
                return
            await work.ready(seconds=max(by - now, 1))
            now = await self._now()
            with in_time(by - now):
                opened = await work.opened("inputs", by - now)
            own = await work.compute(opened, seconds=max(by - now, 1))
            await self._seal(case, entry, own.projection)
            self._remember(case.task, work.challenge, own)
        except NotOpenedError as error:
            self._silence.met(asked := (case.task, work.challenge, "inputs"), by - now, fair)
            if now < by:
                raise
            if excuse := self._silence.excuse(asked):
                await self._failed(case, entry, excuse)
                return
            log.warning("audit.inputs-withheld", task=case.task.short, reason=error.message)
            await self._seal(case, entry, NO_PROJECTION, f"inputs: {error.message}")
        except CannotRunError as error:
            await self._failed(case, entry, error)
        except GessoError:
            raise
        except Exception as error:  # made by a stranger: what nobody foresaw is a failure of ours, and ends in no seat
            log.exception("audit.broke", task=case.task.short, kind=type(error).__name__)
            await self._failed(case, entry, unforeseen(error))

    async def judge(self, case: Case, work: Work[Any, Any], *, by: int, until: int = 0, fair: float = LEAST_S) -> None:
        """Compare what the node committed with what we computed and write the verdict down; after chain second `by`
        without openings, that they were withheld, if the node was asked `fair` seconds before. The comparison has its
        time until `until`, however late they came. What our own machine cannot do ends in a verdict too: see
        `abstain`. Raises NotOpenedError to be called again, and before `until` what stores and chain raise."""
        entry = case.entry
        assert entry is not None
        if self._cheat is not None and self._cheat.blind:
            await self._decided(case, entry, AuditVerdict.PASS, "made up", None, None, "")
            return
        now, until = await self._now(), max(by, until)
        try:
            await work.ready(seconds=max(by - now, 1))
            now = await self._now()
            with in_time(by - now):
                opened = await self._open(case, work, by - now)
            left = max(until - await self._now(), 1)
            finding = await work.examine(opened, self._computed(case, work), strict=False, seconds=left)
            await work.publish(opened)
            await self._conclude(case, entry, finding)
        except NotOpenedError as error:
            self._silence.met(asked := (case.task, work.challenge, "outputs"), by - now, fair)
            if now < by:
                raise
            if excuse := self._silence.excuse(asked):
                await self._unjudged(case, entry, excuse)
                return
            log.warning("audit.outputs-withheld", task=case.task.short, reason=error.message)
            await self._decided(case, entry, AuditVerdict.WITHHELD, error.message, None, None, "")
        except CannotRunError as error:
            self.forget(case.task)  # what we had may be what cannot be read: computed again next time
            if await self._unjudged(case, entry, error) and self._rests is not None:
                await self._rests.failed(work.spec, case.task, case.filing.node, error.message, now)
        except GessoError as error:
            if now < until:
                raise
            await self.abstain(case, f"{error.code}: {error.message}")
        except Exception as error:
            # What a stranger opened broke a comparison in a way that none of us foresaw: no fault of this machine.
            log.exception("audit.broke", task=case.task.short, kind=type(error).__name__)
            self.forget(case.task)
            await self._unjudged(case, entry, unforeseen(error))
        else:
            if self._rests is not None:
                await self._rests.judged(work.spec)

    async def abstain(self, case: Case, why: str) -> None:
        """Say that we found nothing, since we could not look, and tell the operator. We have sealed: silence would
        cost our stake, and an accusation the node its pay for a failure of ours. Two auditors that pass and differ in
        what they sealed are a dispute all the same."""
        entry = case.entry
        assert entry is not None
        log.error("audit.not-judged", task=case.task.short, reason=why,
                  hint="we reveal that we found nothing; see: gesso node audits, gesso node doctor")  # fmt: skip
        await self._decided(case, entry, AuditVerdict.PASS, NOT_JUDGED + why, None, None, "")

    async def takes(self, work: Work[Any, Any]) -> bool:
        """Whether seats are taken in cases like this one; not after audits of its model that we could not judge."""
        return self._rests is None or not await self._rests.rests(work.spec)

    def forget(self, task: TaskId) -> None:
        """The audit is over."""
        self._own.pop(task, None)

    def _computed(self, case: Case, work: Work[Any, Any]) -> Computed | None:
        own = self._own.get(case.task)
        return None if own is None or own[0] != work.challenge else own[1]

    async def _conclude(self, case: Case, entry: AuditEntry, finding: Finding) -> None:
        verdict = finding.verdict
        said = verdict.decision.reveal or AuditVerdict.PASS
        if verdict.decision is Decision.FLAG and not verdict.slashable:
            said = AuditVerdict.PASS  # without calibrated limits a difference is a score, never an accusation
        reasons = "; ".join(map(str, verdict.reasons))
        log.info("audit.judged", task=case.task.short, verdict=said.name.lower(), reasons=reasons[:200],
                 of_limit=round(verdict.max_error_of_limit, 4))  # fmt: skip
        of_limit, evidence = verdict.max_error_of_limit, finding.evidence
        await self._decided(case, entry, said, reasons, of_limit, evidence, finding.profile)

    async def _decided(
        self, case: Case, entry: AuditEntry, verdict: AuditVerdict, reasons: str, of_limit: float | None,
        evidence: BlobRef | None, profile: str,
    ) -> None:  # fmt: skip
        said = verdict if self._cheat is None else self._cheat.verdict(verdict)
        ppm = None if of_limit is None else int(min(of_limit * PPM, MAX_ERROR_PPM))
        case.keep(await self._records.change_audit(
            entry, "audit-verdict", verdict=said, reasons=reasons[:MAX_REASON_CHARS], error_ppm=ppm,
            evidence=evidence, profile=profile,
        ))  # fmt: skip

    async def _open(self, case: Case, work: Work[Any, Any], seconds: float) -> Any:
        """From the node, or else what the other auditor has published."""
        try:
            return await work.opened("outputs", seconds)
        except NotOpenedError as refusal:
            public = [told.evidence for told in case.revealed.values() if told.evidence is not None]
            if refusal.not_yet or not public:
                raise
            return await work.published(public)

    async def _seal(self, case: Case, entry: AuditEntry, projection: bytes, reasons: str = "") -> None:
        """`reasons`: why it is a projection of nothing, for the operator, as nobody can prove that we asked."""
        salt = secrets.token_bytes(32)
        case.keep(await self._records.seal_audit(entry, projection, salt, reasons[:MAX_REASON_CHARS]))

    async def _failed(self, case: Case, entry: AuditEntry, error: CannotRunError) -> None:
        log.warning("audit.cannot-run", task=case.task.short, reason=error.message)
        changes = {"failures": entry.failures + 1, "reasons": error.message[:MAX_REASON_CHARS]}
        if error.hopeless:
            changes["closed"] = UNABLE
        case.keep(await self._records.change_audit(entry, "audit-failure", **changes))

    async def _unjudged(self, case: Case, entry: AuditEntry, error: CannotRunError) -> bool:
        """A comparison that our own machine could not do, tried again if that can help. Whether it was the last try."""
        last = error.hopeless or entry.failures + 1 >= self._attempts
        if last:
            await self.abstain(case, error.message)
        else:
            await self._failed(case, entry, error)
        return last

    def _remember(self, task: TaskId, challenge: bytes, own: Computed) -> None:
        self._own[task] = (challenge, own)
        while len(self._own) > MAX_REMEMBERED:
            self._own.pop(next(iter(self._own)))
