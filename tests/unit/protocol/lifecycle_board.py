"""A model of the board for the lifecycle rules: the Solidity contract's state machine in a few lines."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from gesso_protocol.fields import TaskKind
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import Address, BlobRef, Root, TaskId
from gesso_protocol.lifecycle import (
    NodeMemory,
    Patience,
    TaskRecord,
    TaskState,
    TaskView,
)
from gesso_protocol.money import BPS, Wei
from gesso_protocol.sortition import may_claim, score, seed_bytes
from gesso_protocol.terms import BoardParams, Terms

ME = Address("0x" + "aa" * 20)
OTHER = Address("0x" + "bb" * 20)
ROOTS = (Root(b"\x01" * 32), Root(b"\x02" * 32))
PARAMS = BoardParams(challenge_window_s=20, sortition_step_s=5, hold_window_s=40)
START = 1_000_000


def some_terms(claim_s: int = 60, commit_s: int = 100, kind: int = TaskKind.TEXT_TO_IMAGE) -> Terms:
    return Terms(
        requester=Address("0x" + "cc" * 20), fee=Wei(10), spec=BlobRef(bytes(32)), claim_window_s=claim_s,
        commit_window_s=commit_s, nonce=1, kind=int(kind),
    )  # fmt: skip


class Reverted(Exception):  # noqa: N818 - the word that contracts use
    """The board refused."""


@dataclass
class Board:
    """One task on a board, with the contract's rules to the second."""

    now: int = START
    state: TaskState = TaskState.SUBMITTED
    since: int = START
    node: Address | None = None
    seed: int = 12345
    terms: Terms = field(default_factory=some_terms)
    weights: dict[Address, int] = field(default_factory=lambda: {ME: 1, OTHER: 1})
    total_weight: int = 4
    stop_requested: bool = False
    task: TaskId = TaskId(keccak256(b"task"))  # noqa: RUF009 - immutable

    def view(self) -> TaskView:
        seed = self.seed if self.state is TaskState.SUBMITTED else None
        asked = self.stop_requested and self.state is TaskState.CLAIMED
        return TaskRecord(self.task, self.state, self.node, self.since, seed, asked).view(self.terms, PARAMS)

    def enter(self, state: TaskState, node: Address | None) -> None:
        self.state, self.since, self.node = state, self.now, node

    def require(self, holds: bool) -> None:
        if not holds:
            raise Reverted

    def claim(self, node: Address) -> None:
        self.require(self.state is TaskState.SUBMITTED and self.now <= self.since + self.terms.claim_window_s)
        mine = score(seed_bytes(self.seed), self.task, node)
        elapsed = self.now - self.since
        self.require(may_claim(mine, self.total_weight, self.weights[node], elapsed, PARAMS.sortition_step_s))
        self.enter(TaskState.CLAIMED, node)

    def request_stop(self) -> None:
        self.require(self.terms.kind == TaskKind.TRAIN_LORA and self.state is TaskState.CLAIMED)
        self.require(self.now <= self.since + self.terms.commit_window_s)
        self.stop_requested = True

    def commit(self, node: Address, done_bps: int = BPS) -> None:
        self.require(done_bps == BPS or (self.terms.kind == TaskKind.TRAIN_LORA and 0 <= done_bps < BPS))
        self.require(self.state is TaskState.CLAIMED and self.node == node)
        self.require(self.now <= self.since + self.terms.commit_window_s)
        self.enter(TaskState.COMMITTED, node)

    def settle(self) -> None:
        self.require(self.state is TaskState.COMMITTED and self.now >= self.since + PARAMS.challenge_window_s)
        self.enter(TaskState.SETTLED, self.node)

    def hold(self) -> None:
        self.require(self.state is TaskState.COMMITTED and self.now < self.since + PARAMS.challenge_window_s)
        self.enter(TaskState.HELD, self.node)

    def cancel(self) -> None:
        self.require(self.state is TaskState.SUBMITTED)
        self.enter(TaskState.CANCELLED, None)

    def expire(self) -> None:
        windows = {
            TaskState.SUBMITTED: self.terms.claim_window_s,
            TaskState.CLAIMED: self.terms.commit_window_s,
            TaskState.HELD: PARAMS.hold_window_s,
        }
        self.require(self.state in windows and self.now > self.since + windows[self.state])
        self.enter(TaskState.EXPIRED, self.node)


STRANGERS = ["claim", "request_stop", "commit", "hold", "settle", "expire", "cancel"]


def let_others(board: Board, deeds: list[tuple[int, str]]) -> None:
    """Strangers (and the arbiter) do what the board lets them, at their own times."""
    for pause_s, deed in deeds:
        board.now += pause_s
        try:
            if deed in ("claim", "commit"):
                getattr(board, deed)(OTHER)
            else:
                getattr(board, deed)()
        except Reverted:
            pass


histories = st.lists(st.tuples(st.integers(0, 80), st.sampled_from(STRANGERS)), max_size=6)
windows = st.builds(some_terms, st.integers(1, 200), st.integers(1, 200), st.sampled_from(TaskKind))


def fresh(**changes: object) -> NodeMemory:
    memory = NodeMemory(me=ME, heard_at=START, weight=1, total_weight=4, patience=Patience(resend_after_s=7))
    return replace(memory, **changes)  # type: ignore[arg-type]
