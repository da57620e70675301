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
        async with Rpc(f"http://{host}:{port}", timeout_s=5) as rpc:
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
            await EventReader(rpc, decoder, max_range=10).read(Cursor.before(0))


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
