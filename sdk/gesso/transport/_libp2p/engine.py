"""One run of the network side: from an open port to its end. Restarts are somebody else's business (`..libp2p`)."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import trio
from libp2p.abc import INetConn, INetStream
from libp2p.custom_types import TProtocol
from libp2p.host.exceptions import StreamFailure
from libp2p.peer.id import ID
from libp2p.tools.anyio_service import background_trio_service

from gesso.transport._libp2p.addresses import Multiaddr, listen_address, split_address
from gesso.transport._libp2p.gossip import GuardedPubsub, Topic
from gesso.transport._libp2p.host import build_host
from gesso.transport._libp2p.limits import Limits
from gesso.transport._libp2p.muxer import BoundedYamux
from gesso.transport._libp2p.streams import TooLongError, receive_reply, receive_request, send_reply, send_request
from gesso.transport._libp2p.thread import TrioThread
from gesso.transport._libp2p.watch import ConnectionWatch
from gesso.transport.exchange import Reply, Serving, Status, answer
from gesso.transport.keys import NodeKey
from gesso.transport.port import PeerId
from gesso_protocol.errors import MessageTooLarge, PeerUnreachable, TransportError

_log = logging.getLogger(__name__)

_STEADY_S = 10.0
"""A connection that lived this long was a good one: the next redial starts from the shortest delay again."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the network side shall be. The mappings stay the caller's and are read at every start."""

    key: NodeKey
    listen_host: str
    listen_port: int
    announce: tuple[str, ...]
    limits: Limits
    topics: Mapping[str, Topic]
    served: Mapping[str, Serving]
    wanted: Mapping[PeerId, tuple[str, ...]]
    on_up: Callable[[PeerId, str], None]
    on_down: Callable[[PeerId], None]
    """Both are called in asyncio."""


@dataclass(slots=True)
class _Wanted:
    addresses: tuple[str, ...]
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    lost: trio.Event = field(default_factory=trio.Event)


class Engine:
    def __init__(self, plan: Plan, thread: TrioThread) -> None:
        self._plan = plan
        self._thread = thread
        self._limits = plan.limits
        self._wanted: dict[ID, _Wanted] = {}
        self._misses: dict[INetConn, int] = {}
        self._settling = trio.Lock()
        self._host, self._swarm = build_host(plan.key, plan.limits, plan.announce)
        self._pubsub = GuardedPubsub(self._host, self._swarm, plan.limits)
        self._swarm.register_notifee(ConnectionWatch(up=self._up, down=self._down))
        self.port = 0

    async def run(self, started: Callable[[], None]) -> None:
        listen = listen_address(self._plan.listen_host, self._plan.listen_port)
        try:
            async with (
                self._host.run([listen]),
                background_trio_service(self._pubsub.router),  # type: ignore[arg-type]  # GossipSub is one, IRouter not
                background_trio_service(self._pubsub),
                trio.open_nursery() as self._nursery,
            ):
                await self._check_listening()
                await self._pubsub.wait_until_ready()
                for name in tuple(self._plan.topics):
                    await self.settle(name)
                self.catch_up()
                self._nursery.start_soon(self._beat_for_ever)
                started()
                await self._thread.stopping.wait()
                self._nursery.cancel_scope.cancel()
        finally:
            # The library leaves both behind: a thread for every pubsub, and the sockets that it dialled. Others learn
            # from a closed socket, at once, that we are gone.
            self._pubsub.seen_messages.stop()
            self._swarm.tcp.close_all()

    def catch_up(self) -> None:
        """Be what is wanted by now. Asked once more by who starts us: until it knows us, it tells us of no change."""
        for protocol in tuple(self._plan.served):
            self.serve(protocol)
        for name in tuple(self._plan.topics):
            self._nursery.start_soon(self.settle, name)
        wanted = dict(self._plan.wanted)
        for peer, addresses in wanted.items():
            self.keep(peer, addresses)
        for known in tuple(self._wanted):
            if PeerId(str(known)) not in wanted:
                self._nursery.start_soon(self.release, PeerId(str(known)))

    async def _check_listening(self) -> None:
        """The library only logs when it cannot listen; we connect to ourselves before anybody is told an address."""
        ports = [int(port) for a in self._host.get_transport_addrs() if (port := a.value_for_protocol("tcp"))]
        wanted = f"{self._plan.listen_host}:{self._plan.listen_port}"
        if not ports:
            raise TransportError(
                f"cannot listen on {wanted}", hint="another program uses the port, or the address is not ours"
            )
        self.port = ports[0]
        here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._plan.listen_host, self._plan.listen_host)  # noqa: S104 - looked up
        try:
            with trio.fail_after(self._limits.handshake_timeout_s):
                probe = await trio.open_tcp_stream(here, self.port)
        except (OSError, trio.TooSlowError) as error:
            raise TransportError(f"{wanted} does not accept connections: {error}") from None
        await probe.aclose()

    # --- connections

    async def connect(self, address: str, timeout_s: float) -> PeerId:
        where, peer = split_address(address)
        if peer == self._host.get_id():
            raise PeerUnreachable("this is our own address")
        if not self._swarm.get_connections(peer):
            await self._dial(peer, where, timeout_s)
        return PeerId(str(peer))

    def keep(self, peer: PeerId, addresses: tuple[str, ...]) -> None:
        """Redials `peer` whenever it is gone, with growing delays, until `release`."""
        peer_id = ID.from_base58(peer)
        known = self._wanted.get(peer_id)
        if known is not None:
            known.addresses = addresses
            return
        wanted = self._wanted[peer_id] = _Wanted(addresses)
        self._nursery.start_soon(self._keep, peer_id, wanted)

    async def release(self, peer: PeerId) -> None:
        peer_id = ID.from_base58(peer)
        wanted = self._wanted.pop(peer_id, None)
        if wanted is not None:
            wanted.scope.cancel()
        await self._swarm.drop(peer_id)

    async def _keep(self, peer: ID, wanted: _Wanted) -> None:
        delay_s = self._limits.redial_min_s
        with wanted.scope:
            while True:
                wanted.lost = trio.Event()
                if self._swarm.get_connections(peer):
                    began_s = trio.current_time()
                    await wanted.lost.wait()
                    if trio.current_time() - began_s > _STEADY_S:
                        delay_s = self._limits.redial_min_s
                await trio.sleep(delay_s * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
                if not await self._redial(peer, wanted.addresses):
                    delay_s = min(delay_s * 2, self._limits.redial_max_s)

    async def _redial(self, peer: ID, addresses: tuple[str, ...]) -> bool:
        for address in addresses:
            if self._swarm.get_connections(peer):
                return True
            try:
                await self._dial(peer, split_address(address)[0], self._limits.handshake_timeout_s * 2)
                return True
            except TransportError as error:
                _log.debug("redial of %s: %s", peer, error)
        return False

    async def _dial(self, peer: ID, where: Multiaddr, timeout_s: float) -> None:
        try:
            with trio.fail_after(timeout_s):
                # Not `dial_peer`: after one failed dial it refuses to try again for 60 s, even when the peer is back.
                await self._swarm.dial_addr(where, peer)
        except trio.TooSlowError:
            raise PeerUnreachable(f"{peer} did not answer at {where} within {timeout_s:g} s") from None
        except Exception as error:
            raise PeerUnreachable(f"{peer} cannot be reached at {where}: {_reason(error)}") from None

    async def _beat_for_ever(self) -> None:
        while True:
            await trio.sleep(self._limits.heartbeat_s)
            await self.beat()

    async def beat(self) -> None:
        """Pings every connection at once; the silent ones are ended. The library would keep them for ever."""
        async with trio.open_nursery() as nursery:
            for conns in tuple(self._swarm.connections.values()):
                for conn in conns:
                    nursery.start_soon(self._ping, conn)
        self._misses = {conn: missed for conn, missed in self._misses.items() if not conn.is_closed}

    async def _ping(self, conn: INetConn) -> None:
        muxed = conn.muxed_conn
        assert isinstance(muxed, BoundedYamux)
        try:
            answered = await muxed.ping(self._limits.heartbeat_timeout_s)
        except Exception:
            answered = False
        if answered:
            self._misses.pop(conn, None)
            return
        missed = self._misses[conn] = self._misses.get(conn, 0) + 1
        if missed >= self._limits.heartbeat_misses:
            _log.info("peer %s is silent; dropped", muxed.peer_id)
            await muxed.abort()

    def _up(self, conn: INetConn) -> None:
        where = next((str(address) for address in conn.get_transport_addresses()), "")
        self._thread.tell(self._plan.on_up, PeerId(str(conn.muxed_conn.peer_id)), where)

    def _down(self, conn: INetConn) -> None:
        peer = conn.muxed_conn.peer_id
        if self._swarm.get_connections(peer):
            self._pubsub.moved(conn)
            return
        self._thread.tell(self._plan.on_down, PeerId(str(peer)))
        if peer in self._wanted:
            self._wanted[peer].lost.set()

    # --- gossip

    async def publish(self, topic: str, data: bytes) -> None:
        await self._pubsub.publish(topic, data)

    async def pass_on(self, signed: bytes) -> None:
        await self._pubsub.pass_on(signed)

    async def settle(self, name: str) -> None:
        """Into the topic or out of it, as is wanted by now: who leaves and comes back at once is in, whichever of the
        two is done first."""
        async with self._settling:
            known, wanted = self._pubsub.joined(name), self._plan.topics.get(name)
            if known is not None and known is not wanted:
                await self._pubsub.leave(name)
            if wanted is not None and known is not wanted:
                await self._pubsub.join(name, wanted)

    def meshes(self) -> dict[str, int]:
        return {name: self._pubsub.mesh(name) for name in self._plan.topics}

    # --- requests

    async def request(self, peer: PeerId, protocol: str, data: bytes, timeout_s: float, max_reply: int) -> Reply:
        peer_id = ID.from_base58(peer)
        if not self._swarm.get_connections(peer_id):
            raise PeerUnreachable(f"not connected to {peer}")
        try:
            with trio.fail_after(timeout_s):
                return await self._exchange(peer_id, protocol, data, max_reply)
        except trio.TooSlowError:
            raise PeerUnreachable(f"{peer} did not answer {protocol} within {timeout_s:g} s") from None
        except TooLongError:
            raise MessageTooLarge(f"the answer on {protocol} is larger than {max_reply} bytes") from None
        except StreamFailure as error:
            if self._swarm.get_connections(peer_id):
                return Reply(Status.UNSERVED)
            raise PeerUnreachable(f"{peer} went away: {_reason(error)}") from None
        except TransportError:
            raise
        except Exception as error:
            raise PeerUnreachable(f"{peer} went away: {_reason(error)}") from None

    async def _exchange(self, peer: ID, protocol: str, data: bytes, max_reply: int) -> Reply:
        stream = await self._open(peer, protocol)
        whole = False
        try:
            await send_request(stream, data)
            reply = await receive_reply(stream, max_reply=max_reply)
            whole = True
            return reply
        finally:
            await _finish(stream, whole)

    async def _open(self, peer: ID, protocol: str) -> INetStream:
        """A new stream. Opened in a task of its own: the library loses a stream whose opening is cancelled half way."""
        offer, take = trio.open_memory_channel[INetStream | Exception](1)
        self._nursery.start_soon(self._open_for, offer, peer, protocol)
        with take:
            opened = await take.receive()
        if isinstance(opened, Exception):
            raise opened
        return opened

    async def _open_for(self, offer: trio.MemorySendChannel[INetStream | Exception], peer: ID, protocol: str) -> None:
        try:
            opened: INetStream | Exception = await self._host.new_stream(peer, [TProtocol(protocol)])
        except Exception as error:
            opened = error
        try:
            offer.send_nowait(opened)
        except trio.BrokenResourceError:
            # Whoever asked has left meanwhile.
            if not isinstance(opened, Exception):
                await _finish(opened, False)

    def serve(self, protocol: str) -> None:
        serving = self._plan.served[protocol]

        async def handle(stream: INetStream) -> None:
            whole = False
            try:
                whole = await self._serve_one(serving, stream)
            finally:
                await _finish(stream, whole)

        self._host.set_stream_handler(TProtocol(protocol), handle)

    async def _serve_one(self, serving: Serving, stream: INetStream) -> bool:
        peer = PeerId(str(stream.muxed_conn.peer_id))
        refusal = serving.admit(peer)
        if refusal is not None:
            return await self._send(stream, refusal)
        try:
            return await self._send(stream, await self._reply(serving, peer, stream))
        finally:
            serving.release()

    async def _reply(self, serving: Serving, peer: PeerId, stream: INetStream) -> Reply:
        """A peer that begins a request must finish it in time: its place is one of few."""
        try:
            with trio.fail_after(self._limits.stream_timeout_s):
                data = await receive_request(stream, max_request=serving.max_request)
        except TooLongError:
            return Reply(Status.TOO_LARGE)
        except trio.TooSlowError:
            return Reply(Status.BUSY)
        return await self._thread.ask(lambda: answer(serving.handler, peer, data))

    async def _send(self, stream: INetStream, reply: Reply) -> bool:
        """Under a deadline: a reader that stalls must not hold us."""
        with trio.move_on_after(self._limits.stream_timeout_s) as scope:
            await send_reply(stream, reply)
        return not scope.cancelled_caught


async def _finish(stream: INetStream, whole: bool) -> None:
    """Closes a stream that ended well and resets one that did not, so that the other side never waits for us."""
    with trio.move_on_after(1) as scope:
        scope.shield = True
        try:
            await (stream.close() if whole else stream.reset())
        except Exception as error:
            _log.debug("closing a stream: %r", error)


def _reason(error: BaseException) -> str:
    return (str(error) or type(error).__name__)[:200]
