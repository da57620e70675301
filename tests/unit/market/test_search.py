"""Searching with a relay that helps, one that lies, and none: what is shown is what the chain says."""

from __future__ import annotations

import json
from typing import Any, cast

import httpx
import pytest

from gesso.chain import events as on_chain
from gesso.chain.cursor import Cursor, Page
from gesso.chain.records import Listing, Royalty
from gesso.directory import Directory
from gesso.market.facts import MarketFacts
from gesso.market.search import Found, Wanted, descendants, search_facts
from gesso_protocol.errors import ChainReverted, Unreachable, UsageError
from gesso_protocol.ids import ZERO_ADDRESS, Address, BlobRef, ListingId, TaskId
from gesso_protocol.money import Wei
from gesso_protocol.terms import Terms

pytestmark = pytest.mark.anyio
ALICE, BOB = Address("0x" + "11" * 20), Address("0x" + "22" * 20)
PLACE: dict[str, Any] = {"block": 1, "block_hash": "0x" + "00" * 32, "log_index": 0, "tx_hash": "0x" + "00" * 32}


def listed(number: int, name: str, *, parent: int = 0, bps: int = 100, owner: Address = ALICE) -> object:
    return on_chain.ListingPublished(
        listing=ListingId(number), owner=owner, name=name, version=1, manifest=BlobRef.of(name.encode()),
        listing_kind=int(parent > 0), parent=ListingId(parent), royalty_bps=bps, licence=bytes(32), **PLACE,
    )  # fmt: skip


def used(number: int, model: int, *, how: str = "settled") -> list[object]:
    task = TaskId(bytes([number]) * 32)
    terms = Terms(requester=ALICE, fee=Wei(100), spec=BlobRef.of(b"s"), model=ListingId(model), claim_window_s=60,
                  commit_window_s=60, nonce=number)  # fmt: skip
    submitted = on_chain.TaskSubmitted(task=task, requester=ALICE, terms=terms, seed=1, at=1, **PLACE)
    if how == "open":
        return [submitted]
    if how == "cancelled":
        return [submitted, on_chain.TaskCancelled(task=task, refund=Wei(100), **PLACE)]
    money = {"paid": Wei(90), "royalty": Wei(6), "protocol_fee": Wei(4)}
    settled = on_chain.TaskSettled(task=task, node=BOB, royalty_to=ZERO_ADDRESS, **money, **PLACE)
    return [submitted, settled, on_chain.RoyaltyPaid(listing=ListingId(model), owner=ALICE, amount=Wei(5), **PLACE)]


EVENTS = [
    listed(1, "gesso-tiny", bps=300),
    listed(2, "alice/zbx", parent=1, bps=500),
    listed(3, "bob/zbx", parent=2, bps=0, owner=BOB),
    listed(4, "alice/gone", parent=1),
    *used(1, 2), *used(2, 3), *used(3, 3), *used(4, 3, how="cancelled"), *used(5, 2, how="open"), *used(6, 99),
    on_chain.ListingYanked(listing=ListingId(4), yanked=True, **PLACE),
    on_chain.ListingTransferred(listing=ListingId(3), previous=BOB, owner=ALICE, **PLACE),
    on_chain.ListingYanked(listing=ListingId(77), yanked=True, **PLACE),
]  # fmt: skip


def test_a_use_of_several_is_one_of_each_and_one_of_their_base() -> None:
    bundle = 2**63 + 1
    made = on_chain.BundleMade(bundle=ListingId(bundle), members=(ListingId(2), ListingId(4)), **PLACE)
    facts = MarketFacts.of([*EVENTS[:4], made, *used(1, bundle), *used(2, bundle + 1)])
    assert {number: facts.tally(ListingId(number)).uses for number in range(1, 5)} == {1: 1, 2: 1, 3: 0, 4: 1}


def test_the_market_by_the_log() -> None:
    facts = MarketFacts.of(EVENTS)
    assert {int(number): facts.tally(number).uses for number in facts.listings} == {1: 3, 2: 3, 3: 2, 4: 0}
    assert facts.tally(ListingId(2)).earned == 5
    assert facts.price_bps(ListingId(3)) == 800
    assert facts.listings[ListingId(3)].owner == ALICE


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        (Wanted(), [3, 2, 1]),
        (Wanted(sort="use"), [2, 1, 3]),
        (Wanted(sort="price"), [1, 3, 2]),
        (Wanted(text="ZBX bob"), [3]),
        (Wanted(kind="lora", base=ListingId(1)), [3, 2]),
        (Wanted(base=ListingId(2)), [3]),
        (Wanted(kind="vae"), []),
        (Wanted(limit=1), [3]),
        (Wanted(owner=BOB), []),
        (Wanted(owner=ALICE, kind="lora"), [3, 2]),
        (Wanted(owner=ALICE, withdrawn=True), [4, 3, 2, 1]),
    ],
)
def test_searches_of_the_log(wanted: Wanted, ids: list[int]) -> None:
    assert [int(one.listing.id) for one in search_facts(MarketFacts.of(EVENTS), wanted.checked())] == ids


def test_what_was_made_from_a_listing() -> None:
    facts = MarketFacts.of(EVENTS)
    found = {number: [int(one.id) for one in descendants(facts, ListingId(number))] for number in (1, 2, 3, 99)}
    assert found == {1: [2, 3], 2: [3], 3: [], 99: []}


@pytest.mark.parametrize(
    "wanted",
    [Wanted(kind="exe"), Wanted(sort=cast(Any, "evil")), Wanted(limit=0), Wanted(limit=201), Wanted("x" * 101)],
)
def test_searches_that_make_no_sense(wanted: Wanted) -> None:
    with pytest.raises(UsageError):
        wanted.checked()


class LogChain:
    """What a directory asks of the chain, over the events above."""

    def __init__(self) -> None:
        self.facts = MarketFacts.of(EVENTS)

    async def read_page(self, cursor: Cursor) -> Page | None:
        done = cursor.block >= 1
        return None if done else Page(events=cast(Any, tuple(EVENTS)), cursor=cursor.advanced(1, "0x" + "00" * 32))

    async def listing(self, number: ListingId) -> Listing:
        if number not in self.facts.listings:
            raise ChainReverted("ListingUnknown", (int(number),))
        return self.facts.listings[number]

    async def royalties(self, number: ListingId) -> tuple[Royalty, ...]:
        return (Royalty(listing=number, owner=ALICE, bps=self.facts.price_bps(number)),)


async def search(answer: object, status: int = 200, wanted: Wanted | None = None) -> list[Found]:
    body = json.dumps(answer).encode()
    transport = httpx.MockTransport(lambda _: httpx.Response(status, stream=httpx.ByteStream(body)))
    relay = httpx.AsyncClient(transport=transport, base_url="http://relay.invalid")
    directory = Directory(cast(Any, LogChain()), 31337, BOB, relay)
    return await directory.search((wanted or Wanted()).checked())


def row(number: object, **more: object) -> dict[str, object]:
    return {"id": number, "uses": 7, "earned": "12", "name": "lies", "owner": str(BOB), "yanked": False, **more}


async def test_a_relays_hits_are_read_again_from_the_chain_in_its_order() -> None:
    found = await search({"models": [row("2", summary="s" * 500), row("3"), row("1")]})
    assert [int(one.listing.id) for one in found] == [2, 3, 1]
    assert (found[0].listing.name, found[0].uses, found[0].price_bps, len(found[0].summary)) == (
        "alice/zbx",
        7,
        800,
        200,
    )


async def test_a_relay_that_lies_of_what_is_listed_is_not_believed() -> None:
    rows = [row("4"), row("99"), row("-1"), row(None), row("2", uses="x"), row("3", earned="-5"), row("1")]
    assert [int(one.listing.id) for one in await search({"models": rows})] == [1]


async def test_what_a_relay_says_is_somebodys_is_so_only_if_the_chain_says_it_too() -> None:
    mine, rows = Wanted(owner=BOB, withdrawn=True), {"models": [row("3"), row("4"), row("2")]}
    assert mine.query() | {"owner": str(BOB), "yanked": "1"} == mine.query()
    assert await search(rows, wanted=mine) == []
    mine = Wanted(owner=ALICE, withdrawn=True)
    assert [(int(one.listing.id), one.document()["state"]) for one in await search(rows, wanted=mine)] == [
        (3, "listed"), (4, "withdrawn"), (2, "listed"),
    ]  # fmt: skip


async def test_a_chain_that_is_away_is_its_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object) -> Listing:
        raise Unreachable("the chain is away")

    monkeypatch.setattr(LogChain, "listing", away)
    with pytest.raises(Unreachable, match="the chain is away"):
        await search({"models": [row("1"), row("2")]})


@pytest.mark.parametrize("answer", [{"models": [{"id": "1"}]}, ["x"], None, "text"])
async def test_without_a_relay_that_can_search_the_log_is_read(answer: object) -> None:
    assert [int(one.listing.id) for one in await search(answer)] == [3, 2, 1]
    assert [int(one.listing.id) for one in await search(answer, status=500)] == [3, 2, 1]
