"""The chain adapter's events, turned into entries. The only file of the index that knows their shapes."""

from __future__ import annotations

from functools import singledispatch

from gesso.chain import events as on_chain
from gesso.chain.events import ContractEvent
from gesso.transport.keys import peer_id_of_bytes
from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.ids import ZERO_ADDRESS, Address
from gesso_protocol.manifest import LISTING_KINDS
from gesso_relay.index.audit_facts import audit_fact
from gesso_relay.index.entries import Document, Entry, Fact


def entry_of(event: ContractEvent, at: int) -> Entry | None:
    """The entry that the event makes, or None for one that the index does not keep. `at`: its block's time."""
    fact = _fact(event)
    if fact is None:
        return None
    subject, key, name, data = fact
    return Entry(event.block, event.block_hash, event.log_index, event.tx_hash, at, subject, key, name, data)


@singledispatch
def _fact(event: object) -> Fact | None:
    return audit_fact(event)


@_fact.register(on_chain.TaskSubmitted)
def _(event: on_chain.TaskSubmitted) -> Fact:
    terms = event.terms
    data: Document = {
        "requester": str(event.requester),
        "node": None,
        "model": str(terms.model),
        "kind": terms.kind,
        "fee": str(int(terms.fee)),
        "spec": str(terms.spec),
        "seed": str(event.seed),
        "claim_by": event.at + terms.claim_window_s,
        "terms": terms.model_dump(mode="json"),
    }
    return "task", str(event.task), "submitted", data


@_fact.register(on_chain.TaskClaimed)
def _(event: on_chain.TaskClaimed) -> Fact:
    return "task", str(event.task), "claimed", {"node": str(event.node), "commit_by": event.commit_by}


@_fact.register(on_chain.TaskCommitted)
def _(event: on_chain.TaskCommitted) -> Fact:
    data: Document = {
        "node": str(event.node),
        "result_root": str(event.result_root),
        "trace_root": str(event.trace_root),
        "settle_after": event.settle_after,
    }
    return "task", str(event.task), "committed", data


@_fact.register(on_chain.TaskStopRequested)
def _(event: on_chain.TaskStopRequested) -> Fact:
    return "task", str(event.task), "stop-requested", {"node": str(event.node), "stop_requested": True}


@_fact.register(on_chain.TaskPartCommitted)
def _(event: on_chain.TaskPartCommitted) -> Fact:
    data: Document = {
        "node": str(event.node),
        "done_bps": event.done_bps,
        "stop_requested": event.stop_requested,
    }
    return "task", str(event.task), "part-committed", data


@_fact.register(on_chain.TaskRestReturned)
def _(event: on_chain.TaskRestReturned) -> Fact:
    return "task", str(event.task), "rest-returned", {"rest_returned": str(int(event.refund))}


@_fact.register(on_chain.TaskSettled)
def _(event: on_chain.TaskSettled) -> Fact:
    data: Document = {
        "node": str(event.node),
        "paid": str(int(event.paid)),
        "royalty": str(int(event.royalty)),
        "royalty_to": _somebody(event.royalty_to),
        "protocol_fee": str(int(event.protocol_fee)),
    }
    return "task", str(event.task), "settled", data


@_fact.register(on_chain.TaskCancelled)
def _(event: on_chain.TaskCancelled) -> Fact:
    return "task", str(event.task), "cancelled", {"refund": str(int(event.refund))}


@_fact.register(on_chain.TaskExpired)
def _(event: on_chain.TaskExpired) -> Fact:
    return "task", str(event.task), "expired", {"node": _somebody(event.node), "refund": str(int(event.refund))}


@_fact.register(on_chain.TaskHeld)
def _(event: on_chain.TaskHeld) -> Fact:
    return "task", str(event.task), "held", {"release_at": event.release_at}


@_fact.register(on_chain.TaskRuled)
def _(event: on_chain.TaskRuled) -> Fact:
    return "task", str(event.task), "ruled", {"upheld": event.upheld}


@_fact.register(on_chain.AuditFeeReturned)
def _(event: on_chain.AuditFeeReturned) -> Fact:
    return "task", str(event.task), "audit-fee-returned", {"audit_fee_returned": str(int(event.amount))}


@_fact.register(on_chain.NodeSlashed)
def _(event: on_chain.NodeSlashed) -> Fact:
    return "node", str(event.node), "slashed", {"amount": str(int(event.amount)), "to": str(event.beneficiary)}


@_fact.register(on_chain.NodeRegistered)
def _(event: on_chain.NodeRegistered) -> Fact:
    return "node", str(event.node), "registered", {**_offer(event), "stake": str(int(event.stake))}


@_fact.register(on_chain.NodeUpdated)
def _(event: on_chain.NodeUpdated) -> Fact:
    return "node", str(event.node), "updated", _offer(event)


@_fact.register(on_chain.NodePaused)
def _(event: on_chain.NodePaused) -> Fact:
    return "node", str(event.node), "paused", {}


@_fact.register(on_chain.NodeResumed)
def _(event: on_chain.NodeResumed) -> Fact:
    return "node", str(event.node), "resumed", {}


@_fact.register(on_chain.NodeStakeChanged)
def _(event: on_chain.NodeStakeChanged) -> Fact:
    return "node", str(event.node), "stake", {"stake": str(int(event.stake))}


@_fact.register(on_chain.NodeUnbondBegun)
def _(event: on_chain.NodeUnbondBegun) -> Fact:
    return "node", str(event.node), "unbonding", {"unbond_at": event.release_at}


@_fact.register(on_chain.NodeStakeWithdrawn)
def _(event: on_chain.NodeStakeWithdrawn) -> Fact:
    return "node", str(event.node), "left", {"stake": "0"}


@_fact.register(on_chain.NodeStandingChanged)
def _(event: on_chain.NodeStandingChanged) -> Fact:
    return "node", str(event.node), "standing", {"standing": event.standing}


@_fact.register(on_chain.ListingPublished)
def _(event: on_chain.ListingPublished) -> Fact:
    data: Document = {
        "name": event.name,
        "version": event.version,
        "owner": str(event.owner),
        "manifest": str(event.manifest),
        "kind": LISTING_KINDS[event.listing_kind] if event.listing_kind < len(LISTING_KINDS) else None,
        "parent": str(event.parent) if event.parent else None,
        "royalty_bps": event.royalty_bps,
        "licence": event.licence.hex(),
    }
    return "model", str(event.listing), "published", data


@_fact.register(on_chain.ListingYanked)
def _(event: on_chain.ListingYanked) -> Fact:
    return "model", str(event.listing), "yanked", {"yanked": event.yanked}


@_fact.register(on_chain.RoyaltyPaid)
def _(event: on_chain.RoyaltyPaid) -> Fact:
    return "model", str(event.listing), "royalty", {"to": str(event.owner), "amount": str(int(event.amount))}


@_fact.register(on_chain.BundleMade)
def _(event: on_chain.BundleMade) -> Fact:
    return "bundle", str(event.bundle), "bundled", {"members": [str(one) for one in event.members]}


@_fact.register(on_chain.ListingTransferred)
def _(event: on_chain.ListingTransferred) -> Fact:
    return "model", str(event.listing), "transferred", {"owner": str(event.owner)}


def _offer(event: on_chain.NodeRegistered | on_chain.NodeUpdated) -> Document:
    try:
        peer: str | None = peer_id_of_bytes(event.peer_id)
    except EncodingInvalid:
        # The registry takes any bytes; what is no peer id of ours is nobody that one could talk to.
        peer = None
    return {"peer_id": peer, "capabilities": event.capabilities.hex()}


def _somebody(address: Address) -> str | None:
    return None if address == ZERO_ADDRESS else str(address)
