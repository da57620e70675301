"""Things that break while a task is under way: the money always ends where it belongs."""

from __future__ import annotations

import anyio
import pytest
from network_acts import PATIENCE_S, raw_terms, submit_raw, until_state

from gesso.chain.chain import Chain
from gesso_devnet import Devnet
from gesso_node.executors.fake import FakeFaults
from gesso_protocol import events
from gesso_protocol.errors import ChainReverted, NoEligibleNode, TaskFailed
from gesso_protocol.lifecycle import TaskState

pytestmark = pytest.mark.anyio


async def test_the_relay_dies_mid_task_and_it_still_settles() -> None:
    async with Devnet.open(nodes=2, audit_rate=0, faults=FakeFaults(step_s=0.1)) as net:
        task = await net.submitter.submit(await net.submitter.spec("alone at sea"))
        steps: list[int] = []
        dead = anyio.Event()

        def note(event: events.Event) -> None:
            if isinstance(event, events.Step):
                steps.append(event.index)
            if len(steps) == 3:
                dead.set()

        async def kill_relay() -> None:
            await dead.wait()
            await net.relay.stop()

        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as group:
                group.start_soon(kill_relay)
                result = await task.result(until="settled", on_event=note)
            assert steps[-1] > 10, "progress goes straight to the requester's peer"
            assert result.image.data
            assert await net.earned(result.receipt.node) == result.receipt.paid
            assert await net.balanced()


async def test_a_node_that_only_crashes_is_expired_and_the_requester_refunded() -> None:
    async with Devnet.open(nodes=1, faults=FakeFaults(crash_at_step=2)) as net:
        node = net.nodes[0]
        standing = (await net.chain.node(node.address)).standing
        before = (await net.submitter.balance()).deposit
        task = await net.submitter.submit(await net.submitter.spec("never drawn"), commit_window_s=4)
        with anyio.fail_after(PATIENCE_S), pytest.raises(TaskFailed, match="did not deliver"):
            await task.result()
        assert (await net.chain.task(task.id)).state is TaskState.EXPIRED
        assert (await net.submitter.balance()).deposit == before
        assert (await net.chain.node(node.address)).standing != standing
        assert await net.earned(node.address) == 0
        assert await net.balanced()


async def test_nobody_claims_and_the_requester_gets_its_fee_back_by_itself() -> None:
    async with Devnet.open(nodes=1) as net:
        before = (await net.submitter.balance()).deposit
        await net.nodes[0].stop()
        task = await net.submitter.submit(await net.submitter.spec("into the void"), claim_window_s=2)
        with anyio.fail_after(PATIENCE_S), pytest.raises(NoEligibleNode):
            await task.result()
        assert (await net.submitter.balance()).deposit == before


async def test_a_node_that_is_cut_off_mid_task_comes_back_and_is_paid_once() -> None:
    async with Devnet.open(nodes=1, audit_rate=0, faults=FakeFaults(step_s=0.1)) as net:
        node = net.nodes[0]
        task = await net.submitter.submit(await net.submitter.spec("interrupted"))
        with anyio.fail_after(PATIENCE_S):
            async for event in task.events():
                if isinstance(event, events.Step):
                    break
            await node.stop()
            await node.start()
            result = await task.result(until="settled")
        assert await net.earned(node.address) == result.receipt.paid
        assert await net.chain.active_claims_of(node.address) == 0
        assert await net.balanced()


async def test_two_nodes_claim_at_once_and_one_is_told_why_not() -> None:
    async with Devnet.open(nodes=2) as net:
        for node in net.nodes:
            await node.stop()
        terms = await raw_terms(net, claim_window_s=600)
        task = await submit_raw(net, terms)
        await net.warp(300)  # by now sortition lets everybody in
        outcomes: list[str] = []

        async def claim(number: int) -> None:
            async with Chain.open(net.chain_settings, net.cast.nodes[number]) as chain:
                try:
                    await chain.claim(terms)
                    outcomes.append("won")
                except ChainReverted as error:
                    outcomes.append(error.name)

        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as group:
                group.start_soon(claim, 0)
                group.start_soon(claim, 1)
            assert sorted(outcomes) == ["UnexpectedState", "won"]
            await until_state(net, task, TaskState.CLAIMED)
