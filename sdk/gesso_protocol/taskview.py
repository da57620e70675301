"""A task as the chain shows it: its state, the board's record of it, and both with the terms and the board's rules."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.fields import TaskKind
from gesso_protocol.ids import Address, TaskId
from gesso_protocol.terms import BoardParams, Terms
from gesso_protocol.training.share import late_from


class TaskState(enum.IntEnum):
    """The state byte of the task board. UNKNOWN: the board has never seen the task (or a reorg took it back).

    HELD is not terminal: an arbiter stopped the settlement and has `hold_window_s` to rule.
    """

    UNKNOWN = 0
    SUBMITTED = 1
    CLAIMED = 2
    COMMITTED = 3
    SETTLED = 4
    CANCELLED = 5
    EXPIRED = 6
    HELD = 7

    @property
    def terminal(self) -> bool:
        """Whether nothing can ever change it again (short of a reorg)."""
        return self in (TaskState.SETTLED, TaskState.CANCELLED, TaskState.EXPIRED)


@dataclass(frozen=True)
class TaskRecord:
    """What `taskOf` answers. `state_since` is the chain's time of the last change; `seed` holds until the claim,
    `stop_requested` (from `doneOf`) while it is claimed."""

    task_id: TaskId
    state: TaskState
    node: Address | None = None
    state_since: int = 0
    seed: int | None = None
    stop_requested: bool = False

    def view(self, terms: Terms, params: BoardParams) -> TaskView:
        """The same with its terms and the board's times: all that a decision needs."""
        return TaskView(
            task_id=self.task_id,
            state=self.state,
            node=self.node,
            state_since=self.state_since,
            seed=self.seed,
            terms=terms,
            challenge_window_s=params.challenge_window_s,
            sortition_step_s=params.sortition_step_s,
            hold_window_s=params.hold_window_s,
            stop_requested=self.stop_requested,
            cancel_delay_s=params.cancel_delay_s,
        )


@dataclass(frozen=True)
class TaskView:
    """What the chain says about a task: its record, its terms (from the submit event) and the board's times."""

    task_id: TaskId
    state: TaskState
    node: Address | None
    state_since: int
    seed: int | None
    terms: Terms
    challenge_window_s: int
    sortition_step_s: int
    hold_window_s: int = 0
    stop_requested: bool = False
    cancel_delay_s: int = 0

    def __post_init__(self) -> None:
        if self.sortition_step_s < 1:
            raise EncodingInvalid("a sortition step is at least one second")

    @property
    def stoppable(self) -> bool:
        """Whether its requester may ask the node to stop early and to commit a part."""
        return self.state is TaskState.CLAIMED and self.terms.kind == TaskKind.TRAIN_LORA

    @property
    def late_from(self) -> int | None:
        """Second from which a training that is claimed ends with what it has: a part is worth more than an expiry."""
        return late_from(self.state_since, self.terms.commit_window_s) if self.stoppable else None

    @property
    def cancellable_from(self) -> int | None:
        """First chain second in which its requester may take it back, while nobody has claimed it."""
        return self.state_since + self.cancel_delay_s if self.state is TaskState.SUBMITTED else None

    @property
    def due(self) -> int | None:
        """First chain second in which anyone may end the state: expire it or, from COMMITTED, settle. None: no such.

        Claim and commit are allowed up to and including the last second of their windows, so these end one later.
        """
        match self.state:
            case TaskState.SUBMITTED:
                return self.state_since + self.terms.claim_window_s + 1
            case TaskState.CLAIMED:
                return self.state_since + self.terms.commit_window_s + 1
            case TaskState.COMMITTED:
                return self.state_since + self.challenge_window_s
            case TaskState.HELD:
                return self.state_since + self.hold_window_s + 1
            case _:
                return None
