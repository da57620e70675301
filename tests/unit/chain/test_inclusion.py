"""Receipts are found whether blocks come one by one, several between two looks, or on another branch."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from gesso.chain.inclusion import FEW, MAX_BLOCKS, Inclusion
from gesso.chain.rpc import Header

pytestmark = pytest.mark.anyio
MANY = FEW + 3


class Endpoint:
    """A chain that a test extends; counts what it is asked for."""

    def __init__(self) -> None:
        self.blocks = [[f"genesis-{self}"]]
        self.branch = ""
        self.by_name = 0
        self.by_block = 0
        self.whole_blocks = True

    def mine(self, *blocks: list[str]) -> None:
        self.blocks += blocks

    async def latest(self) -> Header:
        found = await self.header(len(self.blocks) - 1)
        assert found is not None
        return found

    async def header(self, block: int) -> Header | None:
        return Header(block, f"{self.branch}{block}", f"{self.branch}{block - 1}", 0, 0)

    async def block_receipts(self, block: int) -> list[Mapping[str, Any]] | None:
        self.by_block += 1
        return [{"transactionHash": each} for each in self.blocks[block]] if self.whole_blocks else None

    async def receipt(self, tx_hash: str) -> Mapping[str, Any] | None:
        self.by_name += 1
        mined = any(tx_hash in block for block in self.blocks)
        return {"transactionHash": tx_hash} if mined else None


@pytest.mark.parametrize(
    ("passed", "branch", "whole_blocks", "by_name"),
    [(1, "", True, False), (3, "", True, False), (MAX_BLOCKS + 1, "", True, True), (2, "other", True, True),
     (2, "", False, True)],
    ids=["one block", "three blocks", "very many blocks", "another branch", "no whole blocks here"],
)  # fmt: skip
async def test_a_crowd_is_found_in_whole_blocks_where_they_follow(
    passed: int, branch: str, whole_blocks: bool, by_name: bool
) -> None:
    endpoint: Any = Endpoint()
    endpoint.whole_blocks = whole_blocks
    inclusion = Inclusion(endpoint, poll_s=0.01)
    loop = asyncio.get_running_loop()
    futures = {f"tx-{number}": loop.create_future() for number in range(MANY)}
    for tx_hash, future in futures.items():
        inclusion.expect(tx_hash, future)
    try:
        with anyio.fail_after(5):
            while endpoint.by_name < MANY:  # noqa: ASYNC110 - until it has looked once
                await asyncio.sleep(0)
            endpoint.by_name = 0
            endpoint.branch = branch
            names = list(futures)
            endpoint.mine(*(names[place::passed] for place in range(passed)))
            await asyncio.gather(*futures.values())
    finally:
        await inclusion.close()
    assert bool(endpoint.by_name) == by_name
    assert all(future.result()["transactionHash"] == tx_hash for tx_hash, future in futures.items())
