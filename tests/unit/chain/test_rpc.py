"""An endpoint may answer anything: what cannot be read is a typed error, and what is too long is not read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from eth_abi.abi import encode

from gesso.chain import post as post_module
from gesso.chain.cursor import Cursor, EventReader
from gesso.chain.events import EventDecoder
from gesso.chain.fees import FeeOracle
from gesso.chain.permits import Permits
from gesso.chain.reach import Reach
from gesso.chain.rpc import Rpc
from gesso.chain.settings import ContractAddresses
from gesso.chain.wallet import Wallet
from gesso_protocol.errors import ChainError, GessoError
from gesso_protocol.ids import Address

pytestmark = pytest.mark.anyio
A, B, C, TOKEN = (Address("0x" + f"{index:02x}" * 20) for index in (1, 2, 3, 4))
HEADER = {"number": "0x1", "hash": "0x" + "01" * 32, "parentHash": "0x" + "00" * 32, "timestamp": "0x1"}
JUNK: list[Any] = [None, 7, "x", "0xzz", [], {}, [[]], [None], [{}], {"number": None}, {"baseFeePerGas": 3}, True]


@asynccontextmanager
async def endpoint(answer: Callable[[str], bytes]) -> AsyncIterator[Rpc]:
    """A JSON-RPC endpoint that answers each method with these bytes."""

    async def handle(request: web.Request) -> web.Response:
        return web.Response(body=answer((await request.json())["method"]))

    app = web.Application()
    app.router.add_post("/", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with Rpc(f"http://{host}:{port}", timeout_s=60) as rpc:
            yield rpc
    finally:
        await runner.cleanup()


def result(value: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": value}).encode()


@pytest.mark.parametrize("junk", JUNK, ids=repr)
async def test_an_answer_of_another_shape_is_a_typed_error(junk: Any) -> None:
    decoder = EventDecoder(ContractAddresses(task_board=A, node_registry=B, marketplace=C, token=TOKEN))
    head = {"eth_getBlockByNumber": HEADER}
    async with endpoint(lambda _: result(junk)) as rpc:
        for asked in (rpc.latest, FeeOracle(rpc).current, lambda: rpc.nonce(A, pending=False)):
            with pytest.raises(ChainError):
                await asked()
        if junk not in (None, {}):
            with pytest.raises(ChainError):
                await rpc.header(1)
    if junk == []:
        return
    async with endpoint(lambda method: result(head.get(method, junk))) as rpc:
        with pytest.raises(ChainError):
            await EventReader(rpc, decoder, reach=Reach(10)).read(Cursor.before(0))


@pytest.mark.parametrize("body", [b"[" * 100_000, b"\xff", b"{", b"", b"[]", b'{"result":' * 300_000])
async def test_a_body_that_is_no_answer_is_a_typed_error(body: bytes) -> None:
    async with endpoint(lambda _: body) as rpc:
        with pytest.raises(ChainError):
            await rpc.latest()


async def test_an_endless_answer_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post_module, "MAX_REPLY_BYTES", 10_000)
    async with endpoint(lambda _: result("0x" + "00" * 20_000)) as rpc:
        with pytest.raises(ChainError, match="too long"):
            await rpc.code(A)


@pytest.mark.parametrize(("chain", "contract"), [(2, TOKEN), (1, A)])
async def test_no_permit_is_signed_for_another_token_or_chain(chain: int, contract: Address) -> None:
    kinds = ["bytes1", "string", "string", "uint256", "address", "bytes32", "uint256[]"]
    domain = encode(kinds, [b"\x0f", "Coin", "1", chain, contract, bytes(32), []])
    async with endpoint(lambda _: result("0x" + domain.hex())) as rpc:
        permits = Permits(rpc, TOKEN, 1)
        with pytest.raises(GessoError, match="another"):
            await permits.sign(Wallet.from_key(b"\x01" * 32), B, 5, 100)


HASH = "0x" + "02" * 32
LOG = {"address": A, "topics": [], "data": "0x", "blockNumber": "0x1", "blockHash": HEADER["hash"], "logIndex": "0x0",
       "transactionHash": HASH}  # fmt: skip
ABSURD_HEADERS: list[dict[str, Any]] = [
    {"number": hex(2**200)}, {"number": "-0x1"}, {"number": "0x-1"}, {"number": 1}, {"timestamp": hex(2**64)},
    {"timestamp": None}, {"hash": None}, {"hash": "0x01"}, {"hash": 7}, {"parentHash": "0x" + "zz" * 32},
    {"number": "0x7"},
]  # fmt: skip
ABSURD_LOGS: list[Any] = [
    {"blockNumber": hex(2**200)}, {"blockNumber": "0x2"}, {"blockNumber": None}, {"logIndex": hex(2**64)},
    {"blockHash": "latest"}, {"transactionHash": None}, {"topics": "0x"}, {"topics": [7]}, {"data": "0x0"},
    {"topics": None}, {"address": None, "data": 5},
]  # fmt: skip


def headed(**changed: Any) -> Callable[[str], bytes]:
    return lambda method: result({**HEADER, **changed} if method == "eth_getBlockByNumber" else [])


@pytest.mark.parametrize("changed", ABSURD_HEADERS, ids=repr)
async def test_an_absurd_header_is_a_typed_error(changed: dict[str, Any]) -> None:
    async with endpoint(headed(**changed)) as rpc:
        with pytest.raises(ChainError):
            await rpc.header(1)


@pytest.mark.parametrize("changed", ABSURD_LOGS, ids=repr)
async def test_absurd_logs_are_a_typed_error(changed: dict[str, Any]) -> None:
    async with endpoint(lambda _: result([LOG, {**LOG, "logIndex": "0x1", **changed}])) as rpc:
        with pytest.raises(ChainError):
            await rpc.logs([A], first=0, last=1)


async def test_logs_of_another_block_or_twice_are_a_typed_error() -> None:
    async with endpoint(lambda _: result([LOG])) as rpc:
        with pytest.raises(ChainError, match="other blocks"):
            await rpc.logs([A], block_hash=HASH)
        assert len(await rpc.logs([A], block_hash=HEADER["hash"])) == 1
        assert len(await rpc.logs([A], first=1, last=1)) == 1
    async with endpoint(lambda _: result([LOG, LOG])) as rpc:
        with pytest.raises(ChainError, match="twice"):
            await rpc.logs([A], first=1, last=1)


async def test_hashes_are_read_in_whatever_case_they_come() -> None:
    """A cursor keeps them in lower case: an endpoint of another taste is no fork, and ends no reader."""
    decoder = EventDecoder(ContractAddresses(task_board=A, node_registry=B, marketplace=C, token=TOKEN))
    async with endpoint(headed(hash="0x" + "AB" * 32)) as rpc:
        page = await EventReader(rpc, decoder, reach=Reach(10)).read(Cursor.before(0))
    assert page is not None
    assert page.cursor.trail[0].hash == "0x" + "ab" * 32
    async with endpoint(headed(transactions=["0x" + "CD" * 32])) as rpc:
        header = await rpc.header()
    assert header is not None
    assert header.transactions == ("0x" + "cd" * 32,), "ours are looked for by their hashes in lower case"
