"""Peers: one port, libp2p for the network, memory for tests. Importing this imports no networking library."""

from __future__ import annotations

from gesso.transport.port import (
    DEFAULT_RATE,
    MAX_GOSSIP_BYTES,
    MAX_REQUEST_BYTES,
    Fault,
    Gossip,
    Handler,
    Health,
    Message,
    PeerDown,
    PeerId,
    PeerInfo,
    PeerUp,
    Rate,
    Subscription,
    TopicHealth,
    Transport,
    TransportEvent,
    Validator,
    Verdict,
)

__all__ = [
    "DEFAULT_RATE",
    "MAX_GOSSIP_BYTES",
    "MAX_REQUEST_BYTES",
    "Fault",
    "Gossip",
    "Handler",
    "Health",
    "Message",
    "PeerDown",
    "PeerId",
    "PeerInfo",
    "PeerUp",
    "Rate",
    "Subscription",
    "TopicHealth",
    "Transport",
    "TransportEvent",
    "Validator",
    "Verdict",
]
