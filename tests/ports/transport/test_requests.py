"""What every transport promises about requests and answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from gesso.transport import MAX_REQUEST_BYTES, PeerId, Rate, Transport
from gesso_protocol.errors import MessageTooLarge, PeerUnreachable, RateLimited, TransportError, UsageError

if TYPE_CHECKING:
    from conftest import Net

pytestmark = pytest.mark.anyio
Eventually = Callable[[Callable[[], bool]], Awaitable[None]]
ECHO = "/gesso/test/1"


async def echo(peer: PeerId, data: bytes) -> bytes:
    return peer.encode() + b" " + data


@asynccontextmanager
async def pair(net: Net) -> AsyncIterator[tuple[Transport, Transport]]:
    async with net.new("asker") as asker, net.new("server") as server:
        await asker.connect(server.addresses[0])
        yield asker, server


@pytest.mark.parametrize("size", [0, 1, 16_384, 65_519, 65_536, MAX_REQUEST_BYTES - 100])
async def test_the_answer_comes_back_and_the_handler_knows_who_asked(net: Net, size: int) -> None:
    async with pair(net) as (asker, server):
        server.serve(ECHO, echo)
        with anyio.fail_after(60):
            answer = await asker.request(server.peer_id, ECHO, b"x" * size)
        assert answer == asker.peer_id.encode() + b" " + b"x" * size


async def test_both_ends_may_ask(net: Net, eventually: Eventually) -> None:
    async with pair(net) as (asker, server):
        asker.serve(ECHO, echo)
        await eventually(lambda: len(server.peers()) == 1)
        assert await server.request(asker.peer_id, ECHO, b"?") == server.peer_id.encode() + b" ?"


async def test_many_at_once(net: Net) -> None:
    async with pair(net) as (asker, server):
        server.serve(ECHO, echo, max_concurrent=64, per_peer_rate=Rate(1000, 1000))
        answers: dict[int, bytes] = {}

        async def ask(number: int) -> None:
            answers[number] = await asker.request(server.peer_id, ECHO, str(number).encode())

        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for number in range(40):
                    group.start_soon(ask, number)
        assert {n: a.split()[1] for n, a in answers.items()} == {n: str(n).encode() for n in range(40)}


async def test_a_question_too_large_for_anybody(net: Net) -> None:
    async with pair(net) as (asker, server):
        with pytest.raises(MessageTooLarge):
            await asker.request(server.peer_id, ECHO, b"x" * (MAX_REQUEST_BYTES + 1))


async def test_a_question_too_large_for_the_server(net: Net) -> None:
    async with pair(net) as (asker, server):
        server.serve(ECHO, echo, max_request=100)
        with pytest.raises(MessageTooLarge):
            await asker.request(server.peer_id, ECHO, b"x" * 101)
        assert await asker.request(server.peer_id, ECHO, b"x" * 100)


async def test_an_answer_too_large(net: Net) -> None:
    async with pair(net) as (asker, server):
        server.serve(ECHO, echo)
        with pytest.raises(MessageTooLarge):
            await asker.request(server.peer_id, ECHO, b"x" * 200, max_reply=100)


async def test_a_protocol_that_is_not_served(net: Net) -> None:
    async with pair(net) as (asker, server):
        with pytest.raises(TransportError, match="does not serve"):
            await asker.request(server.peer_id, "/gesso/other/1", b"")


async def test_a_peer_we_are_not_connected_to(net: Net) -> None:
    async with net.new("a") as a, net.new("b") as b:
        b.serve(ECHO, echo)
        with pytest.raises(PeerUnreachable):
            await a.request(b.peer_id, ECHO, b"")


async def test_a_refusal_brings_its_reason(net: Net) -> None:
    async def refuse(_peer: PeerId, _data: bytes) -> bytes:
        raise UsageError("no such step " + "x" * 5000)

    async with pair(net) as (asker, server):
        server.serve(ECHO, refuse)
        with pytest.raises(TransportError, match="no such step") as caught:
            await asker.request(server.peer_id, ECHO, b"")
        assert len(str(caught.value)) < 1000


async def test_a_bug_in_the_handler_stays_private(net: Net) -> None:
    async def broken(_peer: PeerId, _data: bytes) -> bytes:
        raise RuntimeError("the secret path /home/someone")

    async with pair(net) as (asker, server):
        server.serve(ECHO, broken)
        with pytest.raises(TransportError) as caught:
            await asker.request(server.peer_id, ECHO, b"")
        assert "secret" not in str(caught.value)
        with pytest.raises(TransportError):  # and the server is still there
            await asker.request(server.peer_id, ECHO, b"")


async def test_an_answer_too_late(net: Net) -> None:
    async def sleepy(_peer: PeerId, _data: bytes) -> bytes:
        await anyio.sleep(60)
        return b""

    async with pair(net) as (asker, server):
        server.serve(ECHO, sleepy)
        with anyio.fail_after(60), pytest.raises(PeerUnreachable):
            await asker.request(server.peer_id, ECHO, b"", timeout_s=0.3)


async def test_more_at_once_than_the_server_takes(net: Net) -> None:
    inside, leave = anyio.Event(), anyio.Event()

    async def slow(_peer: PeerId, _data: bytes) -> bytes:
        inside.set()
        await leave.wait()
        return b"done"

    async with pair(net) as (asker, server):
        server.serve(ECHO, slow, max_concurrent=1)
        answers: list[bytes] = []

        async def ask() -> None:
            answers.append(await asker.request(server.peer_id, ECHO, b""))

        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                await inside.wait()
                with pytest.raises(RateLimited):
                    await asker.request(server.peer_id, ECHO, b"")
                leave.set()
            assert answers == [b"done"]
            assert await asker.request(server.peer_id, ECHO, b"") == b"done"


async def test_more_often_than_the_server_likes(net: Net) -> None:
    async with pair(net) as (asker, server):
        server.serve(ECHO, echo, per_peer_rate=Rate(per_s=0.01, burst=2))
        for _ in range(2):
            await asker.request(server.peer_id, ECHO, b"")
        with pytest.raises(RateLimited):
            await asker.request(server.peer_id, ECHO, b"")
        async with net.new("other") as other:
            await other.connect(server.addresses[0])
            assert await other.request(server.peer_id, ECHO, b"")  # one greedy peer costs the others nothing


async def test_cancelling_the_asker_frees_the_server(net: Net) -> None:
    async def slow(_peer: PeerId, data: bytes) -> bytes:
        if data == b"hang":
            inside.set()
            await anyio.sleep_forever()
        return b"ok"

    inside = anyio.Event()
    async with pair(net) as (asker, server):
        server.serve(ECHO, slow)
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(asker.request, server.peer_id, ECHO, b"hang")
                await inside.wait()
                group.cancel_scope.cancel()
            assert await asker.request(server.peer_id, ECHO, b"") == b"ok"


async def test_a_server_that_closes_fails_the_asker(net: Net) -> None:
    inside = anyio.Event()

    async def slow(_peer: PeerId, _data: bytes) -> bytes:
        inside.set()
        await anyio.sleep_forever()
        raise AssertionError

    failures: list[Exception] = []
    async with net.new("asker") as asker, anyio.create_task_group() as group:
        with anyio.fail_after(60):
            async with net.new("server") as server:
                server.serve(ECHO, slow)
                await asker.connect(server.addresses[0])

                async def ask() -> None:
                    try:
                        await asker.request(server.peer_id, ECHO, b"", timeout_s=60)
                    except TransportError as error:
                        failures.append(error)

                group.start_soon(ask)
                await inside.wait()
    assert [type(failure) for failure in failures] == [PeerUnreachable]


async def test_a_protocol_is_served_once(net: Net) -> None:
    async with net.new("a") as a:
        a.serve(ECHO, echo)
        with pytest.raises(TransportError):
            a.serve(ECHO, echo)
