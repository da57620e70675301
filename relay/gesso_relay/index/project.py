"""Pure: the events of one subject, in order, make its document. The same events always make the same document.

An event that does not follow from what came before (a claim without a submit, when the index starts in the middle of
a chain) changes nothing rather than inventing half a document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gesso_protocol.standing import FULL
from gesso_relay.index.audits import advance_audit
from gesso_relay.index.entries import Document, Entry, Subject

_Step = Callable[[Document | None, Entry], Document | None]

TASK_STATES = {
    "submitted": "submitted",
    "claimed": "claimed",
    "committed": "committed",
    "held": "held",
    "settled": "settled",
    "cancelled": "cancelled",
    "expired": "expired",
}
_SIDE_NOTES = ("ruled", "audit-fee-returned", "stop-requested", "part-committed", "rest-returned")
NODE_STATES = {"paused": "paused", "resumed": "active", "unbonding": "unbonding", "left": "left"}


def project(subject: Subject, entries: Iterable[Entry]) -> Document | None:
    """The document that these events make, or None when they do not begin with a beginning."""
    document: Document | None = None
    for entry in entries:
        document = advance(subject, document, entry)
    return document


def advance(subject: Subject, document: Document | None, entry: Entry) -> Document | None:
    """The document after one more event. The old one is not changed."""
    return _STEPS[subject](document, entry)


def _task(document: Document | None, entry: Entry) -> Document | None:
    if entry.name == "submitted":
        document = {"id": entry.key, "submitted_at": entry.at, "transactions": {}, **entry.data}
    elif document is None:
        return None
    state = TASK_STATES.get(entry.name)
    if entry.name == "ruled" and entry.data.get("upheld") is True:
        return {**document, **entry.data, "state": "committed"}  # back to where anyone may settle it
    if state is None:
        return {**document, **entry.data} if entry.name in _SIDE_NOTES else document
    done = document["transactions"]
    transactions: Document = {**done, entry.name: entry.tx} if isinstance(done, dict) else {entry.name: entry.tx}
    return {**document, **entry.data, "state": state, f"{entry.name}_at": entry.at, "transactions": transactions}


def _node(document: Document | None, entry: Entry) -> Document | None:
    if entry.name == "registered":
        document = {"address": entry.key, "registered_at": entry.at, "state": "active"}
        document |= {"standing": FULL, "standing_at": entry.at}
    elif document is None:
        return None
    if entry.name == "slashed":
        return _slashed(document, entry)
    state = NODE_STATES.get(entry.name)
    changed: Document = {} if state is None else {"state": state}
    if entry.name == "standing":
        changed = {"standing_at": entry.at}
    return {**document, **entry.data, **changed, "changed_at": entry.at}


def _slashed(document: Document, entry: Entry) -> Document:
    total = int(str(document.get("slashed", 0))) + int(str(entry.data["amount"]))
    times = int(str(document.get("slashes", 0))) + 1
    left = max(0, int(str(document.get("stake", 0))) - int(str(entry.data["amount"])))
    counted: Document = {"slashed": str(total), "slashes": times, "slashed_at": entry.at, "stake": str(left)}
    return {**document, **counted, "changed_at": entry.at}


def _model(document: Document | None, entry: Entry) -> Document | None:
    if entry.name == "published":
        document = {"id": entry.key, "published_at": entry.at, "yanked": False}
    elif document is None:
        return None
    if entry.name == "royalty":
        earned = int(str(document.get("earned", 0))) + int(str(entry.data["amount"]))
        return {**document, "earned": str(earned), "earned_at": entry.at}
    return {**document, **entry.data, "changed_at": entry.at}


def _bundle(_: Document | None, entry: Entry) -> Document:
    return {"id": entry.key, **entry.data}


_STEPS: dict[Subject, _Step] = {
    "task": _task,
    "node": _node,
    "model": _model,
    "bundle": _bundle,
    "audit": advance_audit,
}
