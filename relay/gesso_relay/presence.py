"""Which nodes were heard lately and what they offer. Gossip only: forgotten on restart, never part of the index."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from gesso.transport.port import PeerId
from gesso_protocol.ids import Address
from gesso_protocol.messages import NodeAdvert

FRESH_S = 90.0
"""A node that was silent for so long is shown as away."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """An advert and when we heard it, in seconds of our own steady clock."""

    advert: NodeAdvert
    heard_s: float


class Presence:
    """The last advert of each peer. Bounded; who was heard the longest ago is forgotten first.

    Kept by peer, since that is who signed: anybody can name a wallet, and must not push out who really has it.
    """

    def __init__(self, max_nodes: int = 4096) -> None:
        self._max_nodes = max_nodes
        self._heard: OrderedDict[str, Sighting] = OrderedDict()

    def note(self, peer: PeerId, advert: NodeAdvert, now_s: float) -> bool:
        """Remember an advert; false for one that its sender had no right to, or that is older than what we have."""
        known = self._heard.get(peer)
        if advert.peer != peer or (known is not None and known.advert.sent_at > advert.sent_at):
            return False
        self._heard[peer] = Sighting(advert, now_s)
        self._heard.move_to_end(peer)
        if len(self._heard) > self._max_nodes:
            self._heard.popitem(last=False)
        return True

    def of(self, wallet: str, peer: str | None, now_s: float) -> NodeAdvert | None:
        """What a wallet's registered peer said lately; a stranger who names that wallet is not listened to."""
        found = self._heard.get(peer) if peer is not None else None
        if found is None or found.advert.wallet != Address(wallet) or now_s - found.heard_s > FRESH_S:
            return None
        return found.advert

    def __len__(self) -> int:
        return len(self._heard)
