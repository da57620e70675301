"""Requests and answers that lie about their length or never end, as attacks on our transport."""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable

import anyio
import pytest
import transport_hostile as hostile
import trio
from libp2p.io.utils import read_exactly
from multiaddr import Multiaddr
from transport_victim import ECHO, New, assert_unharmed, echo

from gesso.transport._libp2p.limits import Limits
from gesso_protocol.errors import TransportError

pytestmark = pytest.mark.anyio


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
        with anyio.fail_after(60):
            await ready.wait()
            peer = await asker.connect(where[0])
            with pytest.raises(TransportError, match=complaint):
                await asker.request(peer, ECHO, b"?", timeout_s=30, max_reply=1000)
        assert asker.health().running
        tokens[0].run_sync_soon(done.set)


async def test_a_request_that_never_ends_gives_its_place_back(new: New) -> None:
    async def stall(address: str) -> bytes:
        async with hostile.connected(address) as host:
            stream = await hostile.open_stream(host, address, ECHO)
            await stream.write(struct.pack(">I", 1000) + b"only this")
            return await read_exactly(stream, 5)

    async with new(limits=Limits(stream_timeout_s=0.3)) as victim:
        victim.serve(ECHO, echo, max_concurrent=1)
        assert await hostile.attack(stall, victim.addresses[0]) == struct.pack(">BI", 2, 0)
        assert victim._engine is not None
        victim._engine._limits = Limits()  # who is honest may be slow on a busy machine
        await assert_unharmed(victim, new)
