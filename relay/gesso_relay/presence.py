"""Which nodes were heard lately and what they offer. Gossip only: forgotten on restart, never part of the index."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import anyio

from gesso.transport.port import PeerId
from gesso_protocol.errors import GessoError
from gesso_protocol.ids import Address
from gesso_protocol.messages import NodeAdvert

FRESH_S = 90.0
"""A node that was silent for so long is shown as away."""
Registered: TypeAlias = Callable[[str], Awaitable[str | None]]
"""The peer that a wallet has registered; None for one that is no node."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """An advert and when we heard it, in seconds of our own steady clock."""

    advert: NodeAdvert
    heard_s: float


class Presence:
    """The last advert of each peer. Bounded; who was heard the longest ago is forgotten first, strangers apart from
    nodes: names of peers cost nothing, so strangers together push out none that is registered.

    Kept by peer, since that is who signed: anybody can name a wallet, and must not push out who really has it.
    """

    def __init__(self, max_nodes: int = 4096) -> None:
        self._max_nodes = max_nodes
        self._strangers: OrderedDict[str, Sighting] = OrderedDict()
        self._nodes: OrderedDict[str, Sighting] = OrderedDict()
        self._unsure: deque[str] = deque(maxlen=max_nodes)
        self._wake = anyio.Event()

    def note(self, peer: PeerId, advert: NodeAdvert, now_s: float) -> bool:
        """Remember an advert; false for one that its sender had no right to, or that is older than what we heard of it
        lately: a clock that was wrong once and is set right does not hide its node for ever."""
        home = self._nodes if peer in self._nodes else self._strangers
        known = home.get(peer)
        lately = known is not None and now_s - known.heard_s <= FRESH_S
        if advert.peer != peer or (lately and known is not None and known.advert.sent_at > advert.sent_at):
            return False
        self._keep(home, peer, Sighting(advert, now_s))
        if home is self._strangers:
            self._unsure.append(peer)
            self._wake.set()
        return True

    async def run(self, registered: Registered) -> None:
        """Until cancelled: find out which strangers are nodes, by the index; those that were heard last come first."""
        while True:
            while self._unsure:
                await self._look_up(self._unsure.pop(), registered)
            self._wake = anyio.Event()
            await self._wake.wait()

    def of(self, wallet: str, peer: str | None, now_s: float) -> NodeAdvert | None:
        """What a wallet's registered peer said lately; a stranger who names that wallet is not listened to."""
        found = None if peer is None else self._nodes.get(peer) or self._strangers.get(peer)
        if found is None or found.advert.wallet != Address(wallet) or now_s - found.heard_s > FRESH_S:
            return None
        return found.advert

    def __len__(self) -> int:
        return len(self._nodes) + len(self._strangers)

    async def _look_up(self, peer: str, registered: Registered) -> None:
        heard = self._strangers.get(peer)
        try:
            theirs = None if heard is None else await registered(str(heard.advert.wallet))
        except GessoError:
            return  # it will be heard again
        if theirs == peer and peer in self._strangers:
            self._keep(self._nodes, peer, self._strangers.pop(peer))

    def _keep(self, home: OrderedDict[str, Sighting], peer: str, sighting: Sighting) -> None:
        home[peer] = sighting
        home.move_to_end(peer)
        if len(home) > self._max_nodes:
            home.popitem(last=False)
