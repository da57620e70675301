"""Peers in real processes: they talk, they are killed, they fall silent, they come back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from gesso.transport import PeerDown, PeerId, PeerUp, Verdict
from gesso.transport._libp2p.limits import Limits
from gesso.transport.libp2p import Libp2pSettings, Libp2pTransport
from gesso_devnet.ports import held
from gesso_protocol.errors import PeerUnreachable

pytestmark = pytest.mark.anyio
Eventually = Callable[[Callable[[], bool]], Awaitable[None]]
ECHO = "/gesso/test/1"
TOPIC = "gesso/test/1"
QUICK = Limits(redial_min_s=0.05, redial_max_s=0.3)
WATCHFUL = Limits(heartbeat_s=0.5, heartbeat_timeout_s=3, redial_min_s=0.05, redial_max_s=0.3)
"""The other one may well need some seconds for an answer on a busy machine."""


def accept(_peer: PeerId, _data: bytes) -> Verdict:
    return Verdict.ACCEPT


@contextmanager
def other(key_file: Path, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A peer process and its address; killed at the end, whatever state it is in."""
    script = Path(__file__).with_name("peer_process.py")
    process = subprocess.Popen([sys.executable, script, key_file, str(port)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())["address"]
    finally:
        process.kill()
        process.wait(60)


@pytest.fixture
def us(tmp_path: Path) -> Libp2pTransport:
    return made(tmp_path, QUICK)


def made(folder: Path, limits: Limits) -> Libp2pTransport:
    return Libp2pTransport(Libp2pSettings(key_file=folder / "us", listen_host="127.0.0.1"), limits=limits)


@pytest.fixture
def port() -> Iterator[int]:
    """Whoever comes back comes back here."""
    with held(1) as (found,):
        yield found


@pytest.fixture
def eventually() -> Eventually:
    async def wait(condition: Callable[[], bool]) -> None:
        with anyio.fail_after(60):
            while not condition():  # noqa: ASYNC110 - another process makes it true
                await anyio.sleep(0.01)

    return wait


async def converse(us: Libp2pTransport, peer: PeerId, eventually: Eventually, word: bytes) -> None:
    """A request, and gossip there and back. Gossip may be lost, so the word is repeated."""
    with anyio.fail_after(60):
        assert await us.request(peer, ECHO, word) == word
        async with us.subscribe(TOPIC, validator=accept) as messages:
            await eventually(lambda: us.health().topics[TOPIC].mesh == 1)
            async with anyio.create_task_group() as group:
                group.start_soon(repeat, us, word)
                async for message in messages:
                    if message.data == b"heard " + word:
                        assert message.peer == peer
                        break
                group.cancel_scope.cancel()


async def repeat(us: Libp2pTransport, word: bytes) -> None:
    while True:
        await us.publish(TOPIC, word)
        await anyio.sleep(1)


async def test_two_processes_talk(us: Libp2pTransport, tmp_path: Path, eventually: Eventually) -> None:
    with other(tmp_path / "other") as (_, address):
        async with us:
            await converse(us, await us.connect(address), eventually, b"hello")


async def test_a_killed_peer_is_missed_at_once_and_found_again(
    us: Libp2pTransport, tmp_path: Path, eventually: Eventually, port: int
) -> None:
    async with us:
        events = us.events()
        with other(tmp_path / "other", port) as (process, address):
            peer = await us.connect(address)
            failures: list[Exception] = []

            async def ask() -> None:
                try:
                    await us.request(peer, ECHO, b"hang", timeout_s=60)
                except PeerUnreachable as error:
                    failures.append(error)

            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                await us.request(peer, ECHO, b"now the other one is under way")
                process.send_signal(signal.SIGKILL)
                with anyio.fail_after(60):
                    assert await anext(events) == PeerUp(peer)
                    assert await anext(events) == PeerDown(peer)
            assert len(failures) == 1
        with other(tmp_path / "other", port) as (_, again):
            assert again == address
            await eventually(lambda: len(us.peers()) == 1)
            await converse(us, peer, eventually, b"welcome back")
        assert us.health().restarts == 0


async def test_a_silent_peer_is_dropped_by_the_heartbeat_and_found_again(
    tmp_path: Path, eventually: Eventually
) -> None:
    with other(tmp_path / "other") as (process, address):
        async with made(tmp_path, WATCHFUL) as us:
            events = us.events()
            peer = await us.connect(address)
            assert await us.request(peer, ECHO, b"x") == b"x"
            os.kill(process.pid, signal.SIGSTOP)
            with anyio.fail_after(60):  # the library alone had not noticed after 70 s
                assert await anext(events) == PeerUp(peer)
                assert await anext(events) == PeerDown(peer)
            with pytest.raises(PeerUnreachable):
                await us.request(peer, ECHO, b"x", timeout_s=1)
            os.kill(process.pid, signal.SIGCONT)
            await eventually(lambda: len(us.peers()) == 1)
            await converse(us, peer, eventually, b"good morning")


async def test_a_peer_that_is_killed_again_and_again(
    us: Libp2pTransport, tmp_path: Path, eventually: Eventually, port: int
) -> None:
    async with us:
        peer = PeerId("")
        for round_ in range(3):
            with other(tmp_path / "other", port) as (_, address):
                if not peer:
                    peer = await us.connect(address)
                await eventually(lambda: len(us.peers()) == 1)
                assert await us.request(peer, ECHO, str(round_).encode()) == str(round_).encode()
            await eventually(lambda: not us.peers())
        assert us.health().restarts == 0
