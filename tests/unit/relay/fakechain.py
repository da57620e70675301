"""A chain in memory that grows and forks on command, read through the same pages and cursors as a real one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gesso.chain import audit_events as audits
from gesso.chain import events as on_chain
from gesso.chain.cursor import Cursor, Page
from gesso.chain.events import ContractEvent
from gesso.chain.settings import ChainSettings, ContractAddresses
from gesso_protocol.audit.outcomes import AuditOutcome, AuditVerdict, DisputeOutcome
from gesso_protocol.errors import Unreachable
from gesso_protocol.ids import ZERO_ADDRESS, Address, BlobRef, ListingId, Root, TaskId
from gesso_protocol.money import Wei
from gesso_protocol.terms import BoardParams, Terms, task_id
from gesso_relay.chain import Drawn, Roots

CHAIN_ID = 31337
BOARD = Address("0x" + "b0" * 20)
CONTRACTS = ContractAddresses(
    task_board=BOARD,
    node_registry=Address("0x" + "b1" * 20),
    marketplace=Address("0x" + "b2" * 20),
    token=Address("0x" + "b3" * 20),
)
SETTINGS = ChainSettings(rpc_url="http://127.0.0.1:8545", contracts=CONTRACTS)
ALICE = Address("0x" + "a1" * 20)
NODE = Address("0x" + "0e" * 20)
GENESIS_S = 1_700_000_000
AUDITORS = tuple(Address("0x" + pair * 20) for pair in ("c1", "c2"))
JURORS = tuple(Address("0x" + pair * 20) for pair in ("d1", "d2", "d3"))
EVIDENCE = BlobRef.of(b"openings")


def block_hash(number: int, fork: int) -> str:
    return f"0x{fork:08x}{number:056x}"


@dataclass
class FakeChain:
    """`blocks` holds the events of each block; `mine` and `fork` change them. `down` makes every read fail."""

    blocks: list[tuple[int, list[ContractEvent]]] = field(default_factory=lambda: [(0, [])])
    forks: int = 0
    down: bool = False
    draws: Drawn | None = None
    max_range: int = 3

    @property
    def chain_id(self) -> int:
        return CHAIN_ID

    async def params(self) -> BoardParams:
        return BoardParams(challenge_window_s=4, sortition_step_s=1, protocol_fee_bps=200, max_royalty_bps=3000)

    async def drawn(self, task: TaskId, terms: Terms, node: Address, roots: Roots) -> Drawn | None:
        return self.draws

    async def block_time(self, block: int) -> int:
        return GENESIS_S + block

    async def read(self, cursor: Cursor) -> Page | None:
        if self.down:
            raise Unreachable("the chain is away")
        for place, checkpoint in enumerate(cursor.trail):
            if checkpoint.block < len(self.blocks) and checkpoint.hash == self._hash(checkpoint.block):
                if place == 0:
                    break
                back = Cursor(block=checkpoint.block, trail=cursor.trail[place:])
                return Page(events=(), cursor=back, reorged_to=checkpoint.block)
        else:
            if cursor.trail:
                return Page(events=(), cursor=Cursor(block=-1), reorged_to=-1)
        last = min(len(self.blocks) - 1, cursor.block + self.max_range)
        if last <= cursor.block:
            return None
        events = tuple(event for number in range(cursor.block + 1, last + 1) for event in self.blocks[number][1])
        return Page(events=events, cursor=cursor.advanced(last, self._hash(last)))

    def mine(self, events: Sequence[ContractEvent] = ()) -> None:
        """One more block with these events; where they happened is filled in."""
        number = len(self.blocks)
        placed = [
            event.model_copy(
                update={
                    "block": number,
                    "block_hash": block_hash(number, self.forks),
                    "log_index": index,
                    "tx_hash": f"0x{number:032x}{index:032x}",
                }
            )
            for index, event in enumerate(events)
        ]
        self.blocks.append((self.forks, placed))

    def fork(self, depth: int) -> None:
        """Take the last `depth` blocks back; what is mined next has other hashes."""
        del self.blocks[max(1, len(self.blocks) - depth) :]
        self.forks += 1

    def _hash(self, number: int) -> str:
        return block_hash(number, self.blocks[number][0])


NOWHERE = {"block": 0, "block_hash": block_hash(0, 0), "log_index": 0, "tx_hash": "0x" + "00" * 32}


def terms(nonce: int, *, requester: Address = ALICE, model: int = 1) -> Terms:
    return Terms(
        requester=requester,
        fee=Wei(20 * 10**15),
        spec=BlobRef.of(b"spec %d" % nonce),
        model=ListingId(model),
        claim_window_s=60,
        commit_window_s=60,
        nonce=nonce,
    )


def task_of(nonce: int, **more: object) -> TaskId:
    return task_id(CHAIN_ID, BOARD, terms(nonce, **more))  # type: ignore[arg-type]


def submitted(nonce: int, *, at: int = GENESIS_S, requester: Address = ALICE, model: int = 1) -> ContractEvent:
    made = terms(nonce, requester=requester, model=model)
    task = task_id(CHAIN_ID, BOARD, made)
    return on_chain.TaskSubmitted(task=task, requester=requester, terms=made, seed=2**100, at=at, **NOWHERE)


def claimed(nonce: int, *, node: Address = NODE) -> ContractEvent:
    return on_chain.TaskClaimed(task=task_of(nonce), node=node, commit_by=GENESIS_S + 90, **NOWHERE)


def committed(nonce: int, *, root: Root | None = None) -> ContractEvent:
    result = root or Root(b"\x01" * 32)
    place = {**NOWHERE, "trace_root": Root(b"\x02" * 32), "settle_after": GENESIS_S + 100}
    return on_chain.TaskCommitted(task=task_of(nonce), node=NODE, result_root=result, **place)


def stopped(nonce: int) -> list[ContractEvent]:
    """A quarter of the work was done when the requester asked to stop."""
    at: dict[str, Any] = {"task": task_of(nonce), **NOWHERE}
    return [
        on_chain.TaskStopRequested(**at, node=NODE),
        on_chain.TaskPartCommitted(**at, node=NODE, done_bps=2500, stop_requested=True),
        committed(nonce),
    ]


def settled_part(nonce: int) -> list[ContractEvent]:
    at: dict[str, Any] = {"task": task_of(nonce), **NOWHERE}
    paid = {"paid": Wei(475 * 10**13), "royalty": Wei(15 * 10**13), "protocol_fee": Wei(10**14)}
    return [
        on_chain.TaskRestReturned(**at, refund=Wei(15 * 10**15)),
        on_chain.TaskSettled(**at, node=NODE, royalty_to=ALICE, **paid),
    ]


def settled(nonce: int) -> ContractEvent:
    paid = {"paid": Wei(19 * 10**15), "royalty": Wei(6 * 10**14), "protocol_fee": Wei(4 * 10**14)}
    return on_chain.TaskSettled(task=task_of(nonce), node=NODE, royalty_to=ALICE, **paid, **NOWHERE)


def cancelled(nonce: int) -> ContractEvent:
    return on_chain.TaskCancelled(task=task_of(nonce), refund=Wei(20 * 10**15), **NOWHERE)


def expired(nonce: int) -> ContractEvent:
    return on_chain.TaskExpired(task=task_of(nonce), node=ZERO_ADDRESS, refund=Wei(20 * 10**15), **NOWHERE)


def registered(node: Address = NODE, *, peer_id: bytes = b"\x01") -> ContractEvent:
    return on_chain.NodeRegistered(node=node, peer_id=peer_id, capabilities=b"\x05" * 32, stake=Wei(10**18), **NOWHERE)


def published(listing: int, name: str, version: int) -> ContractEvent:
    return on_chain.ListingPublished(
        listing=ListingId(listing),
        owner=ALICE,
        name=name,
        version=version,
        manifest=BlobRef.of(name.encode()),
        listing_kind=0,
        parent=ListingId(0),
        royalty_bps=300,
        licence=bytes(32),
        **NOWHERE,
    )


def yanked(listing: int) -> ContractEvent:
    return on_chain.ListingYanked(listing=ListingId(listing), yanked=True, **NOWHERE)


def opened(nonce: int) -> list[ContractEvent]:
    """Held, picked, both seats taken."""
    at: dict[str, Any] = {"task": task_of(nonce), **NOWHERE}
    return [
        on_chain.TaskHeld(**at, release_at=GENESIS_S + 500),
        audits.AuditOpened(**at, auditor=AUDITORS[0], challenge=b"\x07" * 32, round=3, commit_by=GENESIS_S + 60),
        *(audits.AuditCommitted(**at, auditor=auditor) for auditor in AUDITORS[1:]),
    ]


def revealed(nonce: int, auditor: Address, verdict: AuditVerdict) -> ContractEvent:
    at: dict[str, Any] = {"task": task_of(nonce), **NOWHERE}
    said = {"verdict": verdict, "evidence": EVIDENCE, "profile": b"\x05" * 32, "projection": b"\xff\xfe" * 16}
    return audits.AuditRevealed(**at, auditor=auditor, **said)


def passed(nonce: int) -> list[ContractEvent]:
    """An audit that both auditors pass, in the order in which the contracts log it."""
    at: dict[str, Any] = {"task": task_of(nonce), **NOWHERE}
    return [
        *opened(nonce),
        *(revealed(nonce, auditor, AuditVerdict.PASS) for auditor in AUDITORS[1:]),
        on_chain.TaskRuled(**at, upheld=True),
        audits.AuditClosed(**at, outcome=AuditOutcome.PASSED),
    ]


def guilty(nonce: int) -> list[ContractEvent]:
    """One auditor flags, the other passes; two jurors find the node guilty, the third keeps silent."""
    at: dict[str, Any] = {"task": task_of(nonce), **NOWHERE}
    parts = {"slashed": 10, "burned": 5, "to_requester": 3, "to_pool": 2}
    money = {name: Wei(tenths * 10**17) for name, tenths in parts.items()}
    return [
        *opened(nonce),
        revealed(nonce, AUDITORS[0], AuditVerdict.FLAG),
        revealed(nonce, AUDITORS[1], AuditVerdict.PASS),
        audits.AuditClosed(**at, outcome=AuditOutcome.DISPUTED),
        audits.DisputeOpened(**at, by=AUDITORS[0], level=0, round=9),
        *(audits.VoteCommitted(**at, juror=juror, level=0) for juror in JURORS),
        audits.VoteRevealed(**at, juror=JURORS[0], level=0, vote=2),
        audits.VoteRevealed(**at, juror=JURORS[1], level=0, vote=6),
        audits.DisputeTallied(**at, level=0, outcome=DisputeOutcome.GUILTY, appeal_by=GENESIS_S + 200),
        on_chain.NodeSlashed(node=NODE, amount=Wei(10**18), beneficiary=ALICE, **NOWHERE),
        on_chain.TaskRuled(**at, upheld=False),
        on_chain.TaskExpired(**at, node=NODE, refund=Wei(20 * 10**15)),
        audits.JurorPenalised(**at, juror=JURORS[2], amount=Wei(10**17), reason=1),
        audits.DisputeExecuted(
            **at, outcome=DisputeOutcome.GUILTY, **{name: Wei(sum_) for name, sum_ in money.items()}
        ),
    ]
