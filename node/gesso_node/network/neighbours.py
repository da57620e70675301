"""Links of our own to other nodes, so that the network holds together when every bootstrap peer is gone.

Each node keeps a few. Which ones follows from both peer ids, so every node picks others, nobody chooses whose neighbour
they become, and the picks of many nodes make a graph that does not fall apart when some of them leave.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio
import structlog

from gesso.transport.port import PeerId, Transport
from gesso_node.network.addresses import MAX_DIALS, Addresses
from gesso_protocol.errors import GessoError
from gesso_protocol.hashing import keccak256

log = structlog.get_logger("gesso.node.neighbours")

WANTED = 4
LOOK_EVERY_S = 3.0
DIAL_TIMEOUT_S = 5.0
GIVEN_UP_AFTER_S = 120.0
"""A neighbour that restarts should find its links again; one that is gone should not be dialled for ever."""
MAX_TRIED = 8
"""Dials of one pass: a relay that makes up peers costs us so many time-outs and no more."""


class Neighbours:
    """Keeps `WANTED` links to nodes, as far as there are so many."""

    def __init__(
        self, transport: Transport, addresses: Addresses, *, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._transport = transport
        self._addresses = addresses
        self._clock_s = clock_s
        self._seen_at_s: dict[PeerId, float] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.once()
            await anyio.sleep(LOOK_EVERY_S)

    async def once(self) -> None:
        """One pass: let go of neighbours that are long gone, link to others in their stead."""
        await self._let_go()
        missing = WANTED - len(self._seen_at_s)
        if missing <= 0:
            return
        candidates = await self._candidates()
        for peer, addresses in candidates[:MAX_TRIED]:
            if missing and await self._link(peer, addresses):
                missing -= 1

    async def _let_go(self) -> None:
        now_s = self._clock_s()
        up = {info.peer for info in self._transport.peers()}
        for peer, seen_s in list(self._seen_at_s.items()):
            if peer in up:
                self._seen_at_s[peer] = now_s
            elif now_s - seen_s >= GIVEN_UP_AFTER_S:
                del self._seen_at_s[peer]
                await self._transport.disconnect(peer)

    async def _candidates(self) -> list[tuple[PeerId, tuple[str, ...]]]:
        me = str(self._transport.peer_id)
        known = {
            peer: addresses
            for peer, addresses in (await self._addresses.everyone()).items()
            if peer != self._transport.peer_id and peer not in self._seen_at_s
        }
        return sorted(known.items(), key=lambda item: keccak256(f"{me} {item[0]}".encode()))

    async def _link(self, peer: PeerId, addresses: tuple[str, ...]) -> bool:
        # An advert may carry the address of somebody else; only what names this very peer is dialled.
        for address in [one for one in addresses if one.endswith(f"/{peer}")][:MAX_DIALS]:
            try:
                await self._transport.connect(address, timeout_s=DIAL_TIMEOUT_S)
            except GessoError as error:
                log.debug("neighbours.dial-failed", peer=str(peer)[-8:], code=error.code)
                continue
            self._seen_at_s[peer] = self._clock_s()
            return True
        return False
