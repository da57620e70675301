"""A handle on one task: follow it, get its result, cancel it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Literal

import anyio

from gesso.audits.examine import examine
from gesso.audits.examine_run import examine_run
from gesso.audits.facts import AuditFacts
from gesso.audits.recheck import Recheck, Replayer
from gesso.audits.watch import AuditWatch
from gesso.chain.arbiter import Filing
from gesso.chain.records import TxReceipt
from gesso.chain.reverts import revert_name
from gesso.collecting import Collector
from gesso.fetch import Commitment, Delivery
from gesso.image import Image
from gesso.likeness import is_of
from gesso.outage import Outage
from gesso.outcome import Result, result_of
from gesso.seen import Seen, now_ms
from gesso.stream import TaskStream
from gesso.wiring import Ports
from gesso_protocol.errors import (
    ChainReverted,
    DeadlinePassed,
    DeliveryContradicted,
    GessoError,
    TaskFailed,
    TooEarly,
    UsageError,
)
from gesso_protocol.events import (
    Checkpoint,
    Claimed,
    Committed,
    Event,
    Fetched,
)
from gesso_protocol.fields import TaskKind
from gesso_protocol.ids import Address, TaskId
from gesso_protocol.lifecycle import Expire, Settle, TaskState, TaskView, next_requester_action
from gesso_protocol.money import format_amount
from gesso_protocol.spec import MAX_SPEC_BYTES, Spec, TextToImage, parse_any_spec
from gesso_protocol.terms import BoardParams, Terms

Until = Literal["delivered", "claimed", "committed", "settled"]
OnEvent = Callable[[Event], None]

TICK_S = 1.0
"""How often the chain's clock is looked at while nothing happens."""
SETTLE_PATIENCE_S = 20
"""A node settles its own earnings; after this many seconds of delay the requester does it."""
HINT_WAIT_S = 0.5


class AsyncTask:
    """One task on the board. Made by `AsyncClient.submit` and `AsyncClient.task`."""

    def __init__(
        self,
        ports: Ports,
        task: TaskId,
        terms: Terms,
        params: BoardParams,
        open_stream: Callable[[], TaskStream],
        read_past: Callable[[], Awaitable[Sequence[Event]]],
        *,
        spec: Spec | None = None,
        submitted: TxReceipt | None = None,
    ) -> None:
        self.id = task
        self.terms = terms
        self._ports = ports
        self._params = params
        self._open_stream = open_stream
        self._read_past = read_past
        self._audit = AuditWatch(ports.chain.arbiter, task, terms, params)
        self._spec = spec
        self._submitted = submitted
        self._started = time.monotonic()
        self._seen = Seen()
        self._outage = Outage()
        self._collector = Collector(ports, task, terms, params, self._seen, started=self._started)

    def __repr__(self) -> str:
        return f"AsyncTask({self.id})"

    @property
    def fee(self) -> str:
        """The fee in escrow, in whole tokens."""
        return format_amount(self.terms.fee)

    @property
    def claim(self) -> Claimed | None:
        """Who took the task and until when, once that was seen on chain."""
        return self._seen.claim

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """The furthest few checkpoints that the claimant has told of, signed by it, earliest first; those of anybody
        until the claim is seen."""
        return tuple(self._seen.checkpoints)

    @property
    def stop_requested(self) -> bool:
        """Whether its requester was seen on chain asking for an early end."""
        return self._seen.stop_requested

    @property
    def committed(self) -> bool:
        """Whether a result of the task was seen on chain."""
        return self._seen.commitment is not None

    async def status(self) -> TaskView:
        """What the chain says now."""
        return (await self._ports.chain.task(self.id, kind=self.terms.kind)).view(self.terms, self._params)

    async def describe(self) -> dict[str, Any]:
        """State, parties and deadlines for printing; of a training also how much of it was committed."""
        view = await self.status()
        described: dict[str, Any] = {
            "task": str(self.id),
            "state": view.state.name.lower(),
            "requester": str(self.terms.requester),
            "node": None if view.node is None else str(view.node),
            "fee": self.fee,
            "listing": int(self.terms.model),
            "spec": str(self.terms.spec),
            "since": view.state_since,
            "due": view.due,
        }
        if self.terms.kind == TaskKind.TRAIN_LORA:
            done = await self._ports.chain.done_of(self.id)
            described |= {"done_bps": done.bps, "stop_requested": done.stop_requested}
        return described

    async def audit(self) -> AuditFacts:
        """What the audit of this task has come to, from the chain alone. Raises Unreachable, ChainError."""
        watch = AuditWatch(self._ports.chain.arbiter, self.id, self.terms, self._params)
        watch.take(await self._read_past())
        ports = self._ports
        return await watch.measured(await self.spec(), ports.chain_id, ports.board, ports.blobs)

    async def recheck(self, *, replayer: Replayer | None = None, steps: int | None = None) -> Recheck:
        """Check this task again on this machine, from its public openings: the steps that the beacon drew, or as many
        of its own drawing. Without a replayer only what needs no model. Raises TaskFailed, UsageError, Unreachable."""
        past, spec = await self._read_past(), await self.spec()
        if not isinstance(spec, TextToImage):
            if steps is not None:
                raise UsageError("a training is checked at the segments that the beacon drew", hint="leave --steps out")
            return await examine_run(self._ports, self.id, self.terms, spec, past, replayer)
        return await examine(self._ports, self.id, self.terms, spec, past, replayer=replayer, steps=steps)

    async def gave(self, picture: bytes) -> bool:
        """Whether a PNG is one of the pictures that were committed, to the bit but for the texts that `Image.save`
        writes into it: a receipt in a file is anybody's text. Raises TaskFailed, BlobMissing, Unreachable."""
        return await is_of(self._ports, self.id, await self._read_past(), picture)

    async def challenge(self) -> TxReceipt:
        """Bring this task before jurors; pulls the arbiter's challenge bond from the wallet, which comes back when the
        node is found guilty, the work stays in doubt, or too few jurors came. Raises InsufficientFunds, UsageError
        without an arbiter, ChainReverted when too late."""
        arbiter = self._ports.chain.arbiter
        done = [event for event in await self._read_past() if isinstance(event, Committed)]
        if arbiter is None or not done:
            raise UsageError("there is nothing to challenge: no arbiter, or no commit of this task")
        last = done[-1]
        return await arbiter.challenge(Filing(self.terms, last.node, last.result_root, last.trace_root))

    async def spec(self) -> Spec:
        """What was asked for, checked against the hash in the terms."""
        if self._spec is None:
            raw = await self._ports.blobs.get(self.terms.spec, max_bytes=MAX_SPEC_BYTES)
            self._spec = parse_any_spec(raw)
        return self._spec

    async def cancel(self) -> TxReceipt:
        """Take the task back before a node claims it; the whole fee returns to the deposit.

        Raises TooEarly in the first seconds, in which a node may hand over before its claim is in a block, and
        TaskFailed once a node has claimed it.
        """
        try:
            return await self._ports.chain.cancel(self.terms)
        except ChainReverted as error:
            view = await self.status()
            state = view.state
            if view.cancellable_from is not None:
                if revert_name(error) != "TooEarly":
                    raise
                raise await self._not_yet(view.cancellable_from) from error
            raise TaskFailed(
                f"the task is {state.name.lower()} and can no longer be cancelled",
                hint=self._after_the_claim(state),
            ) from error

    async def _not_yet(self, opens: int) -> TooEarly:
        left_s = max(1, opens - await self._ports.chain.now())
        return TooEarly(
            f"the task can be cancelled in {left_s} s, unless a node has claimed it by then",
            hint=f"try again: gesso task cancel {self.id}",
        )

    def _after_the_claim(self, state: TaskState) -> str:
        if state is TaskState.CLAIMED and self.terms.kind == TaskKind.TRAIN_LORA:
            return f"a training can be stopped early: gesso task stop {self.id}"
        over = state in (TaskState.SETTLED, TaskState.CANCELLED, TaskState.EXPIRED)
        return f"see how it ended: gesso task show {self.id}" if over else f"follow it: gesso task watch {self.id}"

    async def stop(self) -> TxReceipt:
        """Ask the node to stop a training early and to commit what it has: it is paid for that part, the rest of the
        fee returns to the deposit. It binds nobody; a node that finishes first is paid for all.

        Raises UsageError for pictures, TaskFailed when nobody works on it, DeadlinePassed after the commit window.
        """
        view = await self.status()
        if view.terms.kind != TaskKind.TRAIN_LORA:
            raise UsageError("only trainings can be stopped early", hint=f"take it back: gesso task cancel {self.id}")
        if not view.stoppable:
            raise TaskFailed(
                f"the task is {view.state.name.lower()}: no node works on it",
                hint=f"before the claim it can be taken back whole: gesso task cancel {self.id}",
            )
        return await self._ports.chain.request_stop(self.terms)

    async def events(self) -> AsyncIterator[Event]:
        """Everything that happens to the task, until it is settled, cancelled or expired and no audit is open."""
        stream = self._open_stream()
        try:
            while not self._audit.over():
                event = await stream.next(TICK_S)
                if event is None:
                    await self._drive()
                    continue
                self._note(event)
                yield event
        finally:
            stream.close()

    async def result(
        self, *, until: Until = "delivered", on_event: OnEvent | None = None, timeout_s: float | None = None
    ) -> Result:
        """Wait for the pictures: `delivered`, checked against the signed word of the node that the chain shows as the
        claimant, or whose claim waits for its block; `claimed`, when that claim is in a block; `committed`, checked
        against the chain; `settled`, paid for. Ask again with a later one to have the receipt brought up to date.

        `receipt.confirmed` is False until the commit is on chain, `receipt.claimed` until the claim is. While
        `claimed` is False no stake stands behind the pictures: the node can still withdraw its claim, unpunished, and
        have handed over anything; then they are nobody's delivery, and the task is done, and paid, by the node that
        claims it. Whoever builds on the pictures waits for `claimed` at least.

        Raises NoEligibleNode when nobody claimed it, TaskFailed when the node did not deliver and WorkRejected when an
        audit went against it (the fee is back in the deposit in all three cases), DeliveryContradicted when the chain
        shows another result than was delivered, BlobCorrupt when the bytes are not what was committed, DeadlinePassed
        after `timeout_s` seconds, Unreachable when the chain, or what was committed, is away for minutes.
        """
        with anyio.move_on_after(timeout_s) as scope:
            return await self._await_result(until, on_event)
        assert scope.cancelled_caught
        raise DeadlinePassed(f"no result within {timeout_s:g} s", hint=f"it goes on: gesso task watch {self.id}")

    async def images(self) -> tuple[Image, ...]:
        """The pictures, as soon as they are delivered."""
        return (await self.result()).images

    async def _await_result(self, until: Until, on_event: OnEvent | None) -> Result:
        stream = self._open_stream()
        try:
            while not self._complete(until):
                event = await stream.next(HINT_WAIT_S if self._wants_blobs() else TICK_S)
                if event is not None:
                    self._tell(event, on_event)
                if (problem := self._audit.problem()) is not None:
                    raise self._with_words(problem)
                await self._collect(stream, on_event)
                if event is None:
                    await self._drive()
        finally:
            stream.close()
        return await self._result()

    def _with_words(self, problem: GessoError) -> GessoError:
        """The same with what the node had said, where it just did not deliver."""
        said = self._seen.failure
        if type(problem) is not TaskFailed or said is None or self._seen.claimant is None:
            return problem
        return TaskFailed(f"{problem.message} (it said: {said})", hint=problem.hint)

    def _complete(self, until: Until) -> bool:
        if self._seen.delivery is None:
            return False
        if until == "settled":
            return self._seen.settled is not None and self._audit.over()
        if until == "claimed":
            return self._seen.claimant is not None
        return until == "delivered" or self._seen.commitment is not None

    def _wants_blobs(self) -> bool:
        return self._seen.commitment is not None and self._seen.delivery is None

    def _note(self, event: Event) -> None:
        self._audit.note(event)
        self._seen.at.setdefault(event.kind, time.monotonic() - self._started)
        self._seen.note(event)
        if isinstance(event, Claimed):
            self._check_claim(event.node)
        if isinstance(event, Committed) and self._seen.commitment is not None:
            self._check_promise(self._seen.commitment)

    async def _collect(self, stream: TaskStream, on_event: OnEvent | None) -> None:
        if self._wants_blobs():
            delivery = await self._collector.fetch(stream)
            if delivery is not None:
                self._tell_fetched(delivery, on_event)
        elif self._seen.commitment is None and self._seen.delivery is None:
            delivered = None
            with self._outage.borne():
                delivered = await self._collector.take_handover(stream)
            if delivered is not None:
                self._tell(delivered, on_event)

    def _check_claim(self, node: Address) -> None:
        """What another node handed over ahead of a claim that then was not first is nobody's delivery any more."""
        promised = self._seen.promised
        if promised is not None and promised.node != node and self._seen.commitment is None:
            self._seen.promised = self._seen.delivery = None

    def _check_promise(self, commitment: Commitment) -> None:
        """Raises DeliveryContradicted, once: what the chain says now can still be asked for, and is never settled."""
        promised = self._seen.promised
        if promised is None or promised == commitment:
            return
        self._seen.promised = self._seen.delivery = None
        self._seen.contradicted = True
        raise DeliveryContradicted(
            f"node {promised.node.short} delivered a result with root {promised.result_root} and the chain shows "
            f"{commitment.result_root} of node {commitment.node.short}"
        )

    def _tell(self, event: Event, on_event: OnEvent | None) -> None:
        self._note(event)
        if on_event is not None:
            on_event(event)
        if isinstance(event, Committed) and self._seen.delivery is not None:
            self._tell_fetched(self._seen.delivery, on_event)

    def _tell_fetched(self, delivery: Delivery, on_event: OnEvent | None) -> None:
        count = len(delivery.images)
        self._tell(Fetched(task=self.id, at_ms=now_ms(), manifest=delivery.manifest.ref, images=count), on_event)

    async def _drive(self) -> None:
        """Do what one honest requester can do when the others are late; losing a race to it is fine, and so is a chain
        that is away for a while: whoever waits for hours asks it thousands of times."""
        with self._outage.borne():
            await self._look_after()

    async def _look_after(self) -> None:
        view = await self.status()
        now = await self._ports.chain.now()
        fetched = self._seen.delivery is not None
        if view.due is None or not self._ports.can_send:
            return
        late = now - view.due
        action = next_requester_action(view, now, fetched=fetched)
        try:
            if isinstance(action, Expire):
                await self._ports.chain.expire(self.terms)
            elif isinstance(action, Settle) and late >= SETTLE_PATIENCE_S and not self._seen.contradicted:
                await self._ports.chain.settle([self.terms])
        except ChainReverted:
            return  # somebody else was first; the event is on its way

    async def _result(self) -> Result:
        spec = await self.spec()
        # Before the task is over the beacon has nothing to add, and nobody should wait for it.
        audit = await self._measured(spec) if self._audit.over() else self._audit.standing()
        return result_of(self.id, self.terms, spec, self._seen, audit, chain_id=self._ports.chain_id)

    async def _measured(self, spec: Spec) -> AuditFacts:
        ports = self._ports
        return await self._audit.measured(spec, ports.chain_id, ports.board, ports.blobs)
