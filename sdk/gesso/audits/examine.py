"""A task's re-check from end to end: who committed what, which steps, its openings, the checks, the report."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio.to_thread

from gesso.audits.draw import challenge_of, checked_steps
from gesso.audits.openings import Opened, find_openings
from gesso.audits.recheck import Files, Recheck, Replayer, Row, judged, unreplayed, withheld, without_model
from gesso.audits.subject import Subject
from gesso.chain.arbiter import Filing
from gesso.fetch import MAX_IMAGE_BYTES
from gesso_protocol.audit.challenge import steps_to_check
from gesso_protocol.errors import BlobMissing, GessoError, PeerUnreachable, TaskFailed, UsageError
from gesso_protocol.events import AuditRevealed, Committed, Event
from gesso_protocol.ids import BlobRef, Root, TaskId
from gesso_protocol.manifest import ModelManifest
from gesso_protocol.result import ResultManifest, result_root
from gesso_protocol.spec import TextToImage
from gesso_protocol.terms import Terms
from gesso_protocol.trace import Run

if TYPE_CHECKING:
    from gesso.wiring import Ports

SCHEDULER_FILE = "scheduler/scheduler_config.json"
MAX_CONFIG_BYTES = 64 * 1024
NO_REPLAY = "install gesso[node,gpu] to run steps again on this machine"


async def examine(
    ports: Ports, task: TaskId, terms: Terms, spec: TextToImage, past: Sequence[Event], *,
    replayer: Replayer | None, steps: int | None,
) -> Recheck:  # fmt: skip
    """Check a committed task again. `steps`: how many to run, drawn here; None for those that the beacon drew.

    Raises TaskFailed for a task that is not committed, UsageError for one that cannot be audited, and what chain and
    blobs raise. Missing openings are a verdict, not an error.
    """
    subject = await subject_of(ports, task, terms, spec, past, steps)
    evidence = [event.evidence for event in past if isinstance(event, AuditRevealed) and event.evidence is not None]
    try:
        opened = await find_openings(subject, evidence, ports.blobs, ports.openings)
    except (BlobMissing, PeerUnreachable) as error:
        return withheld(f"{error.message}; {error.hint}")
    files = await public_files(ports, subject)
    plain = await anyio.to_thread.run_sync(without_model, subject, opened, files)
    if replayer is None:
        return unreplayed(opened, plain, NO_REPLAY)
    return await _replayed(replayer, subject, opened, files, plain)


async def _replayed(
    replayer: Replayer, subject: Subject, opened: Opened, files: Files, plain: tuple[Row, ...]
) -> Recheck:
    try:
        found = await replayer.inspect(subject, opened.bundle, files)
    except GessoError as error:
        return unreplayed(opened, plain, error.message)
    return judged(subject, opened, plain, found)


async def subject_of(
    ports: Ports, task: TaskId, terms: Terms, spec: TextToImage, past: Sequence[Event], steps: int | None
) -> Subject:
    """What there is to check, and where. Raises TaskFailed, UsageError, and what the chain raises."""
    done = next((event for event in reversed(past) if isinstance(event, Committed)), None)
    if done is None:
        raise TaskFailed("the task is not committed, so there is nothing to check", hint=f"gesso task show {task}")
    if done.trace_root.value == bytes(32):
        raise UsageError("the node committed no trace, so nothing of this task can be checked again")
    filing = Filing(terms, done.node, done.result_root, done.trace_root)
    committed_at = done.settle_after - (await ports.chain.params()).challenge_window_s
    drawn = None if steps is not None else await challenge_of(ports.chain.arbiter, filing, task, past, committed_at)
    entropy = drawn or secrets.token_bytes(32)
    rules = None if ports.chain.arbiter is None else await ports.chain.arbiter.rules()
    large = rules is not None and terms.fee >= rules.large_fee
    places = (
        checked_steps(entropy, spec, large=large)
        if steps is None
        else steps_to_check(entropy, spec.count, spec.steps, steps)
    )
    manifest = spec.model_manifest or (await ports.chain.listing(terms.model)).manifest
    run = Run(ports.chain_id, ports.board, task, done.node)
    return Subject(run, filing, spec, manifest, entropy, places, drawn is not None)


async def public_files(ports: Ports, subject: Subject) -> Files:
    """Result, pictures and scheduler file, as far as anybody still has them."""
    result = await result_on_chain(ports, subject.task, subject.filing.result_root)
    pictures = []
    for entry in () if result is None else result.images:
        pictures.append(await have(ports, entry.blob, MAX_IMAGE_BYTES))
    return Files(result, tuple(pictures), await _scheduler_config(ports, subject))


async def result_on_chain(ports: Ports, task: TaskId, root: Root) -> ResultManifest | None:
    """The manifest that a node committed to with this root; None where nobody has it."""
    ref = await ports.directory.result_of(task)
    raw = None if ref is None else await have(ports, ref, ResultManifest.MAX_BYTES)
    try:
        found = None if raw is None else ResultManifest.decode(raw)
    except GessoError:
        return None
    return found if found is not None and result_root(found) == root else None


async def _scheduler_config(ports: Ports, subject: Subject) -> bytes | None:
    raw = await have(ports, subject.manifest, ModelManifest.MAX_BYTES)
    if raw is None:
        return None
    try:
        files = {entry.path: entry.blob for entry in ModelManifest.decode(raw).files}
    except GessoError:
        return None
    ref = files.get(SCHEDULER_FILE)
    return b"" if ref is None else await have(ports, ref, MAX_CONFIG_BYTES)


async def have(ports: Ports, ref: BlobRef, max_bytes: int) -> bytes | None:
    """A blob, if anybody has it."""
    try:
        return await ports.blobs.get(ref, max_bytes=max_bytes)
    except GessoError:
        return None
