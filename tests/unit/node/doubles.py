"""A board in memory (or in a file, for processes that are killed) that follows the contract's rules, and a network."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import anyio

from gesso.chain import Chain, ChainSettings, ContractAddresses, Cursor, Listing, NodeRecord, NodeState, Page, TxReceipt
from gesso.chain import events as on_chain
from gesso.chain.rpc import Header
from gesso.chain.wallet import Wallet
from gesso_protocol import sortition
from gesso_protocol.errors import ChainReverted, DeadlinePassed, Unreachable
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import ZERO_ADDRESS, Address, BlobRef, ListingId, Root, TaskId
from gesso_protocol.lifecycle import TaskRecord, TaskState
from gesso_protocol.money import Wei, part_of, split_fee
from gesso_protocol.spec import Spec, spec_ref
from gesso_protocol.terms import BoardParams, Terms, task_id

CHAIN_ID = 31337
BOARD = Address("0x" + "b0" * 20)
REQUESTER = Address("0x" + "aa" * 20)
GENESIS_S = 1_700_000_000
CLAIM_TX = "0x" + "c1" * 32
MODEL = BlobRef.of(b"the model's manifest")


def node_address(number: int) -> Address:
    return Address("0x" + f"{number:02x}" * 20)


@dataclass
class BoardDouble:
    """One block a `mine()`, one second a block. Keeps every attempt, so that tests can count them."""

    params: BoardParams = field(
        default_factory=lambda: BoardParams(challenge_window_s=5, sortition_step_s=2, protocol_fee_bps=250)
    )
    path: Path | None = None
    now: int = GENESIS_S
    blocks: list[list[Any]] = field(default_factory=lambda: [[]])
    tasks: dict[TaskId, TaskRecord] = field(default_factory=dict)
    weights: dict[Address, int] = field(default_factory=dict)
    listings: list[Listing] = field(default_factory=list)
    bundles: dict[ListingId, tuple[ListingId, ...]] = field(default_factory=dict)
    attempts: list[tuple[str, str, str]] = field(default_factory=list)
    """(verb, node, how it went), in order."""
    balances: dict[Address, int] = field(default_factory=dict)
    parts: dict[TaskId, int] = field(default_factory=dict)
    refunded: dict[TaskId, int] = field(default_factory=dict)
    away: bool = False
    slow: bool = False
    """Claims and commits wait for the next block, instead of being mined as they are sent."""
    waiting: list[anyio.Event] = field(default_factory=list)
    salt: int = 0
    block_s: float = 1.0
    """Between blocks, as whoever asks measures it."""

    def mine(self, seconds: int = 1) -> None:
        self.now += seconds
        self.blocks.append([])
        waiting, self.waiting = self.waiting, []
        for event in waiting:
            event.set()
        self._save()

    def rewind(self, block: int) -> None:
        """Take back everything above `block`."""
        self.salt += 1
        del self.blocks[block + 1 :]

    def block_hash(self, block: int) -> str:
        return "0x" + keccak256(f"{block}".encode()).hex()

    def add_listing(self, name: str = "sample", manifest: BlobRef = MODEL, *, yanked: bool = False) -> None:
        number = ListingId(len(self.listings) + 1)
        self.listings.append(
            Listing(
                id=number, owner=REQUESTER, manifest=manifest, kind=0, parent=None, royalty_bps=0, licence=bytes(32),
                yanked=yanked, name=name, version=1,
            )
        )  # fmt: skip

    def register(self, node: Address, weight: int) -> None:
        self.weights[node] = weight
        self._emit(on_chain.NodeRegistered, node=node, peer_id=node.raw, capabilities=bytes(32), stake=Wei(weight))

    def submit(self, spec: Spec, *, fee: int = 10**16, claim_window_s: int = 60, commit_window_s: int = 60,
               nonce: int = 1, spec_blob: BlobRef | None = None, requester: Address = REQUESTER) -> Terms:  # fmt: skip
        terms = Terms(
            requester=requester, fee=Wei(fee), spec=spec_blob or spec_ref(spec), kind=int(spec.task_kind),
            claim_window_s=claim_window_s, commit_window_s=commit_window_s, nonce=nonce,
        )  # fmt: skip
        task = task_id(CHAIN_ID, BOARD, terms)
        seed = int.from_bytes(keccak256(task.value)[:16], "big")
        self.tasks[task] = TaskRecord(task, TaskState.SUBMITTED, None, self.now, seed)
        self._emit(on_chain.TaskSubmitted, task=task, requester=requester, terms=terms, seed=seed, at=self.now)
        self.mine(0)
        return terms

    def claim(self, node: Address, terms: Terms) -> None:
        task, record = self._record(terms)
        self._expect(record, TaskState.SUBMITTED)
        if self.now > record.state_since + terms.claim_window_s:
            raise DeadlinePassed("the claim window closed")
        weight, total = self.weights.get(node, 0), sum(self.weights.values())
        if weight == 0:
            raise ChainReverted("NodeNotEligible", (node,))
        mine = sortition.score(sortition.seed_bytes(record.seed or 0), task, node)
        elapsed = self.now - record.state_since
        if not sortition.may_claim(mine, total, weight, elapsed, self.params.sortition_step_s):
            raise ChainReverted("SortitionNotReached", (mine,))
        self.tasks[task] = TaskRecord(task, TaskState.CLAIMED, node, self.now)
        self._emit(on_chain.TaskClaimed, task=task, node=node, commit_by=self.now + terms.commit_window_s)

    def commit(self, node: Address, terms: Terms, result_root: Root, trace_root: Root) -> None:
        task, record = self._record(terms)
        self._expect(record, TaskState.CLAIMED)
        if record.node != node:
            raise ChainReverted("NotClaimant", (node, record.node))
        if self.now > record.state_since + terms.commit_window_s:
            raise DeadlinePassed("the commit window closed")
        self.tasks[task] = TaskRecord(task, TaskState.COMMITTED, node, self.now)
        self._emit(
            on_chain.TaskCommitted, task=task, node=node, result_root=result_root, trace_root=trace_root,
            settle_after=self.now + self.params.challenge_window_s,
        )  # fmt: skip

    def commit_part(self, node: Address, terms: Terms, result_root: Root, trace_root: Root, done_bps: int) -> None:
        task, record = self._record(terms)
        if terms.kind != 2:
            raise ChainReverted("PartNotAllowed", (terms.kind,))
        self.parts[task] = done_bps
        asked = record.stop_requested
        self._emit(on_chain.TaskPartCommitted, task=task, node=node, done_bps=done_bps, stop_requested=asked)
        self.commit(node, terms, result_root, trace_root)

    def request_stop(self, terms: Terms) -> None:
        task, record = self._record(terms)
        self._expect(record, TaskState.CLAIMED)
        self.tasks[task] = replace(record, stop_requested=True)
        self._emit(on_chain.TaskStopRequested, task=task, node=record.node)

    def lose(self, spec: Spec, **terms: Any) -> Terms:
        """A task that a node of long ago had claimed, and did not bring to its end."""
        lost = self.submit(spec, **{"nonce": 77, **terms})
        task, node = task_id(CHAIN_ID, BOARD, lost), node_address(0xEE)
        self._emit(on_chain.TaskClaimed, task=task, node=node, commit_by=self.now + lost.commit_window_s)
        self.tasks[task] = TaskRecord(task, TaskState.EXPIRED, node, self.now)
        self._emit(on_chain.TaskExpired, task=task, node=node, refund=lost.fee)
        return lost

    def settle(self, batch: list[Terms]) -> None:
        for terms in batch:
            task, record = self._record(terms)
            if (
                record.state is not TaskState.COMMITTED
                or self.now < record.state_since + self.params.challenge_window_s
            ):
                self._emit(on_chain.TaskSettleSkipped, task=task)
                continue
            assert record.node is not None
            part = part_of(terms.fee, self.parts.get(task, 10_000))
            split = split_fee(part.due, 0, self.params.protocol_fee_bps)
            self.refunded[task] = part.rest
            self.balances[record.node] = self.balances.get(record.node, 0) + split.node
            self.tasks[task] = TaskRecord(task, TaskState.SETTLED, record.node, self.now)
            self._emit(
                on_chain.TaskSettled, task=task, node=record.node, paid=split.node, royalty=Wei(0),
                royalty_to=ZERO_ADDRESS, protocol_fee=split.protocol,
            )  # fmt: skip

    def expire(self, terms: Terms) -> None:
        task, record = self._record(terms)
        windows = {TaskState.SUBMITTED: terms.claim_window_s, TaskState.CLAIMED: terms.commit_window_s}
        if record.state not in windows:
            raise ChainReverted("UnexpectedState", (task, int(record.state)))
        if self.now <= record.state_since + windows[record.state]:
            raise ChainReverted("TooEarly", (task,))
        self.tasks[task] = TaskRecord(task, TaskState.EXPIRED, record.node, self.now)
        self.refunded[task] = terms.fee
        self._emit(on_chain.TaskExpired, task=task, node=record.node or ZERO_ADDRESS, refund=terms.fee)

    def cancel(self, terms: Terms) -> None:
        task, record = self._record(terms)
        self._expect(record, TaskState.SUBMITTED)
        if self.now < record.state_since + self.params.cancel_delay_s:
            raise ChainReverted("TooEarly", (task,))
        self.tasks[task] = TaskRecord(task, TaskState.CANCELLED, None, self.now)
        self._emit(on_chain.TaskCancelled, task=task, refund=terms.fee)

    def state(self, terms: Terms) -> TaskState:
        return self._record(terms)[1].state

    def _record(self, terms: Terms) -> tuple[TaskId, TaskRecord]:
        task = task_id(CHAIN_ID, BOARD, terms)
        return task, self.tasks[task]

    @staticmethod
    def _expect(record: TaskRecord, wanted: TaskState) -> None:
        if record.state is not wanted:
            raise ChainReverted("UnexpectedState", (record.task_id, int(record.state)))

    def _emit(self, kind: Any, **values: Any) -> None:
        block = len(self.blocks) - 1
        index = len(self.blocks[block])
        self.blocks[block].append(
            kind(block=block, block_hash=self.block_hash(block), log_index=index, tx_hash="0x" + "0" * 64, **values)
        )

    # Persistence, for processes that are killed

    def _save(self) -> None:
        if self.path is None:
            return
        document = {
            "now": self.now,
            "blocks": [[event.model_dump(mode="json") for event in block] for block in self.blocks],
            "tasks": [
                [str(r.task_id), int(r.state), r.node, r.state_since, str(r.seed) if r.seed is not None else None]
                for r in self.tasks.values()
            ],
            "weights": self.weights,
            "listings": [[listing.name, str(listing.manifest)] for listing in self.listings],
            "attempts": self.attempts,
            "balances": self.balances,
        }
        fresh = self.path.with_suffix(".fresh")
        fresh.write_text(json.dumps(document))
        fresh.replace(self.path)

    @classmethod
    def load(cls, path: Path) -> BoardDouble:
        stored = json.loads(path.read_text())
        kinds = {
            kind.model_fields["kind"].default: kind
            for kind in (on_chain.TaskSubmitted, on_chain.TaskClaimed, on_chain.TaskCommitted, on_chain.TaskSettled,
                         on_chain.TaskSettleSkipped, on_chain.TaskExpired)
        }  # fmt: skip
        board = cls(path=path, now=stored["now"])
        board.blocks = [[kinds[event["kind"]].model_validate(event) for event in block] for block in stored["blocks"]]
        for task, state, node, since, seed in stored["tasks"]:
            record = TaskRecord(
                TaskId.parse(task),
                TaskState(state),
                Address(node) if node else None,
                since,
                int(seed) if seed else None,
            )
            board.tasks[record.task_id] = record
        board.weights = {Address(node): weight for node, weight in stored["weights"].items()}
        for name, manifest in stored["listings"]:
            board.add_listing(name, BlobRef.parse(manifest))
        board.attempts = [tuple(attempt) for attempt in stored["attempts"]]
        board.balances = {Address(node): amount for node, amount in stored["balances"].items()}
        return board


class ChainDouble:
    """What `gesso.chain.Chain` is to a node, over a `BoardDouble`. Transactions are mined at once."""

    def __init__(self, board: BoardDouble, address: Address) -> None:
        self.board = board
        self.address = address
        self.chain_id = CHAIN_ID
        self.settings = ChainSettings(
            rpc_url="http://localhost:1",
            contracts=ContractAddresses(task_board=BOARD, node_registry=BOARD, marketplace=BOARD, token=BOARD),
        )
        self.wallet = Wallet.from_key(bytes([*b"double", *address.raw]).rjust(32, b"\1"))
        self.arbiter = None
        self.native = Wei(10**18)
        self.registered = NodeState.ACTIVE
        self.fail_next: dict[str, Exception] = {}
        self.behind: list[bool] = []
        """Of each commit, whether it was sent behind a claim that was not mined."""
        self.untried: list[bool] = []
        """Of each claim, whether it was sent without asking first what the board says to it."""

    def as_chain(self) -> Chain:
        return cast(Chain, self)

    async def now(self) -> int:
        self._reach()
        return self.board.now

    async def block_number(self) -> int:
        self._reach()
        return len(self.board.blocks) - 1

    async def head(self) -> Header:
        number = await self.block_number()
        name, before = self.board.block_hash(number), self.board.block_hash(number - 1)
        return Header(number, name, before, self.board.now, 0)

    async def block_interval_s(self) -> float:
        return self.board.block_s

    async def params(self) -> BoardParams:
        return self.board.params

    async def node_of_peer(self, peer_id: bytes) -> Address | None:
        return None

    async def stake_per_weight(self) -> Wei:
        return Wei(1)

    async def weight_of(self, node: Address) -> int:
        return self.board.weights.get(node, 0)

    async def total_weight(self) -> int:
        return sum(self.board.weights.values())

    async def listing_count(self) -> int:
        return len(self.board.listings)

    async def members_of(self, bundle: ListingId) -> tuple[ListingId, ...]:
        return self.board.bundles.get(bundle, ())

    async def listing(self, listing: ListingId) -> Listing:
        return self.board.listings[int(listing) - 1]

    async def native_balance_of(self, account: Address) -> Wei:
        self._reach()
        return self.native

    async def node(self, address: Address) -> NodeRecord:
        weight = self.board.weights.get(address, 0)
        return NodeRecord(
            address=address, peer_id=address.raw, capabilities=bytes(32), stake=Wei(weight), weight=weight,
            state=self.registered, standing=0, unbond_at=0,
        )  # fmt: skip

    async def token_balance_of(self, account: Address) -> Wei:
        return Wei(0)

    async def update_node(self, peer_id: bytes, capabilities: bytes) -> TxReceipt:
        return self._receipt()

    async def register_node(self, peer_id: bytes, capabilities: bytes, stake: Wei) -> TxReceipt:
        self.registered = NodeState.ACTIVE
        self.board.weights[self.address] = 1
        return self._receipt()

    async def task(self, task: TaskId, *, kind: int | None = None) -> TaskRecord:
        self._reach()
        return self.board.tasks.get(task, TaskRecord(task, TaskState.UNKNOWN))

    def task_id(self, terms: Terms) -> TaskId:
        return task_id(CHAIN_ID, BOARD, terms)

    async def course_of(self, task: TaskId) -> tuple[Any, ...]:
        self._reach()
        return tuple(event for block in self.board.blocks for event in block if getattr(event, "task", None) == task)

    async def read_page(self, cursor: Cursor, _: Header | None = None) -> Page | None:
        self._reach()
        head = len(self.board.blocks) - 1
        if cursor.block > head:
            return Page(events=(), cursor=Cursor.before(head), reorged_to=head - 1)
        # The open block still grows: it is read when the next one begins.
        last = head - 1
        if cursor.block >= last:
            return None
        events = tuple(event for block in self.board.blocks[cursor.block + 1 : last + 1] for event in block)
        return Page(events=events, cursor=cursor.advanced(last, self.board.block_hash(last)))

    async def claim(self, terms: Terms, *, alone: bool = False, on_sent: Any = None) -> TxReceipt:
        self.untried.append(alone)
        if on_sent is not None:
            on_sent(CLAIM_TX)
        await self._mined()
        return self._transact("claim", lambda: self.board.claim(self.address, terms))

    async def commit(
        self, terms: Terms, result_root: Root, trace_root: Root, *, behind_claim: bool = False
    ) -> TxReceipt:
        self.behind.append(behind_claim)
        await self._mined()
        return self._transact("commit", lambda: self.board.commit(self.address, terms, result_root, trace_root))

    async def commit_part(self, terms: Terms, result_root: Root, trace_root: Root, done_bps: int) -> TxReceipt:
        roots = (result_root, trace_root)
        return self._transact("commit", lambda: self.board.commit_part(self.address, terms, *roots, done_bps))

    async def settle(self, batch: list[Terms]) -> TxReceipt:
        return self._transact("settle", lambda: self.board.settle(batch))

    async def expire(self, terms: Terms) -> TxReceipt:
        return self._transact("expire", lambda: self.board.expire(terms))

    async def _mined(self) -> None:
        if self.board.slow:
            self.board.waiting.append(anyio.Event())
            await self.board.waiting[-1].wait()

    def _transact(self, verb: str, change: Any) -> TxReceipt:
        self._reach()
        if (error := self.fail_next.pop(verb, None)) is not None:
            raise error
        try:
            change()
        except ChainReverted as error:
            self.board.attempts.append((verb, self.address, error.name))
            raise
        finally:
            self.board.mine(0)
        self.board.attempts.append((verb, self.address, "ok"))
        self.board._save()
        return self._receipt()

    def _receipt(self) -> TxReceipt:
        return TxReceipt(tx_hash="0x" + "0" * 64, gas_used=21_000, block=len(self.board.blocks) - 1, gas_price=1)

    def _reach(self) -> None:
        if self.board.away:
            raise Unreachable("the double was told to be away")
