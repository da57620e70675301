"""Events come in order, once, and whatever the chain takes back is taken back from the reader too."""

from __future__ import annotations

import anyio
import pytest
from pydantic import TypeAdapter

from gesso.chain import Cursor, Page
from gesso.chain.chain import Chain
from gesso.chain.cursor import NOTHING_READ
from gesso.chain.events import (
    ChainEvent,
    ContractEvent,
    Deposited,
    NodeRegistered,
    Reorged,
    TaskClaimed,
    TaskCommitted,
    TaskSettled,
    TaskSubmitted,
)
from gesso_protocol.ids import TaskId

from .networks import NODE, REQUESTER, RESULT, TRACE, Network, until

pytestmark = pytest.mark.anyio


async def catch_up(chain: Chain, cursor: Cursor) -> tuple[list[ContractEvent], Cursor, list[int]]:
    """Everything after `cursor`, the cursor behind it, and the reorganisations met."""
    events: list[ContractEvent] = []
    reorgs: list[int] = []
    while (page := await chain.read_page(cursor)) is not None:
        cursor = page.cursor
        events.extend(page.events)
        if page.reorged_to is not None:
            reorgs.append(page.reorged_to)
            events = [event for event in events if event.block <= page.reorged_to]
    return events, cursor, reorgs


async def test_a_life_is_told_in_order_with_all_its_values(market: Network) -> None:
    async with market.open(REQUESTER) as requester, market.open(NODE) as node:
        terms = market.terms()
        submitted = await requester.submit(terms)
        await market.warp(60)
        await node.claim(terms)
        await node.commit(terms, RESULT, TRACE)
        await market.warp(200)
        await node.settle([terms])
        events, cursor, _ = await catch_up(node, Cursor.before(0))
        assert sum(isinstance(event, NodeRegistered) for event in events) == 2
        assert sum(isinstance(event, Deposited) for event in events) == 1
        told = [event for event in events if getattr(event, "task", None) == submitted.task_id]
        assert [type(event) for event in told] == [TaskSubmitted, TaskClaimed, TaskCommitted, TaskSettled]
        for at_once in (1, 3, 2000):
            async with market.open(None, max_log_range=at_once) as stranger:
                assert list(await stranger.course_of(terms_id := requester.task_id(terms))) == told
                assert await stranger.course_of(TaskId(terms_id.value[::-1])) == ()
        first, claimed, committed, settled = told
        assert isinstance(first, TaskSubmitted)
        assert (first.terms, first.block, first.tx_hash) == (terms, submitted.block, submitted.tx_hash)
        assert isinstance(claimed, TaskClaimed)
        assert claimed.node == node.address
        assert isinstance(committed, TaskCommitted)
        assert (committed.result_root, committed.trace_root) == (RESULT, TRACE)
        assert isinstance(settled, TaskSettled)
        assert settled.paid + settled.royalty + settled.protocol_fee == terms.fee
        assert cursor.block == await node.block_number()
        assert len({(event.block_hash, event.log_index) for event in events}) == len(events)
        adapter: TypeAdapter[ChainEvent] = TypeAdapter(ChainEvent)
        for event in events:
            assert adapter.validate_json(adapter.dump_json(event)) == event


async def test_a_stored_cursor_goes_on_where_it_stopped(market: Network) -> None:
    async with market.open(REQUESTER) as requester:
        _, cursor, _ = await catch_up(requester, Cursor.before(0))
        stored = cursor.model_dump_json()
        await requester.submit(terms := market.terms())
    async with market.open(None) as reader:
        events, _, reorgs = await catch_up(reader, Cursor.model_validate_json(stored))
        assert [(type(event), event.task) for event in events if isinstance(event, TaskSubmitted)] == [
            (TaskSubmitted, reader.task_id(terms))
        ]
        assert reorgs == []


async def test_small_pages_bring_the_same_events(market: Network) -> None:
    async with market.open(None) as whole, market.open(None, max_log_range=1) as single:
        assert (await catch_up(whole, Cursor.before(0)))[0] == (await catch_up(single, Cursor.before(0)))[0]


@pytest.mark.parametrize("depth", [1, 3])
async def test_what_a_reorganisation_removes_is_unlearnt(market: Network, depth: int) -> None:
    async with market.open(REQUESTER) as requester:
        kept = await requester.submit(market.terms())
        events, cursor, _ = await catch_up(requester, Cursor.before(0))
        for _ in range(depth):
            await requester.submit(market.terms())
            events_more, cursor, _ = await catch_up(requester, cursor)
            events += events_more
        await market.reorg(depth)
        fresh = await requester.submit(market.terms())
        after, _, reorgs = await catch_up(requester, cursor)
        assert reorgs == [kept.block]
        learnt = [event for event in events if event.block <= reorgs[0]] + after
        told = [event.task for event in learnt if isinstance(event, TaskSubmitted)]
        assert told == [kept.task_id, fresh.task_id]


async def test_a_reorganisation_deeper_than_the_trail_starts_over(market: Network) -> None:
    async with market.open(None) as reader:
        strange = Cursor.before(0).advanced(0, "0x" + "77" * 32).advanced(1, "0x" + "78" * 32)
        page = await reader.read_page(strange)
        assert page == Page(events=(), cursor=Cursor(block=NOTHING_READ), reorged_to=NOTHING_READ)
        again, _, _ = await catch_up(reader, page.cursor)
        assert again == (await catch_up(reader, Cursor.before(0)))[0]


async def test_a_shorter_chain_is_noticed(market: Network) -> None:
    """A devnet that was thrown away and started anew has fewer blocks than the reader remembers."""
    async with market.open(None) as reader:
        head = await reader.block_number()
        strange = Cursor.before(0).advanced(head + 100, "0x" + "77" * 32)
        page = await reader.read_page(strange)
        assert page is not None
        assert page.reorged_to == NOTHING_READ


async def test_the_endless_stream_reports_new_events_and_reorganisations(market: Network) -> None:
    seen: list[ChainEvent] = []
    async with market.open(REQUESTER) as requester:
        _, cursor, _ = await catch_up(requester, Cursor.before(0))

        async def listen() -> None:
            async for event in requester.events(cursor, poll_s=0.01):
                seen.append(event)

        async def heard(kind: type[object]) -> None:
            async def there() -> bool:
                return any(isinstance(event, kind) for event in seen)

            await until(there)

        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            await requester.submit(market.terms())
            await heard(TaskSubmitted)
            await market.reorg(1)
            await heard(Reorged)
            group.cancel_scope.cancel()
    assert [type(event) for event in seen] == [TaskSubmitted, Reorged]
