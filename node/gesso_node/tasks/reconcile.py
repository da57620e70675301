"""The one loop that drives every task: observe, decide with pure rules, do at most one thing each, write it down first.

`once(now)` is the whole body; `forever` calls it with the chain's clock. The loop is the only retry: whatever is lost,
a later pass sees it missing and does it again, and doing it twice is harmless.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import anyio
import structlog
from anyio.abc import TaskGroup

from gesso.blobs import BlobStore
from gesso.chain import Chain, revert_name
from gesso.chain.rpc import Header
from gesso_node.metrics import Metrics
from gesso_node.network.progress import ProgressSender
from gesso_node.state.book import Book, Known, write_down
from gesso_node.state.journal import Entry, Journal, JournalFailedError
from gesso_node.state.observe import Observer
from gesso_node.state.passes import Passes
from gesso_node.tasks.intake import Intake
from gesso_node.tasks.policy import Policy, Verdict
from gesso_node.work.results import Outbox, signed_handover
from gesso_node.work.workbench import Workbench, stopped_by_wish
from gesso_protocol.errors import BlobMissing, ChainReverted, GessoError, SpecInvalid, Unreachable
from gesso_protocol.ids import BlobRef
from gesso_protocol.lifecycle import (
    Claim,
    Commit,
    Execute,
    Expire,
    Forget,
    GoOn,
    NodeAction,
    Settle,
    Stop,
    TaskState,
    Wait,
    Why,
    comes_first,
    next_action,
    sure_until,
)
from gesso_protocol.money import BPS
from gesso_protocol.policy import Refusal
from gesso_protocol.spec import MAX_SPEC_BYTES, Spec, parse_any_spec

log = structlog.get_logger("gesso.node.reconcile")

SPEC_TRIES = 10
JUDGE_AHEAD_S = 2
OFFER_EVERY_S = 5
Step = Callable[[], Awaitable[None]]

_TRY_AGAIN_AFTER_S = {
    # The contract's clock or our numbers were a moment behind; nothing was lost by asking.
    "SortitionNotReached": 1,
    "TooManyClaims": 2,
    "NodeNotEligible": 5,
    "TooEarly": 1,
}
_NO_OUTCOME = {"result": None, "result_root": None, "trace_root": None, "done_bps": BPS, "commit_sent_at": None}
_SENT_FIELD = {"claim": "claim_sent_at", "commit": "commit_sent_at", "expire": "expire_sent_at"}


class Reconciler:
    """Owns the book while the node runs. `tasks` is where its background work lives."""

    def __init__(
        self,
        *,
        chain: Chain,
        journal: Journal,
        book: Book,
        observer: Observer,
        policy: Policy,
        workbench: Workbench,
        intake: Intake,
        progress: ProgressSender,
        blobs: BlobStore,
        outbox: Outbox,
        metrics: Metrics,
        tasks: TaskGroup,
        slots: int,
        settle_batch: int | None,
        settle_wait_s: int,
        working: bool = True,
        engaged: Callable[[int], bool] = lambda _: False,
    ) -> None:
        """`engaged`: at a chain second, an audit of ours needs the executor before a training could make way for it."""
        self._chain = chain
        self._journal = journal
        self._book = book
        self._observer = observer
        self._policy = policy
        self._workbench = workbench
        self._intake = intake
        self._progress = progress
        self._blobs = blobs
        self._outbox = outbox
        self._metrics = metrics
        self._tasks = tasks
        self._slots = slots
        self._settle_batch = settle_batch
        self._settle_wait_s = settle_wait_s
        self._working = working
        self._engaged = engaged
        self._passes = Passes("reconcile")
        self._now = 0
        self._passed = anyio.Event()
        self._last_pass_s = time.monotonic()
        self.draining = False

    # The loop

    async def forever(self, tick_s: float) -> None:
        """Until cancelled. An endpoint that is away, or a full disk, only slows it down."""

        async def one_pass() -> int:
            head = await self._chain.head()
            await self.once(head.timestamp, head)
            return self._observer.block

        await self._passes.forever(one_pass, tick_s)

    async def once(self, now: int, head: Header | None = None) -> None:
        """One pass at chain second `now`, which is that of `head`; one that failed is simply done again. Raises
        Unreachable, ChainError, JournalFailedError."""
        self._now = now
        await self._observer.pull(now, head)
        due: list[Known] = []
        for known in self._book:
            if known.entry is None:
                self._consider(known, now)
            elif known.not_before <= now:
                self._offer(known, now)
                action = next_action(self._book.view(known), self._book.memory(known, now), now)
                if isinstance(action, Settle):
                    due.append(known)
                else:
                    await self._acted(known, action, now)
        await self._settle(due, now)
        self._last_pass_s = time.monotonic()
        self._tell_passed()

    def idle_s(self) -> float:
        """Seconds since the last pass that went through."""
        return time.monotonic() - self._last_pass_s

    async def passed(self) -> None:
        """Wait for the end of the next pass, or for `drain`."""
        await self._passed.wait()

    def drain(self) -> None:
        """Claim nothing more."""
        self.draining = True
        self._tell_passed()  # the chain may be away, and then there is no next pass
        self.wake()

    def _tell_passed(self) -> None:
        self._passed.set()
        self._passed = anyio.Event()

    def finished(self) -> bool:
        """Whether nothing is left that only this node can do: anyone may settle a committed task."""
        return self._book.held() == 0 and not any(known.busy for known in self._book)

    def wake(self) -> None:
        """Something changed: do not wait for the next tick."""
        self._passes.wake()

    async def quiesce(self) -> None:
        """Wait until nothing is being done in the background. For tests and for draining."""
        while any(known.busy for known in self._book):
            self._passes.rearm()
            await self._passes.wait()

    # Deciding

    def _consider(self, known: Known, now: int) -> None:
        """A task that we have not said yes or no to."""
        view = self._book.view(known)
        if known.record.state is TaskState.UNKNOWN:
            if now > known.heard_at + self._book.patience.unseen_for_s:
                self._book.drop(known)
        elif known.record.state is not TaskState.SUBMITTED or view.due is None or now >= view.due:
            self._book.drop(known)
        elif known.not_before <= now and self._working and not self.draining:
            turn = self._book.turn(known)
            if turn is not None and turn > now + JUDGE_AHEAD_S:
                # Most tasks are somebody else's: reading every spec on the network would be for nothing.
                known.not_before = turn - JUDGE_AHEAD_S
            else:
                self._start(known, "judge", lambda: self._judge(known, now))

    async def _judge(self, known: Known, now: int) -> None:
        spec = await self._read_spec(known, now)
        if known.not_before > now:
            return
        if not await self._policy.knows(known.terms) and known.model_tries < SPEC_TRIES:
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
            known.not_before = now + 1
            if "busy" not in known.told:
                known.told.add("busy")
                await self._count_refusal(known, Refusal.BUSY)
            return
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
        self.wake()

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
            if known.spec_tries < SPEC_TRIES:
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
        if lacking.passing and known.model_tries < SPEC_TRIES:
            known.not_before = now + 1
        return lacking.refusal

    def _ahead_s(self) -> float:
        """How long what we hold and have not done keeps the executor."""
        entries = (known.entry for known in self._book if known.held)
        return sum(self._policy.seconds(one.spec) for one in entries if one and one.spec and one.result is None)

    def _in_time(self, known: Known) -> bool:
        """Whether it would be done in its window; another task may have come first since it was judged."""
        spec = None if known.entry is None else known.entry.spec
        return spec is None or self._policy.in_time(spec, known.terms, self._ahead_s())

    async def _count_refusal(self, known: Known, refusal: Refusal) -> None:
        self._metrics.refused(str(refusal))
        await self._journal.count("refused", str(refusal))
        log.debug("reconcile.busy", task=known.task.short)

    # Acting

    async def _acted(self, known: Known, action: NodeAction, now: int) -> None:
        try:
            await self._act(known, action, now)
        except (
            OSError,
            JournalFailedError,
        ) as error:  # a full disk, say: others go on
            log.warning("reconcile.not-done", task=known.task.short, action=type(action).__name__, reason=str(error))
            known.not_before = now + 1

    async def _act(self, known: Known, action: NodeAction, now: int) -> None:
        match action:
            case Wait():
                return
            case Claim():
                if self.draining or not self._book.free(self._slots, for_training=known.trains):
                    return
                if (known.trains and self._engaged(now)) or not self._in_time(known):
                    return
                first = comes_first(self._book.memory(known, now), now)
                await self._send(known, "claim", now, lambda: self._claim(known, alone=first))
            case Execute():
                if not (self.draining and known.record.state is TaskState.SUBMITTED):
                    self._start(known, "execute", lambda: self._execute(known))
            case Stop():
                self._workbench.stop(known)
                known.stopping = True
            case GoOn():
                log.info("reconcile.stop-taken-back", task=known.task.short)
                self._workbench.go_on(known)
                known.stopping = False
            case Commit() if await self._wish_is_gone(known):
                await write_down(self._journal, known, "outcome-undone", **_NO_OUTCOME)
                self.wake()
            case Commit():
                if self._may_hand_over(known, now):
                    self._hand_over(known)
                await self._send(known, "commit", now, lambda: self._commit(known, action))
            case Expire():
                await self._send(known, "expire", now, lambda: self._chain.expire(known.terms))
            case Forget(why):
                await self._forget(known, why, now)
            case Settle():
                raise AssertionError("settling is done for many tasks at once")

    async def _wish_is_gone(self, known: Known) -> bool:
        """Whether a run ended for a wish that the chain no longer has: a part that nobody asked for is bad work."""
        entry = known.entry
        if entry is None or entry.result is None or entry.done_bps == BPS:
            return False
        if not stopped_by_wish(entry.result.profile.get("stopped", "")) or known.record.stop_requested:
            return False
        await self._observer.refresh(known)
        return known.record.state is TaskState.CLAIMED and not known.record.stop_requested

    async def _send(self, known: Known, verb: str, now: int, send: Callable[[], Awaitable[object]]) -> None:
        """Write down that it is sent, then send it in the background."""
        if verb in known.busy or known.entry is None:
            return
        await write_down(self._journal, known, verb, **{_SENT_FIELD[verb]: now})
        self._start(known, verb, lambda: self._transact(known, verb, now, send))
        self.wake()  # a claimed task is executed while its claim is on the way

    async def _transact(self, known: Known, verb: str, now: int, send: Callable[[], Awaitable[object]]) -> None:
        try:
            await send()
        except GessoError as error:
            await self._refused_on_chain(known, verb, now, error)
            return
        self._metrics.sent(verb, "ok")
        log.info(f"reconcile.{verb}", task=known.task.short)
        await self._observer.refresh(known)

    async def _claim(self, known: Known, *, alone: bool) -> None:
        def on_sent(tx_hash: str) -> None:
            known.claim_tx = tx_hash
            self.wake()  # a picture that is drawn may follow at once

        await self._chain.claim(known.terms, alone=alone, on_sent=on_sent)
        self._progress.stage(known.task, "claimed")

    async def _commit(self, known: Known, made: Commit) -> None:
        if made.done_bps < BPS:
            await self._chain.commit_part(known.terms, made.result_root, made.trace_root, made.done_bps)
        else:
            behind = known.record.state is TaskState.SUBMITTED
            await self._chain.commit(known.terms, made.result_root, made.trace_root, behind_claim=behind)

    async def _refused_on_chain(self, known: Known, verb: str, now: int, error: GessoError) -> None:
        name = revert_name(error)
        self._metrics.sent(verb, name or error.code)
        log.info(f"reconcile.{verb}-refused", task=known.task.short, reason=name or error.message)
        if name is None and not isinstance(error, ChainReverted):
            return  # it may have been sent; the lifecycle asks again when it stays unseen
        if verb == "claim":
            known.claim_tx = None
        if name in _TRY_AGAIN_AFTER_S:
            known.not_before = now + _TRY_AGAIN_AFTER_S[name]
            await write_down(self._journal, known, f"{verb}-undone", **{_SENT_FIELD[verb]: None})
        await self._observer.refresh(known)
        if verb == "commit" and name == "UnexpectedState" and known.record.state <= TaskState.CLAIMED:
            # It followed a claim that did not make it into its block; if another one does, so shall it.
            known.not_before = now + 1
            await write_down(self._journal, known, "commit-undone", commit_sent_at=None)

    async def _execute(self, known: Known) -> None:
        with anyio.CancelScope() as known.execution:
            await self._workbench.run(known)
        known.execution = None

    def _may_hand_over(self, known: Known, now: int) -> bool:
        """A commit that only follows its claim may be refused with it; pictures that are given away are gone."""
        if known.record.state is not TaskState.SUBMITTED:
            return True
        return now <= (sure_until(self._book.view(known), self._book.memory(known, now)) or -1)

    def _hand_over(self, known: Known) -> None:
        """Give the requester its result, signed, while the commit is on its way. Only a claim that is in a block, or
        that nothing can keep from one, gets here: else the requester could cancel with the pictures in hand."""
        if known.entry is not None and known.entry.result is not None:
            claim = known.claim_tx if known.record.state is TaskState.SUBMITTED else None
            self._progress.hand_over(known.task, signed_handover(self._chain, known.entry.result, claim))
        self._tell_result(known)

    def _tell_result(self, known: Known) -> None:
        entry = known.entry
        if entry is not None and entry.result is not None:
            self._progress.stage(known.task, "committed", str(entry.result.ref))

    def _offer(self, known: Known, now: int) -> None:
        """A committed result is offered again until every store has it: a relay may have been away."""
        entry = known.entry
        bound = known.record.state in (TaskState.COMMITTED, TaskState.HELD)
        if not bound or entry is None or entry.result is None:
            return
        if "offered" not in known.told and known.offer_at <= now:
            result = entry.result
            known.offer_at = now + OFFER_EVERY_S

            async def offer() -> None:
                if await self._outbox.offer(result):
                    known.told.add("offered")
                    self._tell_result(known)

            self._start(known, "offer", offer)

    async def _settle(self, due: list[Known], now: int) -> None:
        due = [known for known in due if "settle" not in known.busy]
        if self._settle_batch is None or not due:
            return
        waited = now - min(self._book.view(known).due or now for known in due)
        if len(due) < self._settle_batch and waited < self._settle_wait_s:
            return
        batch = due[: self._settle_batch]
        await self._journal.update_all([known.task for known in batch], "settle", settle_sent_at=now)
        for known in batch:
            if known.entry is not None:
                known.entry = replace(known.entry, settle_sent_at=now)
            known.busy.add("settle")
        self._tasks.start_soon(self._send_settle, batch)

    async def _send_settle(self, batch: list[Known]) -> None:
        try:
            await self._chain.settle([known.terms for known in batch])
            self._metrics.sent("settle", "ok")
        except GessoError as error:
            self._metrics.sent("settle", revert_name(error) or error.code)
            log.warning("reconcile.settle-failed", tasks=len(batch), code=error.code, reason=error.message)
        finally:
            for known in batch:
                known.busy.discard("settle")
            self.wake()

    async def _forget(self, known: Known, why: Why, now: int) -> None:
        entry = known.entry
        assert entry is not None
        if why is Why.SETTLED and known.record.node == self._book.me and entry.paid is None:
            # The board says settled before we read the event that says how much: wait for it, it will come.
            return
        if known.execution is not None:
            known.execution.cancel()
        if known.busy:
            return
        await self._journal.close_entry(known.task, why, now, paid=entry.paid if why is Why.SETTLED else None)
        self._metrics.ended(str(why))
        log.info("reconcile.done", task=known.task.short, why=str(why), paid=str(entry.paid or 0))
        self._book.drop(known)
        await self._progress.release(known.task)
        await self._workbench.leave(known, why)

    # Background

    def _start(self, known: Known, verb: str, step: Step) -> None:
        if verb in known.busy:
            return
        known.busy.add(verb)
        self._tasks.start_soon(self._background, known, verb, step)

    async def _background(self, known: Known, verb: str, step: Step) -> None:
        try:
            await step()
        except GessoError as error:
            log.warning(
                "reconcile.step-failed", task=known.task.short, verb=verb, code=error.code, reason=error.message
            )
            known.not_before = self._now + 1
        except Exception:  # one task must never end the node, and with it all others
            log.exception("reconcile.step-broke", task=known.task.short, verb=verb)
            known.not_before = self._now + 1
        finally:
            known.busy.discard(verb)
            self.wake()
