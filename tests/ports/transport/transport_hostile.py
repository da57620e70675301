"""Peers that do not play by the rules, built from the bare library. Each runs to its end in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio
import libp2p
import trio
from libp2p.abc import IHost, INetStream
from libp2p.crypto.secp256k1 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

T = TypeVar("T")


async def attack(work: Callable[..., Awaitable[T]], *args: Any, timeout_s: float = 90.0) -> T:
    """Runs `work` under trio in a thread and returns what it saw."""

    async def bounded() -> T:
        with trio.fail_after(timeout_s):
            return await work(*args)

    return await anyio.to_thread.run_sync(lambda: trio.run(bounded))


async def until(event: threading.Event) -> None:
    """Stay until the victim's side has seen enough."""
    while not event.is_set():  # noqa: ASYNC110 - another thread sets it
        await trio.sleep(0.02)


def noise_host() -> BasicHost:
    pair = create_new_key_pair()
    host = libp2p.new_host(key_pair=pair, sec_opt={NOISE: Noise(pair, noise_privkey=_noise_key())})
    assert isinstance(host, BasicHost)
    return host


def plaintext_host() -> BasicHost:
    pair = create_new_key_pair()
    host = libp2p.new_host(key_pair=pair, sec_opt={TProtocol(PLAINTEXT_PROTOCOL_ID): InsecureTransport(pair)})
    assert isinstance(host, BasicHost)
    return host


def _noise_key() -> Any:
    from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair

    return create_noise_key_pair().private_key


@asynccontextmanager
async def connected(address: str, host: BasicHost | None = None) -> AsyncIterator[BasicHost]:
    """A bare host with a connection to `address`."""
    host = host or noise_host()
    async with host.run([]):
        try:
            await host.connect(info_from_p2p_addr(Multiaddr(address)))
            yield host
        finally:
            # The library leaves its sockets open otherwise, and we are in the victim's process.
            with trio.CancelScope(shield=True):
                await host.close()


async def open_stream(host: IHost, address: str, protocol: str) -> INetStream:
    return await host.new_stream(info_from_p2p_addr(Multiaddr(address)).peer_id, [TProtocol(protocol)])


@asynccontextmanager
async def gossiping(address: str, topic: str, *, strict_signing: bool = True) -> AsyncIterator[Pubsub]:
    """A bare gossip peer that is meshed with the one at `address`."""
    host = noise_host()
    router = GossipSub([PROTOCOL_ID_V11], 6, 4, 12, heartbeat_interval=1, spam_protection_enabled=False)
    pubsub = Pubsub(host, router, strict_signing=strict_signing)
    victim = info_from_p2p_addr(Multiaddr(address))
    try:
        async with (
            host.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]),
            background_trio_service(router),  # type: ignore[arg-type]
            background_trio_service(pubsub),
        ):
            await pubsub.wait_until_ready()
            await pubsub.subscribe(topic)
            await host.connect(victim)
            await pubsub.wait_for_subscription(victim.peer_id, topic)
            await pubsub.wait_for_mesh(victim.peer_id, topic)
            yield pubsub
            await host.close()
    finally:
        pubsub.seen_messages.stop()
