"""The bridge for users who have only HTTP: it joins both worlds, and a relay that lies, floods or dies gets nowhere."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import httpx
import pytest
from aiohttp import web
from transport_relay import TOPIC, accept, bridging, serving
from transport_victim import Eventually, New

from gesso.transport import Message, PeerId, Verdict
from gesso.transport.bridge import BridgedGossip
from gesso.transport.keys import NodeKey
from gesso.transport.memory import MemoryHub, MemoryTransport
from gesso.transport.signed import MAX_SIGNED_BYTES, Signed
from gesso_protocol.errors import PeerUnreachable, RateLimited, TransportError
from gesso_relay.settings import Limits

pytestmark = pytest.mark.anyio


async def test_users_of_a_relay_and_libp2p_peers_hear_each_other(new: New, eventually: Eventually) -> None:
    async with (
        new("relay") as at_relay,
        new("peer") as peer,
        peer.subscribe(TOPIC, validator=accept) as at_peer,
        bridging(at_relay) as relay,
        BridgedGossip(relay) as user,
        user.subscribe(TOPIC, validator=accept) as at_user,
    ):
        await peer.connect(at_relay.addresses[0])
        await eventually(lambda: peer.health().topics[TOPIC].mesh == 1 == at_relay.health().topics[TOPIC].mesh)
        await user.publish(TOPIC, b"from HTTP")
        await peer.publish(TOPIC, b"from libp2p")
        with anyio.fail_after(60):
            assert await anext(at_peer) == Message(user.peer_id, b"from HTTP")
            assert await anext(at_user) == Message(peer.peer_id, b"from libp2p")
        assert at_relay.health().restarts == 0


@pytest.mark.parametrize("kind", ["memory", "libp2p"])
async def test_a_peer_carries_nothing_that_its_author_has_not_signed(new: New, kind: str) -> None:
    good = Signed.by(NodeKey.create(), TOPIC, b"mine").encode()
    async with new("relay") if kind == "libp2p" else MemoryTransport(MemoryHub()) as peer:
        for bad in (good.replace(b"mine", b"meme"), good[:-1], b"", good + good, b"x" * (MAX_SIGNED_BYTES + 1)):
            with pytest.raises(ValueError, match="message"):
                await peer.pass_on(bad)


@pytest.mark.parametrize("kind", ["memory", "libp2p"])
async def test_a_peer_carries_nothing_that_its_own_validator_fails_on(new: New, kind: str) -> None:
    def broken(_peer: PeerId, _data: bytes) -> Verdict:
        raise ValueError("a bug")

    async with (
        new("relay") if kind == "libp2p" else MemoryTransport(MemoryHub()) as peer,
        peer.subscribe(TOPIC, validator=broken),
    ):
        await peer.pass_on(Signed.by(NodeKey.create(), TOPIC, b"mine").encode())
        assert (peer.health().topics[TOPIC].refused, peer.health().topics[TOPIC].queued) == (1, 0)


@asynccontextmanager
async def lying(*lines: bytes) -> AsyncIterator[httpx.AsyncClient]:
    """A relay that says these lines, then something true, to whoever listens."""
    honest = Signed.by(NodeKey.create(), TOPIC, b"honest").encode()

    async def hear(request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await reply.prepare(request)
        for line in (*lines, b"data: " + base64.b64encode(honest)):
            await reply.write(line + b"\n\n")
        await anyio.sleep_forever()
        return reply

    app = web.Application()
    app.add_routes([web.get("/v1/gossip", hear)])
    async with serving(app) as client:
        yield client


def line(message: bytes) -> bytes:
    return b"data: " + base64.b64encode(message)


async def test_what_a_lying_relay_says_is_not_heard() -> None:
    good = Signed.by(NodeKey.create(), TOPIC, b"mine").encode()
    elsewhere = Signed.by(NodeKey.create(), "gesso/other/1", b"mine").encode()
    lies = (line(good.replace(b"mine", b"meme")), line(elsewhere), b"data: not base64", line(b""), b"event: x")
    async with (
        lying(*lies, line(good), line(good)) as relay,
        BridgedGossip(relay) as user,
        user.subscribe(TOPIC, validator=accept) as heard,
    ):
        with anyio.fail_after(60):
            assert [(await anext(heard)).data for _ in range(2)] == [b"mine", b"honest"]
        assert user.health().topics[TOPIC].refused == 4


async def test_a_line_without_end_is_not_kept(eventually: Eventually) -> None:
    async with (
        lying(b"data: " + b"x" * 1_000_000) as relay,
        BridgedGossip(relay) as user,
        user.subscribe(TOPIC, validator=accept),
    ):
        await eventually(lambda: not user.health().topics[TOPIC].mesh)
        assert user.health().topics[TOPIC].queued == 0


async def test_a_relay_that_is_away_is_said_and_found_when_it_is_back(
    eventually: Eventually, ports: tuple[int, ...]
) -> None:
    relay = httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports[0]}", trust_env=False)
    async with relay, BridgedGossip(relay) as user:
        messages = user.subscribe(TOPIC, validator=accept)
        with pytest.raises(PeerUnreachable):
            await messages.__aenter__()
        with pytest.raises(PeerUnreachable):
            await user.publish(TOPIC, b"into the void")
        for _ in range(2):
            async with MemoryTransport(MemoryHub()) as peer, bridging(peer, port=ports[0]):
                await eventually(lambda: user.health().topics[TOPIC].mesh == 1)
            await eventually(lambda: user.health().topics[TOPIC].mesh == 0)


async def test_the_relay_s_refusals_are_typed() -> None:
    few = Limits(gossip_per_s=0.01, gossip_burst=2)
    async with (
        MemoryTransport(MemoryHub()) as peer,
        bridging(peer, limits=few) as relay,
        BridgedGossip(relay) as user,
    ):
        with pytest.raises(TransportError, match="400"):
            await user.publish("gesso/unheard/1", b"of")
        await user.publish(TOPIC, b"once")
        with pytest.raises(RateLimited):
            await user.publish(TOPIC, b"twice")


async def test_a_validator_with_a_bug_accepts_nothing() -> None:
    def refuse(_peer: PeerId, _data: bytes) -> Verdict:
        raise ValueError("a bug")

    async with lying() as relay, BridgedGossip(relay) as user, user.subscribe(TOPIC, validator=refuse):
        with anyio.fail_after(60):
            while not user.health().topics[TOPIC].refused:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        assert user.health().topics[TOPIC].queued == 0
