"""Every account's books, from the log alone, end where the contracts say: to the wei, on every local chain."""

from __future__ import annotations

import pytest

from gesso.chain.chain import Chain
from gesso.earnings.reader import read_earnings
from gesso_protocol.fields import TaskKind
from gesso_protocol.ids import BlobRef
from gesso_protocol.money import Wei
from gesso_protocol.terms import AuditMode, Terms

from .networks import DEPLOYER, NODE, ONE, OTHER, PUBLISHER, REQUESTER, RESULT, TRACE, Network

pytestmark = pytest.mark.anyio
EVERYBODY = (DEPLOYER, REQUESTER, NODE, OTHER, PUBLISHER)


async def claimed(market: Network, requester: Chain, node: Chain, **changes: object) -> Terms:
    terms = market.terms(**changes)  # type: ignore[arg-type]
    await requester.submit(terms)
    await market.warp(60)
    await node.claim(terms)
    return terms


async def test_every_way_that_money_moves_is_in_the_books(market: Network) -> None:
    async with (
        market.open(REQUESTER) as requester,
        market.open(NODE) as node,
        market.open(OTHER) as trainer,
        market.open(PUBLISHER) as publisher,
    ):
        params = await node.params()
        base = await publisher.publish_listing("base", BlobRef.of(b"base"), kind=0, royalty_bps=333)
        lora = await trainer.publish_listing("alice/zbx", BlobRef.of(b"lora"), kind=1, parent=base, royalty_bps=501)
        fee = Wei(ONE + 7)  # odd on purpose: nothing divides evenly
        whole = await claimed(market, requester, node, fee=fee, model=lora, audit=AuditMode.ALWAYS)
        part = await claimed(market, requester, node, fee=fee, model=base, kind=int(TaskKind.TRAIN_LORA))
        await node.commit(whole, RESULT, TRACE)
        await node.commit_part(part, RESULT, TRACE, 3333)
        lapsed = await claimed(market, requester, node, fee=fee, commit_window_s=60)
        taken_back = market.terms(fee=fee, audit=AuditMode.ALWAYS)
        await requester.submit(taken_back)
        await market.warp(params.cancel_delay_s)
        await requester.cancel(taken_back)
        await market.warp(params.challenge_window_s + 100)
        assert len((await node.settle([whole, part])).settled) == 2
        await node.expire(lapsed)
        await node.withdraw(Wei(11))

        shown = {index: await read_earnings(node, market.wallet(index).address) for index in EVERYBODY}
        for found in shown.values():
            assert found.reconciled, found.document()
        assert shown[NODE].tasks == 2
        assert dict(shown[OTHER].royalties) == {"alice/zbx@1": int(fee) * 501 // 10_000}
        assert set(dict(shown[PUBLISHER].royalties)) == {"base@1"}
        assert dict(shown[DEPLOYER].earned)["protocol fees"] == shown[DEPLOYER].total_earned
        paid_out = sum(found.total_earned for found in shown.values())
        books = dict(shown[REQUESTER].checks[0].lines)
        assert paid_out == -(books["tasks"] + books["refunds"])
        assert shown[REQUESTER].total_earned == 0


async def test_a_stake_that_leaves_is_in_the_books(market: Network) -> None:
    async with market.open(OTHER) as node:
        await node.begin_unbond()
        await market.warp(901)
        await node.withdraw_stake()
        found = await read_earnings(node, node.address)
    assert found.reconciled, found.document()
    stake = dict(found.checks[1].lines)
    assert stake["staked"] == -stake["unstaked"] > 0
