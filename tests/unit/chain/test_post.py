"""Requests that are asked together travel together; endpoints that cannot do that are served one at a time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from aiohttp import web

from gesso.chain.post import MAX_BATCH, MAX_POSTS
from gesso.chain.rpc import Rpc, RpcRefused
from gesso_protocol.errors import ChainError, Unreachable

pytestmark = pytest.mark.anyio
MANY = MAX_BATCH * MAX_POSTS + 40


class Endpoint:
    """Answers `eth_getBalance` with the number it was asked for; `gate` holds its first answers back."""

    def __init__(self, answer_batch: Callable[[list[Any]], Any]) -> None:
        self.posts: list[int] = []
        self.gate = asyncio.Event()
        self.held = MAX_POSTS
        self._answer_batch = answer_batch

    async def handle(self, request: web.Request) -> web.Response:
        asked = await request.json()
        self.posts.append(len(asked) if isinstance(asked, list) else 0)
        if len(self.posts) <= self.held:
            await self.gate.wait()
        replies = self._answer_batch([one(each) for each in asked]) if isinstance(asked, list) else one(asked)
        return web.Response(body=json.dumps(replies).encode())


def one(asked: dict[str, Any]) -> dict[str, Any]:
    if asked["params"][0] in ("0x7", "0x07"):
        return {"jsonrpc": "2.0", "id": asked["id"], "error": {"code": -1, "message": "seven"}}
    return {"jsonrpc": "2.0", "id": asked["id"], "result": asked["params"][0]}


@asynccontextmanager
async def serve(
    answer_batch: Callable[[list[Any]], Any], *, timeout_s: float = 60
) -> AsyncIterator[tuple[Endpoint, Rpc]]:
    endpoint = Endpoint(answer_batch)
    app = web.Application()
    app.router.add_post("/", endpoint.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with Rpc(f"http://{host}:{port}", timeout_s=timeout_s) as rpc:
            yield endpoint, rpc
    finally:
        endpoint.gate.set()
        await runner.cleanup()


async def ask_many(endpoint: Endpoint, rpc: Rpc) -> list[Any]:
    asking = [asyncio.create_task(rpc.balance(hex(number))) for number in range(MANY)]
    with anyio.fail_after(60):
        while len(endpoint.posts) < MAX_POSTS:
            await anyio.lowlevel.checkpoint()
        endpoint.gate.set()
        return await asyncio.gather(*asking, return_exceptions=True)


@pytest.mark.parametrize(
    "answer",
    [
        lambda replies: replies,
        lambda replies: replies[::-1],
        lambda replies: replies[: len(replies) // 2],
        lambda replies: [7, None, *replies],
        lambda _: {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "no batches here"}},
        lambda _: "no",
    ],
    ids=["in order", "backwards", "half of them", "with junk", "refused", "nonsense"],
)
async def test_each_gets_its_own_answer_whatever_becomes_of_the_batch(answer: Callable[[list[Any]], Any]) -> None:
    async with serve(answer) as (endpoint, rpc):
        found = await ask_many(endpoint, rpc)
    assert isinstance(found[7], RpcRefused)
    assert [value for value in found if value is not found[7]] == [n for n in range(MANY) if n != 7]


@pytest.mark.parametrize("answer", [lambda replies: replies[::-1], lambda _: "no"], ids=["batches", "no batches"])
async def test_transactions_handed_in_together_are_told_apart(answer: Callable[[list[Any]], Any]) -> None:
    async with serve(answer) as (endpoint, rpc):
        endpoint.gate.set()
        for _ in range(2):  # an endpoint without batches is told one at a time from the first refusal on
            told = await rpc.send_all([bytes([number]) for number in range(10)])
            assert [error is None for error in told] == [number != 7 for number in range(10)]
            assert isinstance(told[7], RpcRefused)
        assert endpoint.posts == [10, 10] or (endpoint.posts[0] == 10 and set(endpoint.posts[1:]) == {0})


async def test_whoever_hands_in_many_hears_of_a_silent_endpoint_for_each() -> None:
    async with serve(lambda replies: replies, timeout_s=0.2) as (_, rpc):
        with anyio.fail_after(60):
            told = await rpc.send_all([b"x"] * 3)
    assert [type(error) for error in told] == [Unreachable] * 3


async def test_a_crowd_shares_posts_and_a_single_request_is_none() -> None:
    async with serve(lambda replies: replies) as (endpoint, rpc):
        endpoint.gate.set()
        assert await rpc.balance("0x1") == 1
        assert endpoint.posts == [0]
        endpoint.posts.clear()
        endpoint.gate.clear()
        await ask_many(endpoint, rpc)
        assert max(endpoint.posts) == MAX_BATCH
        assert len(endpoint.posts) < MANY / 4


async def test_a_refused_batch_is_not_tried_again() -> None:
    async with serve(lambda _: {}) as (endpoint, rpc):
        await ask_many(endpoint, rpc)
        batches = sum(count > 0 for count in endpoint.posts)
        await asyncio.gather(*(rpc.balance("0x2") for _ in range(MANY)))
        assert sum(count > 0 for count in endpoint.posts) == batches


async def test_a_silent_endpoint_fails_all_that_wait_for_it() -> None:
    async with serve(lambda replies: replies, timeout_s=0.2) as (endpoint, rpc):
        endpoint.held = MANY
        with anyio.fail_after(60):
            found = await asyncio.gather(*(rpc.send_raw(b"x") for _ in range(MANY)), return_exceptions=True)
    assert all(isinstance(error, Unreachable) for error in found)


async def test_one_that_gives_up_takes_nobody_along() -> None:
    async with serve(lambda replies: replies) as (endpoint, rpc):
        asking = [asyncio.create_task(rpc.balance(hex(number))) for number in range(20, 40)]
        await anyio.lowlevel.checkpoint()
        for each in asking[::2]:
            each.cancel()
        endpoint.gate.set()
        with anyio.fail_after(60):
            found = await asyncio.gather(*asking, return_exceptions=True)
    assert found[1::2] == list(range(21, 40, 2))
    assert all(isinstance(value, asyncio.CancelledError) for value in found[::2])


async def test_a_reply_list_to_a_single_request_is_a_typed_error() -> None:
    async with serve(lambda replies: replies) as (endpoint, rpc):
        endpoint.gate.set()
        with pytest.raises(ChainError):
            await rpc.balance("zz")


async def test_who_is_cancelled_while_it_asks_leaves_no_session_open() -> None:
    async with serve(lambda replies: replies) as (endpoint, other):
        with anyio.CancelScope() as scope:
            async with Rpc(other._url, timeout_s=60) as rpc, anyio.create_task_group() as group:
                group.start_soon(rpc.balance, "0x1")
                while not endpoint.posts:
                    await anyio.lowlevel.checkpoint()
                scope.cancel()
    session = rpc._poster._session
    assert session is not None
    assert session.closed


async def test_who_asks_too_late_opens_no_session() -> None:
    async with serve(lambda replies: replies) as (_, other):
        async with Rpc(other._url, timeout_s=60) as rpc:
            pass
        with pytest.raises(RuntimeError):
            await rpc.balance("0x1")
    assert rpc._poster._session is None
