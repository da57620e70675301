"""Trainings on a node: stopped, broken, handed on, cut off, given rubbish; the money is always where it belongs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import numpy as np
import pytest
from PIL import Image

from gesso.blobs import LocalBlobs
from gesso.chain.events import TaskClaimed
from gesso.chain.wallet import signer_of
from gesso.checkpointfile import State, read_state, write_state
from gesso.datasets import pack
from gesso.datasets.pictures import Shape
from gesso.tensorfile import write_tensors
from gesso.training import adapter_manifest, put_bundle
from gesso_node.checkpoints import CheckpointSharer
from gesso_node.executors.fake import FakeEngine, FakeFaults
from gesso_node.executors.lora.fake_trainer import FakeTrainer
from gesso_node.executors.lora.host import TrainingThreadExecutor
from gesso_node.executors.lora.port import TrainingInputs
from gesso_node.executors.lora.run import checkpoint_file
from gesso_node.executors.lora.trainer import Trainer
from gesso_node.peer import Node
from gesso_protocol.errors import Unreachable
from gesso_protocol.fields import Adapter
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import BlobRef, TaskId
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.manifest import ModelManifest
from gesso_protocol.messages import ProgressEvent
from gesso_protocol.money import part_of
from gesso_protocol.spec import TrainLora
from gesso_protocol.terms import Terms, task_id
from gesso_protocol.training.checkpoint import KeptCheckpoint, Resume
from gesso_protocol.training.draws import run_seed
from gesso_protocol.training.presets import make_training
from gesso_protocol.training.share import late_from
from gesso_protocol.training.trace import TrainingFacts

from .conftest import World
from .doubles import BOARD, CHAIN_ID

pytestmark = pytest.mark.anyio
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
    with anyio.fail_after(30):
        while not (engine.reached.is_set() or or_else()):
            for node in world.nodes:
                await node.once()
            world.board.mine(0)
            await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize(("at", "done"), [(2, 5), (7, 10), (11, 13)])
async def test_a_wish_to_stop_ends_a_run_at_its_next_checkpoint(at: int, done: int, world: World) -> None:
    executor, engine = TrainingThreadExecutor(), Gated(at)
    executor.engine = engine
    node = await world.add_node(runner=executor, **TRAINS)
    terms = await world.submit(await training(world))
    await until_reached(world, engine)
    world.board.request_stop(terms)
    world.board.mine(1)
    await node.once()
    engine.go_on.set()
    await world.until(lambda: state_is(world, terms, TaskState.SETTLED))
    share = part_of(terms.fee, done * 10_000 // 13)
    assert world.board.parts.get(task_of(terms), 10_000) == done * 10_000 // 13
    assert world.board.refunded[task_of(terms)] == share.rest
    assert world.board.balances[node.address] == share.due - share.due * 250 // 10_000
    entry = await node._journal.entry(task_of(terms))
    assert entry is not None
    assert entry.result is not None
    assert entry.result.profile["steps-done"] == str(done)
    assert ("asked for it" in entry.result.profile["stopped"]) is (done < 13)


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


async def take_the_wish_back(world: World, node: Node, terms: Terms, before: int) -> None:
    world.board.rewind(before)
    world.board.tasks[task_of(terms)] = replace(world.board.tasks[task_of(terms)], stop_requested=False)
    await node.once()
    world.board.mine(1)


async def test_a_wish_to_stop_that_the_chain_takes_back_does_not_end_the_run(world: World) -> None:
    node, terms, engine = await at_work(world)
    before = len(world.board.blocks) - 2
    world.board.request_stop(terms)
    world.board.mine(1)
    await node.once()
    await take_the_wish_back(world, node, terms, before)
    engine.go_on.set()
    await world.until(lambda: state_is(world, terms, TaskState.COMMITTED))
    assert task_of(terms) not in world.board.parts, "all of it was done"


async def test_a_part_whose_wish_the_chain_takes_back_is_not_committed_but_finished(world: World) -> None:
    node, terms, engine = await at_work(world)
    before = len(world.board.blocks) - 2
    world.board.request_stop(terms)
    world.board.mine(1)
    await node.once()
    world.chains[0].fail_next["commit"] = Unreachable("lost on the way")
    engine.go_on.set()
    await world.until(lambda: "commit" not in world.chains[0].fail_next)
    await take_the_wish_back(world, node, terms, before)
    await world.until(lambda: state_is(world, terms, TaskState.COMMITTED))
    assert task_of(terms) not in world.board.parts, "all of it was done"


async def test_a_run_waits_for_the_block_of_its_claim_and_draws_from_that_second(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []

    async def seed(chain: Any, spec: Any, task: TaskId, claimed_at: int) -> bytes:
        drawn.append(claimed_at)
        return claimed_at.to_bytes(32, "big")

    monkeypatch.setattr("gesso_node.training.seed_of_run", seed)
    executor, engine = TrainingThreadExecutor(), Gated(7)
    executor.engine = engine
    await world.add_node(runner=executor, **TRAINS)
    chain, claim, slow = world.chains[0], world.chains[0].claim, anyio.Event()

    async def slowly(terms: Terms) -> Any:
        await slow.wait()
        return await claim(terms)

    monkeypatch.setattr(chain, "claim", slowly)
    terms = await world.submit(await training(world))
    for _ in range(5):
        await world.nodes[0].once()
        await anyio.lowlevel.checkpoint()
        world.board.mine(1)
    assert drawn == [], "the claim is on its way"
    slow.set()
    await until_reached(world, engine)
    record = world.board.tasks[task_of(terms)]
    assert drawn == [record.state_since]
    # the block of the claim is replaced by a later one while the run is under way
    world.board.tasks[task_of(terms)] = replace(record, state_since=record.state_since + 3)
    engine.go_on.set()
    await world.until(lambda: state_is(world, terms, TaskState.COMMITTED))
    assert drawn == [record.state_since, record.state_since + 3]
    facts = TrainingFacts.decode((world.nodes[0]._workbench._traces.path(task_of(terms)) / "facts.json").read_bytes())
    assert facts.seed == (record.state_since + 3).to_bytes(32, "big").hex()


async def test_a_run_that_is_late_commits_what_it_has(world: World) -> None:
    node, terms, engine = await at_work(world)
    world.board.mine(54)
    await node.once()
    engine.go_on.set()
    await world.until(lambda: state_is(world, terms, TaskState.COMMITTED))
    assert world.board.parts[task_of(terms)] == 10 * 10_000 // 13


async def test_a_run_that_died_too_often_commits_its_last_checkpoint_when_it_is_late(world: World) -> None:
    node = await world.add_node(runner=TrainingThreadExecutor(FakeFaults(crash_at_step=8)), **TRAINS)
    terms = await world.submit(await training(world))
    await world.until(lambda: state_is(world, terms, TaskState.COMMITTED), turns=90)
    record = world.board.tasks[task_of(terms)]
    assert world.board.parts[task_of(terms)] == 5 * 10_000 // 13
    claimed = next(event for block in world.board.blocks for event in block if isinstance(event, TaskClaimed))
    assert record.state_since >= late_from(claimed.commit_by - terms.commit_window_s, terms.commit_window_s)
    assert "crash" in await said(node, terms)


async def test_a_loss_that_is_no_number_is_paid_up_to_the_last_checkpoint(world: World) -> None:
    node = await world.add_node(runner=TrainingThreadExecutor(FakeFaults(nan_at_step=11)), **TRAINS)
    terms = await world.submit(await training(world))
    await world.until(lambda: state_is(world, terms, TaskState.SETTLED))
    assert world.board.parts[task_of(terms)] == 10 * 10_000 // 13
    assert world.board.refunded[task_of(terms)] == part_of(terms.fee, 7692).rest
    assert world.board.balances[node.address] > 0


async def test_a_run_that_learns_nothing_costs_nothing(world: World) -> None:
    node = await world.add_node(runner=TrainingThreadExecutor(FakeFaults(nan_at_step=3)), **TRAINS)
    terms = await world.submit(await training(world))
    await world.until(lambda: state_is(world, terms, TaskState.EXPIRED), turns=90)
    assert world.board.refunded[task_of(terms)] == terms.fee
    assert world.board.balances.get(node.address, 0) == 0
    assert "nothing was learnt: the loss was not a number in update 4" in await said(node, terms)


async def test_whatever_a_training_brings_up_ends_the_attempt_and_not_the_node(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> None:
        raise ValueError("nobody had thought of that")

    node = await world.add_node(runner=TrainingThreadExecutor(), **TRAINS)
    monkeypatch.setattr(node._workbench._training, "run", broken)
    terms = await world.submit(await training(world))
    await world.until(lambda: state_is(world, terms, TaskState.EXPIRED), turns=90)
    assert "nobody had thought of that" in await said(node, terms)
    assert [verb for verb, _, _ in world.board.attempts] == ["claim", "expire"]


async def test_a_full_disk_at_a_wish_to_stop_is_survived(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    executor, engine = TrainingThreadExecutor(), Gated(2)
    executor.engine = engine
    node = await world.add_node(runner=executor, **TRAINS)
    terms = await world.submit(await training(world))
    await until_reached(world, engine)
    told: list[Any] = []

    def full(known: Any) -> None:
        told.append(known)
        monkeypatch.undo()
        raise OSError("no space left on device")

    monkeypatch.setattr(node._workbench, "stop", full)
    world.board.request_stop(terms)
    for _ in range(3):
        world.board.mine(1)
        await node.once()
    engine.go_on.set()
    await world.until(lambda: state_is(world, terms, TaskState.COMMITTED))
    assert len(told) == 1
    assert world.board.parts[task_of(terms)] == 5 * 10_000 // 13


async def test_a_child_that_dies_goes_on_from_its_checkpoint(world: World, tmp_path: Path) -> None:
    faults = FakeFaults(crash_at_step=8, once_file=tmp_path / "crashed")
    node = await world.add_node(runner=TrainingThreadExecutor(faults), **TRAINS)
    terms = await world.submit(await training(world))
    await world.until(lambda: state_is(world, terms, TaskState.SETTLED))
    assert (tmp_path / "crashed").exists()
    assert world.board.balances[node.address] == 9_750_000_000_000_000
    assert "crash" in await said(node, terms)


async def test_a_wish_made_while_the_node_was_away_is_heeded(world: World) -> None:
    executor, engine = TrainingThreadExecutor(), Gated(7)
    executor.engine = engine
    async with AsyncExitStack() as stack:
        first = await world.add_node(runner=executor, **TRAINS)
        terms = await world.submit(await training(world, steps=40))
        await until_reached(world, engine)
        world.nodes.remove(first)
        world.board.request_stop(terms)
        world.board.mine(1)
        again = TrainingThreadExecutor()
        resumed = Gated(5)
        again.engine = resumed
        second = await world.open(world.chains[0], 1, stack=stack, runner=again, **TRAINS)
        world.nodes.append(second)
        # The wish may be seen before the run goes on, or when it has begun with its next segment.
        await until_reached(world, resumed, or_else=lambda: state_is(world, terms, TaskState.COMMITTED))
        await second.once()
        resumed.go_on.set()
        await world.until(lambda: state_is(world, terms, TaskState.COMMITTED))
        assert world.board.parts[task_of(terms)] in (5 * 10_000 // 40, 10 * 10_000 // 40)
        world.nodes.remove(second)
    engine.go_on.set()


async def test_a_node_that_is_cut_off_goes_on_from_its_checkpoint(world: World) -> None:
    executor, engine = TrainingThreadExecutor(), Gated(7)
    executor.engine = engine
    async with AsyncExitStack() as stack:
        first = await world.add_node(runner=executor, **TRAINS)
        terms = await world.submit(await training(world))
        await until_reached(world, engine)
        world.nodes.remove(first)
        folder = first._workbench._traces.path(task_of(terms))
        begun = checkpoint_file(folder, 1).read_bytes()
        again = TrainingThreadExecutor()
        watched = Gated(-1)
        told: list[int] = []
        watched._before = lambda step: told.append(step) or True  # type: ignore[method-assign,func-returns-value]
        again.engine = watched
        second = await world.open(world.chains[0], 1, stack=stack, runner=again, **TRAINS)
        world.nodes.append(second)
        await world.until(lambda: state_is(world, terms, TaskState.COMMITTED))
        assert told == list(range(5, 13))
        assert checkpoint_file(folder, 1).read_bytes() == begun
        world.nodes.remove(second)
    engine.go_on.set()


def rest(spec: TrainLora, raw: bytes, step: int = 5) -> TrainLora:
    seed = run_seed(keccak256(b"beacon"), bytes(32), spec.seed)
    return spec.rest(Resume(task=TaskId(bytes(32)), seed=seed.hex(), step=step, state=BlobRef.of(raw), size=len(raw)))


async def honest_state(world: World, spec: TrainLora) -> bytes:
    """The checkpoint after update 5 of the run that `rest` goes on with."""
    whole = rest(spec, b"x")
    assert whole.resume is not None
    folder = world.folder / "dataset"
    inputs = TrainingInputs(spec, None, folder, None, BlobRef(bytes(32)), bytes.fromhex(whole.resume.seed))
    trainer = FakeTrainer(inputs)
    for step in range(5):
        trainer.update(step)
    path = world.folder / "state.safetensors"
    write_state(path, trainer.state(5))
    return path.read_bytes()


async def test_the_rest_of_a_run_is_done_and_paid(world: World) -> None:
    node = await world.add_node(runner=TrainingThreadExecutor(), **TRAINS)
    spec = await training(world)
    raw = await honest_state(world, spec)
    await world.blobs.put(raw)
    terms = await world.submit(rest(spec, raw))
    await world.until(lambda: state_is(world, terms, TaskState.SETTLED))
    assert task_of(terms) not in world.board.parts
    entry = await node._journal.entry(task_of(terms))
    assert entry is not None
    assert entry.result is not None
    assert entry.result.profile["steps-done"] == "13"


async def test_a_rest_whose_checkpoint_nobody_serves_is_not_claimed(world: World) -> None:
    node = await world.add_node(runner=TrainingThreadExecutor(), **TRAINS)
    spec = await training(world)
    terms = await world.submit(rest(spec, b"a state that nobody has"))
    with anyio.fail_after(30):
        while not (await node.status()).refused:
            await world.turn()
    assert (await node.status()).refused == {"model-unavailable": 1}
    assert state_is(world, terms, TaskState.SUBMITTED)


async def test_the_part_of_a_rest_is_its_share_of_the_rest(world: World) -> None:
    await world.add_node(runner=TrainingThreadExecutor(FakeFaults(nan_at_step=11)), **TRAINS)
    spec = await training(world)
    raw = await honest_state(world, spec)
    await world.blobs.put(raw)
    terms = await world.submit(rest(spec, raw))
    await world.until(lambda: state_is(world, terms, TaskState.SETTLED))
    assert world.board.parts[task_of(terms)] == 5 * 10_000 // 8


def nan_state(path: Path) -> bytes:
    state = read_state(path)
    broken = {name: array * float("nan") for name, array in state.weights.items()}
    write_state(path, State(state.step, broken, state.first, state.second))
    return path.read_bytes()


@pytest.mark.parametrize(
    ("kind", "word"),
    [("pickle", "pickle"), ("nan", "not numbers"), ("larger", "larger than the task says"),
     ("smaller", "smaller than the task says"), ("step", "after update 5, not after update 10")],
)  # fmt: skip
async def test_a_hostile_checkpoint_is_refused_with_a_sentence_and_costs_nothing(
    kind: str, word: str, world: World
) -> None:
    node = await world.add_node(runner=TrainingThreadExecutor(), **TRAINS)
    spec = await training(world)
    raw = await honest_state(world, spec)
    if kind == "pickle":
        raw = b"\x80\x04" + raw
    if kind == "nan":
        raw = nan_state(world.folder / "state.safetensors")
    await world.blobs.put(raw)
    wanted = rest(spec, raw, step=10 if kind == "step" else 5)
    assert wanted.resume is not None
    size = {"larger": len(raw) - 1, "smaller": len(raw) + 1}.get(kind, len(raw))
    terms = await world.submit(spec.rest(wanted.resume.model_copy(update={"size": size})))
    await world.until(lambda: state_is(world, terms, TaskState.EXPIRED), turns=90)
    assert word in await said(node, terms)
    assert world.board.refunded[task_of(terms)] == terms.fee


@pytest.mark.parametrize(
    ("name", "data", "word"),
    [("pictures.safetensors", b"\x80\x04K\x01." * 9, "pickle"), ("pictures.safetensors", b"\xff" * 90, "header"),
     ("index.json", b"{}", "not a data set"), ("index.json", b"[" * 90, "not a data set")],
)  # fmt: skip
async def test_a_corrupt_data_set_is_refused_with_a_sentence_and_costs_nothing(
    name: str, data: bytes, word: str, world: World
) -> None:
    node = await world.add_node(runner=TrainingThreadExecutor(), **TRAINS)
    honest = ModelManifest.decode(await world.blobs.get(await dataset(world.blobs, world.folder), max_bytes=10**6))
    blob = await world.blobs.put(data)
    changed = {"blob": blob, "size": len(data)}
    files = tuple(one.model_copy(update=changed) if one.path == name else one for one in honest.files)
    forged = honest.model_copy(update={"files": files})
    await world.blobs.put(forged.encode())
    terms = await world.submit(await training(world, dataset=forged.ref))
    await world.until(lambda: state_is(world, terms, TaskState.EXPIRED), turns=90)
    assert word in await said(node, terms)
    assert world.board.refunded[task_of(terms)] == terms.fee
    assert world.board.balances.get(node.address, 0) == 0


def adapter(folder: Path, kind: str) -> bytes:
    """A LoRA to continue from, with something wrong."""
    rank = 5 if kind == "rank" else 4
    down, up = np.ones((rank, 8), np.float32), np.zeros((8, rank), np.float32)
    if kind == "nan":
        down[0, 0] = np.nan
    name = "unet.other" if kind == "layers" else "unet.fake"
    rows = [(f"{name}.lora_{side}.weight", "F32", one.shape, one.tobytes()) for side, one in (("A", down), ("B", up))]
    path = folder / "adapter.safetensors"
    write_tensors(path, rows)
    return b"\x80\x04" + path.read_bytes() if kind == "pickle" else path.read_bytes()


@pytest.mark.parametrize(
    ("kind", "word"), [("rank", "another rank"), ("nan", "not numbers"), ("layers", "network"), ("pickle", "pickle")]
)
async def test_a_hostile_lora_to_continue_from_is_refused_and_costs_nothing(kind: str, word: str, world: World) -> None:
    node = await world.add_node(runner=TrainingThreadExecutor(), **TRAINS)
    raw = adapter(world.folder, kind)
    blob = await world.blobs.put(raw)
    manifest = adapter_manifest("zbx", len(raw), blob, parent=None, licence="MIT")
    await world.blobs.put(manifest.encode())
    terms = await world.submit(await training(world, continue_from=Adapter(manifest=manifest.ref)))
    await world.until(lambda: state_is(world, terms, TaskState.EXPIRED), turns=90)
    assert word in await said(node, terms)
    assert world.board.refunded[task_of(terms)] == terms.fee


async def test_what_nobody_serves_is_waited_for_and_then_costs_nothing(world: World) -> None:
    node = await world.add_node(runner=TrainingThreadExecutor(), **TRAINS)
    told: list[ProgressEvent] = []
    node._progress._put = lambda task, stage, **fields: told.append((stage, fields.get("note", "")))  # type: ignore
    terms = await world.submit(await training(world, dataset=BlobRef(b"\x09" * 32)))
    await world.until(lambda: state_is(world, terms, TaskState.EXPIRED), turns=90)
    words = [note for stage, note in told if stage == "failed"]  # type: ignore[misc]
    assert len(words) == 1
    assert "cannot be had" in words[0]
    assert world.board.refunded[task_of(terms)] == terms.fee


async def test_checkpoints_are_shared_signed_and_cleared_away(world: World) -> None:
    executor, engine = TrainingThreadExecutor(), Gated(7)
    executor.engine = engine
    node = await world.add_node(runner=executor, **TRAINS)
    told: list[tuple[TaskId, KeptCheckpoint, int]] = []
    node._progress.checkpoint = lambda *said: told.append(said)  # type: ignore[method-assign]
    terms = await world.submit(await training(world, steps=20))
    await until_reached(world, engine)
    with anyio.fail_after(30):
        while not told:
            await anyio.lowlevel.checkpoint()
    task, kept, total = told[0]
    assert (task, kept.step, total) == (task_of(terms), 5, 20)
    assert (
        signer_of(kept.digest(CHAIN_ID, BOARD, task), bytes.fromhex(kept.signature)) == world.chains[0].wallet.address
    )
    assert (await world.blobs.size(kept.state)) == kept.size
    engine.go_on.set()
    await world.until(lambda: state_is(world, terms, TaskState.COMMITTED))
    with anyio.fail_after(30):
        while any([await world.blobs.has(one.state) for _, one, _ in told]):
            await anyio.lowlevel.checkpoint()


class SlowStore:
    """A store in which a put takes until the test lets it."""

    def __init__(self, blobs: LocalBlobs) -> None:
        self.blobs = blobs
        self.begun, self.go_on = anyio.Event(), anyio.Event()

    async def put(self, source: Any) -> BlobRef:
        self.begun.set()
        await self.go_on.wait()
        return await self.blobs.put(source)


async def test_a_checkpoint_that_is_on_its_way_when_its_task_ends_is_not_left(world: World) -> None:
    store, told = SlowStore(world.blobs), list[Any]()
    progress: Any = SimpleNamespace(checkpoint=lambda *said: told.append(said))
    sharer = CheckpointSharer(store, world.blobs, progress, lambda *_: None, every_s=0)  # type: ignore[arg-type,return-value]
    path = world.folder / "one.safetensors"
    path.write_bytes(b"a state")
    task = TaskId(bytes(32))
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(sharer.run)
            sharer.offer(task, path, 5, 20)
            await store.begun.wait()
            sharer.offer(task, path, 10, 20)
            sharer.forget(task)
            store.go_on.set()
            await anyio.wait_all_tasks_blocked()
            while await world.blobs.has(BlobRef.of(b"a state")):
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
    assert told == []
