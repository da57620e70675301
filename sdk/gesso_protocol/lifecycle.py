"""What to do next with a task, decided from what the chain says and what our own journal says.

Both functions are pure and total: no clock (`now` is the chain's time in seconds), no I/O, and an answer for every
input. The shell does the one thing it is told, writes down that it did, and asks again. Asking twice is harmless.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from math import ceil, isfinite
from typing import TypeAlias

from gesso_protocol.fields import TaskKind
from gesso_protocol.ids import Address, Root
from gesso_protocol.money import BPS
from gesso_protocol.policy import Refusal
from gesso_protocol.sortition import may_claim_at, score, seed_bytes
from gesso_protocol.taskview import TaskRecord as TaskRecord
from gesso_protocol.taskview import TaskState as TaskState
from gesso_protocol.taskview import TaskView as TaskView

BLOCKS_AHEAD = 2
"""Half of a board's delay must last for so many blocks, before anything goes ahead of a claim."""


@dataclass(frozen=True)
class Patience:
    """How long a node waits, in seconds, before it believes that something was lost, and how often it tries."""

    resend_after_s: int = 30
    unseen_for_s: int = 120
    poll_s: int = 1
    attempts: int = 2


@dataclass(frozen=True)
class NodeMemory:
    """What a node's journal says about a task. Times are chain seconds.

    A `..._sent_at` is written before the transaction is sent, so a crash in between looks like a lost transaction and
    is healed by `Patience.resend_after_s`; the contract refuses a second claim or commit.
    """

    me: Address
    heard_at: int
    weight: int = 0
    total_weight: int = 0
    hold_back_steps: int = 0
    # Until when we would only race somebody at work; from when others may claim, and from when they will, if they leave
    # us our turn, 0: unknown; if these let us go first.
    polite_from: int = 0
    others_from: int = 0
    others_come: int = 0
    leads: bool = False
    block_s: float = float("inf")
    """Seconds from block to block, as measured."""
    claim_on_its_way: bool = False
    """The endpoint has taken the claim in: it waits for its block."""
    refusal: Refusal | None = None
    claim_sent_at: int | None = None
    executing: bool = False
    stopping: bool = False
    """The executor that runs was told to stop at its next checkpoint."""
    failures: int = 0
    outcome: tuple[Root, Root] | None = None
    done_bps: int = BPS
    """How much of the work `outcome` is; less than 10,000 is committed as a part."""
    commit_sent_at: int | None = None
    settle_sent_at: int | None = None
    expire_sent_at: int | None = None
    patience: Patience = Patience()


class Why(enum.StrEnum):
    """Why a node lets go of a task."""

    NOT_ON_CHAIN = "not-on-chain"
    REFUSED = "refused"
    NO_WEIGHT = "no-weight"
    NOT_MY_TURN = "not-my-turn"
    CLAIM_WINDOW_OVER = "claim-window-over"
    LOST_RACE = "lost-race"
    SETTLED = "settled"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


@dataclass(frozen=True)
class Wait:
    """Nothing to do before `until` (chain seconds) unless something changes."""

    until: int


@dataclass(frozen=True)
class Claim:
    """Write down that a claim is sent, then send it."""


@dataclass(frozen=True)
class Execute:
    """Start (or start again) the executor."""


@dataclass(frozen=True)
class Stop:
    """The requester has asked for it, or the time is nearly over: have the executor end at its next checkpoint."""


@dataclass(frozen=True)
class GoOn:
    """The chain took the wish to stop back: have the executor go on to the end, as if nobody had asked."""


@dataclass(frozen=True)
class Commit:
    """Write down that a commit is sent, then send these roots: `commit` for the whole, `commitPart` for less."""

    result_root: Root
    trace_root: Root
    done_bps: int = BPS


@dataclass(frozen=True)
class Settle:
    """Send a settle; several tasks may share one transaction."""


@dataclass(frozen=True)
class Expire:
    """Send an expire: the requester is refunded and, for a node, its claim slot is free again."""


@dataclass(frozen=True)
class Forget:
    """Let go: close the journal entry, stop the executor if it runs."""

    why: Why


@dataclass(frozen=True)
class Fetch:
    """Get the result's blobs and check them against the committed root."""


@dataclass(frozen=True)
class Cancel:
    """Take the task back before anyone claims it."""


@dataclass(frozen=True)
class RequestStop:
    """Ask the node that works to stop early; it is paid for its part, the rest comes back."""


@dataclass(frozen=True)
class Done:
    """Nothing is left to do; `state` says how it ended."""

    state: TaskState


NodeAction: TypeAlias = Wait | Claim | Execute | Stop | GoOn | Commit | Settle | Expire | Forget
RequesterAction: TypeAlias = Wait | Fetch | Settle | Cancel | RequestStop | Expire | Done

_ENDINGS = {
    TaskState.SETTLED: Why.SETTLED,
    TaskState.CANCELLED: Why.CANCELLED,
    TaskState.EXPIRED: Why.EXPIRED,
}


def next_action(view: TaskView, memory: NodeMemory, now: int) -> NodeAction:
    """The one thing a node does next about this task. A `Wait` always ends after `now`."""
    if view.state in _ENDINGS:
        return Forget(_ENDINGS[view.state])
    due = view.due
    if due is None:
        return _not_seen(memory, now)
    if view.state is TaskState.SUBMITTED:
        return _open(view, memory, now, due)
    if view.node != memory.me:
        return Forget(Why.LOST_RACE)
    if view.state is TaskState.CLAIMED and now < due:
        return _mine(view, memory, now, due)
    if now < due:
        return Wait(due)
    if view.state is TaskState.COMMITTED:
        return _once(Settle(), memory.settle_sent_at, memory, now)
    return _once(Expire(), memory.expire_sent_at, memory, now)


def claimable_from(view: TaskView, memory: NodeMemory) -> int | None:
    """Chain time from which this node's claim is valid; None if it has no weight. Without its own hold-back."""
    if view.seed is None:
        return None
    mine = score(seed_bytes(view.seed), view.task_id, memory.me)
    after_s = may_claim_at(mine, memory.total_weight, memory.weight, view.sortition_step_s)
    return None if after_s is None else view.state_since + after_s


def ahead_until(view: TaskView, block_s: float) -> int | None:
    """Last chain second in which a claim that waits for its block may be counted on, as far as the board's clock tells:
    for another half of its delay, in which a claim that was sent is mined, its requester may not cancel and the claim
    window is open. None where half of the delay is not `BLOCKS_AHEAD` blocks of `block_s` seconds: claim and cancel
    could meet in one block, where the tip decides; infinitely many are not known."""
    if view.cancellable_from is None or view.due is None or BLOCKS_AHEAD * block_s > view.cancel_delay_s / 2:
        return None
    last = min(view.cancellable_from, view.due) - 1 - _half_delay_s(view)
    return last if last >= view.state_since else None


def sure_until(view: TaskView, memory: NodeMemory) -> int | None:
    """Last chain second in which a node whose claim waits for its block may count on it, hand the pictures over and
    have the commit follow at once; None when it may not. As `ahead_until`, and for as long nobody else may claim, or
    for `BLOCKS_AHEAD` blocks nobody else will, since the others leave us our turn: of the weights as they are now, for
    pauses and stakes of others move everybody's threshold."""
    ahead = ahead_until(view, memory.block_s) if memory.claim_on_its_way else None
    if ahead is None:
        return None
    alone = memory.others_from - 1 - _half_delay_s(view)
    first = memory.others_come - ceil(BLOCKS_AHEAD * memory.block_s)
    last = min(ahead, max(alone, first))
    return last if last >= view.state_since else None


def comes_first(memory: NodeMemory, now: int) -> bool:
    """Whether nobody else is expected to claim before a claim that is sent now is mined."""
    if memory.leads or not isfinite(memory.block_s):
        return memory.leads
    return now + ceil(BLOCKS_AHEAD * memory.block_s) <= max(memory.others_from, memory.others_come)


def _half_delay_s(view: TaskView) -> int:
    return max(1, (view.cancel_delay_s + 1) // 2)


def _not_seen(memory: NodeMemory, now: int) -> NodeAction:
    # gossip may be ahead of the block, and a reorg may bring the task back
    if now < memory.heard_at + memory.patience.unseen_for_s:
        return Wait(now + memory.patience.poll_s)
    return Forget(Why.NOT_ON_CHAIN)


def _open(view: TaskView, memory: NodeMemory, now: int, due: int) -> NodeAction:
    if now >= due:
        return Forget(Why.CLAIM_WINDOW_OVER)
    if memory.claim_sent_at is not None:
        return _claim_pending(view, memory, now, due)
    if memory.refusal is not None:
        return Forget(Why.REFUSED)
    valid_from = claimable_from(view, memory)
    if valid_from is None:
        return Forget(Why.NO_WEIGHT)
    mine_from = valid_from + max(memory.hold_back_steps, 0) * view.sortition_step_s
    if mine_from >= due:
        return Forget(Why.NOT_MY_TURN)
    mine_from = max(mine_from, memory.polite_from if memory.polite_from < due else 0)
    return Wait(mine_from) if now < mine_from else Claim()


def _claim_pending(view: TaskView, memory: NodeMemory, now: int, due: int) -> NodeAction:
    again = _once(Claim(), memory.claim_sent_at, memory, now)
    if not isinstance(again, Wait):
        return again
    # a training's seed hangs on the second of its claim, and it lasts long enough to wait for the block
    if view.terms.kind != TaskKind.TRAIN_LORA:
        if _may_start(memory):
            return Execute()
        follows = memory.claim_on_its_way and (memory.leads or now <= (sure_until(view, memory) or -1))
        if follows and memory.outcome and memory.commit_sent_at is None:
            return Commit(*memory.outcome)
    return Wait(min(due, again.until))


def _mine(view: TaskView, memory: NodeMemory, now: int, due: int) -> NodeAction:
    if memory.outcome is None:
        return _working(view, memory, now, due)
    again = _once(Commit(*memory.outcome, memory.done_bps), memory.commit_sent_at, memory, now)
    return Wait(min(due, again.until)) if isinstance(again, Wait) else again


def _working(view: TaskView, memory: NodeMemory, now: int, due: int) -> NodeAction:
    late = view.late_from is not None and now >= view.late_from
    to_stop = view.stop_requested or late
    if memory.executing and to_stop != memory.stopping:
        return Stop() if to_stop else GoOn()
    # A run that died goes on where it was even when it is to stop: its last checkpoint is what can be committed. One
    # that died too often is tried once more when it is late, only to commit that.
    if _may_start(memory, more=int(late)):
        return Execute()
    return Wait(due if view.late_from is None or late else view.late_from)


def _may_start(memory: NodeMemory, *, more: int = 0) -> bool:
    return memory.outcome is None and not memory.executing and memory.failures < memory.patience.attempts + more


def _once(action: NodeAction, sent_at: int | None, memory: NodeMemory, now: int) -> NodeAction:
    """The action, unless it was sent so recently that it may still be on its way."""
    if sent_at is None or now >= sent_at + memory.patience.resend_after_s:
        return action
    return Wait(sent_at + memory.patience.resend_after_s)


def next_requester_action(
    view: TaskView, now: int, *, fetched: bool = False, cancel: bool = False, poll_s: int = 1
) -> RequesterAction:
    """The one thing a requester does next. `fetched`: the result is already here; `cancel`: it wants its money back,
    all of it before the claim and, of a training, what is not done yet after it.

    A requester that follows this alone, with no node's help, reaches a terminal state in bounded time.
    """
    if view.state in (TaskState.CANCELLED, TaskState.EXPIRED):
        return Done(view.state)
    if view.state is TaskState.UNKNOWN:
        return Wait(now + poll_s)
    if view.state in (TaskState.COMMITTED, TaskState.HELD, TaskState.SETTLED) and not fetched:
        return Fetch()
    due = view.due
    if due is None:
        return Done(view.state)
    if now >= due:
        return Settle() if view.state is TaskState.COMMITTED else Expire()
    if cancel and view.cancellable_from is not None:
        return Cancel() if now >= view.cancellable_from else Wait(min(view.cancellable_from, due))
    if cancel and view.stoppable and not view.stop_requested:
        return RequestStop()
    return Wait(due)
