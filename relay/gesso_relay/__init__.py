"""The gesso relay: bootstrap peer, blob cache, index and HTTP gateway; never trusted."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gesso_relay.peer import Relay
    from gesso_relay.settings import GossipSettings, Limits, RelaySettings

__all__ = ["GossipSettings", "Limits", "Relay", "RelaySettings"]

_HOMES = {
    "GossipSettings": "gesso_relay.settings",
    "Limits": "gesso_relay.settings",
    "Relay": "gesso_relay.peer",
    "RelaySettings": "gesso_relay.settings",
}


def __getattr__(name: str) -> object:
    # Late, so that a relay that lacks its extra can say so instead of failing in the middle of an import.
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'gesso_relay' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
