"""Saying yes or no to a task: its spec read, the policy asked, and what a claim needs looked for beforehand."""

from __future__ import annotations

from dataclasses import replace

import structlog

from gesso.blobs import BlobStore
from gesso_node.metrics import Metrics
from gesso_node.state.book import Book, Known
from gesso_node.state.journal import Entry, Journal
from gesso_node.tasks.intake import Intake
from gesso_node.tasks.policy import Policy, Verdict
from gesso_protocol.errors import BlobMissing, GessoError, SpecInvalid, Unreachable
from gesso_protocol.ids import BlobRef
from gesso_protocol.lifecycle import Why
from gesso_protocol.policy import Refusal
from gesso_protocol.spec import MAX_SPEC_BYTES, Spec, parse_any_spec

log = structlog.get_logger("gesso.node.reconcile")

TRIES = 10


class Judge:
    """Of tasks that the chain has open. What it says is in the journal, and in the book where it is a yes."""

    def __init__(
        self,
        *,
        policy: Policy,
        intake: Intake,
        book: Book,
        journal: Journal,
        blobs: BlobStore,
        metrics: Metrics,
        slots: int,
    ) -> None:
        self._policy = policy
        self._intake = intake
        self._book = book
        self._journal = journal
        self._blobs = blobs
        self._metrics = metrics
        self._slots = slots

    async def judge(self, known: Known, now: int) -> None:
        """Decide on this task, or postpone that (`not_before`) where something may still come."""
        spec = await self._read_spec(known, now)
        if known.not_before > now:
            return
        if not await self._policy.knows(known.terms) and known.model_tries < TRIES:
            known.model_tries += 1
            known.not_before = now + 1
            return
        verdict = self._verdict(known, spec, now)
        if verdict.refusal is None and spec is not None and verdict.manifest is not None:
            lacking = await self._lacks(known, spec, verdict.manifest, now)
            if known.not_before > now:
                return
            # How much would have to be fetched is known by now, and whether there is time for it.
            verdict = self._verdict(known, spec, now) if lacking is None else replace(verdict, refusal=lacking)
        if verdict.refusal is Refusal.BUSY:
            await self._busy(known, now)
        else:
            await self._decided(known, spec, verdict, now)

    def in_time(self, known: Known) -> bool:
        """Whether it would be done in its window; another task may have come first since it was judged."""
        spec = None if known.entry is None else known.entry.spec
        return spec is None or self._policy.in_time(spec, known.terms, self._ahead_s())

    def has_room(self, known: Known) -> bool:
        """Whether a task of its kind may be claimed beside what is held."""
        return bool(self._book.free(self._slots, for_training=known.trains))

    async def _decided(self, known: Known, spec: Spec | None, verdict: Verdict, now: int) -> None:
        entry = Entry(
            known.task,
            known.terms,
            known.heard_at,
            known.record.state_since,
            spec,
            verdict.manifest,
            hold_back_steps=verdict.hold_back_steps,
        )
        if verdict.refusal is not None:
            await self._journal.add(replace(entry, refusal=verdict.refusal, closed=Why.REFUSED, closed_at=now))
            self._metrics.refused(str(verdict.refusal))
            log.info("reconcile.refused", task=known.task.short, reason=str(verdict.refusal))
            self._book.drop(known)
            return
        await self._journal.add(entry)
        known.entry = entry

    async def _busy(self, known: Known, now: int) -> None:
        known.not_before = now + 1
        if "busy" not in known.told:
            known.told.add("busy")
            self._metrics.refused(str(Refusal.BUSY))
            await self._journal.count("refused", str(Refusal.BUSY))
            log.debug("reconcile.busy", task=known.task.short)

    def _verdict(self, known: Known, spec: Spec | None, now: int) -> Verdict:
        left_s = (self._book.view(known).due or now) - now
        free = self._book.free(self._slots, for_training=known.trains)
        return self._policy.judge(spec, known.terms, free_slots=free, claim_left_s=left_s, ahead_s=self._ahead_s())

    async def _read_spec(self, known: Known, now: int) -> Spec | None:
        """The spec, or None when there is none that can be read. A store that is away postpones the question."""
        try:
            return parse_any_spec(await self._blobs.get(known.terms.spec, max_bytes=MAX_SPEC_BYTES))
        except SpecInvalid as error:
            log.info("reconcile.bad-spec", task=known.task.short, reason=error.message)
        except (Unreachable, BlobMissing):
            known.spec_tries += 1
            if known.spec_tries < TRIES:
                known.not_before = now + 1
        except GessoError as error:
            log.info("reconcile.unreadable-spec", task=known.task.short, code=error.code)
        return None

    async def _lacks(self, known: Known, spec: Spec, manifest: BlobRef, now: int) -> Refusal | None:
        """Why a claim could not be kept, which would only cost us; what may come is looked for again, a while."""
        lacking = await self._intake.look(known.task, spec, known.terms, manifest)
        if lacking is None:
            return None
        known.model_tries += 1
        if lacking.passing and known.model_tries < TRIES:
            known.not_before = now + 1
        return lacking.refusal

    def _ahead_s(self) -> float:
        """How long what we hold and have not done keeps the executor."""
        entries = (known.entry for known in self._book if known.held)
        return sum(self._policy.seconds(one.spec) for one in entries if one and one.spec and one.result is None)
