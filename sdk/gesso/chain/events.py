"""What happened on chain, as one tree of frozen events. Times are chain seconds, money is base units."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gesso.chain import audit_events
from gesso.chain.abi import Event, events_of
from gesso.chain.audit_events import AuditEvent
from gesso.chain.event_base import Happened
from gesso.chain.rpc import RawLog
from gesso.chain.settings import ContractAddresses
from gesso_contracts import ARBITER, BLOCK_BEACON, MARKETPLACE, NODE_REGISTRY, TASK_BOARD, Contract
from gesso_protocol.errors import ChainError, GessoError
from gesso_protocol.ids import Address, BlobRef, ListingId, Root, TaskId
from gesso_protocol.money import Wei
from gesso_protocol.terms import Terms


class Deposited(Happened):
    kind: Literal["deposited"] = "deposited"
    account: Address
    amount: Wei


class Withdrawn(Happened):
    kind: Literal["withdrawn"] = "withdrawn"
    account: Address
    amount: Wei


class TaskSubmitted(Happened):
    kind: Literal["task-submitted"] = "task-submitted"
    task: TaskId
    requester: Address
    terms: Terms
    seed: int
    at: int


class TaskClaimed(Happened):
    kind: Literal["task-claimed"] = "task-claimed"
    task: TaskId
    node: Address
    commit_by: int


class TaskCommitted(Happened):
    kind: Literal["task-committed"] = "task-committed"
    task: TaskId
    node: Address
    result_root: Root
    trace_root: Root
    settle_after: int


class TaskStopRequested(Happened):
    """The requester asked `node` to stop early and to commit what it has done by then."""

    kind: Literal["task-stop-requested"] = "task-stop-requested"
    task: TaskId
    node: Address


class TaskPartCommitted(Happened):
    """What `TaskCommitted` says next is `done_bps` of the work; `stop_requested`: the requester had asked for it."""

    kind: Literal["task-part-committed"] = "task-part-committed"
    task: TaskId
    node: Address
    done_bps: int
    stop_requested: bool


class TaskRestReturned(Happened):
    """The requester got back what a part did not earn; `TaskSettled`, which comes next, divides the other share."""

    kind: Literal["task-rest-returned"] = "task-rest-returned"
    task: TaskId
    refund: Wei


class TaskSettled(Happened):
    kind: Literal["task-settled"] = "task-settled"
    task: TaskId
    node: Address
    paid: Wei
    royalty: Wei
    royalty_to: Address
    protocol_fee: Wei


class RoyaltyPaid(Happened):
    """A listing earned `amount` by the tasks that this transaction settled, named by them or as a parent."""

    kind: Literal["royalty-paid"] = "royalty-paid"
    listing: ListingId
    owner: Address
    amount: Wei


class TaskCancelled(Happened):
    kind: Literal["task-cancelled"] = "task-cancelled"
    task: TaskId
    refund: Wei


class TaskExpired(Happened):
    """`node` is who failed; the zero address when nobody had claimed."""

    kind: Literal["task-expired"] = "task-expired"
    task: TaskId
    node: Address
    refund: Wei


class TaskSettleSkipped(Happened):
    kind: Literal["task-settle-skipped"] = "task-settle-skipped"
    task: TaskId


class TaskHeld(Happened):
    kind: Literal["task-held"] = "task-held"
    task: TaskId
    release_at: int


class TaskRuled(Happened):
    kind: Literal["task-ruled"] = "task-ruled"
    task: TaskId
    upheld: bool


class AuditFeeReturned(Happened):
    """The task ended without an audit, so the requester has its audit fee back."""

    kind: Literal["audit-fee-returned"] = "audit-fee-returned"
    task: TaskId
    amount: Wei


class NodeRegistered(Happened):
    kind: Literal["node-registered"] = "node-registered"
    node: Address
    peer_id: bytes
    capabilities: bytes
    stake: Wei


class NodeUpdated(Happened):
    kind: Literal["node-updated"] = "node-updated"
    node: Address
    peer_id: bytes
    capabilities: bytes


class NodePaused(Happened):
    kind: Literal["node-paused"] = "node-paused"
    node: Address


class NodeResumed(Happened):
    kind: Literal["node-resumed"] = "node-resumed"
    node: Address


class NodeStakeChanged(Happened):
    kind: Literal["node-stake-changed"] = "node-stake-changed"
    node: Address
    stake: Wei


class NodeUnbondBegun(Happened):
    kind: Literal["node-unbond-begun"] = "node-unbond-begun"
    node: Address
    release_at: int


class NodeStakeWithdrawn(Happened):
    kind: Literal["node-stake-withdrawn"] = "node-stake-withdrawn"
    node: Address
    amount: Wei


class NodeSlashed(Happened):
    kind: Literal["node-slashed"] = "node-slashed"
    node: Address
    amount: Wei
    beneficiary: Address


class NodeStandingChanged(Happened):
    kind: Literal["node-standing-changed"] = "node-standing-changed"
    node: Address
    standing: int


class ListingPublished(Happened):
    kind: Literal["listing-published"] = "listing-published"
    listing: ListingId
    owner: Address
    name: str
    version: int
    manifest: BlobRef
    listing_kind: int
    parent: ListingId
    royalty_bps: int
    licence: bytes


class ListingYanked(Happened):
    kind: Literal["listing-yanked"] = "listing-yanked"
    listing: ListingId
    yanked: bool


class BundleMade(Happened):
    """Tasks that use all of `members` name `bundle` as their model."""

    kind: Literal["bundle-made"] = "bundle-made"
    bundle: ListingId
    members: tuple[ListingId, ...]


class ListingTransferred(Happened):
    kind: Literal["listing-transferred"] = "listing-transferred"
    listing: ListingId
    previous: Address
    owner: Address


class Reorged(BaseModel):
    """The chain took blocks back: whatever was learnt from blocks above `to_block` did not happen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["reorged"] = "reorged"
    to_block: int


ContractEvent: TypeAlias = (
    Deposited
    | Withdrawn
    | TaskSubmitted
    | TaskClaimed
    | TaskStopRequested
    | TaskPartCommitted
    | TaskCommitted
    | TaskRestReturned
    | TaskSettled
    | RoyaltyPaid
    | TaskCancelled
    | TaskExpired
    | TaskSettleSkipped
    | TaskHeld
    | TaskRuled
    | NodeRegistered
    | NodeUpdated
    | NodePaused
    | NodeResumed
    | NodeStakeChanged
    | NodeUnbondBegun
    | NodeStakeWithdrawn
    | NodeSlashed
    | NodeStandingChanged
    | ListingPublished
    | ListingYanked
    | ListingTransferred
    | BundleMade
    | AuditFeeReturned
    | AuditEvent
)
ChainEvent: TypeAlias = Annotated[ContractEvent | Reorged, Field(discriminator="kind")]

_TASK = {"taskId": "task"}
_NODE = {"node": "node"}
_KINDS: dict[str, tuple[type[Any], dict[str, str]]] = {
    "Deposited": (Deposited, {"account": "account", "amount": "amount"}),
    "Withdrawn": (Withdrawn, {"account": "account", "amount": "amount"}),
    "Submitted": (TaskSubmitted, _TASK | {"requester": "requester", "terms": "terms", "seed": "seed", "at": "at"}),
    "Claimed": (TaskClaimed, _TASK | _NODE | {"commitBy": "commit_by"}),
    "Committed": (
        TaskCommitted,
        _TASK | _NODE | {"resultRoot": "result_root", "traceRoot": "trace_root", "settleAfter": "settle_after"},
    ),
    "StopRequested": (TaskStopRequested, _TASK | _NODE),
    "PartCommitted": (
        TaskPartCommitted,
        _TASK | _NODE | {"doneBps": "done_bps", "stopRequested": "stop_requested"},
    ),
    "RestReturned": (TaskRestReturned, _TASK | {"refund": "refund"}),
    "Settled": (
        TaskSettled,
        _TASK
        | _NODE
        | {"paid": "paid", "royalty": "royalty", "royaltyTo": "royalty_to", "protocolFee": "protocol_fee"},
    ),
    "RoyaltyPaid": (RoyaltyPaid, {"listing": "listing", "owner": "owner", "amount": "amount"}),
    "Cancelled": (TaskCancelled, _TASK | {"refund": "refund"}),
    "Expired": (TaskExpired, _TASK | _NODE | {"refund": "refund"}),
    "SettleSkipped": (TaskSettleSkipped, _TASK),
    "TaskHeld": (TaskHeld, _TASK | {"releaseAt": "release_at"}),
    "Ruled": (TaskRuled, _TASK | {"upheld": "upheld"}),
    "AuditFeeReturned": (AuditFeeReturned, _TASK | {"amount": "amount"}),
    "NodeRegistered": (
        NodeRegistered,
        _NODE | {"peerId": "peer_id", "capabilities": "capabilities", "stake": "stake"},
    ),
    "NodeUpdated": (NodeUpdated, _NODE | {"peerId": "peer_id", "capabilities": "capabilities"}),
    "NodePaused": (NodePaused, _NODE),
    "NodeResumed": (NodeResumed, _NODE),
    "StakeChanged": (NodeStakeChanged, _NODE | {"stake": "stake"}),
    "UnbondBegun": (NodeUnbondBegun, _NODE | {"releaseAt": "release_at"}),
    "StakeWithdrawn": (NodeStakeWithdrawn, _NODE | {"amount": "amount"}),
    "Slashed": (NodeSlashed, _NODE | {"amount": "amount", "beneficiary": "beneficiary"}),
    "StandingChanged": (NodeStandingChanged, _NODE | {"standing": "standing"}),
    "ListingPublished": (
        ListingPublished,
        {
            "id": "listing",
            "owner": "owner",
            "name": "name",
            "version": "version",
            "manifest": "manifest",
            "kind": "listing_kind",
            "parent": "parent",
            "royaltyBps": "royalty_bps",
            "licence": "licence",
        },
    ),
    "ListingYanked": (ListingYanked, {"id": "listing", "yanked": "yanked"}),
    "BundleMade": (BundleMade, {"id": "bundle", "members": "members"}),
    "ListingTransferred": (ListingTransferred, {"id": "listing", "from": "previous", "to": "owner"}),
    **audit_events.KINDS,
}


WEIGHT_EVENTS = (
    NodeRegistered,
    NodePaused,
    NodeResumed,
    NodeStakeChanged,
    NodeUnbondBegun,
    NodeSlashed,
    NodeStandingChanged,
)
"""After each of these a node may draw with another weight than before."""


class EventDecoder:
    """Turns logs of one network's contracts into events; logs of other contracts, or of no interest, into None."""

    def __init__(self, contracts: ContractAddresses) -> None:
        homes: dict[str, Contract] = {
            contracts.task_board: TASK_BOARD,
            contracts.node_registry: NODE_REGISTRY,
            contracts.marketplace: MARKETPLACE,
        }
        if contracts.arbiter is not None:
            homes[contracts.arbiter] = ARBITER
        if contracts.beacon is not None:
            homes[contracts.beacon] = BLOCK_BEACON
        self.addresses = tuple(str(address) for address in homes)
        self._events: dict[str, dict[bytes, Event]] = {
            address.lower(): events_of(contract) for address, contract in homes.items()
        }

    def decode(self, log: RawLog) -> ContractEvent | None:
        """Raises ChainError for a log that our contracts could not have written."""
        event = self._events.get(log.address, {}).get(log.topics[0]) if log.topics else None
        kind = _KINDS.get(event.name) if event is not None else None
        if event is None or kind is None:
            return None
        values = event.decode(log.topics[1:], log.data)
        fields = {ours: _plain(values[theirs]) for theirs, ours in kind[1].items()}
        place = {
            "block": log.block,
            "block_hash": log.block_hash,
            "log_index": log.index,
            "tx_hash": log.tx_hash,
        }
        try:
            decoded: ContractEvent = kind[0](**place, **fields)
        except (ValidationError, GessoError) as error:
            raise ChainError(f"a {event.name} log of block {log.block} breaks the protocol's rules") from error
        return decoded


def _plain(value: Any) -> Any:
    if not isinstance(value, tuple) or isinstance(value[0], int):
        return value
    return b"".join(value) if isinstance(value[0], bytes) else Terms.from_tuple(value)
