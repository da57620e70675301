"""One audit, in two parts that never mix: seal what we computed from the inputs, then judge what the node committed."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import anyio
import anyio.to_thread
import structlog

from gesso.blobs import BlobStore
from gesso_node.auditing.ask import Asker, NotOpenedError, Opened, in_time
from gesso_node.auditing.assignment import Assignment
from gesso_node.auditing.case import UNABLE, Case
from gesso_node.auditing.cheats import AuditorCheat
from gesso_node.auditing.inspect import MAX_RECHECKS, CannotRunError, Files, Ground, Inspector, Place, Redone, inspect
from gesso_node.auditing.record import PPM, AuditEntry, AuditRecords
from gesso_protocol.audit.limits import shipped_limits
from gesso_protocol.audit.outcomes import AuditVerdict
from gesso_protocol.audit.projection import NOTHING, pack
from gesso_protocol.audit.verdict import Decision, Inspection, Verdict, judge
from gesso_protocol.errors import EncodingInvalid, GessoError
from gesso_protocol.ids import BlobRef, TaskId
from gesso_protocol.result import ResultManifest

log = structlog.get_logger("gesso.node.auditing")

MAX_REMEMBERED = 8
MAX_IMAGE_BYTES = 64 * 1024 * 1024
STORE_S = 20.0
"""Stores that are slower are passed over: an auditor that waits for them misses its reveal."""
MAX_REASON_CHARS = 500
MAX_ERROR_PPM = 10**15
NO_PROJECTION = b"".join(pack(NOTHING))
Clock = Callable[[], Awaitable[int]]


@dataclass(frozen=True)
class Finding:
    """What an inspection of a whole trace came to. `profile` is the key that the node committed, if readable."""

    verdict: Verdict
    redone: Redone
    profile: str
    opened: Opened


class Examiner:
    """Opens, re-runs and judges whole traces: what auditors and jurors have in common."""

    def __init__(self, asker: Asker, inspector: Inspector) -> None:
        self._asker = asker
        self._inspector = inspector

    async def ground(self, assignment: Assignment, *, strict: bool, deadline_s: float) -> Ground:
        """See `Inspector.ground`."""
        return await self._inspector.ground(assignment, strict=strict, deadline_s=deadline_s)

    async def steps(self, assignment: Assignment, ground: Ground, opened: Opened, deadline_s: float) -> Redone:
        """The drawn steps from opened inputs, at the node's own type. Raises CannotRunError."""
        places = assignment.checks
        return await self._inspector.steps(
            assignment, ground, opened.bundle, places, strict=False, deadline_s=deadline_s
        )

    async def examine(
        self, assignment: Assignment, opened: Opened, ground: Ground, redone: Redone | None, *, strict: bool,
        deadline_s: float,
    ) -> Finding:  # fmt: skip
        """Compare everything; what looks wrong without a model is run again too. Raises CannotRunError."""
        bundle = opened.bundle
        try:
            profile = bundle.manifest().profile
            if redone is None or not redone.outputs:
                redone = await self._run(assignment, ground, opened, assignment.checks, strict, deadline_s)
            files = await self._files(assignment, opened)
            rgb = await self._inspector.decode(assignment, ground, bundle, strict=strict, deadline_s=deadline_s)
            verdict = await self._judged(assignment, ground, redone, opened, rgb, files, strict)
            if verdict.recheck:
                more = await self._run(assignment, ground, opened, verdict.recheck[:MAX_RECHECKS], strict, deadline_s)
                wider = Redone({**redone.outputs, **more.outputs}, redone.wrong or more.wrong)
                verdict = await self._judged(assignment, ground, wider, opened, rgb, files, strict)
            return Finding(verdict, redone, profile, opened)
        except EncodingInvalid as error:
            # It opens, and yet it cannot be read as what it must be: that is the node's doing, and proof of it.
            found = Inspection(limit=shipped_limits().row("", ""), opening_wrong=error.message)
            return Finding(judge(found), redone or Redone({}), "", opened)

    async def _run(
        self, assignment: Assignment, ground: Ground, opened: Opened, places: tuple[Place, ...], strict: bool,
        deadline_s: float,
    ) -> Redone:  # fmt: skip
        return await self._inspector.steps(
            assignment, ground, opened.bundle, places, strict=strict, deadline_s=deadline_s
        )

    async def _judged(
        self, assignment: Assignment, ground: Ground, redone: Redone, opened: Opened, rgb: Mapping[int, bytes],
        files: Files, strict: bool,
    ) -> Verdict:  # fmt: skip
        def work() -> Verdict:
            return judge(inspect(assignment, ground, redone, opened.bundle, rgb, files, strict=strict))

        return await anyio.to_thread.run_sync(work)

    async def _files(self, assignment: Assignment, opened: Opened) -> Files:
        manifest: ResultManifest | None = None
        data: dict[int, bytes | None] = {}
        with anyio.move_on_after(STORE_S):
            manifest = await self._asker.result(assignment.task, assignment.filing, opened.result)
        with anyio.move_on_after(STORE_S):
            for entry in () if manifest is None else manifest.images:
                data[entry.index] = await self._picture(assignment, entry.blob)
        return Files(manifest, data)

    async def _picture(self, assignment: Assignment, ref: BlobRef) -> bytes | None:
        try:
            return await self._asker.blob(assignment.filing.node, ref, MAX_IMAGE_BYTES)
        except GessoError:
            return None


class Auditor:
    """Prepares and judges audits; what it found is in the journal before it returns."""

    def __init__(
        self,
        records: AuditRecords,
        asker: Asker,
        examiner: Examiner,
        blobs: BlobStore,
        now: Clock,
        *,
        cheat: AuditorCheat | None = None,
    ) -> None:
        self._records = records
        self._asker = asker
        self._examiner = examiner
        self._blobs = blobs
        self._now = now
        self._cheat = cheat
        self._own: dict[TaskId, tuple[bytes, Ground, Redone]] = {}

    async def prepare(self, case: Case, assignment: Assignment, *, by: int) -> None:
        """Run the drawn steps from the node's inputs and seal the projection; after chain second `by` without inputs,
        seal that there were none. Raises NotOpenedError to be called again, and what stores and chain raise."""
        entry = case.entry
        assert entry is not None
        now = await self._now()
        try:
            if self._cheat is not None and (made_up := self._cheat.projection(assignment.challenge)) is not None:
                await self._seal(case, entry, made_up)
                return
            with in_time(by - now):
                opened = await self._asker.openings(assignment, "inputs", by - now)
            ground, redone = await self._compute(assignment, opened, by - now)
            await self._seal(case, entry, _projection(assignment, redone))
            self._remember(assignment, ground, redone)
        except NotOpenedError as error:
            if now < by:
                raise
            log.warning("audit.inputs-withheld", task=case.task.short, reason=error.message)
            await self._seal(case, entry, NO_PROJECTION)
        except CannotRunError as error:
            await self._failed(case, entry, error)

    async def judge(self, case: Case, assignment: Assignment, *, by: int) -> None:
        """Compare what the node committed with what we computed and write the verdict down; after chain second `by`
        without openings, that they were withheld. Raises NotOpenedError to be called again."""
        entry = case.entry
        assert entry is not None
        if self._cheat is not None and self._cheat.blind:
            await self._decided(case, entry, AuditVerdict.PASS, "made up", None, None, "")
            return
        now = await self._now()
        try:
            with in_time(by - now):
                opened = await self._open(case, assignment, by - now)
        except NotOpenedError as error:
            if now < by:
                raise
            log.warning("audit.outputs-withheld", task=case.task.short, reason=error.message)
            await self._decided(case, entry, AuditVerdict.WITHHELD, error.message, None, None, "")
            return
        try:
            finding = await self._examined(assignment, opened, max(by - now, 1))
            with anyio.move_on_after(STORE_S):
                await self._blobs.put(opened.data, expect=opened.blob)  # ours has it when a slow one is left
            await self._conclude(case, entry, finding, opened.blob)
        except CannotRunError as error:
            await self._failed(case, entry, error)

    def forget(self, task: TaskId) -> None:
        """The audit is over."""
        self._own.pop(task, None)

    async def _examined(self, assignment: Assignment, opened: Opened, seconds: float) -> Finding:
        own = self._own.get(assignment.task)
        if own is None or own[0] != assignment.challenge:
            ground = await self._examiner.ground(assignment, strict=False, deadline_s=seconds)
            redone = None
        else:
            _, ground, redone = own
        return await self._examiner.examine(assignment, opened, ground, redone, strict=False, deadline_s=seconds)

    async def _conclude(self, case: Case, entry: AuditEntry, finding: Finding, evidence: BlobRef) -> None:
        verdict = finding.verdict
        said = verdict.decision.reveal or AuditVerdict.PASS
        if verdict.decision is Decision.FLAG and not verdict.slashable:
            said = AuditVerdict.PASS  # without calibrated limits a difference is a score, never an accusation
        reasons = "; ".join(map(str, verdict.reasons))
        log.info("audit.judged", task=case.task.short, verdict=said.name.lower(), reasons=reasons[:200],
                 of_limit=round(verdict.max_error_of_limit, 4))  # fmt: skip
        await self._decided(case, entry, said, reasons, verdict.max_error_of_limit, evidence, finding.profile)

    async def _decided(
        self, case: Case, entry: AuditEntry, verdict: AuditVerdict, reasons: str, of_limit: float | None,
        evidence: BlobRef | None, profile: str,
    ) -> None:  # fmt: skip
        said = verdict if self._cheat is None else self._cheat.verdict(verdict)
        ppm = None if of_limit is None else int(min(of_limit * PPM, MAX_ERROR_PPM))
        case.entry = await self._records.change_audit(
            entry, "audit-verdict", verdict=said, reasons=reasons[:MAX_REASON_CHARS], error_ppm=ppm,
            evidence=evidence, profile=profile,
        )  # fmt: skip

    async def _open(self, case: Case, assignment: Assignment, seconds: float) -> Opened:
        """From the node, or else what the other auditor has published."""
        try:
            return await self._asker.openings(assignment, "outputs", seconds)
        except NotOpenedError as refusal:
            public = [told.evidence for told in case.revealed.values() if told.evidence is not None]
            if refusal.not_yet or not public:
                raise
            return await self._asker.evidence(assignment, public)

    async def _compute(self, assignment: Assignment, opened: Opened, seconds: float) -> tuple[Ground, Redone]:
        ground = await self._examiner.ground(assignment, strict=False, deadline_s=max(seconds, 1))
        return ground, await self._examiner.steps(assignment, ground, opened, max(seconds, 1))

    async def _seal(self, case: Case, entry: AuditEntry, projection: bytes) -> None:
        salt = secrets.token_bytes(32)
        case.entry = await self._records.change_audit(entry, "audit-seal", salt=salt, projection=projection)

    async def _failed(self, case: Case, entry: AuditEntry, error: CannotRunError) -> None:
        log.warning("audit.cannot-run", task=case.task.short, reason=error.message)
        changes = {"failures": entry.failures + 1, "reasons": error.message[:MAX_REASON_CHARS]}
        if error.hopeless:
            changes["closed"] = UNABLE
        case.entry = await self._records.change_audit(entry, "audit-failure", **changes)

    def _remember(self, assignment: Assignment, ground: Ground, redone: Redone) -> None:
        self._own[assignment.task] = (assignment.challenge, ground, redone)
        while len(self._own) > MAX_REMEMBERED:
            self._own.pop(next(iter(self._own)))


def _projection(assignment: Assignment, redone: Redone) -> bytes:
    # Inputs that cannot be run are as good as none: the outputs will say whose fault that is.
    return NO_PROJECTION if redone.wrong else redone.projection(assignment.challenge, assignment.checks)
