"""Ordering what is left of a run whose node was lost: once, however often and from wherever it is asked for.

The nonce of such an order is made from the lost task's id, so it is found again on chain by whoever asks a second time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gesso.quote import audit_choice
from gesso_protocol.errors import ChainReverted
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import TaskId
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.money import Wei, format_amount
from gesso_protocol.spec import TrainLora

if TYPE_CHECKING:
    from gesso.client import AsyncClient
    from gesso.directory import Directory
    from gesso.task import AsyncTask


def nonce_of_rest(lost: TaskId) -> int:
    """64 bits: a lost task has one rest, whatever checkpoint it goes on from."""
    return int.from_bytes(keccak256(b"gesso/train/1/rest" + lost.value)[:8], "big")


class Rests(Protocol):
    """Where the rest of a run is ordered."""

    async def ordered(self, lost: TaskId) -> AsyncTask | None:
        """The order that was made before, by this wallet, and was not taken back."""

    async def order(self, spec: TrainLora, *, lost: TaskId, share: Wei) -> AsyncTask:
        """Put it on the board for `share` of the fee, or what the cheapest node asks where that is more."""


class RestsOf:
    """Orders under the terms of the run's first task. Each costs at most `max_fee`; where that is None, no more than
    the first task's fee and audit fee."""

    def __init__(self, client: AsyncClient, directory: Directory, first: AsyncTask, max_fee: str | None) -> None:
        self._client = client
        self._directory = directory
        self._terms = first.terms
        self._max_fee = max_fee

    async def ordered(self, lost: TaskId) -> AsyncTask | None:
        """See `Rests`. Raises Unreachable, ChainError."""
        return (await self._last(lost))[1]

    async def order(self, spec: TrainLora, *, lost: TaskId, share: Wei) -> AsyncTask:
        """See `Rests`. Raises what `AsyncClient.submit` raises."""
        client, terms = self._client, self._terms
        audit = audit_choice(terms.audit)
        cheapest = await client.quote(spec, audit=audit)
        audit_fee = (await client.params()).audit_fee if audit == "always" else Wei(0)
        before, _ = await self._last(lost)
        try:
            return await client.submit(
                spec,
                fee=format_amount(max(share, cheapest.fee)),
                max_fee=self._max_fee or format_amount(Wei(terms.fee + audit_fee)),
                audit=audit,
                commit_window_s=terms.commit_window_s,
                nonce=nonce_of_rest(before),
            )
        except ChainReverted as error:
            if error.name != "TaskExists":
                raise
            return await client.task(str(error.arguments[0]))  # it had been sent before, and is there by now

    async def _last(self, lost: TaskId) -> tuple[TaskId, AsyncTask | None]:
        """The task that the next order comes after, and the order that stands. One that was cancelled does not, so
        what comes after it is asked for."""
        of_nonce, me = self._directory.of_nonce, self._client.address
        while (found := await of_nonce(me, nonce_of_rest(lost), after=lost)) is not None:
            order = await self._client.task(found)
            if (await order.status()).state is not TaskState.CANCELLED:
                return lost, order
            lost = order.id
        return lost, None
