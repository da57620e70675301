"""Guards against defaults and bookkeeping of py-libp2p 0.8.1 that need no network to be seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2

from gesso.transport._libp2p import gossip
from gesso.transport._libp2p.engine import Engine
from gesso.transport._libp2p.gossip import GuardedPubsub, make_router
from gesso.transport._libp2p.host import build_host
from gesso.transport._libp2p.limits import Limits
from gesso.transport._libp2p.muxer import BoundedYamux
from gesso.transport._libp2p.sockets import PatientStream
from gesso.transport._libp2p.swarm import GuardedSwarm
from gesso.transport.exchange import Reply, Status
from gesso.transport.keys import NodeKey

TOPIC = "gesso/test/1"
Parts = tuple[GuardedPubsub, GuardedSwarm]


@pytest.fixture
def peer() -> ID:
    return ID.from_base58(NodeKey.create().peer_id)


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Parts]:
    monkeypatch.setattr(trio, "current_time", lambda: 0.0)
    host, swarm = build_host(NodeKey.create(), Limits(), ())
    pubsub = GuardedPubsub(host, swarm, Limits())
    # What the library would do in the background is not what is looked at here.
    pubsub._manager = SimpleNamespace(run_task=lambda *_, **__: None, is_running=True)  # type: ignore[assignment]
    try:
        yield pubsub, swarm
    finally:
        pubsub.seen_messages.stop()


def test_the_mesh_beats_every_second_and_drops_nothing_in_silence() -> None:
    router = make_router()
    assert router.heartbeat_interval == 1
    assert not router.spam_protection_enabled
    assert not router.do_px


def test_nobody_is_dialled_because_a_peer_told_an_address(parts: Parts) -> None:
    _, swarm = parts
    looked: list[object] = []
    swarm.get_total_connections = lambda: looked.append(swarm) or 0  # type: ignore[assignment,func-returns-value,method-assign]
    swarm.auto_connector._started = True
    trio.run(swarm.auto_connector.maybe_connect)
    assert looked == []


def test_an_endless_topic_name_is_a_strike_and_is_not_kept(parts: Parts, peer: ID, monkeypatch: Any) -> None:
    pubsub, swarm = parts
    struck: list[ID] = []
    monkeypatch.setattr(swarm, "strike", lambda who, _: struck.append(who))
    pubsub.handle_subscription(peer, rpc_pb2.RPC.SubOpts(subscribe=True, topicid="t" * 129))
    assert (pubsub.peer_topics, struck) == ({}, [peer])
    pubsub.handle_subscription(peer, rpc_pb2.RPC.SubOpts(subscribe=True, topicid="t" * 128))
    assert list(pubsub.peer_topics) == ["t" * 128]


def test_a_peer_joins_so_many_topics_and_no_more(parts: Parts, peer: ID) -> None:
    pubsub, _ = parts
    for number in range(200):
        pubsub.handle_subscription(peer, rpc_pb2.RPC.SubOpts(subscribe=True, topicid=f"t{number}"))
    assert len(pubsub.peer_topics) == gossip._MAX_TOPICS_PER_PEER


@pytest.mark.parametrize("connected", [True, False])
def test_what_a_peer_has_joined_outlives_one_of_its_streams(
    parts: Parts, peer: ID, connected: bool, monkeypatch: Any
) -> None:
    pubsub, _ = parts
    monkeypatch.setattr(pubsub, "_peer_is_connected", lambda _: connected)
    pubsub.handle_subscription(peer, rpc_pb2.RPC.SubOpts(subscribe=True, topicid=TOPIC))
    pubsub.peers[peer] = SimpleNamespace()  # type: ignore[assignment]
    pubsub._handle_dead_peer(peer)
    assert (peer in pubsub.peer_topics.get(TOPIC, ())) == connected


def test_gossip_moves_when_the_connection_that_carried_it_ends(parts: Parts, peer: ID, monkeypatch: Any) -> None:
    pubsub, _ = parts
    dead: list[ID] = []
    monkeypatch.setattr(pubsub, "_handle_dead_peer", dead.append)
    carrying, other = (SimpleNamespace(muxed_conn=SimpleNamespace(peer_id=peer)) for _ in range(2))
    pubsub.peers[peer] = SimpleNamespace(muxed_conn=carrying.muxed_conn)  # type: ignore[assignment]
    pubsub.moved(other)  # type: ignore[arg-type]
    assert dead == []
    pubsub.moved(carrying)  # type: ignore[arg-type]
    assert dead == [peer]


@pytest.mark.parametrize("others", [0, 1])
def test_gossip_is_told_of_a_connection_that_ended_while_another_lives(peer: ID, others: int) -> None:
    moved: list[object] = []
    told: list[object] = []
    engine = SimpleNamespace(
        _swarm=SimpleNamespace(get_connections=lambda _: [SimpleNamespace()] * others),
        _pubsub=SimpleNamespace(moved=moved.append),
        _thread=SimpleNamespace(tell=lambda *said: told.append(said)),
        _plan=SimpleNamespace(on_down=None),
        _wanted={},
    )
    ended = SimpleNamespace(muxed_conn=SimpleNamespace(peer_id=peer))
    Engine._down(engine, ended)  # type: ignore[arg-type]
    assert (len(moved), len(told)) == (others, 1 - others)


def test_frames_of_gossip_are_bounded_in_bytes_and_in_subscriptions(parts: Parts) -> None:
    pubsub, _ = parts
    assert (pubsub.max_inbound_rpc_size, pubsub.max_subscriptions_per_rpc) == (1024 * 1024, 64)


def test_what_others_say_our_address_is_is_not_believed() -> None:
    host, _ = build_host(NodeKey.create(), Limits(), ())
    assert host._observed_addr_manager is None


def test_the_library_s_own_ping_does_not_take_our_answers() -> None:
    async def measure() -> None:
        with trio.fail_after(60):
            await BoundedYamux._measure_rtt_loop(SimpleNamespace())  # type: ignore[arg-type]

    trio.run(measure)


def test_a_connection_whose_writer_is_stuck_can_be_ended() -> None:
    """A stuck write holds the lock that the library's cleaning takes; closing the socket frees it."""

    async def stuck() -> list[str]:
        closed, lock, done = trio.Event(), trio.Lock(), list[str]()

        async def write_for_ever() -> None:
            async with lock:
                await closed.wait()

        async def close() -> None:
            closed.set()

        async def clean() -> None:
            async with lock:
                done.append("cleaned")

        conn = SimpleNamespace(secured_conn=SimpleNamespace(close=close), _cleanup_on_error=clean)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_for_ever)
            await trio.testing.wait_all_tasks_blocked()
            with trio.fail_after(60):
                await BoundedYamux.abort(conn)  # type: ignore[arg-type]
        return done

    assert trio.run(stuck) == ["cleaned"]


def test_a_connection_is_ended_whole_though_whoever_ends_it_gives_up() -> None:
    async def give_up() -> list[str]:
        done: list[str] = []

        async def clean() -> None:
            await trio.lowlevel.checkpoint()
            done.append("cleaned")

        conn = SimpleNamespace(secured_conn=SimpleNamespace(close=trio.lowlevel.checkpoint), _cleanup_on_error=clean)
        with trio.CancelScope() as scope:
            scope.cancel()
            await BoundedYamux.abort(conn)  # type: ignore[arg-type]
        return done

    assert trio.run(give_up) == ["cleaned"]


class Line:
    """What a muxer speaks over, of a peer that reads nothing."""

    is_initiator = False

    async def write(self, _data: bytes) -> None:
        await trio.sleep_forever()

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()

    def __init__(self, host: str) -> None:
        self._host = host

    def get_remote_address(self) -> tuple[str, int]:
        return (self._host, 4001)


def muxed(peer: ID, host: str = "192.0.2.1") -> BoundedYamux:
    return BoundedYamux(Line(host), peer, max_buffered=1024)  # type: ignore[arg-type]


def test_no_farewell_waits_for_a_peer_that_reads_nothing(peer: ID) -> None:
    async def close() -> bool:
        conn = muxed(peer)
        with trio.fail_after(60):
            await conn.close()
        return conn.is_closed

    assert trio.run(close, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize("direction", ["inbound", "outbound"])
def test_a_ban_holds_for_a_connection_that_is_being_made(
    parts: Parts, peer: ID, direction: str, monkeypatch: Any
) -> None:
    _, swarm = parts
    conn = muxed(peer)

    async def add(*_: object) -> object:
        while not swarm.is_banned(peer):
            swarm.strike(peer, "what it does on another connection")
        return SimpleNamespace()

    monkeypatch.setattr(Swarm, "add_conn", add)
    swarm._manager = SimpleNamespace(run_task=lambda *_: None)  # type: ignore[assignment]
    with pytest.raises(SwarmException, match="banned"):
        trio.run(swarm.add_conn, conn, direction)
    assert conn.is_closed


@pytest.mark.parametrize("way", ["refused", "given up", "ended"])
def test_a_place_is_given_back_whatever_becomes_of_its_connection(
    parts: Parts, peer: ID, way: str, monkeypatch: Any
) -> None:
    _, swarm = parts
    conn = muxed(peer)
    taken: list[int] = []

    async def add(*_: object) -> object:
        taken.append(len(swarm._guests))
        if way == "refused":
            raise SwarmException("for a reason of the library")
        if way == "given up":
            await trio.sleep_forever()
        return SimpleNamespace()

    async def come_and_go() -> None:
        async with trio.open_nursery() as nursery:
            swarm._manager = SimpleNamespace(run_task=nursery.start_soon)  # type: ignore[assignment]
            with trio.CancelScope() as scope:
                if way == "given up":
                    scope.cancel()
                await swarm.add_conn(conn, "inbound")
            await conn.abort()

    monkeypatch.setattr(Swarm, "add_conn", add)
    if way == "refused":
        with pytest.RaisesGroup(SwarmException):
            trio.run(come_and_go)
    else:
        trio.run(come_and_go)
    assert (taken, len(swarm._guests), swarm._guests._clients) == ([1], 0, Counter())


def test_a_connection_that_makes_room_is_ended(parts: Parts, peer: ID, monkeypatch: Any) -> None:
    _, swarm = parts
    swarm._guests._most = 2
    idle, busy, newcomer = (muxed(peer, host) for host in ("192.0.2.1", "192.0.2.1", "192.0.2.2"))

    async def come() -> list[bool]:
        async with trio.open_nursery() as nursery:
            swarm._manager = SimpleNamespace(run_task=nursery.start_soon)  # type: ignore[assignment]
            for conn in (idle, busy, newcomer):
                await swarm.add_conn(conn, "inbound")
            await idle.event_closed.wait()
            ended = [conn.is_closed for conn in (idle, busy, newcomer)]
            nursery.cancel_scope.cancel()
        return ended

    async def add(*_: object) -> object:
        return SimpleNamespace()

    monkeypatch.setattr(Swarm, "add_conn", add)
    assert trio.run(come) == [True, False, False]


@pytest.mark.parametrize("name", [("192.0.2.1", 5), ("2001:db8::1", 5, 0, 0)])
def test_a_peer_has_an_address_in_both_worlds(name: tuple[object, ...]) -> None:
    sock = SimpleNamespace(socket=SimpleNamespace(getpeername=lambda: name))
    assert PatientStream(sock).get_remote_address() == name[:2]  # type: ignore[arg-type]


def test_an_answer_that_nobody_takes_is_given_up() -> None:
    async def stall() -> bool:
        async def write(_data: bytes) -> None:
            await trio.sleep_forever()

        engine = SimpleNamespace(_limits=Limits(stream_timeout_s=0.01))
        with trio.fail_after(60):
            return await Engine._send(engine, SimpleNamespace(write=write), Reply(Status.OK, b"x"))  # type: ignore[arg-type]

    assert trio.run(stall) is False
