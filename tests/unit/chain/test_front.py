"""The embedded chain's front against clients that are broken, greedy or hostile."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gesso.chain.wallet import Wallet
from gesso_devnet.chain.accounts import known_accounts
from gesso_devnet.chain.embedded import EmbeddedChain
from gesso_devnet.chain.front import MAX_BATCH, MAX_BODY_BYTES, too_deep
from gesso_devnet.chain.methods import MAX_LOG_BLOCKS

pytestmark = pytest.mark.anyio

ADDRESS = "0x" + "ab" * 20
HASH = "0x" + "cd" * 32


class Client:
    """Says anything to the chain, well formed or not."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.session = session

    async def post(self, body: bytes | io.BytesIO) -> tuple[int, Any]:
        async with self.session.post(self.url, data=body) as reply:
            return reply.status, json.loads(await reply.read())

    async def ask(self, method: str, *params: Any) -> Any:
        request = {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)}
        status, reply = await self.post(json.dumps(request).encode())
        assert (status, reply["id"]) == (200, 7)
        return reply

    async def code(self, method: str, *params: Any) -> int:
        reply = await self.ask(method, *params)
        assert "error" in reply, reply
        assert isinstance(reply["error"]["message"], str)
        return int(reply["error"]["code"])


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    with anyio.fail_after(60):
        async with EmbeddedChain.open() as chain, aiohttp.ClientSession() as session:
            yield Client(chain.rpc_url, session)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"nul", b"[" * 100_000, b"1" * 100_000, b'{"a":' * 20_000])
async def test_what_is_not_json_is_a_parse_error(client: Client, body: bytes) -> None:
    _, reply = await client.post(body)
    assert reply["error"]["code"] == -32700
    assert reply["id"] is None
    assert (await client.ask("eth_chainId"))["result"] == "0x7a69"


def test_depth_is_counted_outside_of_strings_only() -> None:
    assert not too_deep(json.dumps([{"a": "[" * 1000 + '"' + "{" * 1000}] * 100).encode())
    assert not too_deep(b"[" * 32 + b"]" * 32)
    assert too_deep(b"[" * 33 + b"]" * 33)
    assert too_deep(b'["' + b"\\" * 50 + b'"' + b"[" * 40)


@pytest.mark.parametrize(
    "request_body",
    [
        [],
        5,
        "text",
        None,
        {},
        {"jsonrpc": "2.0"},
        {"jsonrpc": "1.0", "method": "eth_chainId"},
        {"jsonrpc": "2.0", "method": 5},
        {"jsonrpc": "2.0", "method": "eth_chainId", "params": {"a": 1}},
        {"jsonrpc": "2.0", "method": "eth_chainId", "params": "x"},
        {"jsonrpc": "2.0", "method": ["eth_chainId"]},
    ],
)
async def test_what_is_no_request_is_an_invalid_request(client: Client, request_body: object) -> None:
    _, reply = await client.post(json.dumps(request_body).encode())
    assert reply["error"]["code"] == -32600


async def test_an_oversized_body_is_refused_without_being_kept(client: Client) -> None:
    status, reply = await client.post(io.BytesIO(b" " * (MAX_BODY_BYTES + 1)))
    assert (status, reply["error"]["code"]) == (413, -32600)
    assert (await client.ask("eth_chainId"))["result"] == "0x7a69"


async def test_batches_are_bounded_and_answered_item_by_item(client: Client) -> None:
    one = {"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []}
    _, bomb = await client.post(json.dumps([one] * (MAX_BATCH + 1)).encode())
    assert bomb["error"]["code"] == -32600
    _, mixed = await client.post(json.dumps([one, 5, {"id": 2}, one | {"method": "x", "id": "s"}]).encode())
    assert [entry.get("error", {}).get("code") for entry in mixed] == [None, -32600, -32600, -32601]
    assert [entry["id"] for entry in mixed] == [1, None, 2, "s"]
    _, nested = await client.post(json.dumps([[one] * 10]).encode())
    assert nested[0]["error"]["code"] == -32600


async def test_unknown_methods_and_wrong_parameters(client: Client) -> None:
    assert await client.code("eth_sign") == -32601
    assert await client.code("__class__") == -32601
    assert await client.code("x" * 10_000) == -32601
    for method, params in (
        ("eth_getBalance", []),
        ("eth_getBalance", [ADDRESS, "latest", "more"]),
        ("eth_getBalance", [5]),
        ("eth_getBalance", ["0x12"]),
        ("eth_getBalance", [ADDRESS, "0x"]),
        ("eth_getBalance", [ADDRESS, -1]),
        ("eth_getBalance", [ADDRESS, "0x" + "f" * 65]),
        ("eth_getBalance", [ADDRESS, True]),
        ("eth_getBalance", [ADDRESS, 1.5]),
        ("eth_call", ["text"]),
        ("eth_call", [{"to": ADDRESS, "data": "0x1"}]),
        ("eth_call", [{"to": ADDRESS, "value": "lots"}]),
        ("eth_getLogs", [[]]),
        ("eth_getLogs", [{"topics": "x"}]),
        ("eth_getLogs", [{"topics": [None] * 5}]),
        ("eth_getLogs", [{"address": [ADDRESS] * 1001}]),
        ("eth_feeHistory", ["0x1", "latest", [1] * 101]),
        ("eth_getTransactionReceipt", ["0x12"]),
        ("eth_sendRawTransaction", ["0x" + "00" * (128 * 1024 + 1)]),
        ("evm_increaseTime", [2**50]),
        ("evm_setNextBlockTimestamp", [1]),
        ("evm_mine", [1]),
        ("anvil_mine", [10**9]),
        ("anvil_reorg", [5]),
        ("anvil_reorg", [1, [[1]]]),
    ):
        assert await client.code(method, *params) == -32602, (method, params)


async def test_things_that_are_not_there(client: Client) -> None:
    assert (await client.ask("eth_getBlockByNumber", "0x999", False))["result"] is None
    assert (await client.ask("eth_getBlockByHash", HASH))["result"] is None
    assert (await client.ask("eth_getTransactionReceipt", HASH))["result"] is None
    assert (await client.ask("eth_getTransactionByHash", HASH))["result"] is None
    assert (await client.ask("anvil_dropTransaction", HASH))["result"] is None
    assert (await client.ask("evm_revert", "0x99"))["result"] is False
    assert await client.code("eth_getBalance", ADDRESS, "0x999") == -32000
    assert await client.code("eth_getLogs", {"blockHash": HASH}) == -32000


@pytest.mark.parametrize("raw", ["0x", "0x00", "0x01", "0x02c0", "0x03" + "00" * 50, "0x7f", "0xc0", "0xf8ff"])
async def test_what_is_no_transaction_is_refused(client: Client, raw: str) -> None:
    assert await client.code("eth_sendRawTransaction", raw) == -32000


async def test_wide_log_queries_are_refused_not_served(client: Client) -> None:
    await client.ask("anvil_mine", "0x10")
    assert (await client.ask("eth_getLogs", {"fromBlock": "0x0", "toBlock": "0xffffff"}))["result"] == []
    assert (await client.ask("eth_getLogs", {"fromBlock": "0x900", "toBlock": "0x901"}))["result"] == []
    await client.ask("anvil_mine", MAX_LOG_BLOCKS)
    assert await client.code("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest"}) == -32005


async def test_a_call_that_burns_all_gas_ends(client: Client) -> None:
    loop_for_ever = "0x5b600056"
    assert await client.code("eth_call", {"data": loop_for_ever, "gas": "0x2faf080"}) == -32000
    assert await client.code("eth_estimateGas", {"data": "0xfe"}) == -32000


async def test_a_contract_that_calls_itself_for_ever_ends(client: Client) -> None:
    """Each call hands on almost all gas, so hundreds of interpreters run within each other."""
    body = bytes.fromhex("60006000600060006000305af1")  # CALL(gas, self, 0, …)
    creation = bytes.fromhex(f"60{len(body):02x}600c60003960{len(body):02x}6000f3") + body
    wallet = Wallet.from_key(known_accounts(1)[0].key)
    fields = {"type": 2, "chainId": 31337, "nonce": 0, "to": "", "data": creation, "gas": 200_000}
    signed = wallet.sign_transaction(fields | {"maxFeePerGas": 10**10, "maxPriorityFeePerGas": 1, "value": 0})
    await client.ask("eth_sendRawTransaction", "0x" + signed.raw.hex())
    contract = (await client.ask("eth_getTransactionReceipt", signed.hash))["result"]["contractAddress"]
    assert (await client.ask("eth_call", {"to": contract}))["result"] == "0x"


async def test_many_hostile_clients_do_not_stop_the_chain(client: Client) -> None:
    bodies = [b"{", b"[]", b"5", b" " * 100_000, json.dumps([{"method": "x"}] * MAX_BATCH).encode()] * 10
    await asyncio.gather(*(client.post(body) for body in bodies))
    assert (await client.ask("eth_blockNumber"))["result"] == "0x0"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
METHODS = st.sampled_from(
    ["eth_call", "eth_getLogs", "eth_getBlockByNumber", "eth_estimateGas", "eth_feeHistory", "eth_getStorageAt"]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(method=METHODS, params=st.lists(JSON, max_size=3))
async def test_any_parameters_get_a_typed_answer(client: Client, method: str, params: list[Any]) -> None:
    reply = await client.ask(method, *params)
    assert "result" in reply or reply["error"]["code"] != -32603
