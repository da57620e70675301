"""A training's re-check from end to end: its openings, what they prove by themselves, and the drawn segments again.

Without the node package, or where no segment was drawn, only what needs no model is checked, and the report says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gesso.audits.draw import challenge_of, checked_updates
from gesso.audits.facts import updates_text
from gesso.audits.recheck import Recheck, Replayer, Row, withheld
from gesso.chain.arbiter import Filing
from gesso.chain.records import Done
from gesso.runseed import seed_of_run
from gesso_protocol.audit.verdict import Decision, Verdict
from gesso_protocol.errors import BlobMissing, EncodingInvalid, GessoError, TaskFailed, UsageError
from gesso_protocol.events import AuditRevealed, Claimed, Committed, Event
from gesso_protocol.ids import BlobRef, TaskId
from gesso_protocol.spec import TrainLora
from gesso_protocol.terms import Terms
from gesso_protocol.trace import Run
from gesso_protocol.training.consistency import manifest_fault, opening_fault
from gesso_protocol.training.evidence import MAX_EVIDENCE_BYTES, RunEvidence
from gesso_protocol.training.openings import MAX_OPENINGS_BYTES, RunOpenings
from gesso_protocol.training.share import late_from, share_fault

if TYPE_CHECKING:
    from gesso.wiring import Ports

NO_REPLAY = "install gesso[node,gpu] to run segments again on this machine"
NO_DRAW = "no beacon drew segments of this run, and its node opens no others"


@dataclass(frozen=True)
class RunSubject:
    """One training to check again. `challenge` is the beacon's; None where it drew nothing. Both times are chain
    seconds that the board's events show."""

    run: Run
    filing: Filing
    spec: TrainLora
    manifest: BlobRef
    challenge: bytes | None
    share: Done
    seed: bytes
    claimed_at: int
    committed_at: int
    results: tuple[BlobRef, ...] = ()
    """Where the result's manifest is said to be."""

    @property
    def late(self) -> bool:
        """Whether the node committed when its time was nearly over, which is a reason to end early."""
        return self.committed_at >= late_from(self.claimed_at, self.filing.terms.commit_window_s)

    @property
    def updates(self) -> tuple[tuple[int, int], ...]:
        """(first, beyond the last) update of each drawn segment."""
        return () if self.challenge is None else checked_updates(self.challenge, self.spec, self.share.bps)


async def examine_run(
    ports: Ports, task: TaskId, terms: Terms, spec: TrainLora, past: Sequence[Event], replayer: Replayer | None
) -> Recheck:
    """Check a committed training again. Missing openings are a verdict, not an error. Raises TaskFailed for one that is
    not committed, and what chain and blobs raise."""
    subject = await _subject(ports, task, terms, spec, past)
    evidence = [event.evidence for event in past if isinstance(event, AuditRevealed) and event.evidence is not None]
    try:
        opened, blob, told = await _openings(ports, subject, evidence)
    except GessoError as error:
        return withheld(f"{error.message}; {error.hint}")
    plain = _plain(subject, opened)
    wrong = any(row.fine is False for row in plain)
    why = NO_REPLAY if replayer is None else "" if subject.updates else NO_DRAW
    if replayer is None or why or wrong:
        rows = (*plain, Row("segments run again", None, why or "what is wrong needs no model"))
        return Recheck("flag" if wrong else "plausible", rows, None, "", blob)
    try:
        if told.result is not None:
            subject = replace(subject, results=(*subject.results, told.result))
        verdict, profile = await replayer.inspect_run(subject, told.openings)
    except GessoError as error:
        return Recheck("plausible", (*plain, Row("segments run again", None, error.message)), None, "", blob)
    return _judged(subject, plain, verdict, profile, blob)


async def _subject(ports: Ports, task: TaskId, terms: Terms, spec: TrainLora, past: Sequence[Event]) -> RunSubject:
    done = next((event for event in reversed(past) if isinstance(event, Committed)), None)
    claim = next((event for event in reversed(past) if isinstance(event, Claimed)), None)
    if done is None or claim is None:
        raise TaskFailed("the task is not committed, so there is nothing to check", hint=f"gesso task show {task}")
    if done.trace_root.value == bytes(32):
        raise UsageError("the node committed no trace, so nothing of this task can be checked again")
    filing = Filing(terms, done.node, done.result_root, done.trace_root)
    claimed_at = claim.commit_by - terms.commit_window_s
    committed_at = done.settle_after - (await ports.chain.params()).challenge_window_s
    manifest = spec.model_manifest or (await ports.chain.listing(terms.model)).manifest
    told = await ports.directory.result_of(task)
    return RunSubject(
        run=Run(ports.chain_id, ports.board, task, done.node),
        filing=filing,
        spec=spec,
        manifest=manifest,
        challenge=await challenge_of(ports.chain.arbiter, filing, task, past, committed_at),
        share=await ports.chain.done_of(task),
        seed=await seed_of_run(ports.chain, spec, task, claimed_at),
        claimed_at=claimed_at,
        committed_at=committed_at,
        results=() if told is None else (told,),
    )


async def _openings(
    ports: Ports, subject: RunSubject, evidence: Iterable[BlobRef]
) -> tuple[RunOpenings, BlobRef, RunEvidence]:
    """The first openings that prove themselves and are whole: evidence first. Raises GessoError, the last problem."""
    worst: GessoError = BlobMissing(
        "nobody has openings of this task", hint="its node may answer: GESSO_TRANSPORT=libp2p"
    )

    def read(told: RunEvidence) -> RunOpenings:
        opened = RunOpenings.decode(told.openings, subject.run, subject.spec, subject.filing.trace_root)
        if not opened.complete:
            raise EncodingInvalid("the openings leave something out", hint="ask the node again, or challenge it")
        return opened

    for ref in dict.fromkeys(evidence):
        try:
            told = RunEvidence.decode(await ports.blobs.get(ref, max_bytes=MAX_EVIDENCE_BYTES))
            return read(told), ref, told
        except GessoError as error:
            worst = error
    for source in ports.openings:
        try:
            ref, data = await source.ask(subject.filing.node, subject.run.task, MAX_OPENINGS_BYTES)
            return read(RunEvidence(data)), ref, RunEvidence(data)
        except GessoError as error:
            worst = error
    raise worst


def _plain(subject: RunSubject, opened: RunOpenings) -> tuple[Row, ...]:
    """What openings prove by themselves."""
    rows = [Row("openings", True, f"{len(opened.leaves)} leaves prove the trace root on chain")]
    fault = opening_fault(subject.spec, opened)
    rows.append(Row("trace", not fault, fault or "segments and losses are those of the updates that it says"))
    if fault:
        return tuple(rows)
    facts, spec, share = opened.facts(), subject.spec, subject.share
    fault = manifest_fault(spec, subject.manifest, facts, subject.seed)
    rows.append(Row("facts", not fault, fault or f"spec, model, data set and seed are the task's; {facts.profile}"))
    done, ordered = facts.steps_done - spec.first_step, spec.steps - spec.first_step
    fault = share_fault(share.bps, spec, facts.steps_done, stop_requested=share.stop_requested, broke=None)
    rows.append(Row("share", not fault, fault or f"{share.bps / 100:g} % for {done} of {ordered} updates"))
    return tuple(rows)


def _judged(subject: RunSubject, plain: Sequence[Row], verdict: Verdict, profile: str, blob: BlobRef) -> Recheck:
    wrong = verdict.decision is Decision.FLAG
    rows = [*plain, Row("segments run again", not wrong, f"{updates_text(subject.updates)}, with start and files")]
    rows += [Row(one.fault.value, False if wrong else None, one.detail, "remark") for one in verdict.reasons]
    return Recheck(verdict.decision.value, tuple(rows), verdict.max_error_of_limit, profile, blob)
