"""The loop on a board that follows the contract's rules: the whole path, races, faults, restarts."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest

from gesso.chain import events as on_chain
from gesso_node.executors.fake import FakeFaults
from gesso_node.state.journal import JournalFailedError
from gesso_protocol.errors import ChainReverted, Unreachable
from gesso_protocol.ids import Address
from gesso_protocol.lifecycle import TaskRecord, TaskState, Why
from gesso_protocol.result import ResultManifest, result_root
from gesso_protocol.spec import TextToImage
from gesso_protocol.terms import task_id

from ..conftest import SPEC, World
from ..doubles import BOARD, CHAIN_ID, MODEL, node_address

pytestmark = pytest.mark.anyio


def settled(world: World, *tasks: object) -> bool:
    return all(world.board.state(terms) is TaskState.SETTLED for terms in tasks)  # type: ignore[arg-type]


def oks(world: World, verb: str) -> int:
    return sum(1 for what, _, how in world.board.attempts if (what, how) == (verb, "ok"))


async def test_the_whole_path_pays_the_node(world: World) -> None:
    node = await world.add_node()
    terms = await world.submit()
    await world.until(lambda: settled(world, terms))
    await world.turn()
    await world.turn()

    status = await node.status()
    assert status.earned == "0.00975"
    assert world.board.balances[node.address] == 9_750_000_000_000_000
    assert status.ended == {"settled": 1}
    assert status.open_tasks == ()
    assert [how for _, _, how in world.board.attempts] == ["ok"] * 3


async def test_what_is_committed_is_what_can_be_fetched(world: World) -> None:
    node = await world.add_node()
    terms = await world.submit(SPEC.model_copy(update={"count": 2}))
    await world.until(lambda: world.board.state(terms) is TaskState.COMMITTED)
    event = next(e for block in world.board.blocks for e in block if isinstance(e, on_chain.TaskCommitted))
    entry = await node._journal.entry(event.task)
    assert entry is not None
    assert entry.result is not None
    manifest = ResultManifest.decode(await world.blobs.get(entry.result.ref, max_bytes=ResultManifest.MAX_BYTES))
    assert result_root(manifest) == event.result_root
    assert manifest.trace_root == event.trace_root
    assert manifest.executor == "fake"
    assert manifest.model_manifest == MODEL
    assert len(manifest.images) == 2
    for image in manifest.images:
        assert (await world.blobs.get(image.blob, max_bytes=10**7)).startswith(b"\x89PNG")


async def test_many_tasks_settle_in_one_transaction(world: World) -> None:
    node = await world.add_node(policy={"max_waiting": 8}, settle_wait_s=20, settle_batch=5)
    tasks = [await world.submit(SPEC.model_copy(update={"seed": seed}), nonce=seed) for seed in range(5)]
    await world.until(lambda: settled(world, *tasks), turns=80)
    assert oks(world, "settle") == 1
    await world.turn()
    await world.turn()
    assert (await node.status()).ended == {"settled": 5}


async def test_two_nodes_claim_at_once_one_wins_the_other_says_why(world: World) -> None:
    """Both send before either sees the other's claim in its events."""
    for _ in range(2):
        await world.add_node()
    terms = await world.submit()
    world.board.mine(30)  # late enough for everyone
    for node in world.nodes:
        await node.once()  # reads the submit
        await node.quiesce()
    for node in world.nodes:
        await node.once()  # sends the claim
    await world.until(lambda: settled(world, terms))
    for _ in range(3):
        await world.turn()
    claims = [(who, how) for verb, who, how in world.board.attempts if verb == "claim"]
    assert sorted(how for _, how in claims) == ["UnexpectedState", "ok"]
    ends = [(await node.status()).ended for node in world.nodes]
    assert sorted(map(str, ends)) == ["{'lost-race': 1}", "{'settled': 1}"]
    assert sum(world.board.balances.values()) == 9_750_000_000_000_000


async def test_sortition_makes_nodes_wait_their_turn(world: World) -> None:
    for _ in range(4):
        await world.add_node()
    tasks = [await world.submit(SPEC.model_copy(update={"seed": seed}), nonce=seed) for seed in range(6)]
    await world.until(lambda: settled(world, *tasks), turns=120)
    assert not [how for _, _, how in world.board.attempts if how == "SortitionNotReached"]
    assert oks(world, "claim") == 6


async def test_specs_of_tasks_that_are_far_from_our_turn_are_not_read(world: World) -> None:
    node = await world.add_node(weight=1)
    world.board.register(node_address(9), 2**40)  # practically always first
    terms = await world.submit()
    for _ in range(3):
        await world.turn()
    known = node._book.get(task_id(CHAIN_ID, BOARD, terms))
    assert known is not None
    assert known.entry is None
    assert known.not_before > world.board.now
    assert world.board.attempts == []


async def test_a_child_that_dies_once_is_retried(world: World, tmp_path: Path) -> None:
    node = await world.add_node(faults=FakeFaults(crash_at_step=2, once_file=tmp_path / "once"))
    terms = await world.submit()
    await world.until(lambda: settled(world, terms))
    assert (await node.status()).failed == {"Crashed": 1}


async def test_a_child_that_dies_twice_ends_in_a_clean_expiry_and_refund(world: World) -> None:
    node = await world.add_node(faults=FakeFaults(crash_at_step=2))
    terms = await world.submit(commit_window_s=20)
    await world.until(lambda: world.board.state(terms) is TaskState.EXPIRED)
    await world.turn()
    await world.turn()
    status = await node.status()
    assert status.failed == {"Crashed": 2}
    assert status.ended == {"expired": 1}
    assert oks(world, "claim") == 1
    assert oks(world, "expire") == 1
    assert oks(world, "commit") == 0


async def test_lack_of_memory_is_not_tried_twice(world: World) -> None:
    node = await world.add_node(faults=FakeFaults(oom_at_step=1))
    terms = await world.submit(commit_window_s=10)
    await world.until(lambda: world.board.state(terms) is TaskState.EXPIRED)
    assert (await node.status()).failed == {"OutOfMemory": 1}


async def test_refusals_are_counted_by_reason(world: World) -> None:
    node = await world.add_node(policy={"min_fee": 5, "max_steps": 10, "deny_requesters": [str(node_address(9))]})
    await world.submit(SPEC, fee=1)
    await world.submit(SPEC.model_copy(update={"steps": 50}), nonce=2)
    await world.submit(SPEC.model_copy(update={"model": "nobody-knows@1"}), nonce=3)
    await world.submit(SPEC.model_copy(update={"dtype": "fp16"}), nonce=4)
    await world.submit(SPEC, nonce=5, requester=node_address(9))
    for _ in range(4):
        await world.turn()
    assert (await node.status()).refused == {
        "dtype-unsupported": 1,
        "model-unknown": 1,
        "not-allowed": 1,
        "price-too-low": 1,
        "too-large": 1,
    }
    assert world.board.attempts == []


async def test_a_spec_that_is_no_spec_is_refused(world: World) -> None:
    node = await world.add_node()
    junk = await world.blobs.put(b'{"not": "a spec"}')
    world.board.submit(SPEC, spec_blob=junk)
    for _ in range(3):
        await world.turn()
    assert (await node.status()).refused == {"spec-unreadable": 1}


async def test_a_spec_that_comes_late_is_waited_for(world: World) -> None:
    await world.add_node()
    late = TextToImage(prompt="late", model="sample@1", width=64, height=64, steps=2)
    terms = world.board.submit(late)
    for _ in range(4):
        await world.turn()
    assert world.board.attempts == []
    from gesso_protocol.spec import spec_bytes

    await world.blobs.put(spec_bytes(late))
    await world.until(lambda: settled(world, terms))


async def test_no_stake_no_claim(world: World) -> None:
    node = await world.add_node(weight=0)
    await world.add_node(weight=1, policy={"allow_models": ["another"]})
    await world.submit()
    for _ in range(4):
        await world.turn()
    assert (await node.status()).ended == {"no-weight": 1}
    assert world.board.attempts == []


async def test_a_full_node_takes_no_more_and_goes_on_later(world: World) -> None:
    node = await world.add_node(policy={"max_waiting": 1})
    tasks = [await world.submit(SPEC.model_copy(update={"seed": seed}), nonce=seed) for seed in range(3)]
    most = 0

    def all_settled() -> bool:
        nonlocal most
        most = max(most, sum(world.board.state(terms) is TaskState.CLAIMED for terms in tasks))
        return settled(world, *tasks)

    await world.until(all_settled, turns=100)
    assert most == 1
    await world.submit(SPEC.model_copy(update={"seed": 9}), nonce=9)
    for _ in range(5):
        await world.turn()
        if (await node.status()).held == 1:
            break
    assert (await node.status()).held == 1
    await world.submit(SPEC.model_copy(update={"seed": 10}), nonce=10)
    await world.turn()
    assert (await node.status()).refused == {"busy": 1}


async def test_a_cancelled_task_is_let_go(world: World) -> None:
    node = await world.add_node()
    await world.add_node()
    terms = await world.submit()
    world.board.cancel(terms)
    for _ in range(4):
        await world.turn()
    assert world.board.attempts == []
    assert (await node.status()).open_tasks == ()


async def test_the_chain_away_is_an_error_of_the_pass_and_nothing_else(world: World) -> None:
    node = await world.add_node()
    terms = await world.submit()
    await world.turn()
    world.board.away = True
    with pytest.raises(Unreachable):
        await node.once(world.board.now)
    world.board.away = False
    await world.until(lambda: settled(world, terms))


async def test_what_was_kept_of_a_trace_leaves_the_disk_with_it_and_the_result_stays(world: World) -> None:
    node = await world.add_node(executor={"trace_keep_s": 0})
    terms = await world.submit()
    task = task_id(CHAIN_ID, BOARD, terms)
    await world.until(lambda: world.board.state(terms) is TaskState.COMMITTED)
    entry = await node._journal.entry(task)
    assert entry is not None
    assert entry.result is not None
    assert entry.result.trace_backup is not None
    assert await world.blobs.has(entry.result.trace_backup)
    await world.until(lambda: settled(world, terms))
    with anyio.fail_after(60):
        while await world.blobs.has(entry.result.trace_backup):
            await world.turn()
    assert await world.blobs.has(entry.result.ref)
    assert all([await world.blobs.has(image.blob) for image in entry.result.images])


async def test_a_lost_claim_is_sent_again_after_patience(world: World) -> None:
    node = await world.add_node()
    world.chains[0].fail_next["claim"] = Unreachable("lost on the way")
    terms = await world.submit()
    await world.until(lambda: settled(world, terms))
    await world.turn()
    await world.turn()
    claims = [how for verb, _, how in world.board.attempts if verb == "claim"]
    assert claims == ["ok"]
    assert (await node.status()).earned == "0.00975"


async def test_a_restart_goes_on_where_it_was(world: World) -> None:
    """Closed in an orderly way in each state, and opened again on the same journal."""
    from ..doubles import ChainDouble

    chain = ChainDouble(world.board, node_address(1))
    world.board.weights[chain.address] = 1
    terms = await world.submit()
    for _ in range(40):
        async with AsyncExitStack() as stack:
            node = await world.open(chain, 1, stack=stack)
            await node.once()
            await node.quiesce()
        world.board.mine()
        if settled(world, terms):
            break
    async with AsyncExitStack() as stack:
        node = await world.open(chain, 1, stack=stack)
        await node.once()
        assert (await node.status()).earned == "0.00975"
    assert [verb for verb, _, _ in world.board.attempts] == ["claim", "commit", "settle"]


async def test_a_reorganisation_that_takes_back_a_settlement_is_healed(world: World) -> None:
    node = await world.add_node()
    terms = await world.submit()
    await world.until(lambda: settled(world, terms))
    for _ in range(3):
        await world.turn()
    assert (await node.status()).earned == "0.00975"
    task = task_id(CHAIN_ID, BOARD, terms)
    block = next(i for i, b in enumerate(world.board.blocks) if any(isinstance(e, on_chain.TaskSettled) for e in b))
    committed = next(
        e for b in world.board.blocks for e in b if isinstance(e, on_chain.TaskCommitted) and e.task == task
    )
    world.board.rewind(block - 1)
    since = committed.settle_after - world.board.params.challenge_window_s
    world.board.tasks[task] = TaskRecord(task, TaskState.COMMITTED, node.address, since)
    world.board.balances.clear()
    await world.until(lambda: settled(world, terms))
    for _ in range(3):
        await world.turn()
    assert (await node.status()).earned == "0.00975"
    assert world.board.balances[node.address] == 9_750_000_000_000_000


@pytest.mark.parametrize("how", ["in a block to come", "in one that was read"])
async def test_a_claim_that_another_fork_gives_back_is_worked_on(
    world: World, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Two claims raced, ours lost and comes first on the fork that stays: nobody else works on the task."""
    node, board = await world.add_node(), world.board
    terms = await world.submit()
    task = task_id(CHAIN_ID, BOARD, terms)

    def claimed_by(who: Address) -> None:
        board.tasks[task] = TaskRecord(task, TaskState.CLAIMED, who, board.now)
        board._emit(on_chain.TaskClaimed, task=task, node=who, commit_by=board.now + terms.commit_window_s)

    async def beaten(*_: object, **__: object) -> None:
        claimed_by(node_address(9))
        raise ChainReverted("WrongState", ())

    with monkeypatch.context() as patch:
        patch.setattr(world.chains[0], "claim", beaten)
        await world.until(lambda: board.state(terms) is TaskState.CLAIMED)
        for _ in range(3):
            await world.turn()
    entry = await node._journal.entry(task)
    assert entry is not None
    assert entry.closed is Why.LOST_RACE
    block = next(
        at for at, events in enumerate(board.blocks) if any(isinstance(e, on_chain.TaskClaimed) for e in events)
    )
    board.rewind(block - 1)
    board.mine()
    if how == "in a block to come":
        board.tasks[task] = TaskRecord(task, TaskState.SUBMITTED)
        await world.turn()
    claimed_by(node.address)
    await world.until(lambda: settled(world, terms))
    entry = await node._journal.entry(task)
    assert entry is not None
    assert entry.result_root is not None


async def test_draining_takes_nothing_new(world: World) -> None:
    node = await world.add_node()
    node.drain()
    await world.submit()
    for _ in range(4):
        await world.turn()
    assert world.board.attempts == []


async def test_a_journal_on_a_full_disk_holds_the_node_up_and_ends_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, refused = await world.add_node(), 0
    terms = await world.submit()
    await world.until(lambda: world.board.state(terms) is TaskState.COMMITTED)
    world.board.mine(60)

    async def full(*_: object) -> None:
        nonlocal refused
        refused += 1
        raise JournalFailedError("journal.sqlite cannot be used: database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(node._journal, "_write", full)
        async with anyio.create_task_group() as group:
            group.start_soon(node._reconciler.forever, 0.01)
            with anyio.fail_after(60):
                while refused < 2:
                    node._reconciler.wake()
                    await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
    assert not oks(world, "settle")  # nothing is done that was not written down
    await world.until(lambda: settled(world, terms))
