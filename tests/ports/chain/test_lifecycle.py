"""The life of a task on every local chain, counted to the last base unit."""

from __future__ import annotations

import pytest

from gesso.chain import NodeState
from gesso.chain.chain import Chain
from gesso_protocol.errors import ChainError, ChainReverted, ConfigError, WalletError
from gesso_protocol.ids import Address, BlobRef
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.money import Wei, split_fee

from .conftest import RULES
from .networks import (
    DEPLOYER,
    FEE,
    NEW_NODE,
    NEWCOMER,
    NODE,
    ONE,
    OTHER,
    PUBLISHER,
    REQUESTER,
    RESULT,
    STAKE,
    TRACE,
    Network,
)

pytestmark = pytest.mark.anyio


async def total_tokens(network: Network, reader: Chain) -> int:
    """All fee tokens of everyone involved, wherever they are."""
    people = [network.wallet(index).address for index in range(7)]
    held = [await reader.token_balance_of(address) for address in people]
    places = [network.contracts.task_board, network.contracts.node_registry]
    return sum(held) + sum([await reader.token_balance_of(place) for place in places])


async def test_the_boards_rules_are_read_as_they_were_written(market: Network) -> None:
    async with market.open(NODE) as node:
        params = await node.params()
    for name in (
        "challenge_window_s", "sortition_step_s", "hold_window_s", "claims_per_weight", "min_claim_window_s",
        "max_claim_window_s", "min_commit_window_s", "max_commit_window_s", "cancel_delay_s", "protocol_fee_bps",
        "max_royalty_bps", "min_fee", "audit_fee",
    ):  # fmt: skip
        assert getattr(params, name) == getattr(RULES, name), name


async def test_whole_life_with_royalty_pays_everyone_exactly(market: Network) -> None:
    async with (
        market.open(NEWCOMER) as requester,
        market.open(NEW_NODE) as node,
        market.open(PUBLISHER) as publisher,
    ):
        supply = await total_tokens(market, requester)
        fee = Wei(ONE + 7)  # odd on purpose: shares do not divide evenly
        model = await publisher.publish_listing("teapot", BlobRef.of(b"weights"), kind=1, royalty_bps=333)
        await requester.deposit(Wei(5 * ONE))
        await node.register_node(b"peer", b"\x09" * 32, STAKE)
        assert await requester.balance_of(requester.address) == 5 * ONE
        assert await node.weight_of(node.address) == 1
        assert await node.total_weight() == 3

        terms = market.terms(fee=fee, model=model, requester=requester.address)
        submitted = await requester.submit(terms)
        record = await requester.task(requester.task_id(terms))
        assert submitted.task_id == record.task_id
        assert (record.state, record.node) == (TaskState.SUBMITTED, None)
        assert record.seed is not None
        assert await requester.balance_of(requester.address) == 5 * ONE - fee

        await market.warp(60)  # by now the draw lets anyone claim
        await node.claim(terms)
        record = await requester.task(record.task_id)
        assert (record.state, record.node, record.seed) == (TaskState.CLAIMED, node.address, None)
        assert await node.active_claims_of(node.address) == 1

        await node.commit(terms, RESULT, TRACE)
        early = await node.settle([terms])
        assert (early.settled, early.skipped) == ((), (record.task_id,))

        await market.warp((await node.params()).challenge_window_s)
        settled = await node.settle([terms])
        assert (settled.settled, settled.skipped) == ((record.task_id,), ())
        assert (await node.task(record.task_id)).state is TaskState.SETTLED

        shares = split_fee(fee, 333, (await node.params()).protocol_fee_bps)
        deployer = market.wallet(DEPLOYER).address
        assert await node.balance_of(node.address) == shares.node
        assert await node.balance_of(publisher.address) == shares.royalty
        assert await node.balance_of(deployer) == shares.protocol
        assert await node.balance_of(requester.address) == 5 * ONE - fee
        assert await node.active_claims_of(node.address) == 0

        before = await node.token_balance_of(node.address)
        await node.withdraw(shares.node)
        assert await node.token_balance_of(node.address) == before + shares.node
        assert await node.balance_of(node.address) == 0
        assert await total_tokens(market, requester) == supply


async def test_gas_is_what_the_receipts_say(market: Network) -> None:
    async with market.open(REQUESTER) as requester:
        before = await requester.native_balance_of(requester.address)
        receipts = [await requester.submit(market.terms()), await requester.withdraw(Wei(1))]
        spent = before - await requester.native_balance_of(requester.address)
        assert spent == sum(receipt.gas_cost for receipt in receipts)
        assert all(receipt.gas_used > 21_000 for receipt in receipts)


async def test_cancel_and_expire_refund_the_requester(market: Network) -> None:
    async with market.open(REQUESTER) as requester, market.open(NODE) as node:
        start = await requester.balance_of(requester.address)
        await requester.submit(cancelled := market.terms())
        with pytest.raises(ChainReverted, match="TooEarly"):
            await requester.cancel(cancelled)
        await market.warp((await requester.params()).cancel_delay_s)
        await requester.cancel(cancelled)
        assert await requester.balance_of(requester.address) == start

        await requester.submit(unclaimed := market.terms(claim_window_s=5))
        await market.warp(7)
        await node.expire(unclaimed)
        assert await requester.balance_of(requester.address) == start

        await requester.submit(late := market.terms(commit_window_s=5))
        await market.warp(60)  # anyone may claim by now
        await node.claim(late)
        await market.warp(7)
        await requester.expire(late)
        assert await requester.balance_of(requester.address) == start
        assert (await node.node(node.address)).standing < 100
        states = [(await node.task(node.task_id(terms))).state for terms in (cancelled, unclaimed, late)]
        assert states == [TaskState.CANCELLED, TaskState.EXPIRED, TaskState.EXPIRED]


async def test_a_batch_settles_what_can_be_settled(market: Network) -> None:
    async with market.open(REQUESTER) as requester, market.open(NODE) as node:
        batch = [market.terms() for _ in range(3)]
        for terms in batch:
            await requester.submit(terms)
        await market.warp(60)
        for terms in batch[:2]:
            await node.claim(terms)
            await node.commit(terms, RESULT, TRACE)
        await market.warp(200)
        receipt = await requester.settle(batch)
        ids = tuple(node.task_id(terms) for terms in batch)
        assert (receipt.settled, receipt.skipped) == (ids[:2], ids[2:])


async def test_a_settle_batch_is_bounded(market: Network) -> None:
    async with market.open(REQUESTER) as requester:
        with pytest.raises(ChainError):
            await requester.settle([])
        with pytest.raises(ChainError):
            await requester.settle([market.terms()] * 101)


async def test_node_record_and_leaving_with_the_stake(market: Network) -> None:
    async with market.open(NODE) as node:
        record = await node.node(node.address)
        assert (record.state, record.stake, record.peer_id) == (NodeState.ACTIVE, STAKE, b"peer-2")
        assert await node.node_of_peer(b"peer-2") == node.address
        assert await node.node_of_peer(b"nobody") is None
        await node.update_node(b"peer-new", b"\x05" * 32)
        await node.pause_node()
        assert (await node.node(node.address)).state is NodeState.PAUSED
        assert await node.weight_of(node.address) == 0
        await node.resume_node()
        before = await node.token_balance_of(node.address)
        await node.begin_unbond()
        await market.warp(901)
        await node.withdraw_stake()
        assert await node.token_balance_of(node.address) == before + STAKE
        assert (await node.node(node.address)).state is NodeState.NONE


async def test_listings_count_versions_and_can_be_yanked(market: Network) -> None:
    async with market.open(PUBLISHER) as publisher:
        first = await publisher.publish_listing("teapot", BlobRef.of(b"1"), kind=1, royalty_bps=100)
        second = await publisher.publish_listing("teapot", BlobRef.of(b"2"), kind=1, parent=first)
        listing = await publisher.listing(second)
        assert (listing.name, listing.version, listing.parent) == ("teapot", 2, first)
        assert listing.owner == publisher.address
        assert listing.manifest == BlobRef.of(b"2")
        assert await publisher.listing_id("teapot", 1) == first
        assert await publisher.listing_id("kettle", 1) is None
        assert await publisher.latest_version("teapot") == 2
        assert await publisher.listing_count() == second
        await publisher.yank_listing(first)
        assert (await publisher.listing(first)).yanked
        await publisher.yank_listing(first, yanked=False)
        assert not (await publisher.listing(first)).yanked


async def test_without_a_wallet_it_reads_and_refuses_to_write(market: Network) -> None:
    async with market.open(None) as reader:
        assert (await reader.params()).challenge_window_s == 200
        assert await reader.block_number() > 0
        assert await reader.now() > 1_600_000_000
        with pytest.raises(WalletError):
            await reader.submit(market.terms())


async def test_wrong_chain_or_wrong_address_is_said_at_once(market: Network) -> None:
    with pytest.raises(ConfigError, match="is chain 31337, not 5"):
        async with market.open(None, chain_id=5):
            pass
    nowhere = market.contracts.model_copy(update={"task_board": Address("0x" + "11" * 20)})
    with pytest.raises(ConfigError, match="no task board"):
        async with market.open(None, contracts=nowhere):
            pass


async def test_fee_goes_back_to_nobody_but_the_requester(market: Network) -> None:
    async with market.open(REQUESTER) as requester, market.open(OTHER) as other:
        await requester.submit(terms := market.terms(claim_window_s=5))
        await market.warp(7)
        await other.expire(terms)
        assert await other.balance_of(other.address) == 0
        assert await requester.balance_of(requester.address) == 10 * ONE
        assert FEE == ONE
