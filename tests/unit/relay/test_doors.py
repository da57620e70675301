"""Connections that ask nothing, take nothing or come by the thousand: they are cut, and others are served meanwhile."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import anyio.abc
import pytest
from pydantic import BaseModel

from gesso_protocol.ids import BlobRef
from gesso_relay import Limits, doors
from gesso_relay.gate import network_of

from .running import GENEROUS, Running, running

pytestmark = pytest.mark.anyio
HALF = b"GET /v1/health HTTP/1.1\r\nHost: relay\r\nX-Slow: "


def limits(**changed: float) -> Limits:
    return Limits.model_validate({**BaseModel.model_dump(GENEROUS), **changed})


async def dial(relay: Running, said: bytes = b"", whence: str | None = None) -> anyio.abc.SocketStream:
    address = urlsplit(relay.relay.url)
    assert address.hostname is not None
    assert address.port is not None
    socket = await anyio.connect_tcp(address.hostname, address.port, local_host=whence)
    if said:
        await socket.send(said)
    return socket


async def cut(socket: anyio.abc.SocketStream) -> bool:
    """Waits until the relay ends the connection; whether it did so without a word."""
    with anyio.fail_after(60):
        try:
            return not await socket.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return True


async def until(true: Callable[[], bool]) -> None:
    with anyio.fail_after(60):
        while not true():
            await anyio.lowlevel.checkpoint()


async def test_half_a_request_is_cut_and_others_are_served_meanwhile(tmp_path: Path) -> None:
    async with running(tmp_path, limits=limits(idle_s=0.3)) as relay, AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(await dial(relay, said)) for said in [HALF] * 40 + [b""] * 10]
        assert (await relay.client.get("/v1/health")).status_code == 200
        after_one = await stack.enter_async_context(await dial(relay, HALF + b"1\r\n\r\n" + HALF))
        assert (await after_one.receive()).startswith(b"HTTP/1.1 200")
        assert all([await cut(socket) for socket in (*slow, after_one)])


async def test_a_head_that_trickles_gains_no_time(tmp_path: Path) -> None:
    async with running(tmp_path, limits=limits(idle_s=0.3)) as relay, await dial(relay, HALF) as socket:
        with anyio.fail_after(60), suppress(anyio.BrokenResourceError):
            silent = False
            while not silent:
                await socket.send(b"x")
                with anyio.move_on_after(0.02):
                    silent = await cut(socket)
            assert silent


async def test_one_address_has_a_bounded_number_of_connections_and_gets_places_back(tmp_path: Path) -> None:
    async with running(tmp_path, limits=limits(connections_a_client=3)) as relay, AsyncExitStack() as stack:
        kept = [await dial(relay, HALF) for _ in range(3)]
        for socket in kept:
            stack.push_async_callback(socket.aclose)
        async with await dial(relay) as refused:
            assert await cut(refused)
        await kept[0].aclose()
        await until(lambda: relay.relay.doors.open == 2)
        assert (await relay.client.get("/v1/health")).status_code == 200


async def test_who_has_most_gives_up_what_is_idle_to_a_newcomer(tmp_path: Path) -> None:
    asked = b"GET /v1/health HTTP/1.1\r\nHost: relay\r\n\r\n"
    data = bytes(100)
    upload = f"PUT /v1/blobs/{BlobRef.of(data).value.hex()} HTTP/1.1\r\nHost: relay\r\nContent-Length: 100\r\n\r\n"
    async with running(tmp_path, limits=limits(connections=4)) as relay, AsyncExitStack() as stack:
        await relay.client.aclose()
        await until(lambda: relay.relay.doors.open == 0)

        async def come(last: int, said: bytes) -> anyio.abc.SocketStream:
            return await stack.enter_async_context(await dial(relay, said, f"127.0.0.{last}"))

        busy = await come(2, upload.encode() + data[:1])
        await until(lambda: any(one.busy for one in relay.relay.doors._open))
        idle = [await come(2, HALF)]
        for _ in range(2):
            idle.append(await come(2, asked))
            assert (await idle[-1].receive()).startswith(b"HTTP/1.1 200")
        assert await cut(await come(2, asked)), "it has most itself"
        for number in range(3):
            newcomer = await come(3 + number, asked)
            assert (await newcomer.receive()).startswith(b"HTTP/1.1 200")
            assert await cut(idle[number])
        assert await cut(await come(6, asked)), "now all have one"
        await busy.send(data[1:])
        assert (await busy.receive()).startswith(b"HTTP/1.1 201"), "what is under way is left alone"
        assert relay.relay.doors.open == 4


def test_a_customer_of_a_provider_is_one_however_many_households_it_has() -> None:
    assert network_of("2001:db8:1:2::1", doors.CUSTOMER_PREFIX) == network_of("2001:db8:1:ffff::1", 48)
    assert network_of("2001:db8:1:2::1") != network_of("2001:db8:1:ffff::1")
    assert network_of("192.0.2.1", doors.CUSTOMER_PREFIX) == "192.0.2.1"


async def test_who_reads_nothing_of_an_answer_is_cut(tmp_path: Path) -> None:
    data = bytes(24 << 20)
    name = BlobRef.of(data).value.hex()
    async with running(tmp_path, limits=limits(stalled_s=0.5)) as relay:
        assert (await relay.client.put(f"/v1/blobs/{name}", content=data)).status_code == 201
        await relay.client.aclose()
        open_now = relay.relay.doors
        await until(lambda: open_now.open == 0)
        async with await dial(relay, f"GET /v1/blobs/{name} HTTP/1.1\r\nHost: relay\r\n\r\n".encode()):
            await until(lambda: open_now.open == 1)
            await until(lambda: open_now.open == 0)


async def test_nothing_that_is_packed_is_unpacked(tmp_path: Path) -> None:
    packed = gzip.compress(bytes(1 << 20))
    async with running(tmp_path) as relay:
        path = f"/v1/blobs/{BlobRef.of(packed).value.hex()}"
        reply = await relay.client.put(path, content=packed, headers={"Content-Encoding": "gzip"})
        assert reply.status_code == 201
        assert (await relay.client.get(path)).content == packed


def test_there_are_no_more_connections_than_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors.resource, "getrlimit", lambda _: (1024, 4096))
    assert doors.most_connections(4096) == (1024 - doors.KEPT_FILES) // doors.FILES_A_CONNECTION
    assert doors.most_connections(10) == 10

    def refused(*_: object) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(doors.resource, "setrlimit", refused)
    doors.raise_file_limit()
    monkeypatch.setattr(doors.resource, "getrlimit", lambda _: (doors.resource.RLIM_INFINITY,) * 2)
    assert doors.most_connections(4096) == 4096
