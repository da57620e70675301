"""A relay is a convenience: whatever it answers, the client goes on with what the chain says."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from gesso.cli.task import utc
from gesso.directory import MAX_REPLY_BYTES, Directory
from gesso_protocol.ids import Address, TaskId

TASK = TaskId(bytes(range(32)))
BOARD = Address("0x90F79bf6EB2c4f870365E785982E1f101E93b906")


def directory(answer: bytes, status: int = 200) -> Directory:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, stream=httpx.ByteStream(answer)))
    relay = httpx.AsyncClient(transport=transport, base_url="http://relay.invalid")
    return Directory(cast(Any, None), 31337, BOARD, relay)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "answer",
    [b"", b"not json", b"[]", b"null", b'{"result": 7}', b'{"result": {"manifest": "b3:zz"}}', b"[" * 200_000],
    ids=["empty", "text", "list", "null", "number", "bad name", "nested"],
)
async def test_a_senseless_answer_is_no_answer(answer: bytes) -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)  # as some of web3's libraries leave it behind
    try:
        assert await directory(answer).result_of(TASK) is None
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.anyio
async def test_an_endless_answer_is_cut_off() -> None:
    assert await directory(b" " * (MAX_REPLY_BYTES + 1)).result_of(TASK) is None


@pytest.mark.anyio
async def test_an_error_page_is_no_answer() -> None:
    assert await directory(b'{"result": null}', status=500).result_of(TASK) is None


@pytest.mark.anyio
@pytest.mark.parametrize(("told", "taken"), [(1_700_000_000, 1_700_000_000), (2**60, None), (-1, None), ("x", None)])
async def test_a_relay_s_time_is_one_that_can_be_shown_or_none(told: Any, taken: int | None) -> None:
    row = {"id": str(TASK), "state": "settled", "requester": str(BOARD), "node": None, "fee": "5", "submitted_at": told}
    (found,) = await directory(json.dumps({"tasks": [row]}).encode()).tasks(requester=None, state=None, limit=5)
    assert found.submitted_at == taken
    assert (utc(found.submitted_at) is None) == (taken is None)


@pytest.mark.anyio
@pytest.mark.parametrize("count", [0, 3, 10_000, 10_007])
async def test_a_full_market_does_not_hide_what_is_new(count: int) -> None:
    class Market:
        async def listing_count(self) -> int:
            return count

        async def listing(self, number: int) -> Any:
            return SimpleNamespace(id=int(number), yanked=number % 2 == 0)

    found = [int(one.id) for one in await Directory(cast(Any, Market()), 31337, BOARD, None).listings()]
    assert found == [number for number in range(max(1, count - 9_999), count + 1) if number % 2]
