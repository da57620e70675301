"""A LoRA on a base: both owners earn on every local chain, to the base unit, and nobody else lists their bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gesso.chain import Cursor
from gesso.chain.chain import Chain
from gesso.chain.events import BundleMade, ContractEvent, RoyaltyPaid
from gesso_protocol.errors import ChainReverted
from gesso_protocol.ids import BlobRef, ListingId
from gesso_protocol.money import Wei, split_along
from gesso_protocol.royalties import is_bundle, shares_bps

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
    return [event async for event in _events(chain) if isinstance(event, RoyaltyPaid)]


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


async def test_several_listings_under_one_number(market: Network) -> None:
    base, lora = await lineage(market)
    async with market.open(PUBLISHER) as publisher, market.open(OTHER) as other:
        second = await publisher.publish_listing(
            "second", BlobRef.of(b"second"), kind=LORA_KIND, parent=base, royalty_bps=400
        )
        members = (lora, second)
        assert await other.bundle_of(members) is None
        number = await other.bundle(members)
        assert is_bundle(number)
        assert await publisher.bundle(members) == await publisher.bundle_of(members) == number
        assert await publisher.members_of(number) == members
        assert await publisher.members_of(ListingId(number + 1)) == ()
        # Together more than one listing may ask for, and nobody gets less for it.
        assert [(share.listing, share.bps) for share in await publisher.royalties(number)] == [
            (lora, 501),
            (base, 333),
            (second, 400),
        ]
        known = {one: await publisher.listing(one) for one in (base, *members)}
        assert shares_bps(members, known) == {lora: 501, base: 333, second: 400}
        assert await publisher.max_royalty_bps() == 1000
        dear = [
            await publisher.publish_listing(f"dear-{n}", BlobRef.of(bytes([n])), kind=LORA_KIND, royalty_bps=1000)
            for n in range(4)
        ]
        with pytest.raises(ChainReverted, match="RoyaltyTooHigh"):
            await other.bundle(tuple(dear))
        told = [event async for event in _events(publisher) if isinstance(event, BundleMade)]
        assert [(event.bundle, event.members) for event in told] == [(number, members)]
        for wrong, why in (((second, lora), "BundleNotSorted"), ((lora,), "BundleSizeOutOfRange")):
            with pytest.raises(ChainReverted, match=why):
                await other.bundle(wrong)
        with pytest.raises(ChainReverted, match="ListingUnknown"):
            await other.bundle((lora, ListingId(99)))


async def _events(chain: Chain) -> AsyncIterator[ContractEvent]:
    cursor = Cursor.before(0)
    while (page := await chain.read_page(cursor)) is not None:
        cursor = page.cursor
        for event in page.events:
            yield event


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
