"""The relay as a peer: others bootstrap from it, it hears who is alive, and it carries gossip for who has only HTTP."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import anyio
import structlog

from gesso.announce import judge_advert, judge_announcement
from gesso.transport.port import Message, PeerId, Transport, Validator, Verdict
from gesso.transport.signed import Signed
from gesso_protocol.errors import GessoError, UsageError
from gesso_protocol.ids import Address
from gesso_protocol.messages import TOPIC_NODES, TOPIC_TASKS, NodeAdvert, TaskAnnouncement
from gesso_relay.hub import Hub
from gesso_relay.presence import Presence
from gesso_relay.voice import Voice

_REJOIN_S = 1.0


Known: TypeAlias = Callable[[str], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Topic:
    """`about` says what a good message is about, `known` whether that cost its author anything: of other things less
    is said over HTTP, where it is given."""

    validator: Validator
    about: Callable[[bytes], str]
    heard: Callable[[Message], None] = lambda _message: None
    known: Known | None = None


Topics: TypeAlias = Mapping[str, Topic]


class GossipBridge:
    """Takes part in some topics, and is their mouth and ear for users without a peer of their own."""

    def __init__(self, transport: Transport, topics: Topics) -> None:
        self._transport = transport
        self._topics = topics
        self._voice = Voice()
        self._log = structlog.get_logger("gesso.relay.gossip")
        self.heard: Hub[Message] = Hub()
        self.counts = dict.fromkeys(topics, 0)
        """Messages heard on each topic since the start."""

    @property
    def addresses(self) -> tuple[str, ...]:
        return self._transport.addresses

    @property
    def peers(self) -> int:
        return len(self._transport.peers())

    async def run(self) -> None:
        """Listen to all topics until cancelled; being in a topic is also what lets this peer pass messages on."""
        async with anyio.create_task_group() as group:
            for name, topic in self._topics.items():
                group.start_soon(self._keep, name, topic)

    async def say(self, message: Signed, client: str) -> bool:
        """Put somebody's message on the air; false when the same words were said a moment ago. A requester that lost
        its result asks the node for it by announcing the task again: words of others about the task do not stand for
        its own. Raises UsageError for what the topic does not take, RateLimited when too much is said."""
        topic = self._topics[message.topic]
        verdict = topic.validator(message.peer, message.data)
        if verdict is not Verdict.ACCEPT:
            reason = "is of another network" if verdict is Verdict.IGNORE else "is not what its topic is for"
            raise UsageError(f"this message {reason}", hint="GET /v1/network names this network")
        if not self._voice.is_new(message.topic, message.data):
            return False
        if topic.known is not None:
            about = topic.about(message.data)
            self._voice.admit(message.topic, about, client, known=await topic.known(about))
        await self._transport.pass_on(message.encode())
        self._voice.heard(message.topic, message.data)
        return True

    async def _keep(self, name: str, topic: Topic) -> None:
        # Blobs and index are worth having without gossip, so its failures end nothing else.
        while True:
            try:
                await self._listen(name, topic)
            except GessoError as error:
                self._log.warning("gossip.lost", topic=name, reason=error.message)
            await anyio.sleep(_REJOIN_S)

    async def _listen(self, name: str, topic: Topic) -> None:
        async with self._transport.subscribe(name, validator=topic.validator) as messages:
            async for message in messages:
                self.counts[name] += 1
                self._voice.heard(name, message.data)
                topic.heard(message)
                self.heard.publish(name, message)


def network_topics(chain_id: int, board: Address, presence: Presence, task_known: Known, node_known: Known) -> Topics:
    """The two topics of one network; who is alive is noted in `presence`. Tasks and wallets are known that the index
    has."""
    log = structlog.get_logger("gesso.relay.gossip")

    def task(_peer: PeerId, data: bytes) -> Verdict:
        return judge_announcement(data, chain_id, board)

    def node(peer: PeerId, data: bytes) -> Verdict:
        return judge_advert(peer, data, chain_id)

    def note(message: Message) -> None:
        advert = NodeAdvert.decode(message.data)
        if presence.note(message.peer, advert, time.monotonic()):
            log.debug("node.heard", node=advert.wallet.short)

    return {
        TOPIC_TASKS: Topic(task, lambda data: str(TaskAnnouncement.decode(data).task), known=task_known),
        TOPIC_NODES: Topic(node, lambda data: str(NodeAdvert.decode(data).wallet), note, node_known),
    }
