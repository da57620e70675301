"""Transactions are found whether blocks come one by one, several between two looks, or on another branch; of a crowd in
one block the log tells, and only who left none is asked for by name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

from gesso.chain.blocks import KEPT, BlockLogs
from gesso.chain.inclusion import FEW, Inclusion
from gesso.chain.mined import Mined
from gesso.chain.rpc import Header, RawLog, RpcRefused
from gesso_protocol.errors import ChainError, Unreachable

pytestmark = pytest.mark.anyio
MANY = FEW + 3
HOME = "0x" + "11" * 20


def tx(number: int) -> str:
    return f"0x{number:064x}"


class Endpoint:
    """A chain that a test extends; counts what it is asked for."""

    def __init__(self) -> None:
        self.blocks: list[list[str]] = [[]]
        self.branch = ""
        self.named: list[str] = []
        self.logs_asked: list[str | None] = []
        self.looks = 0
        self.silent: set[str] = set()
        self.lists = True
        self.lagging = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken = False

    def mine(self, *blocks: list[str]) -> None:
        self.blocks += blocks

    async def latest(self) -> Header:
        self.looks += 1
        found = await self.header(len(self.blocks) - 1)
        assert found is not None
        return found

    async def header(self, block: int) -> Header | None:
        hashes = tuple(self.blocks[block]) if self.lists else None
        return Header(block, f"{self.branch}{block}", f"{self.branch}{block - 1}", 0, 0, hashes)

    async def logs(self, _: Sequence[str], *, block_hash: str | None = None) -> list[RawLog]:
        self.logs_asked.append(block_hash)
        await self.gate.wait()
        if self.broken:
            raise RpcRefused(-1, "no such block")
        number = int(str(block_hash).removeprefix(self.branch))
        spoke = [tx_hash for tx_hash in self.blocks[number] if tx_hash not in self.silent]
        logs = [RawLog(HOME, (), b"", number, str(block_hash), place, name) for place, name in enumerate(spoke)]
        return logs[::-1]

    async def receipt(self, tx_hash: str) -> Mapping[str, Any] | None:
        self.named.append(tx_hash)
        block = next((number for number, hashes in enumerate(self.blocks) if tx_hash in hashes), None)
        if block is None or self.lagging > 0:
            self.lagging -= block is not None
            return None
        status = "0x0" if tx_hash in self.silent else "0x1"
        return {"transactionHash": tx_hash, "blockNumber": hex(block), "status": status, "gasUsed": "0x5208"}


@contextmanager
def watching(endpoint: Endpoint, count: int) -> Iterator[tuple[Inclusion, dict[str, asyncio.Future[Mined]]]]:
    rpc: Any = endpoint
    inclusion = Inclusion(rpc, 0.005, BlockLogs(rpc, [HOME]))
    loop = asyncio.get_running_loop()
    futures = {tx(number): loop.create_future() for number in range(count)}
    for tx_hash, future in futures.items():
        inclusion.expect(tx_hash, future)
    with anyio.CancelScope():
        yield inclusion, futures


async def first_look(endpoint: Endpoint, names: Iterable[str]) -> None:
    """Until it has looked for all by name once, as it has seen no block before."""
    wanted = set(names)
    with anyio.fail_after(60):
        while not wanted <= set(endpoint.named) or endpoint.looks < 2:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0)
    endpoint.named.clear()


@pytest.mark.parametrize(
    ("passed", "branch", "lists", "by_name"),
    [(1, "", True, False), (3, "", True, False), (MANY + 1, "", True, True), (2, "other", True, True),
     (2, "", False, True)],
    ids=["one block", "three blocks", "more blocks than transactions", "another branch", "no hashes in headers"],
)  # fmt: skip
async def test_a_crowd_is_found_by_the_blocks_where_they_follow(
    passed: int, branch: str, lists: bool, by_name: bool
) -> None:
    endpoint = Endpoint()
    endpoint.lists = lists
    with watching(endpoint, MANY) as (inclusion, futures):
        await first_look(endpoint, futures)
        endpoint.branch = branch
        names = list(futures)
        endpoint.mine(*(names[place::passed] for place in range(passed)))
        with anyio.fail_after(60):
            told = await asyncio.gather(*futures.values())
        await inclusion.close()
    assert [mined.tx_hash for mined in told] == names
    assert all(mined.succeeded and endpoint.blocks[mined.block] for mined in told)
    assert set(endpoint.named) == (set(names) if by_name or passed > 1 else set())


async def test_of_a_crowd_only_who_left_no_log_is_asked_for() -> None:
    endpoint = Endpoint()
    endpoint.silent = {tx(2)}
    with watching(endpoint, MANY) as (inclusion, futures):
        await first_look(endpoint, futures)
        endpoint.mine(["somebody-else", *futures])
        with anyio.fail_after(60):
            told = await asyncio.gather(*futures.values())
        await inclusion.close()
    assert endpoint.named == [tx(2)]
    assert [mined.succeeded for mined in told] == [tx_hash != tx(2) for tx_hash in futures]
    assert [mined.gas_used for mined in told] == [21_000 if tx_hash == tx(2) else None for tx_hash in futures]
    assert [log.tx_hash for mined in told for log in mined.logs] == [name for name in futures if name != tx(2)]


async def test_nobody_is_asked_for_who_is_in_no_block() -> None:
    endpoint = Endpoint()
    with watching(endpoint, 2) as (inclusion, futures):
        await first_look(endpoint, futures)
        looks = endpoint.looks
        endpoint.mine(["somebody-else"])
        with anyio.fail_after(60):
            while endpoint.looks < looks + 3:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0)
            assert endpoint.named == []
            endpoint.mine([tx(1)])
            assert (await futures[tx(1)]).gas_used == 21_000
        await inclusion.close()
    assert endpoint.named == [tx(1)]
    assert endpoint.logs_asked == []


async def test_who_is_listed_is_asked_for_until_the_receipt_is_there() -> None:
    """An endpoint of many machines may know a block before all of them know its receipts."""
    endpoint = Endpoint()
    with watching(endpoint, 1) as (inclusion, futures):
        await first_look(endpoint, futures)
        endpoint.lagging = 2
        endpoint.mine([tx(0)])
        with anyio.fail_after(60):
            assert (await futures[tx(0)]).succeeded
        await inclusion.close()
    assert endpoint.named == [tx(0)] * 3


async def test_without_the_logs_of_a_block_taken_back_all_are_asked_for() -> None:
    endpoint = Endpoint()
    endpoint.broken = True
    with watching(endpoint, MANY) as (inclusion, futures):
        await first_look(endpoint, futures)
        endpoint.mine(list(futures))
        with anyio.fail_after(60):
            await asyncio.gather(*futures.values())
        await inclusion.close()
    assert set(endpoint.named) == set(futures)


@pytest.mark.parametrize(
    "answer",
    [{"status": "yes"}, {"transactionHash": tx(9), "blockNumber": "0x0", "status": "0x1", "gasUsed": "0x1"}],
    ids=["nonsense", "another's"],
)
async def test_a_receipt_that_is_none_is_told(answer: Mapping[str, Any]) -> None:
    endpoint = Endpoint()

    async def nonsense(_: str) -> Mapping[str, Any]:
        return answer

    endpoint.receipt = nonsense  # type: ignore[method-assign]
    with watching(endpoint, 1) as (inclusion, futures):
        with anyio.fail_after(60), pytest.raises(ChainError, match="receipt"):
            await futures[tx(0)]
        await inclusion.close()


class TestBlockLogs:
    async def test_whoever_asks_meanwhile_or_later_shares_one_answer_in_order(self) -> None:
        endpoint: Any = Endpoint()
        endpoint.mine(["a", "b"])
        endpoint.gate.clear()
        logs = BlockLogs(endpoint, [HOME])
        asking = [asyncio.create_task(logs.of("1")) for _ in range(3)]
        await anyio.wait_all_tasks_blocked()
        asking[0].cancel()
        endpoint.gate.set()
        with anyio.fail_after(60):
            told = [await asking[1], await asking[2], await logs.of("1")]
        assert {id(each) for each in told} == {id(told[0])}
        assert [log.tx_hash for log in told[0]] == ["a", "b"]
        assert endpoint.logs_asked == ["1"]

    async def test_a_refusal_is_not_remembered(self) -> None:
        endpoint: Any = Endpoint()
        endpoint.mine(["a"])
        endpoint.broken = True
        logs = BlockLogs(endpoint, [HOME])
        with pytest.raises(RpcRefused):
            await logs.of("1")
        endpoint.broken = False
        assert len(await logs.of("1")) == 1

    async def test_few_blocks_are_kept(self) -> None:
        endpoint: Any = Endpoint()
        endpoint.mine(*([tx(number)] for number in range(KEPT + 1)))
        logs = BlockLogs(endpoint, [HOME])
        for number in (*range(1, KEPT + 2), 1):
            await logs.of(str(number))
        assert endpoint.logs_asked == [str(number) for number in (*range(1, KEPT + 2), 1)]

    async def test_closing_leaves_nobody_waiting_for_an_answer(self) -> None:
        endpoint: Any = Endpoint()
        endpoint.mine(["a"])
        endpoint.gate.clear()
        logs = BlockLogs(endpoint, [HOME])
        asking = asyncio.create_task(logs.of("1"))
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(60):
            await logs.close()
            with pytest.raises((asyncio.CancelledError, Unreachable)):
                await asking


async def test_a_header_that_a_reader_of_the_log_was_told_is_not_asked_for_again() -> None:
    endpoint = Endpoint()
    with watching(endpoint, MANY) as (inclusion, futures):
        await first_look(endpoint, futures)
        inclusion._poll_s = 3600.0
        looks = endpoint.looks
        inclusion._kick.set()
        with anyio.fail_after(60):
            while endpoint.looks == looks:  # noqa: ASYNC110 - the last one; the next is far off
                await asyncio.sleep(0)
        await anyio.wait_all_tasks_blocked()
        looks = endpoint.looks
        endpoint.mine(list(futures))
        endpoint.mine(["somebody-else"])
        for number in (0, 1):  # no news, which wakes nobody; then a block that is not the newest any more
            head = await endpoint.header(number)
            assert head is not None
            inclusion.show(head)
        with anyio.fail_after(60):
            told = await asyncio.gather(*futures.values())
        await inclusion.close()
    assert {mined.block for mined in told} == {1}
    assert endpoint.looks == looks
    assert endpoint.named == []
