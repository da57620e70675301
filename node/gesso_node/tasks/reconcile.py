"""The one loop that drives every task: observe, decide with pure rules, do at most one thing each, write it down first.

`once(now)` is the whole body; `forever` calls it with the chain's clock. The loop is the only retry: whatever is lost,
a later pass sees it missing and does it again, and doing it twice is harmless.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio
import structlog

from gesso.chain import Chain
from gesso.chain.rpc import Header
from gesso_node.metrics import Metrics
from gesso_node.network.progress import ProgressSender
from gesso_node.state.book import Book, Known, write_down
from gesso_node.state.journal import Journal, JournalFailedError
from gesso_node.state.observe import Observer
from gesso_node.state.passes import Passes
from gesso_node.tasks.background import Background
from gesso_node.tasks.delivery import Delivery
from gesso_node.tasks.judging import Judge
from gesso_node.tasks.sending import Sending
from gesso_node.tasks.settlement import Settlement
from gesso_node.work.workbench import Workbench, stopped_by_wish
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
)
from gesso_protocol.money import BPS

log = structlog.get_logger("gesso.node.reconcile")

JUDGE_AHEAD_S = 2
_NO_OUTCOME = {"result": None, "result_root": None, "trace_root": None, "done_bps": BPS, "commit_sent_at": None}


class Reconciler:
    """Owns the book while the node runs."""

    def __init__(
        self,
        *,
        chain: Chain,
        journal: Journal,
        book: Book,
        observer: Observer,
        workbench: Workbench,
        progress: ProgressSender,
        metrics: Metrics,
        passes: Passes,
        background: Background,
        judge: Judge,
        sending: Sending,
        delivery: Delivery,
        settlement: Settlement,
        working: bool = True,
        engaged: Callable[[int], bool] = lambda _: False,
    ) -> None:
        """`engaged`: at a chain second, an audit of ours needs the executor before a training could make way for it."""
        self._chain = chain
        self._journal = journal
        self._book = book
        self._observer = observer
        self._workbench = workbench
        self._progress = progress
        self._metrics = metrics
        self._passes = passes
        self._background = background
        self._judge = judge
        self._sending = sending
        self._delivery = delivery
        self._settlement = settlement
        self._working = working
        self._engaged = engaged
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
        self._background.now = now
        await self._observer.pull(now, head)
        due: list[Known] = []
        for known in self._book:
            if known.entry is None:
                self._consider(known, now)
            elif known.not_before <= now:
                self._delivery.offer(known, now)
                action = next_action(self._book.view(known), self._book.memory(known, now), now)
                if isinstance(action, Settle):
                    due.append(known)
                else:
                    await self._acted(known, action, now)
        await self._settlement.settle(due, now)
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
                self._background.start(known, "judge", lambda: self._judge.judge(known, now))

    # Acting

    async def _acted(self, known: Known, action: NodeAction, now: int) -> None:
        try:
            await self._act(known, action, now)
        except (OSError, JournalFailedError) as error:  # a full disk, say: others go on
            log.warning("reconcile.not-done", task=known.task.short, action=type(action).__name__, reason=str(error))
            known.not_before = now + 1

    async def _act(self, known: Known, action: NodeAction, now: int) -> None:
        match action:
            case Wait():
                return
            case Claim():
                if self._may_claim(known, now):
                    first = comes_first(self._book.memory(known, now), now)
                    await self._sending.claim(known, now, alone=first)
            case Execute():
                if not (self.draining and known.record.state is TaskState.SUBMITTED):
                    self._background.start(known, "execute", lambda: self._execute(known))
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
                self._delivery.hand_over(known, now)
                await self._sending.commit(known, action, now)
            case Expire():
                await self._sending.expire(known, now)
            case Forget(why):
                await self._forget(known, why, now)
            case Settle():
                raise AssertionError("settling is done for many tasks at once")

    def _may_claim(self, known: Known, now: int) -> bool:
        if self.draining or not self._judge.has_room(known):
            return False
        return not (known.trains and self._engaged(now)) and self._judge.in_time(known)

    async def _wish_is_gone(self, known: Known) -> bool:
        """Whether a run ended for a wish that the chain no longer has: a part that nobody asked for is bad work."""
        entry = known.entry
        if entry is None or entry.result is None or entry.done_bps == BPS:
            return False
        if not stopped_by_wish(entry.result.profile.get("stopped", "")) or known.record.stop_requested:
            return False
        await self._observer.refresh(known)
        return known.record.state is TaskState.CLAIMED and not known.record.stop_requested

    async def _execute(self, known: Known) -> None:
        with anyio.CancelScope() as known.execution:
            await self._workbench.run(known)
        known.execution = None

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
