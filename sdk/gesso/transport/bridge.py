"""`Gossip` for somebody who has only HTTP: a relay carries the bytes both ways, `/v1/gossip` on its side.

The relay is not trusted: what we say is signed by our own key before it leaves, and what we hear counts only with its
author's signature. A relay can be silent, late, or choose what it carries, like any neighbour in a mesh.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
from collections import OrderedDict
from types import TracebackType
from typing import Self

import httpx

from gesso.sse import TIMEOUT, data_lines
from gesso.transport.inbox import Inbox, TopicSubscription
from gesso.transport.keys import NodeKey
from gesso.transport.port import (
    DEFAULT_QUEUE,
    Health,
    Message,
    PeerId,
    Rate,
    TopicHealth,
    Validator,
    Verdict,
)
from gesso.transport.rates import Outbox
from gesso.transport.signed import MAX_SIGNED_BYTES, Signed
from gesso_protocol.errors import EncodingInvalid, PeerUnreachable, RateLimited, TransportError

PUBLISH_RATE = Rate(per_s=10, burst=100)
_RETRY_MIN_S = 0.2
_RETRY_MAX_S = 5.0
_MAX_SEEN = 4096
_MAX_LINE_BYTES = 2 * MAX_SIGNED_BYTES


class BridgedGossip:
    """`client` is of the relay and stays the caller's. A key of our own is made when none is given."""

    def __init__(
        self, client: httpx.AsyncClient, *, key: NodeKey | None = None, publish_rate: Rate = PUBLISH_RATE
    ) -> None:
        self._client = client
        self._key = key or NodeKey.create()
        self._outbox = Outbox(publish_rate)
        self._topics: dict[str, _Ear] = {}
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        for ear in tuple(self._topics.values()):
            await ear.close()

    @property
    def peer_id(self) -> PeerId:
        return self._key.peer_id

    @property
    def addresses(self) -> tuple[str, ...]:
        """None: who has only HTTP cannot be dialled."""
        return ()

    async def publish(self, topic: str, data: bytes) -> None:
        self._require_open()
        self._outbox.admit(topic, data)
        signed = Signed.by(self._key, topic, data).encode()
        try:
            reply = await self._client.post("/v1/gossip", content=signed)
        except httpx.HTTPError as error:
            raise PeerUnreachable(f"the relay did not take the message: {type(error).__name__}") from error
        if reply.status_code == 429:
            raise RateLimited("the relay has had enough messages from us")
        if reply.status_code >= 500:
            raise PeerUnreachable(f"the relay cannot pass the message on now (status {reply.status_code})")
        if reply.status_code >= 300:
            raise TransportError(f"the relay refused the message with status {reply.status_code}")

    def subscribe(self, topic: str, *, validator: Validator, queue: int = DEFAULT_QUEUE) -> TopicSubscription:
        self._require_open()
        if topic in self._topics:
            raise TransportError(f"{topic} is subscribed already")
        ear = self._topics[topic] = _Ear(self._client, topic, validator, Inbox(queue), self.peer_id)

        async def leave() -> None:
            if self._topics.get(topic) is ear:
                del self._topics[topic]
            await ear.close()

        return TopicSubscription(ear.inbox, join=ear.joined, leave=leave)

    def health(self) -> Health:
        topics = {name: ear.health() for name, ear in self._topics.items()}
        peers = max((health.mesh for health in topics.values()), default=0)
        return Health(not self._closed, self.peer_id, self.addresses, peers, topics)

    def _require_open(self) -> None:
        if self._closed:
            raise PeerUnreachable("this transport is not open")


class _Ear:
    """Listens to one topic through the relay's stream, again and again, until it is closed."""

    def __init__(
        self, client: httpx.AsyncClient, topic: str, validator: Validator, inbox: Inbox[Message], own: PeerId
    ) -> None:
        self.inbox = inbox
        self._client = client
        self._topic = topic
        self._validator = validator
        self._own = own
        self._refused = 0
        self._seen: OrderedDict[tuple[PeerId, bytes], None] = OrderedDict()
        self._listening = False
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Nobody need wait for it: a relay that is away is asked again.
        self._first.add_done_callback(lambda first: first.cancelled() or first.exception())
        self._task = asyncio.create_task(self._listen_for_ever())

    async def joined(self) -> None:
        """Returns once the relay's stream is open. Raises PeerUnreachable when the relay does not answer at first."""
        await asyncio.shield(self._first)

    async def close(self) -> None:
        self.inbox.close()
        self._first.cancel()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def health(self) -> TopicHealth:
        inbox = self.inbox
        return TopicHealth(int(self._listening), len(inbox), inbox.delivered, inbox.dropped, self._refused)

    async def _listen_for_ever(self) -> None:
        pause_s = _RETRY_MIN_S
        while True:
            try:
                await self._listen()
                pause_s, reason = _RETRY_MIN_S, "it ended the stream"
            except (httpx.HTTPError, EncodingInvalid, TransportError) as error:
                reason = str(error) or type(error).__name__
            self._listening = False
            if not self._first.done():
                self._first.set_exception(PeerUnreachable(f"the relay's gossip cannot be heard: {reason}"))
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _RETRY_MAX_S)

    async def _listen(self) -> None:
        asked = {"topic": self._topic}
        async with self._client.stream("GET", "/v1/gossip", params=asked, timeout=TIMEOUT) as reply:
            if reply.status_code != 200:
                raise TransportError(f"it answers with status {reply.status_code}")
            self._listening = True
            if not self._first.done():
                self._first.set_result(None)
            async for line in data_lines(reply, max_bytes=_MAX_LINE_BYTES):
                self._hear(line)

    def _hear(self, line: bytes) -> None:
        try:
            raw = base64.b64decode(line, validate=True)
            message = Signed.decode(raw)
        except (binascii.Error, EncodingInvalid):
            self._refused += 1
            return
        if message.peer == self._own or self._is_known(message):
            return
        if message.topic == self._topic and self._accepts(message):
            self.inbox.put(Message(message.peer, message.data, raw))
        else:
            self._refused += 1

    def _is_known(self, message: Signed) -> bool:
        name = (message.peer, message.seqno)
        known = name in self._seen
        self._seen[name] = None
        self._seen.move_to_end(name)
        if len(self._seen) > _MAX_SEEN:
            self._seen.popitem(last=False)
        return known

    def _accepts(self, message: Signed) -> bool:
        with contextlib.suppress(Exception):  # a validator that fails has not accepted
            return self._validator(message.peer, message.data) is Verdict.ACCEPT
        return False
