"""The arbiter's events in the requester's words. The two trees share their names; only bytes are written otherwise."""

from __future__ import annotations

import struct
from typing import Any

from gesso.audits.facts import AUDIT_EVENTS
from gesso.chain.event_base import Happened
from gesso_protocol import events

_TOLD: dict[str, type[Any]] = {kind.model_fields["kind"].default: kind for kind in AUDIT_EVENTS}


def told(found: Happened, at_ms: int) -> events.Event | None:
    """An audit event of the chain as one of the requester's; None for every other event. `at_ms`: since 1970."""
    kind = _TOLD.get(getattr(found, "kind", ""))
    if kind is None:
        return None
    names = set(kind.model_fields) - {"kind", "at_ms", "tx"}
    values = {name: _plain(name, getattr(found, name)) for name in names}
    event: events.Event = kind(**values, at_ms=at_ms, tx=found.tx_hash)
    return event


def _plain(name: str, value: Any) -> Any:
    if name == "projection":
        return struct.unpack(">16h", value)
    return f"0x{value.hex()}" if isinstance(value, bytes) else value
