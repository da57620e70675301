"""Small trainings, and an engine that stops where a test wants it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
from PIL import Image

from gesso.blobs import LocalBlobs
from gesso.checkpointfile import write_state
from gesso.datasets import pack
from gesso.datasets.pictures import Shape
from gesso.training import put_bundle
from gesso_node.executors.fake import FakeEngine
from gesso_node.executors.lora.fake_trainer import FakeTrainer
from gesso_node.executors.lora.host import TrainingThreadExecutor
from gesso_node.executors.lora.port import TrainingInputs
from gesso_node.executors.lora.trainer import Trainer
from gesso_node.peer import Node
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import BlobRef, TaskId
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.money import Wei
from gesso_protocol.spec import TrainLora, spec_ref
from gesso_protocol.terms import Terms, task_id
from gesso_protocol.training.checkpoint import Resume
from gesso_protocol.training.draws import run_seed
from gesso_protocol.training.presets import make_training

from .conftest import World
from .doubles import BOARD, CHAIN_ID, REQUESTER

TRAINS: dict[str, Any] = {"policy": {"max_training_steps": 100}, "executor": {"share_checkpoints_s": 0}}


async def dataset(blobs: LocalBlobs, folder: Path) -> BlobRef:
    pictures = [(Image.new("RGB", (64, 64), (50 * at, 90, 30)), f"picture {at}") for at in range(4)]
    bundle = pack(pictures, folder / "dataset", Shape(64, 16))
    await put_bundle(blobs, bundle)
    return bundle.ref


async def training(world: World, **fields: Any) -> TrainLora:
    data = fields.pop("dataset", None) or await dataset(world.blobs, world.folder)
    small = {"steps": 13, "checkpoint_every": 5, "batch": 2, "rank": 4, "alpha": 4, **fields}
    return make_training(
        "sample@1", dataset=data, **{"resolution": 64, "bucket_step_px": 16, "sample_every": 0, **small}
    )


def state_is(world: World, terms: Terms, state: TaskState) -> bool:
    return world.board.state(terms) is state


def task_of(terms: Terms) -> TaskId:
    return task_id(CHAIN_ID, BOARD, terms)


async def said(node: Node, terms: Terms) -> str:
    entry = await node._journal.entry(task_of(terms))
    assert entry is not None
    return entry.last_failure


class Gated(FakeEngine):
    """Waits before one update until the test has done what it wants."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at
        self.reached, self.go_on = threading.Event(), threading.Event()

    def trainer(self, inputs: TrainingInputs) -> Trainer:
        return FakeTrainer(inputs, self._before)

    def _before(self, step: int) -> bool:
        if step == self.at:
            self.reached.set()
            assert self.go_on.wait(30)
        return True


async def until_reached(world: World, engine: Gated, or_else: Callable[[], bool] = lambda: False) -> None:
    """Passes of the nodes, without waiting for their work, until the gate is reached."""
    with anyio.fail_after(60):
        while not (engine.reached.is_set() or or_else()):
            for node in world.nodes:
                await node.once()
            world.board.mine(0)
            await anyio.lowlevel.checkpoint()


async def at_work(world: World, at: int = 7) -> tuple[Node, Terms, Gated]:
    """A node in the middle of a run, its claim in a block that has another one after it."""
    executor, engine = TrainingThreadExecutor(), Gated(at)
    executor.engine = engine
    node = await world.add_node(runner=executor, **TRAINS)
    terms = await world.submit(await training(world))
    await until_reached(world, engine)
    for _ in range(2):
        world.board.mine(1)
        await node.once()
    return node, terms, engine


def rest(world: World, spec: TrainLora, raw: bytes, step: int = 5) -> TrainLora:
    """What is left of a run of this spec that another node lost, as its requester orders it."""
    lost = terms_of(spec, 77)
    if task_of(lost) not in world.board.tasks:
        assert world.board.lose(spec) == lost
    state = BlobRef.of(raw)
    resume = Resume(task=task_of(lost), seed=seed_of_lost(spec).hex(), step=step, state=state, size=len(raw))
    return spec.rest(resume)


def seed_of_lost(spec: TrainLora) -> bytes:
    """What that run drew from."""
    task = task_of(terms_of(spec, 77)).value
    return run_seed(keccak256(b"gesso/train/1/no-beacon" + task), task, spec.seed)


def terms_of(spec: TrainLora, nonce: int) -> Terms:
    return Terms(requester=REQUESTER, fee=Wei(10**16), spec=spec_ref(spec), kind=2, claim_window_s=60,
                 commit_window_s=60, nonce=nonce)  # fmt: skip


async def honest_state(world: World, spec: TrainLora) -> bytes:
    """The checkpoint after update 5 of the run that `rest` goes on with."""
    folder = world.folder / "dataset"
    trainer = FakeTrainer(TrainingInputs(spec, None, folder, None, BlobRef(bytes(32)), seed_of_lost(spec)))
    for step in range(5):
        trainer.update(step)
    path = world.folder / "state.safetensors"
    write_state(path, trainer.state(5))
    return path.read_bytes()


async def refused(world: World, node: Node) -> dict[str, int]:
    """Turns until the node has refused something, and what for."""
    with anyio.fail_after(60):
        while not (await node.status()).refused:
            await world.turn()
    return (await node.status()).refused
