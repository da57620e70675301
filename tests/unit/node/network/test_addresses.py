"""Where nodes are: nobody can speak for another, and who names a foreign wallet is not listened to."""

from __future__ import annotations

import pytest

from gesso.chain import NodeRecord, NodeState
from gesso.transport.binding import peer_id_bytes
from gesso.transport.memory import MemoryHub, MemoryTransport
from gesso.transport.port import Message, PeerId, Verdict
from gesso_node.network.addresses import Addresses
from gesso_protocol.ids import Address
from gesso_protocol.messages import NodeAdvert
from gesso_protocol.money import Wei
from gesso_protocol.policy import Offer

pytestmark = pytest.mark.anyio
WALLET = Address("0x" + "0d" * 20)


class ChainDouble:
    """Says which peer the wallet is."""

    chain_id = 31337

    def __init__(self, peer: PeerId) -> None:
        self._peer = peer

    async def node(self, _: Address) -> NodeRecord:
        return NodeRecord(
            address=WALLET, peer_id=peer_id_bytes(self._peer), capabilities=bytes(32), stake=Wei(1), weight=1,
            state=NodeState.ACTIVE, standing=0, unbond_at=0,
        )  # fmt: skip


def advert(peer: PeerId, *addresses: str, chain_id: int = 31337) -> bytes:
    return NodeAdvert(
        chain_id=chain_id, wallet=WALLET, peer=peer, addresses=addresses, offer=Offer(kinds=("text_to_image",)),
        sent_at=1,
    ).encode()  # fmt: skip


async def test_a_stranger_that_names_a_wallet_does_not_hide_it() -> None:
    hub = MemoryHub()
    async with MemoryTransport(hub) as mine, MemoryTransport(hub) as node, MemoryTransport(hub) as stranger:
        addresses = Addresses(ChainDouble(node.peer_id), mine, ())  # type: ignore[arg-type]
        said = advert(node.peer_id, *node.addresses)
        lie = advert(node.peer_id, *stranger.addresses)
        own = advert(stranger.peer_id, *stranger.addresses)
        for author, data in ((node.peer_id, said), (stranger.peer_id, lie), (stranger.peer_id, own)):
            addresses._note(Message(author, data))
        assert await addresses.connect(WALLET) == node.peer_id
        assert stranger.peer_id not in {known.peer for known in mine.peers()}
        assert addresses._judge(stranger.peer_id, lie) is Verdict.REJECT
        assert addresses._judge(node.peer_id, advert(node.peer_id, chain_id=1)) is Verdict.IGNORE
        assert addresses._judge(node.peer_id, b"{") is Verdict.REJECT
