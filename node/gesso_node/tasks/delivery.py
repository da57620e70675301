"""Giving a result away: to its requester, signed, as soon as nothing is risked by it, and to every store for good."""

from __future__ import annotations

from gesso.chain import Chain
from gesso_node.network.progress import ProgressSender
from gesso_node.state.book import Book, Known
from gesso_node.tasks.background import Background
from gesso_node.work.results import Outbox, signed_handover
from gesso_protocol.lifecycle import TaskState, sure_until

OFFER_EVERY_S = 5


class Delivery:
    """Of the results of all tasks in hand."""

    def __init__(
        self, chain: Chain, book: Book, progress: ProgressSender, outbox: Outbox, background: Background
    ) -> None:
        self._chain = chain
        self._book = book
        self._progress = progress
        self._outbox = outbox
        self._background = background

    def hand_over(self, known: Known, now: int) -> None:
        """Give the requester its result, signed, while the commit is on its way. Only a claim that is in a block, or
        that nothing can keep from one, gets that far: else the requester could cancel with the pictures in hand."""
        if not self._may_hand_over(known, now):
            return
        if known.entry is not None and known.entry.result is not None:
            claim = known.claim_tx if known.record.state is TaskState.SUBMITTED else None
            self._progress.hand_over(known.task, signed_handover(self._chain, known.entry.result, claim))
        self._tell(known)

    def offer(self, known: Known, now: int) -> None:
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
                    self._tell(known)

            self._background.start(known, "offer", offer)

    def _may_hand_over(self, known: Known, now: int) -> bool:
        """A commit that only follows its claim may be refused with it; pictures that are given away are gone."""
        if known.record.state is not TaskState.SUBMITTED:
            return True
        return now <= (sure_until(self._book.view(known), self._book.memory(known, now)) or -1)

    def _tell(self, known: Known) -> None:
        entry = known.entry
        if entry is not None and entry.result is not None:
            self._progress.stage(known.task, "committed", str(entry.result.ref))
