"""Peers inside one process and event loop, for tests and the one-process devnet. Same rules, no sockets."""

from __future__ import annotations

import asyncio
import hashlib
import time
import weakref
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self

from gesso.transport.exchange import Reply, Serving, Status, answer, unwrap
from gesso.transport.inbox import Inbox, TopicSubscription
from gesso.transport.keys import NodeKey
from gesso.transport.port import (
    DEFAULT_QUEUE,
    DEFAULT_RATE,
    MAX_REQUEST_BYTES,
    Handler,
    Health,
    Message,
    PeerDown,
    PeerId,
    PeerInfo,
    PeerUp,
    Rate,
    TopicHealth,
    TransportEvent,
    Validator,
    Verdict,
)
from gesso.transport.rates import KeyedRates, Outbox
from gesso.transport.signed import Signed
from gesso_protocol.errors import MessageTooLarge, PeerUnreachable, TransportError

PUBLISH_RATE = Rate(per_s=100, burst=200)
PEER_RATE = Rate(per_s=100, burst=200)
_EVENT_QUEUE = 256


class MemoryHub:
    """The wire between memory transports. `sever` and `heal` cut and restore it, as a fault would."""

    def __init__(self) -> None:
        self._online: dict[PeerId, MemoryTransport] = {}
        self._severed: set[frozenset[PeerId]] = set()
        self._keys: dict[PeerId, NodeKey] = {}

    def new_peer_id(self) -> PeerId:
        key = NodeKey(hashlib.sha256(b"gesso memory peer %d" % len(self._keys)).digest())
        self._keys[key.peer_id] = key
        return key.peer_id

    def sever(self, one: PeerId, other: PeerId) -> None:
        """Nothing passes between the two; both notice at once."""
        self._severed.add(frozenset((one, other)))
        self._unlink(one, other)

    def heal(self, one: PeerId, other: PeerId) -> None:
        self._severed.discard(frozenset((one, other)))
        for transport in self._online.values():
            transport._redial()

    def _join(self, transport: MemoryTransport) -> None:
        if transport.peer_id in self._online:
            raise TransportError(f"{transport.peer_id} is online already")
        self._online[transport.peer_id] = transport
        for other in self._online.values():
            other._redial()

    def _leave(self, transport: MemoryTransport) -> None:
        del self._online[transport.peer_id]
        for peer in tuple(transport._links):
            self._unlink(transport.peer_id, peer)

    def _find(self, asker: PeerId, wanted: PeerId) -> MemoryTransport | None:
        if frozenset((asker, wanted)) in self._severed:
            return None
        return self._online.get(wanted)

    def _unlink(self, one: PeerId, other: PeerId) -> None:
        for here, there in ((one, other), (other, one)):
            transport = self._online.get(here)
            if transport is not None:
                transport._lost(there)


class MemoryTransport:
    """`Transport` without a network. Give `peer_id` to come back as the same peer."""

    def __init__(
        self,
        hub: MemoryHub,
        *,
        peer_id: PeerId | None = None,
        publish_rate: Rate = PUBLISH_RATE,
        peer_rate: Rate = PEER_RATE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hub = hub
        self._peer_id = peer_id or hub.new_peer_id()
        self._clock = clock
        self._outbox = Outbox(publish_rate, clock)
        self._heard = KeyedRates(peer_rate)
        self._links: dict[PeerId, None] = {}
        self._wanted: set[PeerId] = set()
        self._topics: dict[str, _Topic] = {}
        self._served: dict[str, Serving] = {}
        self._watchers: weakref.WeakSet[Inbox[TransportEvent]] = weakref.WeakSet()
        self._tasks: set[asyncio.Task[Reply]] = set()
        self._open = False

    async def __aenter__(self) -> Self:
        self._open = True
        self._hub._join(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._open:
            return
        self._open = False
        self._hub._leave(self)
        for topic in self._topics.values():
            topic.inbox.close()
        for watcher in self._watchers:
            watcher.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def peer_id(self) -> PeerId:
        return self._peer_id

    @property
    def addresses(self) -> tuple[str, ...]:
        return (f"/memory/1/p2p/{self._peer_id}",)

    async def connect(self, address: str, *, timeout_s: float = 10.0) -> PeerId:
        self._require_open()
        del timeout_s  # nothing here takes time
        prefix, _, name = address.rpartition("/p2p/")
        peer = PeerId(name)
        if not prefix or not name or peer == self._peer_id:
            raise PeerUnreachable(f"{address[:200]!r} is no address of another peer")
        if not self._link(peer):
            raise PeerUnreachable(f"{name} does not answer at {prefix}")
        self._wanted.add(peer)
        return peer

    async def disconnect(self, peer: PeerId) -> None:
        self._wanted.discard(peer)
        self._hub._unlink(self._peer_id, peer)

    def peers(self) -> tuple[PeerInfo, ...]:
        return tuple(PeerInfo(peer, (f"/memory/1/p2p/{peer}",)) for peer in self._links)

    async def publish(self, topic: str, data: bytes) -> None:
        self._require_open()
        self._outbox.admit(topic, data)
        key = self._hub._keys.get(self._peer_id)
        signed = b"" if key is None else Signed.by(key, topic, data).encode()
        self._spread(topic, Message(self._peer_id, data, signed))
        await asyncio.sleep(0)

    async def pass_on(self, signed: bytes) -> None:
        self._require_open()
        message = Signed.decode(signed)
        self._outbox.admit(message.topic, message.data)
        heard = Message(message.peer, message.data, signed)
        if message.topic not in self._topics or self._hear(self._peer_id, message.topic, heard):
            self._spread(message.topic, heard)
        await asyncio.sleep(0)

    def subscribe(self, topic: str, *, validator: Validator, queue: int = DEFAULT_QUEUE) -> TopicSubscription:
        self._require_open()
        if topic in self._topics:
            raise TransportError(f"{topic} is subscribed already")
        joined = self._topics[topic] = _Topic(Inbox(queue), validator)

        async def join() -> None:
            await asyncio.sleep(0)

        async def leave() -> None:
            if self._topics.get(topic) is joined:
                del self._topics[topic]

        return TopicSubscription(joined.inbox, join=join, leave=leave)

    async def request(
        self, peer: PeerId, protocol: str, data: bytes, *, timeout_s: float = 10.0, max_reply: int = MAX_REQUEST_BYTES
    ) -> bytes:
        self._require_open()
        if len(data) > MAX_REQUEST_BYTES:
            raise MessageTooLarge(f"{len(data)} bytes are too many for a request; {MAX_REQUEST_BYTES} are allowed")
        other = self._hub._find(self._peer_id, peer) if peer in self._links else None
        if other is None:
            raise PeerUnreachable(f"not connected to {peer}")
        task = asyncio.create_task(other._answer(self._peer_id, protocol, data))
        other._tasks.add(task)
        task.add_done_callback(other._tasks.discard)
        try:
            async with asyncio.timeout(timeout_s):
                reply = await asyncio.shield(task)
        except TimeoutError:
            raise PeerUnreachable(f"{peer} did not answer {protocol} within {timeout_s:g} s") from None
        except asyncio.CancelledError:
            if other._open:
                raise
            raise PeerUnreachable(f"{peer} went away") from None
        finally:
            task.cancel()
        return unwrap(reply, protocol, max_reply=max_reply)

    def serve(
        self,
        protocol: str,
        handler: Handler,
        *,
        max_request: int = MAX_REQUEST_BYTES,
        max_concurrent: int = 16,
        per_peer_rate: Rate = DEFAULT_RATE,
    ) -> None:
        if protocol in self._served:
            raise TransportError(f"{protocol} is served already")
        self._served[protocol] = Serving(handler, max_request, max_concurrent, per_peer_rate, self._clock)

    def events(self) -> AsyncIterator[TransportEvent]:
        watcher: Inbox[TransportEvent] = Inbox(_EVENT_QUEUE)
        self._watchers.add(watcher)
        return watcher

    def health(self) -> Health:
        topics = {name: topic.health(self._mesh(name)) for name, topic in self._topics.items()}
        return Health(self._open, self._peer_id, self.addresses, len(self._links), topics)

    async def _answer(self, asker: PeerId, protocol: str, data: bytes) -> Reply:
        serving = self._served.get(protocol)
        if serving is None:
            return Reply(Status.UNSERVED)
        if len(data) > serving.max_request:
            return Reply(Status.TOO_LARGE)
        refusal = serving.admit(asker)
        if refusal is not None:
            return refusal
        try:
            return await answer(serving.handler, asker, data)
        finally:
            serving.release()

    def _require_open(self) -> None:
        if not self._open:
            raise PeerUnreachable("this transport is not open")

    def _link(self, peer: PeerId) -> bool:
        other = self._hub._find(self._peer_id, peer)
        if other is None:
            return False
        self._met(peer)
        other._met(self._peer_id)
        return True

    def _met(self, peer: PeerId) -> None:
        if peer not in self._links:
            self._links[peer] = None
            self._tell(PeerUp(peer))

    def _lost(self, peer: PeerId) -> None:
        if peer in self._links:
            del self._links[peer]
            self._tell(PeerDown(peer))

    def _redial(self) -> None:
        for peer in self._wanted - self._links.keys():
            self._link(peer)

    def _tell(self, event: TransportEvent) -> None:
        for watcher in self._watchers:
            watcher.put(event)

    def _mesh(self, topic: str) -> int:
        others = (self._hub._find(self._peer_id, peer) for peer in self._links)
        return sum(1 for other in others if other is not None and topic in other._topics)

    def _spread(self, topic: str, message: Message) -> None:
        """Floods along links; a peer passes on only what its own validator accepts."""
        seen = {self._peer_id, message.peer}
        frontier = [self]
        while frontier:
            here = frontier.pop()
            for peer in tuple(here._links):
                other = self._hub._find(here._peer_id, peer)
                if other is None or peer in seen:
                    continue
                seen.add(peer)
                if other._hear(here._peer_id, topic, message):
                    frontier.append(other)

    def _hear(self, forwarder: PeerId, topic: str, message: Message) -> bool:
        joined = self._topics.get(topic)
        if joined is None:
            return False
        if not self._heard.take(forwarder, self._clock()) or not joined.accepts(message):
            joined.refused += 1
            return False
        joined.inbox.put(message)
        return True


class _Topic:
    def __init__(self, inbox: Inbox[Message], validator: Validator) -> None:
        self.inbox = inbox
        self.refused = 0
        self._validator = validator

    def accepts(self, message: Message) -> bool:
        try:
            return self._validator(message.peer, message.data) is Verdict.ACCEPT
        except Exception:
            return False

    def health(self, mesh: int) -> TopicHealth:
        inbox = self.inbox
        return TopicHealth(mesh, len(inbox), inbox.delivered, inbox.dropped, self.refused)
