"""Tasks on the board: submit, claim, commit, settle, cancel, expire, and what the board says of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gesso.chain.abi import function
from gesso.chain.calls import ZERO, Calls, receipt_of
from gesso.chain.events import TaskRestReturned, TaskSettled, TaskSettleSkipped
from gesso.chain.pending import goes_next
from gesso.chain.records import Done, TxReceipt
from gesso.chain.words import WORD
from gesso_contracts import TASK_BOARD
from gesso_protocol.errors import ChainError
from gesso_protocol.fields import TaskKind
from gesso_protocol.hashing import word
from gesso_protocol.ids import Address, Root, TaskId
from gesso_protocol.lifecycle import TaskRecord, TaskState
from gesso_protocol.money import Wei
from gesso_protocol.terms import AuditMode, BoardParams, Terms, abi_terms, task_id_of

# Skipping costs less gas than paying, so an estimate made too early would starve the transaction.
SETTLE_BASE_GAS = 120_000
SETTLE_TASK_GAS = 90_000
MAX_SETTLE_BATCH = 100
SELECTOR_BYTES = 4
TERMS_BYTES = 9 * WORD
COMMIT_GAS = 150_000
"""Three times what a commit uses: nobody can be asked while the claim before it is not mined."""


class Board(Calls):
    """The life of tasks, as requesters, nodes and anybody drive it."""

    _params: BoardParams | None = None

    async def submit(self, terms: Terms) -> TxReceipt:
        """Escrow the fee and open the task."""
        sort = " with an audit fee" if terms.audit is AuditMode.ALWAYS else ""
        data = _call("submit", terms)
        mined = await self._send_data(TASK_BOARD, "submit", data, sort=sort)
        return receipt_of(mined, task=self._task_in(data))

    async def claim(
        self, terms: Terms, *, alone: bool = False, on_sent: Callable[[str], None] | None = None
    ) -> TxReceipt:
        """`on_sent` is told the transaction's hash as soon as it waits for its block."""
        # Others may be faster, so a refusal is heard before it costs anything, unless there are no others.
        data = _call("claim", terms)
        mined = await self._send_data(TASK_BOARD, "claim", data, tried=not alone, on_sent=on_sent)
        return receipt_of(mined, task=self._task_in(data))

    async def commit(
        self, terms: Terms, result_root: Root, trace_root: Root, *, behind_claim: bool = False
    ) -> TxReceipt:
        """`behind_claim`: our own claim was sent and is not mined yet; this follows it, in the same block if it can."""
        data = _call("commit", terms, result_root.value, trace_root.value)
        mined = await self._send_data(TASK_BOARD, "commit", data, gas=COMMIT_GAS if behind_claim else None)
        return receipt_of(mined, task=self._task_in(data))

    async def claim_waits(self, tx_hash: str, node: Address, terms: Terms) -> bool:
        """Whether this is the node's claim of these terms, waits at the endpoint, can be in the next block, and would
        go through there. False for one that is in a block already: the board knows. It promises nothing: until its
        block the node can replace it (see `gesso.chain.pending`)."""
        return await goes_next(self._rpc, tx_hash, node, self._contracts.task_board, _call("claim", terms))

    async def request_stop(self, terms: Terms) -> TxReceipt:
        """Ask the node that claimed this training to stop at its next checkpoint and to commit what it has.

        It binds nobody: a node that finishes all the same is paid for all. Raises DeadlinePassed when it is too late.
        """
        return receipt_of(await self._send(TASK_BOARD, "requestStop", terms.as_tuple()), task=self.task_id(terms))

    async def commit_part(self, terms: Terms, result_root: Root, trace_root: Root, done_bps: int) -> TxReceipt:
        """Commit a training that ended early: `done_bps` of the fee is divided, the rest goes back to the requester.
        Raises ChainReverted PartNotAllowed for other kinds of work, ShareOutOfRange for 10,000 and more."""
        arguments = (terms.as_tuple(), result_root.value, trace_root.value, done_bps)
        return receipt_of(await self._send(TASK_BOARD, "commitPart", *arguments), task=self.task_id(terms))

    async def done_of(self, task: TaskId) -> Done:
        """How much of a task was committed, and whether its requester asked the node to stop."""
        bps, stop_requested = await self._read(TASK_BOARD, "doneOf", task.value)
        return Done(bps=bps, stop_requested=stop_requested)

    async def settle(self, batch: Sequence[Terms]) -> TxReceipt:
        """Pay out tasks whose challenge window is over, at most 100 a call. Those that cannot be settled are skipped:
        see `settled` and `skipped` of the receipt; `returned` is what requesters of parts got back."""
        if not 1 <= len(batch) <= MAX_SETTLE_BATCH:
            raise ChainError(f"a settle takes 1 to {MAX_SETTLE_BATCH} tasks, not {len(batch)}")
        gas = SETTLE_BASE_GAS + SETTLE_TASK_GAS * len(batch)
        mined = await self._send_data(TASK_BOARD, "settle", _call_all("settle", batch), least_gas=gas, alike=False)
        events = [self._decoder.decode(log) for log in mined.logs]
        receipt = receipt_of(mined, task=self.task_id(batch[0]) if len(batch) == 1 else None)
        return receipt.model_copy(
            update={
                "settled": tuple(event.task for event in events if isinstance(event, TaskSettled)),
                "returned": {event.task: event.refund for event in events if isinstance(event, TaskRestReturned)},
                "skipped": tuple(event.task for event in events if isinstance(event, TaskSettleSkipped)),
            }
        )

    async def cancel(self, terms: Terms) -> TxReceipt:
        return receipt_of(await self._send(TASK_BOARD, "cancel", terms.as_tuple()), task=self.task_id(terms))

    async def expire(self, terms: Terms) -> TxReceipt:
        return receipt_of(await self._send(TASK_BOARD, "expire", terms.as_tuple()), task=self.task_id(terms))

    async def task(self, task: TaskId, *, kind: int | None = None) -> TaskRecord:
        """What the board says of a task; state UNKNOWN when it never saw it. With the kind of work in its terms also
        whether a node at work was asked to stop, which takes a second question for trainings only."""
        state, node, since, seed = await self._read(TASK_BOARD, "taskOf", task.value)
        try:
            known = TaskState(state)
        except ValueError as error:
            raise ChainError(f"the board reports state {state}, which this version does not know") from error
        stoppable = kind == TaskKind.TRAIN_LORA and known is TaskState.CLAIMED
        return TaskRecord(
            task_id=task,
            state=known,
            node=None if node == ZERO else Address(node),
            state_since=since,
            seed=seed if known is TaskState.SUBMITTED else None,
            stop_requested=stoppable and (await self.done_of(task)).stop_requested,
        )

    async def treasury(self) -> Address:
        """The account that protocol fees go to: the arbiter, where there is one."""
        return Address((await self._read(TASK_BOARD, "treasury"))[0])

    async def active_claims_of(self, node: Address) -> int:
        """Tasks that a node has claimed and that are not over."""
        return int((await self._read(TASK_BOARD, "activeClaimsOf", str(node)))[0])

    async def params(self) -> BoardParams:
        """The board's rules; they never change, so they are asked once."""
        if self._params is None:
            values = await self._read(TASK_BOARD, "params")
            (delay,) = await self._read(TASK_BOARD, "cancelDelay")
            challenge, step, hold, claims, *windows, protocol_bps, royalty_bps, min_fee, audit_fee = values
            self._params = BoardParams(
                challenge_window_s=challenge,
                sortition_step_s=step,
                hold_window_s=hold,
                claims_per_weight=claims,
                min_claim_window_s=windows[0],
                max_claim_window_s=windows[1],
                min_commit_window_s=windows[2],
                max_commit_window_s=windows[3],
                cancel_delay_s=delay,
                protocol_fee_bps=protocol_bps,
                max_royalty_bps=royalty_bps,
                min_fee=Wei(min_fee),
                audit_fee=Wei(audit_fee),
            )
        return self._params

    def _task_in(self, data: bytes) -> TaskId:
        """Of a call that begins with a task's terms: which task it is."""
        return task_id_of(
            self.chain_id, self._contracts.task_board, data[SELECTOR_BYTES : SELECTOR_BYTES + TERMS_BYTES]
        )


def _call(name: str, terms: Terms, *words: bytes) -> bytes:
    """What `function(…).encode` gives for terms and plain words after them."""
    return function(TASK_BOARD, name).selector + abi_terms(terms) + b"".join(words)


def _call_all(name: str, batch: Sequence[Terms]) -> bytes:
    """The same for a function of a list of terms."""
    return function(TASK_BOARD, name).selector + word(WORD) + word(len(batch)) + b"".join(map(abi_terms, batch))
