"""Who may see which leaves of a trace of ours, and when: decided from the chain's word, never from the asker's."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from gesso.audits.draw import drawing_round
from gesso.chain import Chain
from gesso.chain.arbiter import Arbiter
from gesso.transport.binding import peer_id_bytes
from gesso.transport.port import PeerId
from gesso_protocol.audit.challenge import challenge, checks_of, input_slots, picked, steps_to_check
from gesso_protocol.audit.lifecycle import AuditPhase
from gesso_protocol.ids import Address, Root, TaskId
from gesso_protocol.lifecycle import TaskRecord, TaskState
from gesso_protocol.spec import TextToImage
from gesso_protocol.terms import Terms
from gesso_protocol.trace import Slot

Phase = Literal["inputs", "outputs"]
Inputs = Callable[[bytes, bool], Awaitable[tuple[Slot, ...]]]
"""What phase `inputs` opens for a challenge; True for a large fee."""
REMEMBER_NO_S = 0.5
"""A refusal is good for so long, so that asking again and again costs the asker more than us."""
REMEMBER_PEER_S = 60.0
MAX_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Right:
    """`status` is that of the reply; `slots` may be opened, None means all of them. `challenge`, where it is known,
    says what auditors and jurors look into."""

    status: Literal["ok", "unknown", "not-yet"]
    slots: tuple[Slot, ...] | None = ()
    challenge: bytes | None = field(default=None, compare=False)


UNKNOWN = Right("unknown")
NOT_YET = Right("not-yet")
ALL = Right("ok", None)


def picture_inputs(spec: TextToImage) -> Inputs:
    """For a picture task."""

    async def slots(drawn: bytes, large: bool) -> tuple[Slot, ...]:
        count = checks_of(spec.count, spec.steps, large=large)
        return input_slots(steps_to_check(drawn, spec.count, spec.steps, count))

    return slots


class Rights:
    """Answers for tasks that this wallet committed. Raises Unreachable, ChainError when the chain cannot be asked."""

    def __init__(self, chain: Chain, me: Address, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._chain = chain
        self._me = me
        self._clock = clock
        self._known: OrderedDict[PeerId, tuple[float, bool]] = OrderedDict()
        self._refusals: OrderedDict[tuple[TaskId, Phase], tuple[float, Right]] = OrderedDict()

    async def of(self, task: TaskId, terms: Terms, roots: tuple[Root, Root], inputs: Inputs, phase: Phase) -> Right:
        """What may be opened of `task` in this phase now; `roots` are result and trace root as committed."""
        remembered = self._refusals.get((task, phase))
        if remembered is not None and self._clock() < remembered[0]:
            return remembered[1]
        found = await self._decide(task, terms, roots, inputs, phase)
        if found.status != "ok":
            self._refusals[task, phase] = (self._clock() + REMEMBER_NO_S, found)
            self._refusals.move_to_end((task, phase))
            while len(self._refusals) > MAX_REMEMBERED:
                self._refusals.popitem(last=False)
        return found

    async def registered(self, peer: PeerId) -> bool:
        """Whether the peer is that of a registered node, as auditors and jurors are. Good for a minute."""
        known = self.remembered(peer)
        if known is not None:
            return known
        found = await self._chain.node_of_peer(peer_id_bytes(peer)) is not None
        self._known[peer] = (self._clock() + REMEMBER_PEER_S, found)
        self._known.move_to_end(peer)
        while len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)
        return found

    def remembered(self, peer: PeerId) -> bool | None:
        """What `registered` would say without asking; None when it would ask."""
        known = self._known.get(peer)
        return known[1] if known is not None and self._clock() < known[0] else None

    async def _decide(
        self, task: TaskId, terms: Terms, roots: tuple[Root, Root], inputs: Inputs, phase: Phase
    ) -> Right:
        record = await self._chain.task(task)
        if record.node != self._me:
            return UNKNOWN
        if record.state.terminal:
            return ALL
        if record.state not in (TaskState.COMMITTED, TaskState.HELD):
            return NOT_YET
        arbiter = self._chain.arbiter
        if arbiter is None or await self._cannot_be_held(record):
            return ALL
        seed = await arbiter.listen(await drawing_round(arbiter, record))
        if seed is None:
            # A hold without a seed is a requester's challenge that came first: the jury needs everything.
            return ALL if record.state is TaskState.HELD else NOT_YET
        drawn = challenge(seed, task, *roots)
        if await self._outputs_are_free(arbiter, record, terms, drawn):
            return replace(ALL, challenge=drawn)
        if phase == "outputs":
            return NOT_YET
        rules = await arbiter.rules()
        return Right("ok", await inputs(drawn, terms.fee >= rules.large_fee), drawn)

    async def _cannot_be_held(self, record: TaskRecord) -> bool:
        """Whether no audit of it can begin any more; an audit that it passed has left it so, too."""
        window_s = (await self._chain.params()).challenge_window_s
        return record.state is TaskState.COMMITTED and await self._chain.now() >= record.state_since + window_s

    async def _outputs_are_free(self, arbiter: Arbiter, record: TaskRecord, terms: Terms, drawn: bytes) -> bool:
        rules, now = await arbiter.rules(), await self._chain.now()
        if record.state is TaskState.HELD:
            audit = await arbiter.audit(record.task_id)
            full = len(audit.auditors) >= rules.auditor_seats
            over = now > (await arbiter.clock()).start_of(audit.round) + rules.audit_commit_window_s
            return full or over or audit.phase is not AuditPhase.OPEN
        return not picked(drawn, terms.audit, terms.fee, await arbiter.passed_of(self._me), rules)
