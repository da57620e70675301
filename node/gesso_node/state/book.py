"""What is in a node's head: every task it has not let go of, with the chain's word and the journal's word on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

import anyio

from gesso_node.state.journal import Entry, Journal
from gesso_node.state.pace import Stopwatch
from gesso_node.state.rivals import SURELY_FOR_S, Rivals
from gesso_protocol.draw import Draw, turn_of
from gesso_protocol.fields import TaskKind
from gesso_protocol.ids import Address, TaskId
from gesso_protocol.lifecycle import NodeMemory, Patience, TaskRecord, TaskState, TaskView, claimable_from
from gesso_protocol.terms import BoardParams, Terms


@dataclass(frozen=True, slots=True)
class Drawn:
    """A task's draw, and what it was computed from: a submit, which a reorganisation may repeat with another seed, and
    a version of the node list."""

    since: int
    seed: int
    version: int
    draw: Draw


@dataclass(slots=True)
class Known:
    """One task. `entry` is None until the node has decided that it wants it; nothing was written down before."""

    task: TaskId
    terms: Terms
    heard_at: int
    record: TaskRecord
    entry: Entry | None = None
    not_before: int = 0
    """Leave it alone until then (chain seconds): something said that trying sooner makes no sense."""
    busy: set[str] = field(default_factory=set)
    """What is being done about it right now: judge, claim, execute, commit, settle, expire."""
    execution: anyio.CancelScope | None = None
    offer_at: int = 0
    spec_tries: int = 0
    model_tries: int = 0
    told: set[str] = field(default_factory=set)
    """Stages that the requester was told of."""
    stopping: bool = False
    """The run was told to end at its next checkpoint."""
    claim_tx: str | None = None
    """Our claim's transaction, from when the endpoint has it."""
    watch: Stopwatch | None = None
    """Of the training that we are at: how far it is."""
    drawn: Drawn | None = None
    """The task's draw, as long as it is still true."""

    @property
    def held(self) -> bool:
        """Claimed, or claim sent, and no result committed yet: it takes one of our slots."""
        entry = self.entry
        return entry is not None and entry.claim_sent_at is not None and self.record.state <= TaskState.CLAIMED

    @property
    def trains(self) -> bool:
        """Whether the task is a training."""
        return self.terms.kind == TaskKind.TRAIN_LORA


async def write_down(journal: Journal, known: Known, label: str, **changes: Any) -> None:
    """Journal changed fields of a task first, then know them."""
    await journal.update(known.task, label, **changes)
    if known.entry is not None:
        # Somebody else may have written other fields meanwhile, so this starts from the entry as it is now.
        known.entry = replace(known.entry, **changes)


@dataclass(slots=True)
class Weights:
    """Sortition weight of this node and of all active nodes together."""

    mine: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class _Beside:
    """When it is our turn among those at work, from when others may claim, and from when they will (chain seconds, 0
    where nothing is known), and whether they let us go first."""

    polite_from: int = 0
    others_from: int = 0
    others_come: int = 0
    leads: bool = False


class Book:
    """All tasks at hand, by id."""

    def __init__(self, me: Address, params: BoardParams, patience: Patience, rivals: Rivals | None = None) -> None:
        self.me = me
        self.rivals = rivals
        self.params = params
        self.patience = patience
        self.weights = Weights()
        self.block_s = inf
        self._tasks: dict[TaskId, Known] = {}

    def __iter__(self) -> Iterator[Known]:
        return iter(list(self._tasks.values()))

    def __len__(self) -> int:
        return len(self._tasks)

    def get(self, task: TaskId) -> Known | None:
        return self._tasks.get(task)

    def add(self, known: Known) -> Known:
        """Take it in, unless it is here already; returns the one that is."""
        return self._tasks.setdefault(known.task, known)

    def drop(self, known: Known) -> None:
        self._tasks.pop(known.task, None)

    def held(self) -> int:
        """How many of our slots are taken."""
        return sum(known.held for known in self._tasks.values())

    def trains(self) -> bool:
        """Whether a training is in our hands: it keeps the executor to itself for as long as it takes."""
        return any(known.held and known.trains for known in self._tasks.values())

    def free(self, slots: int, *, for_training: bool = False) -> int:
        """How many tasks more can be begun in time: none beside a training, and no training beside anything else."""
        held = self.held()
        if self.trains() or (for_training and held):
            return 0
        return max(0, slots - held)

    def view(self, known: Known) -> TaskView:
        """The chain's side, as the lifecycle's rules want it."""
        return known.record.view(known.terms, self.params)

    def turn(self, known: Known) -> int | None:
        """Chain second from which our claim is valid; None without weight."""
        memory = NodeMemory(self.me, known.heard_at, self.weights.mine, self.weights.total)
        return claimable_from(self.view(known), memory)

    def memory(self, known: Known, now: int) -> NodeMemory:
        """Our side, as the lifecycle's rules want it."""
        entry = known.entry
        assert entry is not None
        beside = self._beside_others(known, now)
        made = (entry.result_root, entry.trace_root)
        return NodeMemory(
            me=self.me,
            heard_at=entry.heard_at,
            weight=self.weights.mine,
            total_weight=self.weights.total,
            hold_back_steps=entry.hold_back_steps,
            polite_from=beside.polite_from,
            others_from=beside.others_from,
            others_come=beside.others_come,
            leads=beside.leads,
            block_s=self.block_s,
            claim_on_its_way=known.claim_tx is not None,
            refusal=entry.refusal,
            claim_sent_at=entry.claim_sent_at,
            executing="execute" in known.busy,
            stopping=known.stopping,
            failures=entry.failures,
            outcome=(made[0], made[1]) if made[0] is not None and made[1] is not None else None,
            done_bps=entry.done_bps,
            commit_sent_at=entry.commit_sent_at,
            settle_sent_at=entry.settle_sent_at,
            expire_sent_at=entry.expire_sent_at,
            patience=self.patience,
        )

    def claimed(self, known: Known, node: Address, at: int) -> None:
        """A node's claim was mined in second `at`, however late we read of it."""
        if self.rivals is None:
            return
        drawn = self._drawn(known) or known.drawn  # our own refused claim may have told us first
        if drawn is not None and node != self.me:
            surely = self.rivals.lively(known.terms.model, at, SURELY_FOR_S)
            if drawn.draw.jumps(node, surely, at - drawn.since, self.block_s):
                self.rivals.jumped(node, at)
        self.rivals.claimed(node, known.terms.model, at)

    @property
    def _turn_s(self) -> int:
        return turn_of(self.params.sortition_step_s, self.block_s)

    def _drawn(self, known: Known) -> Drawn | None:
        """The task's draw among those that we know; None once it is over, or before the chain has shown it."""
        record, rivals = known.record, self.rivals
        if rivals is None or record.state is not TaskState.SUBMITTED or record.seed is None:
            return None
        made, now = known.drawn, (record.state_since, record.seed, rivals.version)
        if made is None or (made.since, made.seed, made.version) != now:
            known.drawn = Drawn(*now, rivals.draw(record.seed, known.task, self.params.sortition_step_s))
        return known.drawn

    def _beside_others(self, known: Known, now: int) -> _Beside:
        drawn, rivals = self._drawn(known), self.rivals
        if drawn is None or rivals is None:
            return _Beside()
        draw, since, model, turn_s = drawn.draw, drawn.since, known.terms.model, self._turn_s
        lively = rivals.lively(model, now)
        polite_from = since + (draw.polite_from(self.me, lively, turn_s) or 0)
        if not rivals.complete:
            return _Beside(polite_from)
        never = known.terms.claim_window_s + 1
        may_s = draw.others_from(self.me)
        come_s = draw.others_come(self.me, rivals.lively(model, now, SURELY_FOR_S), rivals.rude(now), turn_s)
        return _Beside(
            polite_from,
            others_from=since + (never if may_s is None else may_s),
            others_come=since + (never if come_s is None else come_s),
            leads=draw.leads(self.me, lively, now - since),
        )
