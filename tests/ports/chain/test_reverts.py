"""Every refusal of a contract reaches Python with its name and values, the same on every chain."""

from __future__ import annotations

import anyio
import pytest

from gesso.chain import Wallet, revert_name
from gesso.chain.chain import Chain
from gesso_protocol.errors import (
    ChainReverted,
    DeadlinePassed,
    FeeTooLow,
    GessoError,
    InsufficientFunds,
    Unreachable,
)
from gesso_protocol.ids import BlobRef, ListingId, Root
from gesso_protocol.money import Wei

from .networks import NODE, ONE, OTHER, PUBLISHER, REQUESTER, RESULT, STAKE, TRACE, Network, until

pytestmark = pytest.mark.anyio


async def test_names_and_values_of_refusals(market: Network) -> None:
    async with market.open(REQUESTER) as requester, market.open(NODE) as node:
        await requester.submit(terms := market.terms())
        task = str(requester.task_id(terms))
        with pytest.raises(ChainReverted) as caught:
            await requester.submit(terms)
        assert (caught.value.name, caught.value.arguments) == ("TaskExists", (task,))
        with pytest.raises(ChainReverted) as caught:
            await node.cancel(terms)
        assert (caught.value.name, caught.value.arguments) == ("NotRequester", (node.address, requester.address))
        with pytest.raises(ChainReverted) as caught:
            await node.commit(terms, RESULT, TRACE)
        assert (caught.value.name, caught.value.arguments) == ("UnexpectedState", (task, 1))
        since = (await node.task(node.task_id(terms))).state_since
        with pytest.raises(ChainReverted) as caught:
            await node.expire(terms)
        assert (caught.value.name, caught.value.arguments) == ("TooEarly", (task, since + 601))
        with pytest.raises(ChainReverted) as caught:
            await requester.submit(market.terms(claim_window_s=1))
        assert (caught.value.name, caught.value.arguments) == ("WindowOutOfRange", (1, 2, 86_400))
        with pytest.raises(ChainReverted) as caught:
            await requester.claim(terms)
        assert (caught.value.name, caught.value.arguments) == ("NodeNotEligible", (requester.address,))


async def test_refusals_of_registry_and_marketplace(market: Network) -> None:
    async with market.open(OTHER) as other, market.open(PUBLISHER) as publisher:
        for attempt, name in (
            (other.register_node(b"x", bytes(32), STAKE), "AlreadyRegistered"),
            (publisher.register_node(b"peer-2", bytes(32), STAKE), "PeerIdTaken"),
            (publisher.register_node(b"", bytes(32), STAKE), "PeerIdInvalid"),
            (publisher.register_node(b"p", bytes(32), Wei(1)), "StakeTooLow"),
            (other.withdraw_stake(), "UnexpectedNodeState"),
            (publisher.publish_listing("Bad Name", BlobRef.of(b"1"), kind=0), "NameInvalid"),
            (publisher.publish_listing("ok", BlobRef.of(b"1"), kind=0, royalty_bps=1001), "RoyaltyTooHigh"),
            (publisher.listing(ListingId(999)), "ListingUnknown"),
        ):
            with pytest.raises(ChainReverted) as caught:
                await attempt
            assert caught.value.name == name


async def test_well_known_refusals_have_their_own_type(market: Network) -> None:
    async with market.open(REQUESTER) as requester, market.open(NODE) as node:
        with pytest.raises(InsufficientFunds, match="deposited balance is 10, this needs 11") as funds:
            await requester.withdraw(Wei(11 * ONE))
        assert revert_name(funds.value) == "InsufficientBalance"
        with pytest.raises(FeeTooLow) as fee:
            await requester.submit(market.terms(fee=1))
        assert revert_name(fee.value) == "FeeTooLow"
        with pytest.raises(InsufficientFunds, match="wallet holds"):
            await requester.deposit(Wei(10_000 * ONE))
        await requester.submit(terms := market.terms(claim_window_s=5))
        await market.warp(10)
        with pytest.raises(DeadlinePassed) as late:
            await node.claim(terms)
        assert revert_name(late.value) == "WindowClosed"


async def test_refusals_found_before_sending_cost_nothing(market: Network) -> None:
    async with market.open(REQUESTER) as requester:
        coin = await requester.native_balance_of(requester.address)
        with pytest.raises(InsufficientFunds):
            await requester.submit(market.terms(fee=11 * ONE))
        assert await requester.native_balance_of(requester.address) == coin


async def test_two_nodes_claim_in_one_block_and_the_loser_hears_why(market: Network) -> None:
    """Both look valid when sent; only the block decides. The reason is found by replaying the failed transaction."""
    outcomes: list[str | None] = []

    async def claim(node: Chain) -> None:
        try:
            await node.claim(terms)
            outcomes.append(None)
        except GessoError as error:
            outcomes.append(revert_name(error))

    async def both_wait() -> bool:
        return await market.waiting() == 2

    async with market.open(REQUESTER) as requester, market.open(NODE) as first, market.open(OTHER) as second:
        await requester.submit(terms := market.terms())
        await market.warp(60)
        await market.automine(False)
        async with anyio.create_task_group() as group:
            group.start_soon(claim, first)
            group.start_soon(claim, second)
            await until(both_wait)
            await market.mine()
        assert sorted(outcomes, key=str) == [None, "UnexpectedState"]
        winner = (await first.task(first.task_id(terms))).node
        assert winner in (first.address, second.address)


async def test_a_wallet_without_coin_is_told_so(market: Network) -> None:
    async with Chain.open(market.settings(), Wallet.from_key(b"\x42" * 32)) as chain:
        with pytest.raises(GessoError) as caught:
            await chain.publish_listing("ok", BlobRef.of(b"1"), kind=0)
        assert isinstance(caught.value, InsufficientFunds)
        assert "gas" in caught.value.message


async def test_empty_result_is_refused(market: Network) -> None:
    async with market.open(REQUESTER) as requester, market.open(NODE) as node:
        await requester.submit(terms := market.terms())
        await market.warp(60)
        await node.claim(terms)
        with pytest.raises(ChainReverted) as caught:
            await node.commit(terms, Root(bytes(32)), TRACE)
        assert (caught.value.name, caught.value.arguments) == ("EmptyResult", ())


async def test_a_dead_endpoint_is_unreachable(market: Network) -> None:
    with pytest.raises(Unreachable):
        async with market.open(REQUESTER, rpc_url="http://127.0.0.1:9"):
            pass
