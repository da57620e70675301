"""The network thread of the libp2p transport: its death, its return, and that it leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from pydantic import ValidationError

from gesso.transport import Fault, PeerDown, PeerId, Rate, Verdict
from gesso.transport._libp2p import thread as thread_module
from gesso.transport._libp2p.limits import Limits
from gesso.transport.libp2p import Libp2pSettings, Libp2pTransport
from gesso_protocol.errors import PeerUnreachable, RateLimited

pytestmark = pytest.mark.anyio
Eventually = Callable[[Callable[[], bool]], Awaitable[None]]
ECHO = "/gesso/test/1"
TOPIC = "gesso/test/1"


def accept(_peer: PeerId, _data: bytes) -> Verdict:
    return Verdict.ACCEPT


async def echo(_peer: PeerId, data: bytes) -> bytes:
    if data == b"hang":
        await anyio.sleep_forever()
    return data


@pytest.fixture
def new(tmp_path: Path) -> Callable[[str], Libp2pTransport]:
    return lambda name: Libp2pTransport(Libp2pSettings(key_file=tmp_path / name, listen_host="127.0.0.1"))


New = Callable[[str], Libp2pTransport]


async def _boom() -> None:
    raise RuntimeError("the library broke")


def crash(transport: Libp2pTransport) -> None:
    assert transport._thread is not None
    assert transport._engine is not None
    transport._thread.soon(transport._engine._nursery.start_soon, _boom)


async def test_who_leaves_a_topic_and_comes_back_at_once_is_in_it(new: New, eventually: Eventually) -> None:
    async with new("a") as a, new("b") as b, b.subscribe(TOPIC, validator=accept) as at_b:
        await a.connect(b.addresses[0])
        async with anyio.create_task_group() as group:
            for _ in range(3):
                left = a.subscribe(TOPIC, validator=accept)
                await anyio.lowlevel.checkpoint()
                group.start_soon(left.aclose)
                await anyio.lowlevel.checkpoint()
            again = a.subscribe(TOPIC, validator=accept)
        async with again:
            await eventually(lambda: [one.health().topics[TOPIC].mesh for one in (a, b)] == [1, 1])
            await a.publish(TOPIC, b"here")
            with anyio.fail_after(60):
                assert (await anext(at_b)).data == b"here"


async def test_what_is_asked_for_while_the_network_side_begins_is_done(
    new: New, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = thread_module.TrioThread.start

    async def start_and_ask(thread: thread_module.TrioThread) -> None:
        await start(thread)
        if thread._thread.name.endswith(a.peer_id[-6:]):
            a.subscribe(TOPIC, validator=accept)
            a.serve(ECHO, echo)

    a = new("a")
    monkeypatch.setattr(thread_module.TrioThread, "start", start_and_ask)
    async with a, new("b") as b, b.subscribe(TOPIC, validator=accept):
        await b.connect(a.addresses[0])
        await eventually(lambda: [one.health().topics[TOPIC].mesh for one in (a, b)] == [1, 1])
        assert await b.request(a.peer_id, ECHO, b"there") == b"there"


async def test_a_dead_network_side_fails_what_waits_and_comes_back_as_it_was(new: New, eventually: Eventually) -> None:
    async with (
        new("a") as a,
        new("b") as b,
        a.subscribe(TOPIC, validator=accept) as at_a,
        b.subscribe(TOPIC, validator=accept),
    ):
        a.serve(ECHO, echo)
        b.serve(ECHO, echo)
        await a.connect(b.addresses[0])
        await eventually(lambda: a.health().topics[TOPIC].mesh == 1)
        address, events = a.addresses, a.events()
        failures: list[Exception] = []

        async def ask() -> None:
            try:
                await a.request(b.peer_id, ECHO, b"hang", timeout_s=30)
            except PeerUnreachable as error:
                failures.append(error)

        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                await anyio.wait_all_tasks_blocked()
                crash(a)
            assert len(failures) == 1
            assert await anext(events) == PeerDown(b.peer_id)
            fault = await anext(events)
            assert isinstance(fault, Fault)
            assert "the library broke" in fault.reason
            assert not a.health().running
            with pytest.raises(PeerUnreachable):
                await a.request(b.peer_id, ECHO, b"x")
            await eventually(lambda: a.health().running)
        assert a.health().restarts == 1
        assert a.health().last_fault == fault.reason
        assert a.addresses == address
        await eventually(lambda: len(a.peers()) == 1)  # redialled, nobody asked for it
        assert await b.request(a.peer_id, ECHO, b"still served") == b"still served"
        await eventually(lambda: a.health().topics[TOPIC].mesh == 1)
        await b.publish(TOPIC, b"still subscribed")
        with anyio.fail_after(60):
            assert (await anext(aiter(at_a))).data == b"still subscribed"


async def test_each_death_waits_longer_than_the_last(new: New, eventually: Eventually) -> None:
    async with new("a") as a:
        waits = []
        for restarts in (1, 2):
            crash(a)
            await eventually(lambda restarts=restarts: a.health().restarts == restarts and a.health().running)  # type: ignore[misc]
            waits.append(a._restart_s)
        assert waits[1] == waits[0] * 2


async def test_closing_while_the_network_side_is_down_is_quick(new: New) -> None:
    with anyio.fail_after(60):
        async with new("a") as a:
            events = a.events()
            crash(a)
            assert isinstance(await anext(events), Fault)
    assert a.health().restarts == 0


async def test_too_many_calls_at_once_are_refused(new: New, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_module, "MAX_CALLS", 3)
    async with new("a") as a, new("b") as b:
        b.serve(ECHO, echo)
        await a.connect(b.addresses[0])
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(a.request, b.peer_id, ECHO, b"hang")
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(RateLimited):
                await a.request(b.peer_id, ECHO, b"one more")
            group.cancel_scope.cancel()


async def test_cancelled_and_finished_requests_leave_no_stream_behind(new: New, eventually: Eventually) -> None:
    async with new("a") as a, new("b") as b:
        b.serve(ECHO, echo, max_concurrent=64, per_peer_rate=Rate(1000, 1000))
        await a.connect(b.addresses[0])
        await eventually(lambda: len(b.peers()) == 1)

        def streams(transport: Libp2pTransport) -> int:
            assert transport._engine is not None
            conns = transport._engine._swarm.connections
            return sum(len(conn.muxed_conn.streams) for held in conns.values() for conn in held)  # type: ignore[attr-defined]

        for _ in range(5):
            with anyio.move_on_after(0.05):
                async with anyio.create_task_group() as group:
                    for _ in range(4):
                        group.start_soon(a.request, b.peer_id, ECHO, b"hang")
        for _ in range(30):
            await a.request(b.peer_id, ECHO, b"done")
        assert a._thread is not None
        assert not a._thread._calls
        await eventually(lambda: streams(a) <= 6 and streams(b) <= 6)


@pytest.mark.parametrize("dials", ["who stays", "who leaves"])
async def test_whoever_leaves_is_missed_at_once_without_a_heartbeat(
    tmp_path: Path, eventually: Eventually, dials: str
) -> None:
    def quiet(name: str) -> Libp2pTransport:
        settings = Libp2pSettings(key_file=tmp_path / name, listen_host="127.0.0.1")
        return Libp2pTransport(settings, limits=Limits(heartbeat_s=3600))

    async with quiet("stays") as stays:
        async with quiet("leaves") as leaves:
            one, other = (stays, leaves) if dials == "who stays" else (leaves, stays)
            await one.connect(other.addresses[0])
            await eventually(lambda: len(stays.peers()) == 1)
        await eventually(lambda: not stays.peers())


async def test_a_closed_transport_leaves_no_thread_behind(new: New, eventually: Eventually) -> None:
    before = set(threading.enumerate())
    for _ in range(3):
        async with new("a") as a, new("b") as b:
            await a.connect(b.addresses[0])

    def left() -> list[str]:
        fresh = set(threading.enumerate()) - before
        return [thread.name for thread in fresh if "libp2p" in thread.name or "cleanup" in thread.name]

    await eventually(lambda: not left())


async def test_a_bootstrap_peer_that_is_down_is_met_when_it_appears(
    tmp_path: Path, eventually: Eventually, ports: tuple[int, ...]
) -> None:
    known = Libp2pSettings(key_file=tmp_path / "boot", listen_host="127.0.0.1", listen_port=ports[0])
    async with Libp2pTransport(known) as first:
        address = first.addresses[0]
    settings = Libp2pSettings(key_file=tmp_path / "node", listen_host="127.0.0.1", bootstrap=(address,))
    async with Libp2pTransport(settings) as node:
        assert node.peers() == ()
        async with Libp2pTransport(known) as boot:
            await eventually(lambda: [info.peer for info in node.peers()] == [boot.peer_id])


@pytest.mark.parametrize("bootstrap", ["nonsense", "/ip4/127.0.0.1/tcp/1", "/p2p/"])
async def test_a_bootstrap_address_that_names_nobody_is_said_at_the_start(tmp_path: Path, bootstrap: str) -> None:
    settings = Libp2pSettings(key_file=tmp_path / "node", listen_host="127.0.0.1", bootstrap=(bootstrap,))
    with anyio.fail_after(60), pytest.raises(PeerUnreachable):
        async with Libp2pTransport(settings):
            pass


def test_unknown_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        Libp2pSettings.model_validate({"key_file": tmp_path / "k", "listen_prot": 1})
    with pytest.raises(ValidationError):
        Libp2pSettings(key_file=tmp_path / "k", listen_port=70_000)


def test_importing_the_port_brings_no_network_library() -> None:
    code = (
        "import sys, gesso.transport, gesso.transport.memory, gesso.transport.libp2p, gesso.transport.progress;"
        "print(sorted({'trio', 'libp2p', 'web3', 'torch', 'coincurve'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert shown.stdout.strip() == "[]"
