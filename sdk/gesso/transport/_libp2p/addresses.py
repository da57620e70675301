"""Addresses of peers as text and as the library wants them."""

from __future__ import annotations

from libp2p.peer.id import ID
from multiaddr import Multiaddr

from gesso_protocol.errors import PeerUnreachable

__all__ = ["Multiaddr", "listen_address", "split_address"]

_MAX_TEXT = 256


def split_address(address: str) -> tuple[Multiaddr, ID]:
    """`/ip4/…/tcp/…/p2p/…` into where and who. Raises PeerUnreachable."""
    where, _, name = address.rpartition("/p2p/")
    try:
        if len(address) > _MAX_TEXT or not where:
            raise ValueError
        return Multiaddr(where), ID.from_base58(name)
    except Exception:
        raise PeerUnreachable(f"{address[:200]!r} is no address of a peer") from None


def listen_address(host: str, port: int) -> Multiaddr:
    family = "ip6" if ":" in host else "ip4"
    return Multiaddr(f"/{family}/{host}/tcp/{port}")
