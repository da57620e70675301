"""Where other nodes can be reached: what they say of themselves in gossip, else what a relay remembers of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import anyio
import httpx
import structlog

from gesso.announce import judge_advert
from gesso.answers import json_of
from gesso.chain import Chain, NodeState
from gesso.transport.binding import peer_id_of_bytes
from gesso.transport.port import Message, PeerId, Transport, Verdict
from gesso_protocol.encoding import canonical
from gesso_protocol.errors import EncodingInvalid, GessoError, PeerUnreachable
from gesso_protocol.ids import Address
from gesso_protocol.messages import TOPIC_NODES, NodeAdvert

log = structlog.get_logger("gesso.node.addresses")

REJOIN_AFTER_S = 2.0
MAX_KNOWN = 16_384
MAX_TOLD = 4_096
MAX_DIALS = 4
DIAL_TIMEOUT_S = 5.0
MAX_REPLY_BYTES = 4 * 1024 * 1024
RELAY_TIMEOUT_S = 5.0


class Addresses:
    """Remembers adverts by the peer that signed them, and connects. The registry says which peer a wallet is; an advert
    only where, and anybody can name a wallet in one."""

    def __init__(self, chain: Chain, transport: Transport, relays: Sequence[httpx.AsyncClient]) -> None:
        self._chain = chain
        self._transport = transport
        self._relays = tuple(relays)
        self._known: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._wallets: OrderedDict[Address, None] = OrderedDict()

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                async with self._transport.subscribe(TOPIC_NODES, validator=self._judge) as messages:
                    async for message in messages:
                        self._note(message)
            except GessoError as error:
                log.warning("addresses.gossip-away", code=error.code)
            await anyio.sleep(REJOIN_AFTER_S)

    async def connect(self, wallet: Address) -> PeerId:
        """The node's peer, connected. Raises PeerUnreachable, Unreachable, ChainError."""
        record = await self._chain.node(wallet)
        if record.state is NodeState.NONE:
            raise PeerUnreachable(f"{wallet.short} is registered as no peer")
        try:
            peer = peer_id_of_bytes(record.peer_id)
        except EncodingInvalid as error:
            raise PeerUnreachable(f"{wallet.short} registered no peer id") from error
        if any(known.peer == peer for known in self._transport.peers()):
            return peer
        for address in await self._where(wallet, peer):
            try:
                if await self._transport.connect(address, timeout_s=DIAL_TIMEOUT_S) == peer:
                    return peer
            except GessoError as error:
                log.debug("addresses.dial-failed", node=wallet.short, code=error.code)
        raise PeerUnreachable(f"nobody says where {wallet.short} is, or it does not answer there")

    async def everyone(self) -> dict[PeerId, tuple[str, ...]]:
        """Peers and where they listen: as heard in gossip, and as relays tell of those that we have not heard."""
        found: dict[PeerId, tuple[str, ...]] = {}
        for relay in self._relays:
            found |= {PeerId(advert.peer): advert.addresses for advert in await self._told(relay)}
        return found | {PeerId(peer): addresses for peer, addresses in self._known.items()}

    async def wallets(self) -> set[Address]:
        """Wallets that anybody calls a node; the registry says whether they are."""
        found = set(self._wallets)
        for relay in self._relays:
            found |= {advert.wallet for advert in await self._told(relay)}
        return found

    async def _where(self, wallet: Address, peer: PeerId) -> tuple[str, ...]:
        heard = self._known.get(peer, ())
        asked: tuple[str, ...] = ()
        for relay in self._relays:
            asked += await self._ask(relay, wallet)
        return tuple(dict.fromkeys((*heard[:MAX_DIALS], *asked[:MAX_DIALS])))

    async def _ask(self, relay: httpx.AsyncClient, wallet: Address) -> tuple[str, ...]:
        return next((advert.addresses for advert in await self._told(relay) if advert.wallet == wallet), ())

    async def _told(self, relay: httpx.AsyncClient) -> list[NodeAdvert]:
        """The adverts that a relay remembers. It may have made them up: who dials sees whether that peer is there."""
        try:
            reply = await read_json(relay, "/v1/nodes")
            rows = reply.get("nodes", []) if isinstance(reply, dict) else []
            return [NodeAdvert.decode(canonical(row["advert"])) for row in rows[:MAX_TOLD] if row.get("advert")]
        except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError, EncodingInvalid) as error:
            log.debug("addresses.relay-silent", error=type(error).__name__)
            return []

    def _judge(self, peer: PeerId, data: bytes) -> Verdict:
        return judge_advert(peer, data, self._chain.chain_id)

    def _note(self, message: Message) -> None:
        if self._judge(message.peer, message.data) is not Verdict.ACCEPT:
            return
        advert = NodeAdvert.decode(message.data)
        self._known[message.peer] = advert.addresses
        self._known.move_to_end(message.peer)
        self._wallets[advert.wallet] = None
        self._wallets.move_to_end(advert.wallet)
        for held in (self._known, self._wallets):
            while len(held) > MAX_KNOWN:
                held.popitem(last=False)


async def read_json(relay: httpx.AsyncClient, path: str, timeout_s: float = RELAY_TIMEOUT_S) -> object:
    """A relay's answer, bounded before it is parsed. Raises httpx.HTTPError, ValueError."""
    async with relay.stream("GET", path, timeout=timeout_s) as reply:
        reply.raise_for_status()
        return await json_of(reply, most=MAX_REPLY_BYTES)
