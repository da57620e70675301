"""Transactions of one task: written down, then sent in the background, and what a refusal means."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from gesso.chain import Chain, revert_name
from gesso_node.metrics import Metrics
from gesso_node.network.progress import ProgressSender
from gesso_node.state.book import Known, write_down
from gesso_node.state.journal import Journal
from gesso_node.state.observe import Observer
from gesso_node.tasks.background import Background
from gesso_protocol.errors import ChainReverted, GessoError
from gesso_protocol.lifecycle import Commit, TaskState
from gesso_protocol.money import BPS

log = structlog.get_logger("gesso.node.reconcile")

Send = Callable[[], Awaitable[object]]

_TRY_AGAIN_AFTER_S = {
    # The contract's clock or our numbers were a moment behind; nothing was lost by asking.
    "SortitionNotReached": 1,
    "TooManyClaims": 2,
    "NodeNotEligible": 5,
    "TooEarly": 1,
}
_SENT_FIELD = {"claim": "claim_sent_at", "commit": "commit_sent_at", "expire": "expire_sent_at"}


class Sending:
    """Claims, commits and expiries of the tasks in hand."""

    def __init__(
        self,
        chain: Chain,
        journal: Journal,
        observer: Observer,
        progress: ProgressSender,
        metrics: Metrics,
        background: Background,
    ) -> None:
        self._chain = chain
        self._journal = journal
        self._observer = observer
        self._progress = progress
        self._metrics = metrics
        self._background = background

    async def claim(self, known: Known, now: int, *, alone: bool) -> None:
        """`alone`: no claim can come before ours."""
        await self._send(known, "claim", now, lambda: self._claim(known, alone=alone))

    async def commit(self, known: Known, made: Commit, now: int) -> None:
        """Bind ourselves to what was made, the whole or a part."""
        await self._send(known, "commit", now, lambda: self._commit(known, made))

    async def expire(self, known: Known, now: int) -> None:
        """Give up a task whose time is over."""
        await self._send(known, "expire", now, lambda: self._chain.expire(known.terms))

    async def _send(self, known: Known, verb: str, now: int, send: Send) -> None:
        """Write down that it is sent, then send it in the background."""
        if verb in known.busy or known.entry is None:
            return
        await write_down(self._journal, known, verb, **{_SENT_FIELD[verb]: now})
        self._background.start(known, verb, lambda: self._transact(known, verb, now, send))
        self._background.wake()  # a claimed task is executed while its claim is on the way

    async def _transact(self, known: Known, verb: str, now: int, send: Send) -> None:
        try:
            await send()
        except GessoError as error:
            await self._refused(known, verb, now, error)
            return
        self._metrics.sent(verb, "ok")
        log.info(f"reconcile.{verb}", task=known.task.short)
        await self._observer.refresh(known)

    async def _claim(self, known: Known, *, alone: bool) -> None:
        def on_sent(tx_hash: str) -> None:
            known.claim_tx = tx_hash
            self._background.wake()  # a picture that is drawn may follow at once

        await self._chain.claim(known.terms, alone=alone, on_sent=on_sent)
        self._progress.stage(known.task, "claimed")

    async def _commit(self, known: Known, made: Commit) -> None:
        if made.done_bps < BPS:
            await self._chain.commit_part(known.terms, made.result_root, made.trace_root, made.done_bps)
        else:
            behind = known.record.state is TaskState.SUBMITTED
            await self._chain.commit(known.terms, made.result_root, made.trace_root, behind_claim=behind)

    async def _refused(self, known: Known, verb: str, now: int, error: GessoError) -> None:
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
