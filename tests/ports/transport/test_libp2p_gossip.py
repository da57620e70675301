"""Gossip that is forged, too much or malformed. Each attack succeeds on the bare py-libp2p 0.8.1."""

from __future__ import annotations

import dataclasses
import threading

import anyio
import pytest
import transport_hostile as hostile
import trio
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils import encode_varint_prefixed
from transport_victim import ECHO, TOPIC, Eventually, New, accept, assert_unharmed, echo

from gesso.transport import MAX_GOSSIP_BYTES, PeerDown, PeerId, PeerUp, Rate, Verdict
from gesso.transport._libp2p.limits import Limits
from gesso.transport.keys import NodeKey, peer_id_bytes
from gesso.transport.signed import Signed

MESHSUB = "/meshsub/1.1.0"

pytestmark = pytest.mark.anyio


async def test_gossip_without_or_with_a_forged_signature_is_not_delivered(new: New, eventually: Eventually) -> None:
    async def forge(address: str) -> None:
        async with hostile.gossiping(address, TOPIC) as pubsub:
            unsigned = rpc_pb2.Message(
                data=b"unsigned", topicIDs=[TOPIC], from_id=pubsub.my_id.to_bytes(), seqno=b"\x00" * 8
            )
            forged = rpc_pb2.Message()
            forged.CopyFrom(unsigned)
            forged.from_id = peer_id_bytes(NodeKey.create().peer_id)
            forged.data, forged.signature, forged.key = b"forged", b"\x30" * 70, b"\x08\x02\x12\x01x"
            borrowed = Signed.by(NodeKey.create(), TOPIC, b"another's")
            mine = dataclasses.replace(borrowed, peer=NodeKey.create().peer_id)
            for bad in (unsigned, forged, rpc_pb2.Message.FromString(mine.encode())):
                await pubsub.router.publish(pubsub.my_id, bad)
            await pubsub.publish(TOPIC, b"honest")
            await hostile.until(heard)

    heard = threading.Event()
    async with new() as victim, victim.subscribe(TOPIC, validator=accept) as messages:
        victim.serve(ECHO, echo)
        async with anyio.create_task_group() as group:
            group.start_soon(hostile.attack, forge, victim.addresses[0])
            with anyio.fail_after(60):
                assert (await anext(aiter(messages))).data == b"honest"
            await eventually(lambda: victim.health().topics[TOPIC].refused >= 3)  # it may bring them again
            heard.set()
        assert victim.health().topics[TOPIC].queued == 0
        await assert_unharmed(victim, new)


async def test_a_topic_flood_is_cut_off_and_its_peer_banned(new: New, eventually: Eventually) -> None:
    async def flood(address: str) -> None:
        async with hostile.gossiping(address, TOPIC) as pubsub:
            for number in range(400):
                await pubsub.publish(TOPIC, b"spam %d" % number)
            while pubsub.host.get_network().connections:  # noqa: ASYNC110 - whoever floods does not leave by itself
                await trio.sleep(0.05)

    limits = Limits(peer_rate=Rate(0.001, 20), patience=Rate(0.001, 10))
    async with new(limits=limits) as victim, victim.subscribe(TOPIC, validator=accept, queue=1000):
        victim.serve(ECHO, echo)
        events = victim.events()
        await hostile.attack(flood, victim.addresses[0])
        with anyio.fail_after(60):
            spammer = await anext(events)
            assert isinstance(spammer, PeerUp)
            assert await anext(events) == PeerDown(spammer.peer)
        health = victim.health().topics[TOPIC]
        assert health.queued <= 40
        assert health.refused >= 10
        await assert_unharmed(victim, new)


async def test_whoever_brings_what_a_topic_rejects_is_dropped(new: New) -> None:
    async def insist(address: str) -> None:
        async with hostile.gossiping(address, TOPIC) as pubsub:
            for number in range(20):
                await pubsub.publish(TOPIC, b"bad %d" % number)
            while pubsub.host.get_network().connections:  # noqa: ASYNC110 - the victim makes it true
                await trio.sleep(0.05)

    def reject(_peer: PeerId, _data: bytes) -> Verdict:
        return Verdict.REJECT

    async with new(limits=Limits(patience=Rate(0.001, 5))) as victim, victim.subscribe(TOPIC, validator=reject):
        victim.serve(ECHO, echo)
        await hostile.attack(insist, victim.addresses[0])
        await assert_unharmed(victim, new)


async def test_an_author_who_floods_through_others_is_limited_without_blaming_them(new: New) -> None:
    async with (
        new("author") as author,
        new("between") as between,
        new("victim", limits=Limits(author_rate=Rate(0.001, 5))) as victim,
        between.subscribe(TOPIC, validator=accept) as passed_on,
        victim.subscribe(TOPIC, validator=accept),
        author.subscribe(TOPIC, validator=accept),
    ):
        await author.connect(between.addresses[0])
        await between.connect(victim.addresses[0])
        with anyio.fail_after(60):
            while between.health().topics[TOPIC].mesh < 2 or author.health().topics[TOPIC].mesh < 1:  # noqa: ASYNC110
                await anyio.sleep(0.01)
            for number in range(20):
                await author.publish(TOPIC, str(number).encode())
            for _ in range(20):
                await anext(aiter(passed_on))
            while victim.health().topics[TOPIC].refused < 15:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        assert victim.health().topics[TOPIC].queued == 5
        assert between.peer_id in [info.peer for info in victim.peers()]


async def test_gossip_that_is_too_large_or_malformed_is_refused(new: New, eventually: Eventually) -> None:
    async def babble(address: str) -> None:
        async with hostile.gossiping(address, TOPIC) as pubsub:
            await pubsub.publish(TOPIC, b"x" * (MAX_GOSSIP_BYTES + 1))
            await pubsub.publish([TOPIC, "another"], b"two topics")
            await pubsub.publish(TOPIC, b"honest")
            await hostile.until(heard)

    heard = threading.Event()
    async with new() as victim, victim.subscribe(TOPIC, validator=accept) as messages:
        victim.serve(ECHO, echo)
        async with anyio.create_task_group() as group:
            group.start_soon(hostile.attack, babble, victim.addresses[0])
            with anyio.fail_after(60):
                assert (await anext(aiter(messages))).data == b"honest"
            await eventually(lambda: victim.health().topics[TOPIC].refused >= 2)  # it may bring them again
            heard.set()
        await assert_unharmed(victim, new)


@pytest.mark.parametrize(
    "frame",
    [
        b"\xff" * 64,
        encode_varint_prefixed(b"\xff" * 100),
        b"\xff\xff\xff\xff\xff\xff\x7f" + b"x" * 100,
        encode_varint_prefixed(
            rpc_pb2.RPC(
                publish=[
                    rpc_pb2.Message(
                        data=b"x", topicIDs=[TOPIC], from_id=b"\x12\x20" + b"y" * 32, seqno=b"0" * 8,
                        key=b"\x08\x63\x12\x01x", signature=b"z",
                    )
                ]
            ).SerializeToString()
        ),
        encode_varint_prefixed(rpc_pb2.RPC(publish=[rpc_pb2.Message()]).SerializeToString()),
        encode_varint_prefixed(
            rpc_pb2.RPC(
                subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid="t" * 100_000)]
            ).SerializeToString()
        ),
        encode_varint_prefixed(
            rpc_pb2.RPC(
                subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=str(n)) for n in range(5000)]
            ).SerializeToString()
        ),
    ],
    ids=["no length", "no protobuf", "endless", "bad key", "empty message", "long topic", "many topics"],
)  # fmt: skip
async def test_garbage_on_the_gossip_stream_harms_nobody(new: New, frame: bytes) -> None:
    async def throw(address: str) -> None:
        async with hostile.connected(address) as host:
            for _ in range(3):
                stream = await hostile.open_stream(host, address, MESHSUB)
                await stream.write(frame)
            await trio.sleep(0.3)

    async with new() as victim, victim.subscribe(TOPIC, validator=accept):
        victim.serve(ECHO, echo)
        await hostile.attack(throw, victim.addresses[0])
        await assert_unharmed(victim, new)
        assert victim.health().topics[TOPIC].queued == 0
