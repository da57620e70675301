"""Gossip with limits: settings on purpose, one validator a topic, bounded rates, and no message that ends the host.

py-libp2p 0.8.1 beats every 120 s by default, drops what exceeds ten messages a second without a word, keeps peer scores
but acts on none, and runs each message in a task whose exception (a key that does not parse is enough) ends pubsub.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import trio
from libp2p.abc import IHost, INetConn
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID, PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.validators import signature_validator

from gesso.transport._libp2p.limits import Limits
from gesso.transport._libp2p.swarm import GuardedSwarm
from gesso.transport.port import MAX_GOSSIP_BYTES, Message, PeerId, Validator, Verdict
from gesso.transport.rates import KeyedRates

_log = logging.getLogger(__name__)

_MAX_RPC_BYTES = 1024 * 1024
_MAX_FIELD_BYTES = 128
_MAX_TOPIC_TEXT = 128
_MAX_TOPICS_PER_PEER = 32
_MAX_TOPICS_PER_RPC = 64


@dataclass(slots=True)
class Topic:
    """One joined topic: who judges its messages and where the good ones go (`deliver` never blocks)."""

    validator: Validator
    deliver: Callable[[Message], None]
    refused: int = 0


class GuardedPubsub(Pubsub):
    def __init__(self, host: IHost, swarm: GuardedSwarm, limits: Limits) -> None:
        super().__init__(
            host,
            make_router(),
            strict_signing=True,
            max_inbound_rpc_size=_MAX_RPC_BYTES,
            max_subscriptions_per_peer=_MAX_TOPICS_PER_PEER,
            max_subscriptions_per_rpc=_MAX_TOPICS_PER_RPC,
        )
        self._swarm = swarm
        self._topics: dict[str, Topic] = {}
        self._forwarders = KeyedRates(limits.peer_rate)
        self._authors = KeyedRates(limits.author_rate)

    def joined(self, name: str) -> Topic | None:
        return self._topics.get(name)

    async def join(self, name: str, topic: Topic) -> None:
        self._topics[name] = topic
        self.set_topic_validator(name, self._judge, False)
        await self.subscribe(name)

    async def leave(self, name: str) -> None:
        self._topics.pop(name, None)
        self.remove_topic_validator(name)
        await self.unsubscribe(name)

    def mesh(self, name: str) -> int:
        assert isinstance(self.router, GossipSub)
        return len(self.router.mesh.get(name, ()))

    def moved(self, ended: INetConn) -> None:
        """One of several connections to a peer has ended. When it carried our gossip, open a stream on another.

        The library keeps writing into the dead stream, or, having nothing to write, stays deaf and mute to that peer.
        """
        peer = ended.muxed_conn.peer_id
        stream = self.peers.get(peer)
        if stream is not None and stream.muxed_conn is ended.muxed_conn:
            self._handle_dead_peer(peer)

    def _handle_dead_peer(self, peer_id: ID) -> None:
        """A stream has died. While its peer is still connected, what that peer has joined stays known.

        The library forgets it even when a newer stream has just said it; the peer says it once only, and would never
        hear from us again.
        """
        joined = [name for name, peers in self.peer_topics.items() if peer_id in peers]
        super()._handle_dead_peer(peer_id)
        if joined and self._peer_is_connected(peer_id):
            for name in joined:
                self.peer_topics.setdefault(name, set()).add(peer_id)
            self._peer_subscription_count[peer_id] = len(joined)

    def notify_subscriptions(self, publish_message: rpc_pb2.Message) -> None:
        """Straight into our inbox: the library's own queue holds 32 messages and loses the rest silently."""
        author = ID(publish_message.from_id)
        topic = self._topics.get(publish_message.topicIDs[0])
        if topic is not None and author != self.my_id:
            signed = publish_message.SerializeToString()
            topic.deliver(Message(PeerId(str(author)), publish_message.data, signed))

    async def pass_on(self, signed: bytes) -> None:
        """A message of somebody who is no peer, as if we had written it: judged by its topic, then sent to the mesh."""
        await self.push_msg(self.my_id, rpc_pb2.Message.FromString(signed))

    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        if msg_forwarder == self.my_id:
            await super().push_msg(msg_forwarder, msg)
            return
        try:
            if self._admit(msg_forwarder, msg):
                await super().push_msg(msg_forwarder, msg)
        except Exception as error:
            _log.debug("gossip from %s broke: %r", msg_forwarder, error)
            self._refuse(msg_forwarder, msg, "gossip that cannot be read")

    def _admit(self, forwarder: ID, msg: rpc_pb2.Message) -> bool:
        """Cheapest check first; what costs a signature check comes last."""
        if not _well_formed(msg):
            return self._refuse(forwarder, msg, "malformed gossip")
        now_s = trio.current_time()
        if not self._forwarders.take(str(forwarder), now_s):
            return self._refuse(forwarder, msg, "more gossip than allowed")
        if self._is_msg_seen(msg):
            return False
        if not self._authors.take(msg.from_id.hex(), now_s):
            # The forwarder may be innocent: its own count of this author can differ from ours.
            return self._refuse(None, msg, "")
        if not signature_validator(msg):
            return self._refuse(forwarder, msg, "gossip with a bad signature")
        return True

    def _refuse(self, blamed: ID | None, msg: rpc_pb2.Message, reason: str) -> bool:
        topic = self._topics.get(msg.topicIDs[0]) if msg.topicIDs else None
        if topic is not None:
            topic.refused += 1
        if blamed is not None:
            self._swarm.strike(blamed, reason)
        return False

    def _judge(self, forwarder: ID, msg: rpc_pb2.Message) -> bool:
        topic = self._topics.get(msg.topicIDs[0])
        author = ID(msg.from_id)
        if topic is None or author == self.my_id:
            return topic is not None or author == self.my_id
        try:
            verdict = topic.validator(PeerId(str(author)), msg.data)
        except Exception as error:
            _log.debug("the validator of %s failed: %r", msg.topicIDs[0], error)
            verdict = Verdict.REJECT
        if verdict is Verdict.ACCEPT:
            return True
        return self._refuse(forwarder if verdict is Verdict.REJECT else None, msg, "gossip that its topic rejects")

    def handle_subscription(self, origin_id: ID, sub_message: rpc_pb2.RPC.SubOpts) -> None:
        if len(sub_message.topicid) > _MAX_TOPIC_TEXT:
            self._swarm.strike(origin_id, "an endless topic name")
            return
        super().handle_subscription(origin_id, sub_message)


def make_router() -> GossipSub:
    """Every value on purpose: the library's defaults are for another network or for none."""
    return GossipSub(
        protocols=[PROTOCOL_ID_V11, PROTOCOL_ID],
        degree=6,
        degree_low=4,
        degree_high=12,
        time_to_live=60,
        gossip_window=3,
        gossip_history=5,
        heartbeat_initial_delay=0.1,
        heartbeat_interval=1,
        do_px=False,
        # Ours is `_admit`: it counts, it blames, and publishing says so.
        spam_protection_enabled=False,
        # Adapts degrees to metrics that are not measured.
        adaptive_gossip_enabled=False,
    )


def _well_formed(msg: rpc_pb2.Message) -> bool:
    return (
        len(msg.topicIDs) == 1
        and len(msg.topicIDs[0]) <= _MAX_TOPIC_TEXT
        and len(msg.data) <= MAX_GOSSIP_BYTES
        and 0 < len(msg.from_id) <= _MAX_FIELD_BYTES
        and len(msg.seqno) == 8
        and 0 < len(msg.signature) <= _MAX_FIELD_BYTES
        and len(msg.key) <= _MAX_FIELD_BYTES
    )
