"""Which wallet stands behind a peer. The registry on chain says so; a node's hot key signs, its wallet bound it once.

The binding has two halves. The wallet named the peer id when it registered (only it could), and the peer id is the key
that signed the message. A wallet that registers somebody else's peer id gains nothing: it cannot sign as that peer.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from gesso.transport.keys import peer_id_bytes, peer_id_of_bytes
from gesso.transport.port import PeerId
from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.ids import Address

__all__ = ["PeerBinding", "WalletLookup", "peer_id_bytes", "peer_id_of_bytes"]

WalletLookup: TypeAlias = Callable[[bytes], Awaitable[Address | None]]
"""Asks the node registry who registered these raw peer id bytes; None when nobody has. May raise ChainError."""


class PeerBinding:
    """Remembers answers of `lookup` for a while, a wallet for `ttl_s` seconds and a stranger for `stranger_ttl_s`.

    A stranger is asked about again sooner: it may be a node that has just registered. Bounded to `max_peers` answers.
    """

    def __init__(
        self,
        lookup: WalletLookup,
        *,
        ttl_s: float = 300.0,
        stranger_ttl_s: float = 10.0,
        max_peers: int = 1024,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lookup = lookup
        self._ttl_s = ttl_s
        self._stranger_ttl_s = stranger_ttl_s
        self._max_peers = max_peers
        self._clock = clock
        self._known: OrderedDict[PeerId, tuple[Address | None, float]] = OrderedDict()

    async def wallet_of(self, peer: PeerId) -> Address | None:
        """None for a peer that no wallet has registered, and for what is no peer id at all."""
        known = self._known.get(peer)
        if known is not None and self._clock() < known[1]:
            return known[0]
        try:
            raw = peer_id_bytes(peer)
        except EncodingInvalid:
            return None
        wallet = await self._lookup(raw)
        self._remember(peer, wallet)
        return wallet

    async def speaks_for(self, peer: PeerId, wallet: Address) -> bool:
        """Whether a message signed by `peer` may name `wallet` as its sender."""
        return await self.wallet_of(peer) == wallet

    def forget(self, peer: PeerId) -> None:
        """The registry has changed for this peer."""
        self._known.pop(peer, None)

    def _remember(self, peer: PeerId, wallet: Address | None) -> None:
        ttl_s = self._stranger_ttl_s if wallet is None else self._ttl_s
        self._known[peer] = (wallet, self._clock() + ttl_s)
        self._known.move_to_end(peer)
        if len(self._known) > self._max_peers:
            self._known.popitem(last=False)
