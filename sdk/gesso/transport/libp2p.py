"""`Transport` over py-libp2p, which runs on trio in a thread of its own. Nothing of trio or libp2p leaks out of here.

The asyncio side holds what the peer wants to be (topics, protocols, peers to keep); a network side that dies is started
again with back-off and becomes that once more. Calls that were under way fail with `PeerUnreachable`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from gesso.transport.exchange import Serving, unwrap
from gesso.transport.inbox import Inbox, TopicSubscription
from gesso.transport.keys import load_or_create_key
from gesso.transport.port import (
    DEFAULT_QUEUE,
    DEFAULT_RATE,
    MAX_REQUEST_BYTES,
    Fault,
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
)
from gesso.transport.rates import Outbox
from gesso.transport.signed import Signed
from gesso_protocol.errors import MessageTooLarge, MissingExtra, PeerUnreachable, TransportError

if TYPE_CHECKING:
    from gesso.transport._libp2p.engine import Engine
    from gesso.transport._libp2p.gossip import Topic
    from gesso.transport._libp2p.limits import Limits
    from gesso.transport._libp2p.thread import TrioThread

_log = logging.getLogger(__name__)

T = TypeVar("T")

_EVENT_QUEUE = 256
_RESTART_MIN_S = 0.2
_RESTART_MAX_S = 10.0
_STEADY_S = 60.0


class Libp2pSettings(BaseModel):
    """`listen_port` 0 takes any free port. `announce`: addresses to advertise instead of those listened on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key_file: Path
    listen_host: str = "0.0.0.0"  # noqa: S104 - a peer wants to be reached
    listen_port: int = Field(default=0, ge=0, le=65535)
    bootstrap: tuple[str, ...] = Field(default=(), max_length=32)
    announce: tuple[str, ...] = Field(default=(), max_length=8)
    heartbeat_s: float = Field(default=5.0, gt=0, le=300)
    publish_per_s: float = Field(default=100.0, gt=0, le=1000)


class Libp2pTransport:
    """One libp2p host. `limits` is for tests and special networks; the defaults suit a node."""

    def __init__(self, settings: Libp2pSettings, *, limits: Limits | None = None) -> None:
        self._settings = settings
        self._key = load_or_create_key(settings.key_file)
        self._limits = limits
        self._port = settings.listen_port
        self._addresses: tuple[str, ...] = ()
        self._topics: dict[str, Topic] = {}
        self._inboxes: dict[str, Inbox[Message]] = {}
        self._served: dict[str, Serving] = {}
        self._wanted: dict[PeerId, tuple[str, ...]] = {}
        self._peers: dict[PeerId, PeerInfo] = {}
        self._watchers: weakref.WeakSet[Inbox[TransportEvent]] = weakref.WeakSet()
        self._outbox = Outbox(Rate(settings.publish_per_s, max(1, int(settings.publish_per_s * 2))))
        self._thread: TrioThread | None = None
        self._engine: Engine | None = None
        self._restarting: asyncio.Task[None] | None = None
        self._restart_s = _RESTART_MIN_S
        self._began_s = 0.0
        self._restarts = 0
        self._last_fault: str | None = None
        self._open = False

    async def __aenter__(self) -> Self:
        for address in self._settings.bootstrap:
            where, _, name = address.rpartition("/p2p/")
            if not where or not name:
                raise PeerUnreachable(f"bootstrap address {address[:200]!r} does not name its peer")
            peer = PeerId(name)
            self._wanted[peer] = (*self._wanted.get(peer, ()), address)
        self._open = True
        try:
            await self._start()
        except BaseException:
            self._open = False
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        if self._restarting is not None:
            self._restarting.cancel()
            await asyncio.gather(self._restarting, return_exceptions=True)
        if self._thread is not None:
            await self._thread.stop()
        for inbox in self._inboxes.values():
            inbox.close()
        for watcher in self._watchers:
            watcher.close()

    @property
    def peer_id(self) -> PeerId:
        return self._key.peer_id

    @property
    def addresses(self) -> tuple[str, ...]:
        return self._addresses

    async def connect(self, address: str, *, timeout_s: float = 10.0) -> PeerId:
        peer = await self._call(lambda engine: engine.connect(address, timeout_s))
        self._wanted[peer] = (address,)
        if self._thread is not None and self._engine is not None:
            self._thread.soon(self._engine.keep, peer, (address,))
        return peer

    async def disconnect(self, peer: PeerId) -> None:
        self._wanted.pop(peer, None)
        with contextlib.suppress(PeerUnreachable):
            await self._call(lambda engine: engine.release(peer))

    def peers(self) -> tuple[PeerInfo, ...]:
        return tuple(self._peers.values())

    async def publish(self, topic: str, data: bytes) -> None:
        self._outbox.admit(topic, data)
        await self._call(lambda engine: engine.publish(topic, data))

    async def pass_on(self, signed: bytes) -> None:
        message = Signed.decode(signed)
        self._outbox.admit(message.topic, message.data)
        await self._call(lambda engine: engine.pass_on(signed))

    def subscribe(self, topic: str, *, validator: Validator, queue: int = DEFAULT_QUEUE) -> TopicSubscription:
        from gesso.transport._libp2p.gossip import Topic

        if not self._open:
            raise PeerUnreachable("this transport is not open")
        if topic in self._topics:
            raise TransportError(f"{topic} is subscribed already")
        inbox: Inbox[Message] = Inbox(queue)
        joined = self._topics[topic] = Topic(validator, inbox.put)
        self._inboxes[topic] = inbox
        joining = asyncio.create_task(self._call(lambda engine: engine.settle(topic)))
        # Nobody need wait for it; a network side that is down joins the topic when it starts.
        joining.add_done_callback(lambda task: task.cancelled() or task.exception())

        async def join() -> None:
            await asyncio.shield(joining)

        async def leave() -> None:
            joining.cancel()
            if self._topics.get(topic) is joined:
                del self._topics[topic], self._inboxes[topic]
                with contextlib.suppress(PeerUnreachable):
                    await self._call(lambda engine: engine.settle(topic))

        return TopicSubscription(inbox, join=join, leave=leave)

    async def request(
        self, peer: PeerId, protocol: str, data: bytes, *, timeout_s: float = 10.0, max_reply: int = MAX_REQUEST_BYTES
    ) -> bytes:
        if len(data) > MAX_REQUEST_BYTES:
            raise MessageTooLarge(f"{len(data)} bytes are too many for a request; {MAX_REQUEST_BYTES} are allowed")
        reply = await self._call(lambda engine: engine.request(peer, protocol, data, timeout_s, max_reply))
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
        self._served[protocol] = Serving(handler, max_request, max_concurrent, per_peer_rate)
        if self._thread is not None and self._engine is not None:
            self._thread.soon(self._engine.serve, protocol)

    def events(self) -> AsyncIterator[TransportEvent]:
        watcher: Inbox[TransportEvent] = Inbox(_EVENT_QUEUE)
        self._watchers.add(watcher)
        return watcher

    def health(self) -> Health:
        engine = self._engine
        meshes = engine.meshes() if engine is not None else {}
        topics = {name: self._topic_health(name, meshes.get(name, 0)) for name in self._topics}
        return Health(
            running=engine is not None,
            peer=self.peer_id,
            addresses=self._addresses,
            peers=len(self._peers),
            topics=topics,
            restarts=self._restarts,
            last_fault=self._last_fault,
        )

    def _topic_health(self, name: str, mesh: int) -> TopicHealth:
        inbox = self._inboxes[name]
        return TopicHealth(mesh, len(inbox), inbox.delivered, inbox.dropped, self._topics[name].refused)

    async def _call(self, work: Callable[[Engine], Awaitable[T]]) -> T:
        thread, engine = self._thread, self._engine
        if thread is None or engine is None:
            raise PeerUnreachable("the network side is not running")
        return await thread.call(lambda: work(engine))

    async def _start(self) -> None:
        try:
            from gesso.transport._libp2p.engine import Engine, Plan
            from gesso.transport._libp2p.limits import Limits
            from gesso.transport._libp2p.thread import TrioThread
        except ModuleNotFoundError as error:
            raise MissingExtra("p2p") from error
        settings = self._settings
        plan = Plan(
            key=self._key,
            listen_host=settings.listen_host,
            listen_port=self._port,
            announce=settings.announce,
            limits=self._limits or Limits(heartbeat_s=settings.heartbeat_s),
            topics=self._topics,
            served=self._served,
            wanted=self._wanted,
            on_up=self._up,
            on_down=self._down,
        )
        engines: list[Engine] = []

        def main(thread: TrioThread, started: Any) -> Coroutine[Any, Any, None]:
            engine = Engine(plan, thread)
            engines.append(engine)
            return engine.run(started)

        thread = TrioThread(main, ended=self._ended, name=f"gesso-libp2p-{self.peer_id[-6:]}")
        await thread.start()
        self._thread, self._engine = thread, engines[0]
        thread.soon(self._engine.catch_up)
        self._port = engines[0].port
        self._addresses = self._advertised()
        self._began_s = time.monotonic()

    def _advertised(self) -> tuple[str, ...]:
        tail = f"/p2p/{self.peer_id}"
        if self._settings.announce:
            return tuple(a if "/p2p/" in a else a + tail for a in self._settings.announce)
        host = self._settings.listen_host
        if host in ("0.0.0.0", "::"):  # noqa: S104 - only compared
            host = _own_address()
        family = "ip6" if ":" in host else "ip4"
        return (f"/{family}/{host}/tcp/{self._port}{tail}",)

    def _up(self, peer: PeerId, where: str) -> None:
        if peer not in self._peers:
            self._peers[peer] = PeerInfo(peer, (f"{where}/p2p/{peer}",) if where else ())
            self._tell(PeerUp(peer))

    def _down(self, peer: PeerId) -> None:
        if self._peers.pop(peer, None) is not None:
            self._tell(PeerDown(peer))

    def _tell(self, event: TransportEvent) -> None:
        for watcher in self._watchers:
            watcher.put(event)

    def _ended(self, error: BaseException | None) -> None:
        """The network side is gone: say so, forget its peers, and bring it back unless we are closing."""
        self._engine = None
        for peer in tuple(self._peers):
            self._down(peer)
        if not self._open:
            return
        self._last_fault = f"{type(error).__name__}: {error}"[:300]
        _log.error("the network side died and is restarted: %s", self._last_fault)
        self._tell(Fault(self._last_fault))
        self._restarting = asyncio.create_task(self._restart())

    async def _restart(self) -> None:
        if time.monotonic() - self._began_s > _STEADY_S:
            self._restart_s = _RESTART_MIN_S
        while self._open:
            await asyncio.sleep(self._restart_s)
            self._restart_s = min(self._restart_s * 2, _RESTART_MAX_S)
            try:
                await self._start()
            except Exception as error:
                self._last_fault = f"{type(error).__name__}: {error}"[:300]
                _log.error("the network side did not come back: %s", self._last_fault)
            else:
                self._restarts += 1
                return


def _own_address() -> str:
    """The address of the interface that leads out; loopback when there is none. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
