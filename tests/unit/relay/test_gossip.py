"""The relay as a peer: it speaks for users who have only HTTP, and hears who is alive."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from gesso.transport.keys import peer_id_bytes
from gesso.transport.memory import MemoryHub, MemoryTransport
from gesso.transport.port import PeerId, Verdict
from gesso_protocol.ids import Address
from gesso_protocol.messages import TOPIC_NODES, TOPIC_TASKS, NodeAdvert, TaskAnnouncement
from gesso_protocol.policy import Offer

from .fakechain import BOARD, CHAIN_ID, NODE, FakeChain, registered, terms
from .running import Running, running

pytestmark = pytest.mark.anyio


def accept(_peer: PeerId, _data: bytes) -> Verdict:
    return Verdict.ACCEPT


async def connected(relay: Running, peer: MemoryTransport) -> None:
    """The peer bootstraps from what the relay's network document says."""
    document = await relay.json("/v1/network")
    await peer.connect(document["network"]["bootstrap"][0])


async def test_an_announcement_over_http_reaches_peers_once(tmp_path: Path) -> None:
    hub = MemoryHub()
    async with MemoryTransport(hub) as mine, MemoryTransport(hub) as node, running(tmp_path, transport=mine) as relay:
        await connected(relay, node)
        made = TaskAnnouncement.of(CHAIN_ID, BOARD, terms(1))
        with anyio.fail_after(10):
            async with node.subscribe(TOPIC_TASKS, validator=accept) as heard:
                replies = [await relay.client.post("/v1/announce", content=made.encode()) for _ in range(2)]
                assert [reply.json()["new"] for reply in replies] == [True, False]
                message = await anext(heard)
        assert TaskAnnouncement.decode(message.data) == made
        assert message.peer == mine.peer_id


async def test_announcements_of_other_networks_are_refused(tmp_path: Path) -> None:
    hub = MemoryHub()
    async with MemoryTransport(hub) as mine, running(tmp_path, transport=mine) as relay:
        for chain_id, board in ((1, BOARD), (CHAIN_ID, Address("0x" + "77" * 20))):
            made = TaskAnnouncement.of(chain_id, board, terms(1)).encode()
            reply = await relay.client.post("/v1/announce", content=made)
            assert (reply.status_code, reply.json()["code"]) == (400, "usage")


async def test_a_registered_node_that_is_heard_is_online(tmp_path: Path) -> None:
    hub, chain = MemoryHub(), FakeChain()
    async with MemoryTransport(hub) as mine, MemoryTransport(hub) as node, MemoryTransport(hub) as liar:
        chain.mine([registered(peer_id=peer_id_bytes(node.peer_id))])
        async with running(tmp_path, chain, transport=mine) as relay:
            await relay.indexed()
            await connected(relay, liar)
            await connected(relay, node)

            def advert(peer: str) -> bytes:
                made = NodeAdvert(chain_id=CHAIN_ID, wallet=NODE, peer=peer, offer=Offer(), free_slots=2, sent_at=1)
                return made.encode()

            with anyio.fail_after(10):
                async with node.subscribe(TOPIC_NODES, validator=accept):
                    await liar.publish(TOPIC_NODES, advert(node.peer_id))
                    await liar.publish(TOPIC_NODES, b"\0")
                    assert (await relay.json("/v1/nodes"))["nodes"][0]["online"] is False
                    await node.publish(TOPIC_NODES, advert(node.peer_id))
                    while not (found := (await relay.json("/v1/nodes"))["nodes"][0])["online"]:
                        pass
            assert found["advert"]["free_slots"] == 2
            health = (await relay.json("/v1/health"))["gossip"]
            assert (health["running"], health["peers"] >= 1, health["heard_nodes"]) == (True, True, 1)
