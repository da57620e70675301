"""What one peer, one address and everyone together may take from us. All bounds of the trio side, in one place."""

from __future__ import annotations

from dataclasses import dataclass

from gesso.transport.port import Rate

PEER_RATE = Rate(per_s=100, burst=200)
AUTHOR_RATE = Rate(per_s=50, burst=100)
PATIENCE = Rate(per_s=1, burst=50)


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds, sizes in bytes."""

    max_connections: int = 256
    kept_for_dials: int = 32
    max_connections_per_ip: int = 64
    max_handshakes: int = 64
    handshake_timeout_s: float = 5.0
    max_streams_per_peer: int = 64
    max_buffered_per_peer: int = 16 * 1024 * 1024
    heartbeat_s: float = 5.0
    heartbeat_timeout_s: float = 4.0
    heartbeat_misses: int = 2
    stream_timeout_s: float = 10.0
    redial_min_s: float = 0.2
    redial_max_s: float = 30.0
    peer_rate: Rate = PEER_RATE
    author_rate: Rate = AUTHOR_RATE
    patience: Rate = PATIENCE
    ban_s: float = 60.0
