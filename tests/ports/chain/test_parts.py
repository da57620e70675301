"""A training that ends early, on every local chain: the node is paid for its part, the rest comes back, to the wei."""

from __future__ import annotations

import pytest

from gesso.chain import Cursor, Done
from gesso.chain.chain import Chain
from gesso.chain.events import (
    ContractEvent,
    TaskCommitted,
    TaskPartCommitted,
    TaskRestReturned,
    TaskSettled,
    TaskStopRequested,
)
from gesso_devnet import ledger
from gesso_protocol.errors import ChainReverted, DeadlinePassed
from gesso_protocol.fields import TaskKind
from gesso_protocol.ids import BlobRef, TaskId
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.money import Wei, part_of, split_fee
from gesso_protocol.terms import Terms

from .networks import DEPLOYER, NODE, ONE, OTHER, PUBLISHER, REQUESTER, RESULT, TRACE, Network

pytestmark = pytest.mark.anyio

TRAINING = int(TaskKind.TRAIN_LORA)


async def claimed(market: Network, requester: Chain, node: Chain, **changes: object) -> Terms:
    terms = market.terms(kind=TRAINING, **changes)  # type: ignore[arg-type]
    await requester.submit(terms)
    await market.warp(60)  # by now the draw lets anyone claim
    await node.claim(terms)
    return terms


async def story(chain: Chain, task: TaskId) -> list[ContractEvent]:
    found: list[ContractEvent] = []
    cursor = Cursor.before(0)
    while (page := await chain.read_page(cursor)) is not None:
        cursor = page.cursor
        found.extend(event for event in page.events if getattr(event, "task", None) == task)
    return found


async def test_a_stopped_training_is_paid_in_part_and_the_rest_comes_back(market: Network) -> None:
    async with (
        market.open(REQUESTER) as requester,
        market.open(NODE) as node,
        market.open(PUBLISHER) as publisher,
    ):
        model = await publisher.publish_listing("base", BlobRef.of(b"base"), kind=0, royalty_bps=333)
        params = await node.params()
        fee = Wei(ONE + 7)  # odd on purpose: neither part nor shares divide evenly
        everyone = [market.wallet(index).address for index in range(7)]
        people = [node.address, publisher.address, market.wallet(DEPLOYER).address, requester.address]
        before = [await node.balance_of(person) for person in people]
        books = await ledger.take(node, everyone)
        terms = await claimed(market, requester, node, fee=fee, model=model)
        task = node.task_id(terms)
        assert not (await node.task(task, kind=TRAINING)).stop_requested
        await requester.request_stop(terms)
        assert (await node.task(task, kind=TRAINING)).stop_requested
        assert not (await node.task(task)).stop_requested, "not asked about"

        await node.commit_part(terms, RESULT, TRACE, 3333)
        assert (await node.task(task, kind=TRAINING)).state is TaskState.COMMITTED
        assert await node.done_of(task) == Done(bps=3333, stop_requested=True)
        await market.warp(params.challenge_window_s)
        settled = await node.settle([terms])
        part = part_of(fee, 3333)
        assert (settled.settled, settled.returned) == ((task,), {task: part.rest})

        shares = split_fee(part.due, 333, params.protocol_fee_bps)
        gains = [await node.balance_of(person) - was for person, was in zip(people[:3], before[:3], strict=True)]
        assert gains == [shares.node, shares.royalty, shares.protocol]
        assert before[3] - await node.balance_of(requester.address) == part.due
        assert await node.active_claims_of(node.address) == 0
        after = await ledger.take(node, everyone)
        assert ledger.conserved(books, after)
        assert await ledger.backed(node, after)

        told = await story(node, task)
        kinds = [TaskStopRequested, TaskPartCommitted, TaskCommitted, TaskRestReturned, TaskSettled]
        assert [type(event) for event in told[2:]] == kinds
        asked, committed, _, returned, _ = told[2:]
        assert isinstance(asked, TaskStopRequested)
        assert asked.node == node.address
        assert isinstance(committed, TaskPartCommitted)
        assert (committed.node, committed.done_bps, committed.stop_requested) == (node.address, 3333, True)
        assert isinstance(returned, TaskRestReturned)
        assert returned.refund == part.rest


async def test_parts_and_wholes_settle_together(market: Network) -> None:
    async with market.open(REQUESTER) as requester, market.open(NODE) as node, market.open(OTHER) as other:
        start = await requester.balance_of(requester.address)
        nothing = await claimed(market, requester, node)
        finished = await claimed(market, requester, other)
        await requester.request_stop(finished)
        await node.commit_part(nothing, RESULT, TRACE, 0)  # a loss that was no number before the first checkpoint
        await other.commit(finished, RESULT, TRACE)  # a wish binds nobody
        assert await node.done_of(node.task_id(nothing)) == Done(bps=0, stop_requested=False)
        assert await node.done_of(node.task_id(finished)) == Done(bps=10_000, stop_requested=False)
        await market.warp((await node.params()).challenge_window_s)
        settled = await node.settle([nothing, finished])
        assert settled.settled == (node.task_id(nothing), node.task_id(finished))
        assert settled.returned == {node.task_id(nothing): nothing.fee}
        assert start - await requester.balance_of(requester.address) == finished.fee


async def test_refusals_of_parts_carry_their_values(market: Network) -> None:
    async with market.open(REQUESTER) as requester, market.open(NODE) as node, market.open(OTHER) as other:
        picture = market.terms()
        for attempt in (requester.request_stop(picture), node.commit_part(picture, RESULT, TRACE, 1)):
            with pytest.raises(ChainReverted) as caught:
                await attempt
            assert (caught.value.name, caught.value.arguments) == ("PartNotAllowed", (1,))
        terms = await claimed(market, requester, node)
        for attempt, name, values in (
            (node.request_stop(terms), "NotRequester", (node.address, requester.address)),
            (other.commit_part(terms, RESULT, TRACE, 1), "NotClaimant", (other.address, node.address)),
            (node.commit_part(terms, RESULT, TRACE, 10_000), "ShareOutOfRange", (10_000,)),
        ):
            with pytest.raises(ChainReverted) as caught:
                await attempt
            assert (caught.value.name, caught.value.arguments) == (name, values)
        await market.warp(601)
        with pytest.raises(DeadlinePassed):
            await requester.request_stop(terms)
        with pytest.raises(DeadlinePassed):
            await node.commit_part(terms, RESULT, TRACE, 1)
