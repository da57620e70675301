"""A LoRA on a base: both owners earn on every local chain, to the base unit, and nobody else lists their bytes."""

from __future__ import annotations

import pytest

from gesso.chain import Cursor
from gesso.chain.chain import Chain
from gesso.chain.events import RoyaltyPaid
from gesso_protocol.errors import ChainReverted
from gesso_protocol.ids import BlobRef, ListingId
from gesso_protocol.money import Wei, split_along

from .networks import NODE, ONE, OTHER, PUBLISHER, REQUESTER, RESULT, TRACE, Network

pytestmark = pytest.mark.anyio

BASE, LORA = BlobRef.of(b"base"), BlobRef.of(b"lora")
BASE_KIND, LORA_KIND = 0, 1


async def lineage(market: Network) -> tuple[ListingId, ListingId]:
    async with market.open(PUBLISHER) as publisher, market.open(OTHER) as trainer:
        base = await publisher.publish_listing("base", BASE, kind=BASE_KIND, royalty_bps=333)
        lora = await trainer.publish_listing("lora", LORA, kind=LORA_KIND, parent=base, royalty_bps=501)
    return base, lora


async def royalties_told(chain: Chain) -> list[RoyaltyPaid]:
    found: list[RoyaltyPaid] = []
    cursor = Cursor.before(0)
    while (page := await chain.read_page(cursor)) is not None:
        cursor = page.cursor
        found.extend(event for event in page.events if isinstance(event, RoyaltyPaid))
    return found


async def test_a_task_pays_the_loras_owner_and_the_bases(market: Network) -> None:
    base, lora = await lineage(market)
    publisher, trainer = market.wallet(PUBLISHER).address, market.wallet(OTHER).address
    async with market.open(REQUESTER) as requester, market.open(NODE) as node:
        shares = await requester.royalties(lora)
        assert [(share.listing, share.owner) for share in shares] == [(lora, trainer), (base, publisher)]
        assert [share.bps for share in shares] == [501, 333]
        params = await node.params()
        fee = Wei(ONE + 7)  # odd on purpose: shares do not divide evenly
        terms = market.terms(fee=fee, model=lora)
        await requester.submit(terms)
        await market.warp(60)
        await node.claim(terms)
        await node.commit(terms, RESULT, TRACE)
        await market.warp(params.challenge_window_s)
        before = await node.balance_of(node.address)
        settled = await node.settle([terms])
        assert settled.settled
        expected = split_along(fee, [501, 333], params.protocol_fee_bps)
        assert await node.balance_of(node.address) - before == expected.node
        assert (await node.balance_of(trainer), await node.balance_of(publisher)) == expected.royalties
        assert [(event.listing, event.owner, event.amount) for event in await royalties_told(node)] == [
            (lora, trainer, expected.royalties[0]),
            (base, publisher, expected.royalties[1]),
        ]


async def test_a_transferred_listing_pays_its_new_owner(market: Network) -> None:
    base, lora = await lineage(market)
    heir = market.wallet(REQUESTER).address
    async with market.open(PUBLISHER) as publisher:
        await publisher.transfer_listing(base, heir)
        assert [share.owner for share in await publisher.royalties(lora)] == [market.wallet(OTHER).address, heir]


async def test_somebody_elses_manifest_is_refused(market: Network) -> None:
    base, _ = await lineage(market)
    async with market.open(OTHER) as thief, market.open(PUBLISHER) as publisher:
        with pytest.raises(ChainReverted, match="ManifestTaken"):
            await thief.publish_listing("stolen", BASE, kind=BASE_KIND)
        again = await publisher.publish_listing("base", BASE, kind=BASE_KIND, royalty_bps=100)
        assert await publisher.listing_of_manifest(BASE) == base != again
        assert await publisher.listing_of_manifest(BlobRef.of(b"nobody's")) is None


async def test_a_greedy_or_long_lineage_is_refused(market: Network) -> None:
    async with market.open(PUBLISHER) as publisher:
        parent = await publisher.publish_listing("m-0", BlobRef.of(b"0"), kind=BASE_KIND, royalty_bps=600)
        with pytest.raises(ChainReverted, match="RoyaltyTooHigh"):
            await publisher.publish_listing("greedy", BlobRef.of(b"g"), kind=LORA_KIND, parent=parent, royalty_bps=401)
        for index in range(1, 4):
            parent = await publisher.publish_listing(
                f"m-{index}", BlobRef.of(bytes([index])), kind=LORA_KIND, parent=parent
            )
        with pytest.raises(ChainReverted, match="LineageTooLong"):
            await publisher.publish_listing("deep", BlobRef.of(b"d"), kind=LORA_KIND, parent=parent)
        assert [share.bps for share in await publisher.royalties(parent)] == [0, 0, 0, 600]
        assert await publisher.royalties(ListingId(999)) == ()
