"""Relays and endpoints may answer anything: a sensible answer, none, or one of our errors. Never a bug of ours."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import anyio
import httpx
from hostile import JSON, almost, damaged
from hypothesis import given
from hypothesis import strategies as st

from gesso.chain.cursor import Cursor, EventReader
from gesso.chain.drand import read_signature
from gesso.chain.events import EventDecoder
from gesso.chain.reach import Reach
from gesso.chain.rpc import Rpc
from gesso.chain.settings import ContractAddresses
from gesso.cli.join import network_in
from gesso.directory import Directory
from gesso.market.search import Wanted
from gesso.sse import data_lines
from gesso_protocol.drand import uncompress
from gesso_protocol.errors import EncodingInvalid, GessoError, Unreachable
from gesso_protocol.ids import Address, BlobRef, TaskId
from gesso_protocol.messages import NodeAdvert
from gesso_protocol.policy import Offer

TASK, NODE = TaskId(bytes(range(32))), Address("0x" + "44" * 20)
A, B, C, TOKEN = (Address("0x" + f"{index:02x}" * 20) for index in (1, 2, 3, 4))
H = "0x" + "ab" * 32

ADVERT = NodeAdvert(chain_id=1, wallet=NODE, peer="QmPeer", offer=Offer(), sent_at=1, addresses=("/ip4/1.2.3.4",))
KEPT = {
    "node": str(NODE),
    "state": str(BlobRef(bytes(32))),
    "step": 20,
    "size": 9,
    "seed": "ab" * 32,
    "signature": "cd" * 65,
}
ROW = {"id": str(TASK), "state": "settled", "requester": str(NODE), "node": None, "fee": "9", "submitted_at": 5}
RELAY: dict[str, Any] = {
    "result": {"manifest": str(BlobRef(bytes(32)))},
    "checkpoint": KEPT,
    "nodes": [{"online": True, "advert": json.loads(ADVERT.encode())}],
    "tasks": [ROW],
    "models": [{"id": 5, "uses": 3, "earned": "7", "summary": "a"}],
    "uses": 3,
    "earned": "7",
}
NETWORK = {
    "name": "far",
    "chain_id": 5,
    "rpc_url": "https://rpc.example.org",
    "relay_url": "http://10.0.0.1:8720",
    "contracts": {"task_board": str(A), "node_registry": str(B), "marketplace": str(C), "token": str(TOKEN)},
}
HEADER = {"number": "0x1", "hash": H, "parentHash": H, "timestamp": "0x1", "baseFeePerGas": "0x7", "transactions": [H]}
SENT = {
    "from": str(A),
    "to": str(B),
    "input": "0x",
    "nonce": "0x1",
    "gas": "0x1",
    "gasPrice": "0x1",
    "blockNumber": None,
}
LOG = {
    "address": str(A), "topics": [H], "data": "0x", "blockNumber": "0x1", "blockHash": H, "logIndex": "0x0",
    "transactionHash": H,
}  # fmt: skip
DECODER = EventDecoder(ContractAddresses(task_board=A, node_registry=B, marketplace=C, token=TOKEN))


class Away:
    """A chain that does not answer."""

    def __getattr__(self, _: str) -> Callable[..., Awaitable[Any]]:
        async def ask(*_: object) -> Any:
            raise Unreachable

        return ask


async def asked_of_relay(answer: bytes) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=httpx.ByteStream(answer)))
    async with httpx.AsyncClient(transport=transport, base_url="http://relay.invalid") as relay:
        directory = Directory(cast(Any, Away()), 31337, A, relay)
        questions: tuple[Callable[[], Awaitable[object]], ...] = (
            directory.offers,
            lambda: directory.at_hand(BlobRef(bytes(32))),
            lambda: directory.result_of(TASK),
            lambda: directory.checkpoint_of(TASK, NODE),
            lambda: directory.tasks(requester=None, state=None, limit=5),
            lambda: directory.search(Wanted()),
        )
        for question in questions:
            with contextlib.suppress(Unreachable):  # the chain, where the relay says nothing sensible
                await question()


@given(fields=almost(RELAY), row=almost(ROW), node=almost(RELAY["nodes"][0]), model=almost(RELAY["models"][0]))
def test_whatever_a_relay_answers(fields: dict[str, Any], row: Any, node: Any, model: Any) -> None:
    rows = {"tasks": [row], "nodes": [node], "models": [model]}
    anyio.run(asked_of_relay, json.dumps({**rows, **fields}).encode())
    anyio.run(asked_of_relay, json.dumps({**fields, **rows}).encode())


@given(answer=damaged(json.dumps(RELAY).encode()) | JSON.map(json.dumps).map(str.encode))
def test_bytes_that_a_relay_answers(answer: bytes) -> None:
    anyio.run(asked_of_relay, answer)


@given(told=almost({"network": NETWORK}) | JSON, body=damaged(json.dumps({"network": NETWORK}).encode()))
def test_a_relay_s_word_on_its_network(told: Any, body: bytes) -> None:
    for document in (json.dumps(told).encode(), body):
        with contextlib.suppress(GessoError):
            network_in(document, "http://relay.invalid")


@given(pieces=st.lists(st.binary(max_size=40) | st.just(b"data: {}\n"), max_size=8))
def test_events_of_a_relay_are_lines_and_bounded(pieces: list[bytes]) -> None:
    async def read() -> list[bytes]:
        async def stream() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        found = []
        with contextlib.suppress(EncodingInvalid):
            async for line in data_lines(httpx.Response(200, content=stream()), max_bytes=64):
                found.append(line)
        return found

    lines = [line for line in b"".join(pieces).split(b"\n")[:-1] if line.startswith(b"data:")]
    found = anyio.run(read)
    assert found == [line[5:].strip() for line in lines][: len(found)]


@given(answer=damaged(b'{"round":1000,"signature":"' + b"ab" * 48 + b'"}') | JSON.map(json.dumps).map(str.encode))
def test_whatever_a_drand_server_answers(answer: bytes) -> None:
    signature = read_signature(answer, 1000)  # of a point of the curve at most: the contract judges it
    assert signature is None or len(uncompress(signature)) == 96


class Answers:
    """In place of what posts requests."""

    def __init__(self, result: Any) -> None:
        self.result = result

    async def ask(self, method: str, _: object) -> Any:
        return self.result[method] if isinstance(self.result, dict) and method in self.result else self.result


async def asked_of_chain(reply: Any, logs: Any) -> None:
    rpc = Rpc("http://chain.invalid", timeout_s=1)
    cast(Any, rpc)._poster = Answers(reply)
    reader = EventReader(rpc, DECODER, reach=Reach(2))
    questions: tuple[Callable[[], Awaitable[object]], ...] = (
        rpc.latest,
        rpc.chain_id,
        lambda: rpc.header(1),
        lambda: rpc.call(A, b""),
        lambda: rpc.nonce(A, pending=True),
        lambda: rpc.transaction(H),
        lambda: rpc.receipt(H),
        lambda: rpc.logs([A], first=0, last=2),
    )
    for question in questions:
        with contextlib.suppress(GessoError):
            await question()
    cast(Any, rpc)._poster = Answers({"eth_getBlockByNumber": {"result": HEADER}, "eth_getLogs": logs})
    with contextlib.suppress(GessoError):
        await reader.read(Cursor.before(0))


@given(
    result=almost(HEADER) | almost(SENT) | almost(LOG).map(lambda log: [log]) | JSON,
    error=almost({"code": 3, "message": "execution reverted", "data": {"data": "0x" + "08c379a0" * 4}}) | JSON,
    log=almost(LOG),
    failed=st.booleans(),
)
def test_whatever_an_endpoint_answers(result: Any, error: Any, log: Any, failed: bool) -> None:
    anyio.run(asked_of_chain, {"error": error} if failed else {"result": result}, {"result": [log, LOG]})
