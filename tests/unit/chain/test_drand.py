"""Rounds from drand's servers, which are strangers: bounded, timed, checked by the contract, passed over when wrong."""

from __future__ import annotations

import gzip
import hashlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest
from aiohttp import web

from gesso.chain import beacon as beacon_module
from gesso.chain.abi import Values
from gesso.chain.beacon import Beacon
from gesso.chain.drand import MAX_ANSWER_BYTES, DrandServers, read_signature
from gesso.chain.settings import DRAND_URLS
from gesso_contracts import Contract
from gesso_protocol import drand
from gesso_protocol.errors import ChainReverted, Unreachable

from .drand_servers import PUBLISHED, Answer, document, honest, serving

pytestmark = pytest.mark.anyio
ROUND, OTHER = 1000, 657413
SIGNATURE = PUBLISHED[ROUND]
GENESIS_SEED = bytes.fromhex("f477d5c89f21a17c863a7f937c6a6d15859414d2be09cd448d4279af331c5d3e")
SERVER_S = 60.0
TRICKLE_S = 5.0
"""An honest server on a busy machine answers in either; only who trickles makes us wait so long."""


def saying(body: bytes, status: int = 200, **headers: str) -> Answer:
    async def answer(_: web.Request, __: int) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers=headers)

    return answer


async def trickling(request: web.Request, number: int) -> web.StreamResponse:
    """The right answer, a byte at a time, for ever."""
    reply = web.StreamResponse()
    await reply.prepare(request)
    for byte in document(number, PUBLISHED[number]):
        await reply.write(bytes([byte]))
        await anyio.sleep(TRICKLE_S / 10)
    return reply


async def endless(request: web.Request, _: int) -> web.StreamResponse:
    reply = web.StreamResponse()
    await reply.prepare(request)
    while True:
        await reply.write(b"[" * 4096)


async def elsewhere(request: web.Request, _: int) -> web.StreamResponse:
    raise web.HTTPFound(str(request.url.with_path("/secret")))


HOSTILE: dict[str, Answer] = {
    "trickles": trickling,
    "never ends": endless,
    "redirects": elsewhere,
    "is broken": saying(document(ROUND, SIGNATURE), status=500),
    "says nothing": saying(b""),
    "nests": saying(b'{"round":1000,"signature":' + b"[" * 1900),
    "says no text": saying(b'\xff{"round":1000}'),
    "says a list": saying(b"[1000]"),
    "pads": saying(document(ROUND, SIGNATURE) + b" " * MAX_ANSWER_BYTES),
    "compresses": saying(gzip.compress(document(ROUND, SIGNATURE)), **{"Content-Encoding": "gzip"}),
    "has another round": saying(document(OTHER, PUBLISHED[OTHER])),
    "says true": saying(b'{"round":true,"signature":"' + SIGNATURE.hex().encode() + b'"}'),
    "shortens": saying(b'{"round":1000,"signature":"' + SIGNATURE.hex()[:-2].encode() + b'"}'),
    "says infinity": saying(document(ROUND, bytes([0xC0]) + bytes(47))),
    "says no point": saying(document(ROUND, bytes([0x80]) + bytes(46) + b"\x01")),
}


@asynccontextmanager
async def asked(*answers: Answer, server_s: float = SERVER_S) -> AsyncIterator[DrandServers]:
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(serving(answer)) for answer in answers]
        yield DrandServers(urls, server_s=server_s)


async def given(servers: DrandServers, number: int = ROUND) -> list[bytes]:
    return [signature async for _, signature in servers.signatures(number)]


def test_the_chain_hash_is_of_the_key_and_the_clock_that_the_contract_has() -> None:
    clock = struct.pack(">Iq", drand.PERIOD_S, drand.GENESIS)
    assert hashlib.sha256(clock + drand.PUBLIC_KEY + GENESIS_SEED + b"quicknet").hexdigest() == drand.CHAIN_HASH


def test_shipped_servers_are_several_and_none_is_asked_in_the_clear() -> None:
    assert len(set(DRAND_URLS)) >= 3
    assert all(url.startswith("https://") for url in DRAND_URLS)


async def test_a_published_round_is_found() -> None:
    async with asked(honest) as servers:
        assert await given(servers) == [SIGNATURE]


async def test_a_round_that_is_not_published_is_no_error() -> None:
    async with asked(honest, honest) as servers:
        assert await given(servers, 2**40) == []


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_server_that_is_no_good_is_passed_over(name: str) -> None:
    async with asked(HOSTILE[name], honest, server_s=TRICKLE_S if name == "trickles" else SERVER_S) as servers:
        with anyio.fail_after(60):
            assert await given(servers) == [SIGNATURE]


async def test_a_server_that_is_gone_is_passed_over() -> None:
    async with serving(honest) as gone:
        pass
    async with serving(honest) as url:
        assert await given(DrandServers([gone, url])) == [SIGNATURE]


async def test_the_server_that_was_right_is_asked_first() -> None:
    async with asked(saying(b"junk"), honest) as servers:
        async for url, _ in servers.signatures(ROUND):
            servers.prefer(url)
        first = [url async for url, _ in servers.signatures(ROUND)]
        servers.prefer("http://a.stranger")
        assert [url async for url, _ in servers.signatures(ROUND)] == first


@pytest.mark.parametrize("junk", [b"{}", b"null", b"1", b'{"round":1000,"signature":7}', b'{"round":1e999}'])
def test_junk_is_no_signature(junk: bytes) -> None:
    assert read_signature(junk, ROUND) is None


class Contractual:
    """A beacon's contract that knows which signature is right, and what was paid for."""

    def __init__(self, *, of_drand: bool = True, stride: int = 1) -> None:
        self.of_drand = of_drand
        self.stride = stride
        self.seeds: dict[int, bytes] = {}
        self.calls: list[str] = []
        self.paid: list[str] = []

    async def read(self, _: Contract, name: str, *arguments: Any) -> Values:
        self.calls.append(name)
        if name == "stride":
            if not self.of_drand:
                raise ChainReverted("Unknown", ())
            return (self.stride,)
        if name == "prove":
            return (self._proved(*arguments),)
        if name == "seedOf":
            return (self.seeds.get(arguments[0], bytes(32)),)
        raise AssertionError(name)

    async def send(self, _: Contract, name: str, *arguments: Any, least_gas: int = 0) -> Any:
        self.paid.append(name)
        if name == "prove":
            self.seeds[arguments[0]] = self._proved(*arguments)
        else:
            self.seeds[arguments[0]] = b"\x01" * 32

    def _proved(self, number: int, point: bytes) -> bytes:
        signature = PUBLISHED[number * self.stride]
        if point != drand.uncompress(signature):
            raise ChainReverted("SignatureRefused", (number,))
        return drand.seed_of(signature)


def beacon(contract: Contractual, servers: DrandServers, clock: Callable[[], float]) -> Beacon:
    return Beacon(contract.read, contract.send, servers, wall_clock=clock)


class Counted:
    """An answer that counts how often it was asked."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.times = 0

    def __call__(self, request: web.Request, number: int) -> Awaitable[web.StreamResponse]:
        self.times += 1
        return self._answer(request, number)


def ticking(start: float = 2e9) -> Callable[[], float]:
    seconds = [start]

    def clock() -> float:
        seconds[0] += 10
        return seconds[0]

    return clock


async def test_listening_pays_nothing_and_fixing_pays_once() -> None:
    contract = Contractual()
    async with asked(honest) as servers:
        found = beacon(contract, servers, ticking())
        assert await found.listen(ROUND) == drand.seed_of(SIGNATURE)
        assert contract.paid == []
        await found.fix(ROUND)
        await found.fix(ROUND)
        assert contract.paid == ["prove"]
        assert await found.seed_on_chain(ROUND) == drand.seed_of(SIGNATURE)


async def test_a_stride_asks_for_drands_own_number() -> None:
    contract = Contractual(stride=10)
    async with asked(honest) as servers:
        found = beacon(contract, servers, ticking())
        await found.fix(ROUND // 10)
        assert contract.seeds == {ROUND // 10: drand.seed_of(SIGNATURE)}
        early = beacon(contract, servers, lambda: drand.published_at(ROUND) - 1.0)
        assert await early.listen(ROUND // 10 + 1) is None


async def test_a_lie_that_looks_like_a_signature_costs_no_gas() -> None:
    lie = saying(document(ROUND, PUBLISHED[OTHER]))
    contract = Contractual()
    async with asked(lie, honest) as servers:
        found = beacon(contract, servers, ticking())
        await found.fix(ROUND)
    assert contract.paid == ["prove"]
    assert contract.seeds == {ROUND: drand.seed_of(SIGNATURE)}


async def test_only_lies_fix_nothing() -> None:
    contract = Contractual()
    async with asked(saying(document(ROUND, PUBLISHED[OTHER]))) as servers:
        found = beacon(contract, servers, ticking())
        assert await found.listen(ROUND) is None
        with pytest.raises(Unreachable):
            await found.fix(ROUND)
    assert contract.paid == []


async def test_servers_are_not_asked_before_a_round_can_be_there() -> None:
    answer = Counted(honest)
    async with asked(answer) as servers:
        early = beacon(Contractual(), servers, lambda: drand.published_at(ROUND) - 1.0)
        assert await early.listen(ROUND) is None
        assert answer.times == 0


async def test_a_stranger_cannot_have_servers_asked_without_end() -> None:
    answer = Counted(saying(b"", status=404))
    async with asked(answer) as servers:
        found = beacon(Contractual(), servers, lambda: 2e9)
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(found.listen, ROUND)
        assert answer.times == 1


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beacon_module, "MAX_HEARD", 2)
    async with asked(honest) as servers:
        contract = Contractual()
        found = beacon(contract, servers, ticking())
        for number in PUBLISHED:
            assert await found.listen(number) == drand.seed_of(PUBLISHED[number])
        contract.calls.clear()
        await found.listen(ROUND)
        assert "prove" in contract.calls  # it was forgotten, and is asked for again


async def test_a_beacon_of_block_hashes_asks_no_server() -> None:
    answer = Counted(honest)
    contract = Contractual(of_drand=False)
    async with asked(answer) as servers:
        found = beacon(contract, servers, ticking())
        assert await found.listen(ROUND) is None
        await found.resolve(ROUND)
        await found.fix(ROUND)
        assert contract.paid == ["resolve"]
        assert answer.times == 0
