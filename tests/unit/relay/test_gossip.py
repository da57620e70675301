"""The relay as a peer: it speaks for users who have only HTTP, and hears who is alive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from gesso.announce import GossipAnnouncer
from gesso.transport.bridge import BridgedGossip
from gesso.transport.keys import NodeKey, peer_id_bytes
from gesso.transport.memory import MemoryHub, MemoryTransport
from gesso.transport.port import PeerId, Verdict
from gesso.transport.signed import Signed
from gesso_protocol.errors import RateLimited
from gesso_protocol.ids import Address
from gesso_protocol.messages import TOPIC_NODES, TOPIC_TASKS, NodeAdvert, TaskAnnouncement
from gesso_protocol.policy import Offer
from gesso_relay.voice import MAX_SAID_BY_ONE, MAX_SAID_OF_ONE, SELDOM, UNKNOWN, Voice

from .fakechain import BOARD, CHAIN_ID, NODE, FakeChain, registered, submitted, terms
from .running import GENEROUS, Running, running

pytestmark = pytest.mark.anyio


def accept(_peer: PeerId, _data: bytes) -> Verdict:
    return Verdict.ACCEPT


async def connected(relay: Running, peer: MemoryTransport) -> None:
    """The peer bootstraps from what the relay's network document says."""
    document = await relay.json("/v1/network")
    await peer.connect(document["network"]["bootstrap"][0])


async def test_an_announcement_over_http_reaches_peers_once_in_the_name_of_its_author(tmp_path: Path) -> None:
    hub = MemoryHub()
    async with MemoryTransport(hub) as mine, MemoryTransport(hub) as node, running(tmp_path, transport=mine) as relay:
        await connected(relay, node)
        made, author = TaskAnnouncement.of(CHAIN_ID, BOARD, terms(1)), NodeKey.create()
        with anyio.fail_after(60):
            async with node.subscribe(TOPIC_TASKS, validator=accept) as heard:
                said = [Signed.by(author, TOPIC_TASKS, made.encode()).encode() for _ in range(2)]
                replies = [await relay.client.post("/v1/gossip", content=one) for one in said]
                assert [reply.json()["new"] for reply in replies] == [True, False]
                message = await anext(heard)
        assert TaskAnnouncement.decode(message.data) == made
        assert message.peer == author.peer_id


async def test_who_has_only_http_announces_and_hears_as_a_peer_would(tmp_path: Path) -> None:
    hub = MemoryHub()
    async with MemoryTransport(hub) as mine, MemoryTransport(hub) as node, running(tmp_path, transport=mine) as relay:
        await connected(relay, node)
        async with (
            BridgedGossip(relay.client) as user,
            node.subscribe(TOPIC_TASKS, validator=accept) as at_node,
            user.subscribe(TOPIC_TASKS, validator=accept) as at_user,
        ):
            made = [TaskAnnouncement.of(CHAIN_ID, BOARD, terms(nonce)) for nonce in (1, 2)]
            with anyio.fail_after(60):
                await GossipAnnouncer(user).announce(made[0])
                assert (
                    TaskAnnouncement.decode((await anext(at_node)).data) == made[0]
                )  # no address that none could dial
                await GossipAnnouncer(node).announce(made[1])
                heard = TaskAnnouncement.decode((await anext(at_user)).data)
                assert (heard.task, heard.peer, heard.reply_to) == (made[1].task, node.peer_id, node.addresses)


@pytest.mark.parametrize(
    ("topic", "data", "code"),
    [
        (TOPIC_TASKS, TaskAnnouncement.of(1, BOARD, terms(1)).encode(), "usage"),
        (TOPIC_TASKS, TaskAnnouncement.of(CHAIN_ID, Address("0x" + "77" * 20), terms(1)).encode(), "usage"),
        (TOPIC_TASKS, b"{}", "usage"),
        (TOPIC_NODES, b"{}", "usage"),
        ("gesso/other/1", b"x", "usage"),
    ],
    ids=["another chain", "another board", "no announcement", "no advert", "another topic"],
)
async def test_what_its_topic_does_not_take_is_not_put_on_the_air(
    tmp_path: Path, topic: str, data: bytes, code: str
) -> None:
    hub = MemoryHub()
    async with MemoryTransport(hub) as mine, MemoryTransport(hub) as node, running(tmp_path, transport=mine) as relay:
        await connected(relay, node)
        async with node.subscribe(topic, validator=accept):
            reply = await relay.client.post("/v1/gossip", content=Signed.by(NodeKey.create(), topic, data).encode())
            assert (reply.status_code, reply.json()["code"]) == (400, code)
            assert node.health().topics[topic].queued == 0


async def test_one_client_cannot_use_up_the_relay_s_voice(tmp_path: Path) -> None:
    few = GENEROUS.model_copy(update={"gossip_per_s": 0.01, "gossip_burst": 3})
    async with MemoryTransport(MemoryHub()) as mine, running(tmp_path, transport=mine, limits=few) as relay:
        statuses = []
        for nonce in range(4):
            made = TaskAnnouncement.of(CHAIN_ID, BOARD, terms(nonce)).encode()
            said = Signed.by(NodeKey.create(), TOPIC_TASKS, made).encode()
            statuses.append((await relay.client.post("/v1/gossip", content=said)).status_code)
        assert statuses == [202, 202, 202, 429]


async def test_nobody_s_words_about_a_task_stand_for_its_requester_s(tmp_path: Path) -> None:
    """A stranger repeats the task with its own addresses; who lost its result still asks the node for it."""
    async with MemoryTransport(MemoryHub()) as mine, running(tmp_path, transport=mine) as relay:

        async def say(**told: Any) -> Any:
            made = TaskAnnouncement.of(CHAIN_ID, BOARD, terms(1), **told).encode()
            said = Signed.by(NodeKey.create(), TOPIC_TASKS, made).encode()
            return (await relay.client.post("/v1/gossip", content=said)).json()

        peer = str(NodeKey.create().peer_id)
        assert (await say(peer=peer, reply_to=("/ip4/192.0.2.1/tcp/9",)))["new"] is True
        assert (await say())["new"] is True
        assert (await say())["new"] is False
        assert (await say(peer=peer))["code"] == "rate-limited"  # a few a client: they are all different


async def test_a_crowd_leaves_the_relay_a_voice_for_what_is_on_chain_and_for_who_seldom_speaks(tmp_path: Path) -> None:
    chain = FakeChain()
    chain.mine([submitted(7)])
    limits = GENEROUS.model_copy(update={"gossip_per_s": 1000.0, "gossip_burst": 1000})
    async with (
        MemoryTransport(MemoryHub()) as mine,
        running(tmp_path, chain, transport=mine, limits=limits, trust_forwarded_for=True) as relay,
    ):
        await relay.indexed()
        assert relay.relay._gossip is not None
        relay.relay._gossip._voice = Voice(clock=lambda: 100.0)

        async def say(nonce: int, client: str) -> int:
            made = TaskAnnouncement.of(CHAIN_ID, BOARD, terms(nonce)).encode()
            said = Signed.by(NodeKey.create(), TOPIC_TASKS, made).encode()
            reply = await relay.client.post("/v1/gossip", content=said, headers={"X-Forwarded-For": client})
            return reply.status_code

        heard = [await say(1000 * at + nonce, f"192.0.2.{at}") for at in range(1, 4) for nonce in range(40)]
        assert heard.count(202) == 3 * SELDOM.burst + UNKNOWN.burst
        assert await say(8, "203.0.113.9") == 202  # has not spoken lately
        assert await say(7, "192.0.2.1") == 202  # one of the crowd, of a task that is on chain


def test_words_about_one_thing_are_few_and_each_client_s_fewer() -> None:
    voice = Voice(clock=lambda: 0.0)
    for client in range(MAX_SAID_OF_ONE // MAX_SAID_BY_ONE):
        for _ in range(MAX_SAID_BY_ONE):
            voice.admit("topic", "task", str(client), known=True)
        with pytest.raises(RateLimited):
            voice.admit("topic", "task", str(client), known=True)
    with pytest.raises(RateLimited):
        voice.admit("topic", "task", "another", known=True)
    voice.admit("topic", "another task", "another", known=True)


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

            with anyio.fail_after(60):
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
