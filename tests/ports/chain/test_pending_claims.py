"""Claims that wait for their block: which of them a requester may count on, by what its endpoint says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from gesso.chain import Chain
from gesso.chain.abi import function
from gesso.chain.pending import INTERVAL_BLOCKS
from gesso.chain.rpc import number
from gesso.early import is_about_to_claim
from gesso_contracts import TASK_BOARD
from gesso_protocol.errors import GessoError
from gesso_protocol.handover import Handover
from gesso_protocol.ids import BlobRef, Root
from gesso_protocol.lifecycle import TaskRecord, TaskState
from gesso_protocol.sortition import may_claim, score, seed_bytes
from gesso_protocol.terms import Terms

from .networks import NEW_NODE, NODE, OTHER, REQUESTER, Network, until

pytestmark = pytest.mark.anyio

ENOUGH_GAS = 400_000
TOO_LITTLE_GAS = 30_000
ALL_MAY_CLAIM_S = 60


@asynccontextmanager
async def open_task(market: Network, index: int = OTHER) -> AsyncIterator[tuple[Chain, Chain, Terms]]:
    """Requester and node of a task that anybody registered may claim, and no blocks from now on."""
    async with market.open(REQUESTER) as requester, market.open(index) as node:
        terms = market.terms(requester=requester.address)
        await requester.submit(terms)
        await market.warp(ALL_MAY_CLAIM_S)
        await market.automine(False)
        try:
            yield requester, node, terms
        finally:
            await market.automine(True)


async def sent(market: Network, node: Chain, terms: Terms, **changes: Any) -> str:
    """A claim as its node signs it, or with changes, in the endpoint's pool."""
    assert node.wallet is not None
    base_fee = (await node._rpc.latest()).base_fee
    fields: dict[str, Any] = {
        "to": str(node.settings.contracts.task_board),
        "data": function(TASK_BOARD, "claim").encode(terms.as_tuple()),
        "gas": ENOUGH_GAS,
        "value": 0,
        "type": 2,
        "chainId": node.chain_id,
        "nonce": await node._rpc.nonce(node.address, pending=False),
        "maxFeePerGas": 2 * base_fee + 10**9,
        "maxPriorityFeePerGas": 10**9,
    }
    signed = node.wallet.sign_transaction(fields | changes)
    await node._rpc.send_raw(signed.raw)
    return signed.hash


async def test_a_claim_that_goes_into_the_next_block_waits(market: Network) -> None:
    async with open_task(market) as (requester, node, terms), asyncio.TaskGroup() as group:
        heard: list[str] = []
        claiming = group.create_task(node.claim(terms, on_sent=heard.append))

        async def on_its_way() -> bool:
            return bool(heard)

        await until(on_its_way)
        assert await requester.claim_waits(heard[0], node.address, terms)
        assert not await requester.claim_waits(heard[0], market.wallet(NODE).address, terms)
        assert not await requester.claim_waits(heard[0], node.address, market.terms(requester=requester.address))
        assert not await requester.claim_waits("0x" + "c2" * 32, node.address, terms)
        await market.mine()
        await claiming
        # What is in a block is for the board to tell.
        assert not await requester.claim_waits(heard[0], node.address, terms)
        assert (await requester.task(requester.task_id(terms))).state is TaskState.CLAIMED


async def test_a_claim_that_was_refused_long_ago_does_not_wait(market: Network) -> None:
    async with open_task(market) as (requester, node, terms):
        claim = await sent(market, node, terms, gas=TOO_LITTLE_GAS)
        await market.mine()
        receipt = await requester._rpc.receipt(claim)
        assert receipt is not None
        assert number(receipt["status"]) == 0
        assert (await requester.task(requester.task_id(terms))).state is TaskState.SUBMITTED
        assert not await requester.claim_waits(claim, node.address, terms)


async def test_what_would_run_out_of_gas_is_no_claim(market: Network) -> None:
    async with open_task(market) as (requester, node, terms):
        claim = await sent(market, node, terms, gas=TOO_LITTLE_GAS)
        assert not await requester.claim_waits(claim, node.address, terms)


async def test_what_waits_behind_a_gap_is_no_claim(market: Network) -> None:
    async with open_task(market) as (requester, node, terms):
        count = await node._rpc.nonce(node.address, pending=False)
        with suppress(GessoError):  # a pool may refuse it; then there is nothing to be believed
            claim = await sent(market, node, terms, nonce=count + 1)
            assert not await requester.claim_waits(claim, node.address, terms)


async def test_what_pays_less_than_the_next_block_may_ask_for_is_no_claim(market: Network) -> None:
    async with open_task(market) as (requester, node, terms):
        fee = (await node._rpc.latest()).base_fee
        with suppress(GessoError):
            claim = await sent(market, node, terms, maxFeePerGas=fee, maxPriorityFeePerGas=1)
            assert not await requester.claim_waits(claim, node.address, terms)


async def test_what_the_board_would_refuse_is_no_claim(market: Network) -> None:
    async with open_task(market, NEW_NODE) as (requester, stranger, terms):
        claim = await sent(market, stranger, terms)
        assert not await requester.claim_waits(claim, stranger.address, terms)


async def drawn_at_once(requester: Chain, node: Chain, market: Network) -> tuple[Terms, TaskRecord]:
    """A task that the draw lets the node claim in the very second of its submit."""
    while True:
        terms = market.terms(requester=requester.address)
        await requester.submit(terms)
        record = await requester.task(requester.task_id(terms))
        mine = score(seed_bytes(record.seed or 0), record.task_id, node.address)
        weight, total = await node.weight_of(node.address), await node.total_weight()
        if may_claim(mine, total, weight, 0, (await node.params()).sortition_step_s):
            return terms, record


async def test_a_handover_is_believed_while_its_claim_waits_and_it_is_early(market: Network) -> None:
    async with market.open(REQUESTER) as requester, market.open(OTHER) as node:
        for _ in range(INTERVAL_BLOCKS):
            await market.mine()
        terms, record = await drawn_at_once(requester, node, market)
        await market.automine(False)
        try:
            claim = await sent(market, node, terms)
            roots: dict[str, Any] = {"result_root": Root(b"\x01" * 32), "trace_root": Root(b"\x02" * 32)}
            word = Handover(manifest=BlobRef(b"\x03" * 32), signature="0" * 130, claim=claim, **roots)
            params = await requester.params()
            assert await is_about_to_claim(requester, record, terms, params, node.address, word)
            late = params.model_copy(update={"cancel_delay_s": 1})
            assert not await is_about_to_claim(requester, record, terms, late, node.address, word)
        finally:
            await market.automine(True)
