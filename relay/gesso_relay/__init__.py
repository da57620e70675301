"""The gesso relay: bootstrap peer, blob cache, index and HTTP gateway; never trusted."""

from __future__ import annotations

from gesso_relay.peer import Relay
from gesso_relay.settings import GossipSettings, Limits, RelaySettings

__all__ = ["GossipSettings", "Limits", "Relay", "RelaySettings"]
