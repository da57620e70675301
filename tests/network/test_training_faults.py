"""Trainings that outlive their node, their requester and a listing, or are stopped: to the byte and to the wei."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from network_acts import PATIENCE_S, until_state
from training_acts import photos

from gesso.chain.chain import Chain
from gesso_devnet import Devnet
from gesso_node.executors.fake import FakeFaults
from gesso_node.executors.lora.fake_trainer import FakeTrainer
from gesso_node.executors.lora.port import TrainingInputs
from gesso_node.executors.lora.run import train
from gesso_protocol import events
from gesso_protocol.errors import TaskFailed, UsageError
from gesso_protocol.ids import Address, TaskId
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.money import Wei, part_of
from gesso_protocol.spec import TrainLora

pytestmark = pytest.mark.anyio
LONG = 2000
"""Updates of a run that is stopped long before its end on any machine."""


def held(folder: Path) -> FakeFaults:
    """Whoever trains first stops after its second checkpoint and waits to be lost, however late that is seen."""
    return FakeFaults(step_s=0.02, hang_at_step=45, once_file=folder / "lost")


async def lose(net: Devnet, run: TaskId, folder: Path) -> Address:
    """The node that trains is gone, wherever it was, and its time is over; the others do not stop."""
    node = (await net.chain.task(run)).node
    assert node is not None
    await next(one for one in net.nodes if one.address == node).stop()
    (folder / "lost").touch()
    await net.warp(120)
    return node


def eager(_: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Nodes that share every checkpoint at once."""
    return {**settings, "executor": {**settings["executor"], "share_checkpoints_s": 0}}


async def test_another_node_finishes_what_a_lost_one_began(tmp_path: Path) -> None:
    async with Devnet.open(nodes=2, audit_rate=0, faults=held(tmp_path), reconfigure=eager) as net:
        client, seen = net.submitter, list[events.Event]()
        before = (await client.balance()).deposit
        order = await client.training_order(photos(tmp_path / "photos"), trigger="zbx", steps=60, rank=4, alpha=4)
        run = await client.submit_training(order, commit_window_s=60)
        first, shared = run.task, anyio.Event()

        def note(event: events.Event) -> None:
            seen.append(event)
            if isinstance(event, events.Checkpoint):
                shared.set()

        async def lose_the_node() -> None:
            await shared.wait()
            await lose(net, first.id, tmp_path)

        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as group:
                group.start_soon(lose_the_node)
                adapter = await run.result(on_event=note)
            await until_state(net, run.id, TaskState.SETTLED)

        rest = await run.task.spec()
        assert isinstance(rest, TrainLora)
        assert rest.resume is not None
        assert (rest.resume.task, rest.run) == (first.id, order.spec)
        assert await order_again(order.spec, rest, tmp_path) == adapter.files["adapter.safetensors"]
        assert adapter.steps_done == 60
        lost_to = next(event.node for event in seen if isinstance(event, events.Claimed))
        assert adapter.resumed is not None
        assert (adapter.resumed.run, adapter.resumed.lost, adapter.resumed.node) == (first.id, first.id, lost_to)
        assert (adapter.resumed.step, adapter.resumed.state) == (rest.first_step, rest.resume.state)
        resumed = [event for event in seen if isinstance(event, events.Resumed)]
        assert [(one.earlier, one.task, one.index) for one in resumed] == [(first.id, run.id, rest.first_step)]
        assert (await net.chain.task(first.id)).state is TaskState.EXPIRED
        fee = run.task.terms.fee
        assert fee == max(Wei(-(-int(first.terms.fee) * (60 - rest.first_step) // 60)), await cheapest(net, rest))
        assert (await client.balance()).deposit == before - fee
        assert await net.balanced()


async def test_a_requester_that_comes_back_orders_the_rest(tmp_path: Path) -> None:
    async with Devnet.open(nodes=2, audit_rate=0, faults=held(tmp_path), reconfigure=eager) as net:
        with anyio.fail_after(PATIENCE_S):
            async with net.client() as gone:
                order = await gone.training_order(photos(tmp_path / "photos"), steps=60, rank=4)
                run = await gone.submit_training(order, commit_window_s=60)
                async for event in run.events():
                    if isinstance(event, events.Checkpoint):
                        break
            node = await lose(net, run.id, tmp_path)
            async with net.client(peer=False) as back:
                again = await back.resume_training(str(run.id))
                adapter = await again.result()
                twice = await (await back.resume_training(again.id)).result()
                assert twice.resumed == adapter.resumed, "the chain knows it too"
        assert again.spec.resume is not None
        assert (again.spec.resume.task, again.spec.run, adapter.steps_done) == (run.id, order.spec, 60)
        assert adapter.resumed is not None
        assert (adapter.resumed.lost, adapter.resumed.node) == (run.id, node)
        assert twice.files == adapter.files
        with pytest.raises(UsageError, match="no training"):
            await net.submitter.resume_training((await net.submitter.submit(await net.submitter.spec("a"))).id)


async def test_a_long_run_survives_its_requester_and_a_yank_and_can_be_stopped(tmp_path: Path) -> None:
    async with Devnet.open(nodes=1, audit_rate=0, faults=FakeFaults(step_s=0.02), reconfigure=eager) as net:
        client, node = net.submitter, net.nodes[0].address
        with anyio.fail_after(PATIENCE_S):
            first = await client.train_lora(photos(tmp_path / "photos"), trigger="zbx", steps=5, rank=4)
            path = (await first.result()).save(tmp_path / "zbx.safetensors")
            listing = await client.market.publish(path, "zbx", licence="MIT", royalty="5%")
            await first.task.result(until="settled")
            before = (await client.balance()).deposit

            async with net.client() as gone:
                order = await gone.training_order(tmp_path / "photos", continue_from="zbx@1", steps=60, rank=4)
                run = await gone.submit_training(order)
                async for event in run.events():
                    if isinstance(event, events.TrainingStep):
                        break
            async with Chain.open(net.chain_settings, net.cast.submitter) as chain:
                await chain.yank_listing(listing.id)
            await until_state(net, run.id, TaskState.SETTLED)
            done = await (await client.resume_training(run.id)).result()
            assert done.steps_done == 60
            fee = int(run.task.terms.fee)
            # the publisher of the LoRA is the requester itself here: its royalty comes back
            assert (await client.balance()).deposit == before - fee + fee * 500 // 10_000

            long = await client.train_lora(tmp_path / "photos", steps=LONG, rank=4)
            before = (await client.balance()).deposit + long.task.terms.fee
            far = anyio.Event()

            def note(event: events.Event) -> None:
                if isinstance(event, events.TrainingStep) and event.index > 25:
                    far.set()

            async def stop_it() -> None:
                await far.wait()
                await long.stop()

            async with anyio.create_task_group() as group:
                group.start_soon(stop_it)
                adapter = await long.result(on_event=note)
            settled = await long.task.result(until="settled")
        assert 40 <= adapter.steps_done < LONG
        assert adapter.steps_done % 20 == 0
        assert "asked for it" in adapter.stopped
        part = part_of(long.task.terms.fee, adapter.steps_done * 10_000 // LONG)
        assert settled.receipt.done_bps == adapter.steps_done * 10_000 // LONG
        assert (await client.balance()).deposit == before - part.due
        assert await net.earned(node) > 0
        assert await net.balanced()


async def test_settings_that_break_at_once_cost_their_requester_the_time_and_the_node_nothing(tmp_path: Path) -> None:
    async with Devnet.open(nodes=3, audit_rate=0, faults=FakeFaults(nan_at_step=2)) as net:
        client = net.submitter
        before = (await client.balance()).deposit
        standing = {node.address: (await net.chain.node(node.address)).standing for node in net.nodes}
        with anyio.fail_after(PATIENCE_S):
            run = await client.train_lora(photos(tmp_path / "photos"), steps=40, rank=4, audit="always")
            with pytest.raises(TaskFailed, match=r"nothing came of the training: nothing was learnt: .* update 3"):
                await run.result()
            await until_state(net, run.id, TaskState.SETTLED)
        assert (await net.chain.done_of(run.id)).bps == 0
        assert (await client.balance()).deposit == before
        for address, kept in standing.items():
            assert (await net.chain.node(address)).standing == kept
            assert await net.earned(address) == 0
        assert await net.balanced()


async def cheapest(net: Devnet, rest: TrainLora) -> Wei:
    return (await net.submitter.quote(rest, audit="none")).fee


async def order_again(spec: TrainLora, rest: TrainLora, folder: Path) -> bytes:
    """The adapter of the same run without any interruption."""
    from gesso.datasets import pack
    from gesso.datasets.pictures import Shape

    assert rest.resume is not None
    assert rest.model_manifest is not None
    bundle = pack(folder / "photos", folder / "again", Shape(spec.resolution, spec.bucket_step_px), trigger="zbx")
    assert bundle.ref == spec.dataset
    seed = bytes.fromhex(rest.resume.seed)
    inputs = TrainingInputs(spec, None, folder / "again", None, rest.model_manifest, seed)
    train(FakeTrainer(inputs), inputs, folder / "control", str(rest.resume.task), lambda _: None)
    return (folder / "control" / "adapter" / "adapter.safetensors").read_bytes()
