"""One network of each kind, so that every test in this folder that takes `net` runs on every adapter."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Protocol, cast

import anyio
import httpx
import pytest

from gesso.transport import Gossip, PeerId, Rate, Transport
from gesso.transport._libp2p.limits import Limits
from gesso.transport.bridge import BridgedGossip
from gesso.transport.libp2p import Libp2pSettings, Libp2pTransport
from gesso.transport.memory import MemoryHub, MemoryTransport
from gesso_devnet.ports import held

# Tests are imported one by one, not as packages; their shared helper is found here.
sys.path.insert(0, str(Path(__file__).parent))

from transport_relay import bridging

MOST_PEERS = 4


class Net(Protocol):
    """Makes transports that can reach each other. The same name is the same peer, at the same address."""

    def new(self, name: str, *, publish_per_s: float = 100.0) -> Transport: ...


class MemoryNet:
    def __init__(self) -> None:
        self._hub = MemoryHub()
        self._ids: dict[str, PeerId] = {}

    def new(self, name: str, *, publish_per_s: float = 100.0) -> Transport:
        peer = self._ids.setdefault(name, self._hub.new_peer_id())
        rate = Rate(publish_per_s, max(1, int(publish_per_s * 2)))
        return MemoryTransport(self._hub, peer_id=peer, publish_rate=rate)


class Libp2pNet:
    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        self._folder = folder
        self._ports = dict[str, int]()
        self._left = list(ports)

    def new(self, name: str, *, publish_per_s: float = 100.0) -> Transport:
        port = self._ports.get(name) or self._ports.setdefault(name, self._left.pop())
        settings = Libp2pSettings(
            key_file=self._folder / name, listen_host="127.0.0.1", listen_port=port, publish_per_s=publish_per_s
        )
        return Libp2pTransport(settings)


@pytest.fixture
def ports() -> Iterator[tuple[int, ...]]:
    """Ours until the test ends, whether somebody listens or not."""
    with held(MOST_PEERS) as found:
        yield found


@pytest.fixture(params=["memory", "libp2p"])
def net(request: pytest.FixtureRequest, tmp_path: Path, ports: tuple[int, ...]) -> Net:
    return MemoryNet() if request.param == "memory" else Libp2pNet(tmp_path, ports)


class Air(Protocol):
    """Makes voices on one network. `join` brings them together in a line: who is in the middle passes on."""

    neighbours: int
    """How many others one voice sees at most."""

    def new(self, name: str, *, publish_per_s: float = 100.0) -> Gossip: ...

    async def join(self, *line: Gossip) -> None: ...


class PeerAir:
    """Whole peers, which dial each other."""

    neighbours = 100

    def __init__(self, net: Net) -> None:
        self._net = net

    def new(self, name: str, *, publish_per_s: float = 100.0) -> Gossip:
        return self._net.new(name, publish_per_s=publish_per_s)

    async def join(self, *line: Gossip) -> None:
        for one, other in pairwise(line):
            await cast(Transport, one).connect(other.addresses[0])


class BridgeAir:
    """Users of one relay: it is in the middle of them all, and the one neighbour of each."""

    neighbours = 1

    def __init__(self, relay: httpx.AsyncClient) -> None:
        self._relay = relay

    def new(self, name: str, *, publish_per_s: float = 100.0) -> Gossip:
        rate = Rate(publish_per_s, max(1, int(publish_per_s * 2)))
        return BridgedGossip(self._relay, publish_rate=rate)

    async def join(self, *line: Gossip) -> None:
        return None


@pytest.fixture(params=["memory", "libp2p", "bridge"])
async def air(
    request: pytest.FixtureRequest, tmp_path: Path, ports: tuple[int, ...], anyio_backend: str
) -> AsyncIterator[Air]:
    if request.param != "bridge":
        yield PeerAir(MemoryNet() if request.param == "memory" else Libp2pNet(tmp_path, ports))
        return
    async with MemoryTransport(MemoryHub()) as peer, bridging(peer) as relay:
        yield BridgeAir(relay)


@pytest.fixture
def new(tmp_path: Path) -> Callable[..., Libp2pTransport]:
    """Makes libp2p transports; the same name is the same peer."""

    def make(name: str = "victim", *, port: int = 0, limits: Limits | None = None) -> Libp2pTransport:
        settings = Libp2pSettings(key_file=tmp_path / name, listen_host="127.0.0.1", listen_port=port)
        return Libp2pTransport(settings, limits=limits)

    return make


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """Waits until a condition holds, thirty seconds at most: the machine may be busy."""

    async def wait(condition: Callable[[], bool]) -> None:
        with anyio.fail_after(60):
            while not condition():  # noqa: ASYNC110 - other threads make it true
                await anyio.sleep(0.01)

    return wait
