"""A training whose node is lost goes on elsewhere, to the byte; what cannot be trained costs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from network_acts import PATIENCE_S, until_state
from training_acts import photos

from gesso_devnet import Devnet
from gesso_node.executors.fake import FakeFaults
from gesso_node.executors.lora.fake_trainer import FakeTrainer
from gesso_node.executors.lora.port import TrainingInputs
from gesso_node.executors.lora.run import train
from gesso_protocol import events
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.money import Wei
from gesso_protocol.spec import TrainLora

pytestmark = pytest.mark.anyio


def eager(_: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Nodes that share every checkpoint at once."""
    return {**settings, "executor": {**settings["executor"], "share_checkpoints_s": 0}}


async def test_another_node_finishes_what_a_lost_one_began(tmp_path: Path) -> None:
    async with Devnet.open(nodes=2, faults=FakeFaults(step_s=0.02), reconfigure=eager) as net:
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
            node = (await net.chain.task(first.id)).node
            await next(one for one in net.nodes if one.address == node).stop()
            await net.warp(120)

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
        resumed = [event for event in seen if isinstance(event, events.Resumed)]
        assert [(one.earlier, one.task, one.index) for one in resumed] == [(first.id, run.id, rest.first_step)]
        assert (await net.chain.task(first.id)).state is TaskState.EXPIRED
        fee = run.task.terms.fee
        assert fee == max(Wei(-(-int(first.terms.fee) * (60 - rest.first_step) // 60)), await cheapest(net, rest))
        assert (await client.balance()).deposit == before - fee
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
