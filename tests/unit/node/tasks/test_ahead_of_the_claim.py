"""While a claim waits for its block: what goes ahead of it, what does not, and what a lost race ends at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anyio
import pytest

from gesso_node.executors.fake import FakeFaults
from gesso_node.peer import Node
from gesso_node.state.rivals import RUDE_FOR_S, SURELY_FOR_S
from gesso_protocol.draw import Draw
from gesso_protocol.errors import ChainReverted
from gesso_protocol.handover import Handover
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import NO_LISTING
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.money import Wei
from gesso_protocol.spec import spec_ref
from gesso_protocol.terms import BoardParams, Terms, task_id

from ..conftest import SPEC, World
from ..doubles import BOARD, CHAIN_ID, CLAIM_TX, REQUESTER, node_address

pytestmark = pytest.mark.anyio

PARAMS = BoardParams(challenge_window_s=5, sortition_step_s=8, protocol_fee_bps=250, cancel_delay_s=6)


@pytest.fixture(autouse=True)
def slow_board(world: World) -> None:
    world.board.params = PARAMS
    world.board.slow = True


async def passes(node: Node, done: Callable[[], bool]) -> None:
    """Pass after pass while no block is mined, each as soon as something has happened."""
    with anyio.fail_after(60):
        while not done():
            node._reconciler._passes.rearm()
            await node.once()
            if not done():
                await node._reconciler._passes.wait()


def drawn(node: Node) -> bool:
    return any(known.entry is not None and known.entry.result is not None for known in node._book)


def handed_over(node: Node) -> list[Handover]:
    return [event.handover for event in node._progress._queue if event.handover is not None]


async def mined(world: World, node: Node) -> None:
    """One block, and whatever was waiting for it."""
    world.board.mine()
    await node.once()
    await node.quiesce()


async def drawn_at_once(world: World) -> tuple[Node, Terms]:
    """A node that has its claim on the way, and its picture drawn."""
    node = await world.add_node()
    terms = await world.submit()
    await passes(node, lambda: drawn(node))
    return node, terms


async def test_a_node_that_is_alone_hands_over_and_commits_before_its_claim_is_mined(world: World) -> None:
    node, terms = await drawn_at_once(world)
    await passes(node, lambda: bool(world.chains[0].behind))
    assert world.board.state(terms) is TaskState.SUBMITTED
    (word,) = handed_over(node)
    assert word.claim == CLAIM_TX
    with pytest.raises(ChainReverted, match="TooEarly"):
        world.board.cancel(terms)
    await mined(world, node)
    assert world.board.state(terms) is TaskState.COMMITTED
    assert world.chains[0].behind == [True]
    assert len(handed_over(node)) == 1
    assert [(verb, how) for verb, _, how in world.board.attempts] == [("claim", "ok"), ("commit", "ok")]


async def nothing_goes_ahead(world: World, node: Node, terms: Terms) -> None:
    await passes(node, lambda: drawn(node))
    for _ in range(3):
        await node.once()
    assert world.chains[0].behind == []
    assert handed_over(node) == []
    await mined(world, node)
    assert world.board.state(terms) is TaskState.CLAIMED
    await passes(node, lambda: bool(world.chains[0].behind))
    assert world.chains[0].behind == [False]
    assert world.chains[0].untried == [False]
    assert [word.claim for word in handed_over(node)] == [None]


async def test_nothing_goes_ahead_where_somebody_else_may_claim_too(world: World) -> None:
    world.board.params = PARAMS.model_copy(update={"sortition_step_s": 1})
    node = await world.add_node()
    world.board.register(node_address(9), 1)
    terms = await world.submit()
    world.board.now += 1  # both may, whatever was drawn
    await nothing_goes_ahead(world, node, terms)


async def test_nothing_goes_ahead_of_nodes_that_we_do_not_know(world: World) -> None:
    node = await world.add_node(weight=2**40)
    world.board.weights[node_address(9)] = 1  # and nobody said whose
    terms = await world.submit()
    await nothing_goes_ahead(world, node, terms)


async def only_the_commit_goes_ahead(world: World, node: Node, terms: Terms) -> None:
    await passes(node, lambda: bool(world.chains[0].behind))
    assert world.board.state(terms) is TaskState.SUBMITTED
    assert world.chains[0].behind == [True]
    assert [event for event in node._progress._queue if event.handover or event.stage == "committed"] == []
    await mined(world, node)
    assert world.board.state(terms) is TaskState.COMMITTED
    await node.once()
    await node.quiesce()
    assert [event.stage for event in node._progress._queue if event.note] == ["committed"]


async def test_pictures_stay_here_where_blocks_are_slow(world: World) -> None:
    """Claim and cancel could be in one block, in the order of their tips."""
    world.board.block_s = 2.0
    node = await world.add_node()
    terms = await world.submit()
    await only_the_commit_goes_ahead(world, node, terms)


async def test_pictures_stay_here_once_their_requester_may_soon_cancel(world: World) -> None:
    node = await world.add_node()
    terms = await world.submit()
    world.board.now += 3
    await only_the_commit_goes_ahead(world, node, terms)


async def test_pictures_stay_here_where_others_only_let_us_go_first(world: World) -> None:
    world.board.params = PARAMS.model_copy(update={"sortition_step_s": 1})
    node = await world.add_node(weight=2**40)
    world.board.register(node_address(9), 2**20)
    node._book.rivals.claimed(node_address(9), NO_LISTING, world.board.now)
    terms = await world.submit()
    world.board.now += 21  # both may by now
    await only_the_commit_goes_ahead(world, node, terms)


async def first_drawn(world: World, *nodes: Node) -> Terms:
    """A new task whose first step draws all of these, in this order."""
    weights, places = world.board.weights, [(node._book.me, 0) for node in nodes]
    for nonce in itertools.count(world.board.now):
        windows = {"claim_window_s": 60, "commit_window_s": 60}
        terms = Terms(requester=REQUESTER, fee=Wei(10**16), spec=spec_ref(SPEC), nonce=nonce, **windows)
        task = task_id(CHAIN_ID, BOARD, terms)
        seed = keccak256(task.value)[:16]
        if [*Draw.of(seed, task, weights, sum(weights.values()), PARAMS.sortition_step_s).places] == places:
            break
    assert await world.submit(nonce=terms.nonce) == terms
    return terms


async def two_at_work(world: World) -> tuple[Node, Node]:
    """Both know each other, and have lately claimed."""
    first, second = await world.add_node(), await world.add_node()
    world.board.mine()
    for node in world.nodes:
        await node.once()
        for other in world.chains:
            node._book.rivals.claimed(other.address, NO_LISTING, world.board.now)
    return first, second


async def test_pictures_go_ahead_of_the_claim_of_who_was_drawn_first_and_is_let(world: World) -> None:
    first, second = await two_at_work(world)
    terms = await first_drawn(world, first, second)
    await passes(first, lambda: bool(world.chains[0].behind))
    assert world.board.state(terms) is TaskState.SUBMITTED
    assert [word.claim for word in handed_over(first)] == [CLAIM_TX]
    assert world.chains[0].untried == [True]
    world.board.now += PARAMS.sortition_step_s - 1  # the turn of the first is not over
    await second.once()
    await anyio.wait_all_tasks_blocked()
    await second.once()
    await mined(world, first)
    assert [how for _, _, how in world.board.attempts] == ["ok", "ok"]
    assert world.board.tasks[task_id(CHAIN_ID, BOARD, terms)].node == first._book.me


async def test_pictures_stay_here_where_one_of_the_others_has_let_nobody_go_first(world: World) -> None:
    first, second = await two_at_work(world)
    world.board.claim(second._book.me, await first_drawn(world, first, second))  # in the same step: not its turn
    await mined(world, first)
    assert first._book.rivals.rude(world.board.now) == {second._book.me}
    assert first._book.rivals.rude(world.board.now + RUDE_FOR_S + 1) == frozenset()
    terms = await first_drawn(world, first, second)
    await only_the_commit_goes_ahead(world, first, terms)


async def test_a_lost_race_that_our_own_refused_claim_tells_of_first_is_held_against_who_won_it(world: World) -> None:
    first, second = await two_at_work(world)
    terms = await first_drawn(world, first, second)
    await passes(first, lambda: bool(handed_over(first)))
    world.board.claim(second._book.me, terms)
    (known,) = first._book
    await first._reconciler._observer.refresh(known)
    assert known.record.state is TaskState.CLAIMED
    world.board.mine(0)
    await first.once()
    assert first._book.rivals.rude(world.board.now) == {second._book.me}


async def test_claims_that_are_read_late_count_from_when_they_were_mined(world: World) -> None:
    """After a restart, say: an hour of them is read at once."""
    first, second = await world.add_node(), await world.add_node()
    me = await world.add_node()
    for claimant in (first, second):
        world.board.claim(claimant._book.me, await first_drawn(world, first, second, me))
        world.board.mine(3_600)
    world.board.mine(0)
    await me.once()
    assert me._book.rivals.rude(world.board.now) == frozenset()
    assert me._book.rivals.lively(NO_LISTING, world.board.now) == frozenset()
    assert me._book.rivals.lively(NO_LISTING, world.board.now - 3_600) == {second._book.me}


async def test_a_submit_that_a_reorganisation_repeats_with_another_seed_is_drawn_anew(world: World) -> None:
    first, second = await two_at_work(world)
    await first_drawn(world, first, second)
    await first.once()
    (known,) = first._book
    draws = []
    for seed in (1, 2):
        known.record = replace(known.record, seed=seed)
        first._book._beside_others(known, world.board.now)
        draws.append(known.drawn and known.drawn.draw)
    assert draws == [first._book.rivals.draw(seed, known.task, PARAMS.sortition_step_s) for seed in (1, 2)]


async def test_pictures_stay_here_while_others_may_not_know_that_we_are_at_work(world: World) -> None:
    first, second = await two_at_work(world)
    world.board.now += SURELY_FOR_S + 1
    first._book.rivals.claimed(second._book.me, NO_LISTING, world.board.now)
    terms = await first_drawn(world, first, second)
    await only_the_commit_goes_ahead(world, first, terms)


async def test_a_commit_that_followed_a_claim_which_did_not_make_it_follows_the_next(world: World) -> None:
    node, terms = await drawn_at_once(world)
    chain = world.chains[0]
    await passes(node, lambda: bool(chain.behind))
    chain.fail_next["claim"] = ChainReverted("SortitionNotReached", (1,))
    await mined(world, node)
    assert world.board.state(terms) is TaskState.SUBMITTED
    world.board.slow = False
    await world.until(lambda: world.board.state(terms) is TaskState.SETTLED)
    assert [how for verb, _, how in world.board.attempts if verb == "commit"] == ["UnexpectedState", "ok"]


async def test_a_picture_for_a_lost_race_is_given_up_with_the_step_that_is_drawn(world: World) -> None:
    """Somebody else's claim is mined while we draw: neither the picture nor its other steps are waited for."""
    node = await world.add_node(faults=FakeFaults(step_s=3600.0))
    terms = await world.submit()
    await passes(node, lambda: any("execute" in known.busy for known in node._book))
    await anyio.wait_all_tasks_blocked()
    assert node._workbench.current is not None
    world.board.register(node_address(9), 2**40)
    world.board.claim(node_address(9), terms)
    with anyio.fail_after(60):
        world.board.mine()
        await node.once()
        await node.quiesce()
        await node.once()
    assert node._workbench.current is None
    assert (await node.status()).ended == {"lost-race": 1}
    assert world.chains[0].behind == []


async def test_nodes_at_work_do_not_race_each_other(world: World) -> None:
    """Once both are known to work, who was drawn second in a step leaves the first its block."""
    for _ in range(2):
        await world.add_node(policy={"max_waiting": 64})
    for node in world.nodes:
        for other in world.chains:
            node._book.rivals.claimed(other.address, NO_LISTING, world.board.now)
    tasks: list[Any] = [await world.submit(nonce=number) for number in range(12)]
    for _ in range(30):
        for node in (*world.nodes, *world.nodes):  # all of them before anybody sees what the others did
            await node.once()
            await anyio.wait_all_tasks_blocked()
        world.board.mine()
    assert all(world.board.state(terms) > TaskState.SUBMITTED for terms in tasks)
    claims = [how for verb, _, how in world.board.attempts if verb == "claim"]
    assert claims == ["ok"] * 12
