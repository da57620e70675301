"""Entries about audits as the protocol's events, for streams. The rest of a task's story is in `streams`."""

from __future__ import annotations

import struct
from typing import Any

from gesso_protocol import events
from gesso_protocol.audit.outcomes import AuditOutcome, AuditVerdict, DisputeOutcome
from gesso_protocol.ids import Address, BlobRef, TaskId
from gesso_protocol.money import Wei
from gesso_relay.index.entries import Entry, Json

_KINDS: dict[str, type[Any]] = {
    kind.model_fields["kind"].default: kind
    for kind in (
        events.AuditOpened, events.AuditCommitted, events.AuditRevealed, events.AuditClosed, events.DisputeOpened,
        events.VoteCommitted, events.VoteRevealed, events.DisputeTallied, events.Appealed, events.DisputeExecuted,
        events.AuditorPenalised, events.JurorPenalised,
    )
}  # fmt: skip
_ACCOUNTS = ("node", "auditor", "juror", "by")
_AMOUNTS = ("slashed", "burned", "to_requester", "to_pool", "amount")


def audit_event(entry: Entry) -> events.Event | None:
    """The event that an entry about an audit was made from; None for an entry that has no such event."""
    kind = _KINDS.get(entry.name)
    if kind is None:
        return None
    data = dict(entry.data)
    if kind is events.AuditRevealed:
        data["verdict"] = data.pop("said")
    values = {name: _typed(kind, name, value) for name, value in data.items() if name in kind.model_fields}
    event: events.Event = kind(task=TaskId.parse(entry.key), at_ms=entry.at * 1000, tx=entry.tx, **values)
    return event


def _typed(kind: type[Any], name: str, value: Json) -> Any:
    if name in _ACCOUNTS:
        return Address(str(value))
    if name in _AMOUNTS:
        return Wei(int(str(value)))
    if name == "evidence":
        return None if value is None else BlobRef.parse(str(value))
    if name == "projection":
        return struct.unpack(">16h", bytes.fromhex(str(value)))
    return _spoken(kind, name, value)


def _spoken(kind: type[Any], name: str, value: Json) -> Any:
    word = str(value).upper().replace("-", "_")
    if name == "verdict":
        return AuditVerdict[word]
    if name == "outcome":
        return AuditOutcome[word] if kind is events.AuditClosed else DisputeOutcome[word]
    return value
