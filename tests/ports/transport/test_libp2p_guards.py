"""Each defect of py-libp2p 0.8.1 that touches us, as an attack on our transport. Each succeeds on the bare library."""

from __future__ import annotations

import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest
import transport_hostile as hostile
import trio
from libp2p.io.exceptions import IncompleteReadError
from libp2p.io.trio import TrioTCPStream
from libp2p.io.utils import read_exactly
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils import encode_varint_prefixed
from multiaddr import Multiaddr

from gesso.transport import MAX_GOSSIP_BYTES, PeerDown, PeerId, PeerUp, Rate, Verdict
from gesso.transport._libp2p.limits import Limits
from gesso.transport._libp2p.sockets import PatientStream
from gesso.transport.keys import NodeKey, peer_id_bytes
from gesso.transport.libp2p import Libp2pSettings, Libp2pTransport
from gesso_protocol.errors import PeerUnreachable, TransportError

pytestmark = pytest.mark.anyio
Eventually = Callable[[Callable[[], bool]], Awaitable[None]]
ECHO = "/gesso/test/1"
TOPIC = "gesso/test/1"
MESHSUB = "/meshsub/1.1.0"


async def echo(_peer: PeerId, data: bytes) -> bytes:
    return data


def accept(_peer: PeerId, _data: bytes) -> Verdict:
    return Verdict.ACCEPT


@pytest.fixture
def new(tmp_path: Path) -> Callable[..., Libp2pTransport]:
    def make(name: str = "victim", *, port: int = 0, limits: Limits | None = None) -> Libp2pTransport:
        settings = Libp2pSettings(key_file=tmp_path / name, listen_host="127.0.0.1", listen_port=port)
        return Libp2pTransport(settings, limits=limits)

    return make


New = Callable[..., Libp2pTransport]


async def assert_unharmed(victim: Libp2pTransport, new: New) -> None:
    """An honest peer gets in and gets its answer, and the network side never had to be restarted."""
    async with new("honest") as honest:
        with anyio.fail_after(30):
            await honest.connect(victim.addresses[0])
            assert await honest.request(victim.peer_id, ECHO, b"hello") == b"hello"
    assert victim.health().running
    assert victim.health().restarts == 0


# --- who is it?


async def test_a_peer_without_encryption_is_refused(new: New) -> None:
    async def dial(address: str) -> str:
        try:
            async with hostile.connected(address, hostile.plaintext_host()):
                return "connected"
        except Exception:
            return "refused"

    async with new() as victim:
        victim.serve(ECHO, echo)
        assert await hostile.attack(dial, victim.addresses[0]) == "refused"
        assert victim.peers() == ()
        await assert_unharmed(victim, new)


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
            for bad in (unsigned, forged):
                await pubsub.router.publish(pubsub.my_id, bad)
            await pubsub.publish(TOPIC, b"honest")
            await trio.sleep(1)

    async with new() as victim, victim.subscribe(TOPIC, validator=accept) as messages:
        victim.serve(ECHO, echo)
        async with anyio.create_task_group() as group:
            group.start_soon(hostile.attack, forge, victim.addresses[0])
            with anyio.fail_after(30):
                assert (await anext(aiter(messages))).data == b"honest"
            await eventually(lambda: victim.health().topics[TOPIC].refused == 2)
        assert victim.health().topics[TOPIC].queued == 0
        await assert_unharmed(victim, new)


# --- floods


async def test_idle_sockets_do_not_keep_honest_peers_out(new: New) -> None:
    limits = Limits(max_handshakes=8, max_connections=64, max_connections_per_ip=32, handshake_timeout_s=20)
    async with new(limits=limits) as victim:
        victim.serve(ECHO, echo)
        port = int(victim.addresses[0].split("/")[4])
        idle = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(100)]
        try:
            await assert_unharmed(victim, new)
        finally:
            for sock in idle:
                sock.close()


async def test_connections_that_ended_give_their_place_back(new: New, eventually: Eventually) -> None:
    async def come_and_go(address: str) -> None:
        async with hostile.connected(address):
            pass

    limits = Limits(max_connections=4, max_connections_per_ip=4)
    async with new(limits=limits) as victim:
        victim.serve(ECHO, echo)
        for _ in range(6):
            await hostile.attack(come_and_go, victim.addresses[0])
            await eventually(lambda: not victim.peers())
        await assert_unharmed(victim, new)


async def test_one_address_gets_its_share_and_no_more(new: New, eventually: Eventually) -> None:
    async def crowd(address: str) -> list[bool]:
        alive: list[bool] = []
        tried: list[None] = []
        everybody = trio.Event()

        def counted() -> None:
            tried.append(None)
            if len(tried) == 6:
                everybody.set()

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                host = hostile.noise_host()

                async def member(host: hostile.BasicHost = host) -> None:
                    inside = False
                    try:
                        async with hostile.connected(address, host):
                            inside = True
                            counted()
                            # nobody leaves, and so makes room, before all have come
                            await everybody.wait()
                            await trio.sleep(1.5)
                            alive.append(bool(host.get_network().connections))
                    except Exception:
                        alive.append(False)
                        if not inside:
                            counted()

                nursery.start_soon(member)
                await trio.sleep(0.1)
        return alive

    async with new(limits=Limits(max_connections_per_ip=3)) as victim:
        alive = await hostile.attack(crowd, victim.addresses[0])
        assert sum(alive) == 3
        await eventually(lambda: not victim.peers())


async def test_one_peer_s_idle_streams_do_not_starve_the_others(new: New) -> None:
    async def hoard(address: str) -> int:
        opened = 0
        async with hostile.connected(address) as host:
            for _ in range(40):
                try:
                    with trio.fail_after(1):
                        await hostile.open_stream(host, address, ECHO)
                    opened += 1
                except Exception:
                    continue
        return opened

    limits = Limits(max_streams_per_peer=8, stream_timeout_s=0.5)
    async with new(limits=limits) as victim:
        victim.serve(ECHO, echo, max_concurrent=64, per_peer_rate=Rate(1000, 1000))
        async with anyio.create_task_group() as group:
            group.start_soon(hostile.attack, hoard, victim.addresses[0])
            await assert_unharmed(victim, new)
        await assert_unharmed(victim, new)


async def test_a_topic_flood_is_cut_off_and_its_peer_banned(new: New, eventually: Eventually) -> None:
    async def flood(address: str) -> None:
        async with hostile.gossiping(address, TOPIC) as pubsub:
            for number in range(400):
                await pubsub.publish(TOPIC, b"spam %d" % number)
            await trio.sleep(1)

    limits = Limits(peer_rate=Rate(5, 20), patience=Rate(1, 10))
    async with new(limits=limits) as victim, victim.subscribe(TOPIC, validator=accept, queue=1000):
        victim.serve(ECHO, echo)
        events = victim.events()
        await hostile.attack(flood, victim.addresses[0])
        with anyio.fail_after(30):
            spammer = await anext(events)
            assert isinstance(spammer, PeerUp)
            assert await anext(events) == PeerDown(spammer.peer)
        health = victim.health().topics[TOPIC]
        assert health.queued <= 40
        assert health.refused >= 10
        await assert_unharmed(victim, new)


async def test_an_author_who_floods_through_others_is_limited_without_blaming_them(new: New) -> None:
    async with (
        new("author") as author,
        new("between") as between,
        new("victim", limits=Limits(author_rate=Rate(0.1, 5))) as victim,
        between.subscribe(TOPIC, validator=accept) as passed_on,
        victim.subscribe(TOPIC, validator=accept),
        author.subscribe(TOPIC, validator=accept),
    ):
        await author.connect(between.addresses[0])
        await between.connect(victim.addresses[0])
        with anyio.fail_after(30):
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


# --- sizes


@pytest.mark.parametrize("announced", [2**31, 1025])
async def test_a_request_that_announces_too_much_is_refused_before_it_is_read(new: New, announced: int) -> None:
    async def lie(address: str) -> bytes:
        async with hostile.connected(address) as host:
            stream = await hostile.open_stream(host, address, ECHO)
            await stream.write(struct.pack(">I", announced) + b"x" * 100)
            return await read_exactly(stream, 5)

    async with new() as victim:
        victim.serve(ECHO, echo, max_request=1024)
        assert await hostile.attack(lie, victim.addresses[0]) == struct.pack(">BI", 4, 0)
        await assert_unharmed(victim, new)


async def test_an_answer_that_announces_too_much_is_refused_before_it_is_read(new: New) -> None:
    async def lie(stream: hostile.INetStream) -> None:
        await read_exactly(stream, 4)
        await stream.write(struct.pack(">BI", 0, 2**31) + b"x" * 100)

    await with_hostile_server(new, lie, "larger than")


async def test_an_answer_with_an_unknown_outcome_is_a_typed_error(new: New) -> None:
    async def babble(stream: hostile.INetStream) -> None:
        await stream.write(b"\xff" * 5)

    await with_hostile_server(new, babble, "went away")


async def test_an_answer_that_stops_half_way_is_a_typed_error(new: New) -> None:
    async def stop(stream: hostile.INetStream) -> None:
        await stream.write(struct.pack(">BI", 0, 10) + b"half")
        await stream.close()

    await with_hostile_server(new, stop, "went away")


async def with_hostile_server(
    new: New, behave: Callable[[hostile.INetStream], Awaitable[None]], complaint: str
) -> None:
    """Our transport asks a bare host that answers with `behave`."""
    where: list[str] = []
    ready, done = anyio.Event(), trio.Event()

    async with new() as asker, anyio.create_task_group() as group:
        tokens: list[trio.lowlevel.TrioToken] = []

        async def server() -> None:
            host = hostile.noise_host()
            host.set_stream_handler(hostile.TProtocol(ECHO), behave)
            async with host.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]):
                where.extend(str(address) for address in host.get_addrs())
                tokens.append(trio.lowlevel.current_trio_token())
                anyio.from_thread.run_sync(ready.set)
                await done.wait()

        group.start_soon(hostile.attack, server)
        with anyio.fail_after(30):
            await ready.wait()
            peer = await asker.connect(where[0])
            with pytest.raises(TransportError, match=complaint):
                await asker.request(peer, ECHO, b"?", timeout_s=5, max_reply=1000)
        assert asker.health().running
        tokens[0].run_sync_soon(done.set)


async def test_gossip_that_is_too_large_or_malformed_is_refused(new: New, eventually: Eventually) -> None:
    async def babble(address: str) -> None:
        async with hostile.gossiping(address, TOPIC) as pubsub:
            await pubsub.publish(TOPIC, b"x" * (MAX_GOSSIP_BYTES + 1))
            await pubsub.publish([TOPIC, "another"], b"two topics")
            await pubsub.publish(TOPIC, b"honest")
            await trio.sleep(1)

    async with new() as victim, victim.subscribe(TOPIC, validator=accept) as messages:
        victim.serve(ECHO, echo)
        await hostile.attack(babble, victim.addresses[0])
        with anyio.fail_after(30):
            assert (await anext(aiter(messages))).data == b"honest"
        assert victim.health().topics[TOPIC].refused == 2
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


async def test_a_peer_that_ignores_flow_control_is_dropped(new: New, eventually: Eventually) -> None:
    async def push(address: str) -> int:
        sent = 0
        async with hostile.connected(address) as host:
            stream = await hostile.open_stream(host, address, ECHO)
            await stream.write(struct.pack(">I", 1) + b"x")  # a whole request: nobody reads what follows
            stream.muxed_stream.send_window = 1 << 40  # type: ignore[attr-defined]
            try:
                for _ in range(1024):
                    await stream.write(b"x" * 60_000)
                    sent += 60_000
            except Exception:
                return sent
        return sent

    async def hang(_peer: PeerId, data: bytes) -> bytes:
        if data == b"x":
            await anyio.sleep_forever()
        return data

    async with new(limits=Limits(max_buffered_per_peer=1024 * 1024)) as victim:
        victim.serve(ECHO, hang)
        sent = await hostile.attack(push, victim.addresses[0])
        assert sent < 16 * 1024 * 1024  # the rest of what left is in the kernel's buffers, not ours
        await eventually(lambda: not victim.peers())
        await assert_unharmed(victim, new)


# --- time


async def test_a_request_that_never_ends_gives_its_place_back(new: New) -> None:
    async def stall(address: str) -> bytes:
        async with hostile.connected(address) as host:
            stream = await hostile.open_stream(host, address, ECHO)
            await stream.write(struct.pack(">I", 1000) + b"only this")
            return await read_exactly(stream, 5)

    async with new(limits=Limits(stream_timeout_s=0.3)) as victim:
        victim.serve(ECHO, echo, max_concurrent=1)
        assert await hostile.attack(stall, victim.addresses[0]) == struct.pack(">BI", 2, 0)
        await assert_unharmed(victim, new)


async def test_an_answer_that_nobody_reads_gives_its_place_back(new: New) -> None:
    async def large(_peer: PeerId, data: bytes) -> bytes:
        asked.set()
        return data * 1_000_000 if data == b"x" else data

    async def stall(address: str) -> None:
        async with hostile.connected(address) as host:
            stream = await hostile.open_stream(host, address, ECHO)
            await stream.write(struct.pack(">I", 1) + b"x")
            await trio.sleep(6)  # the window is full after 256 KiB

    asked = anyio.Event()
    async with new(limits=Limits(stream_timeout_s=0.3)) as victim:
        victim.serve(ECHO, large, max_concurrent=1)
        async with new("honest") as honest, anyio.create_task_group() as group:
            await honest.connect(victim.addresses[0])
            group.start_soon(hostile.attack, stall, victim.addresses[0])
            await asked.wait()
            with anyio.fail_after(4):  # the library alone waits five seconds
                while True:
                    try:
                        assert await honest.request(victim.peer_id, ECHO, b"y") == b"y"
                        break
                    except TransportError:
                        await anyio.sleep(0.1)


async def test_a_peer_that_was_down_for_long_is_found_again_at_once(new: New, eventually: Eventually) -> None:
    """The library blacklists a peer for 60 s after one failed dial."""
    async with new("victim", limits=Limits(redial_min_s=0.05, redial_max_s=0.2)) as victim:
        async with new("peer") as peer:
            address = peer.addresses[0]
            await victim.connect(address)
        await eventually(lambda: not victim.peers())
        with pytest.raises(PeerUnreachable):
            await victim.connect(address, timeout_s=1)
        await anyio.sleep(0.5)  # long enough for several redials to fail
        async with new("peer", port=int(address.split("/")[4])):
            await eventually(lambda: len(victim.peers()) == 1)


# --- sockets


async def test_a_port_belongs_to_one_transport(new: New) -> None:
    async with new("first") as first:
        port = int(first.addresses[0].split("/")[4])
        with anyio.fail_after(30), pytest.raises(TransportError, match="cannot listen"):
            async with new("second", port=port):
                pass
        first.serve(ECHO, echo)
        await assert_unharmed(first, new)


async def test_a_bare_host_cannot_share_our_port(new: New) -> None:
    async def squat(address: str) -> int:
        host = hostile.noise_host()
        async with host.run([Multiaddr(address.rpartition("/p2p/")[0])]):
            return len(host.get_addrs())

    async with new() as victim:
        assert await hostile.attack(squat, victim.addresses[0]) == 0


async def test_a_frame_in_a_thousand_pieces_is_whole() -> None:
    async def pieces(kind: type[TrioTCPStream]) -> bytes:
        listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
        client = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        server = await listener.accept()
        async with listener, client, server:
            await server.send_all(b"x" * 1000)
            return await read_exactly(kind(_OneByteAtATime(client)), 1000)  # type: ignore[arg-type]

    with pytest.raises(IncompleteReadError):
        await hostile.attack(pieces, TrioTCPStream)
    assert await hostile.attack(pieces, PatientStream) == b"x" * 1000


class _OneByteAtATime:
    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self._stream.receive_some(1))


async def test_no_reader_may_ask_for_a_gigabyte() -> None:
    async def ask() -> None:
        one, other = trio.socket.socketpair()
        stream = trio.SocketStream(one)
        async with stream, trio.SocketStream(other):
            await PatientStream(stream).read(2**30)

    with pytest.raises(Exception, match="announced a frame"):
        await hostile.attack(ask)
