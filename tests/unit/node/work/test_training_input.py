"""Trainings whose input is at fault: whatever a requester hands in, its money comes back and the node keeps its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gesso.chain.events import TaskClaimed, TaskCommitted
from gesso.checkpointfile import State, read_state, write_state
from gesso.tensorfile import write_tensors
from gesso.training import adapter_manifest
from gesso_node.executors.answers import failure
from gesso_node.executors.fake import FakeFaults
from gesso_node.executors.lora.fault import InputInvalid, from_requester
from gesso_node.executors.lora.host import TrainingThreadExecutor
from gesso_node.executors.messages import Failed, Loaded
from gesso_node.executors.port import Unfit
from gesso_node.executors.worker import _or_failed
from gesso_node.peer import Node
from gesso_node.tasks.intake import Intake
from gesso_node.work.workbench import INPUT_WAIT_S
from gesso_protocol.errors import ModelInvalid
from gesso_protocol.fields import Adapter
from gesso_protocol.ids import BlobRef
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.manifest import ModelManifest
from gesso_protocol.policy import Refusal
from gesso_protocol.result import ResultManifest
from gesso_protocol.terms import Terms
from gesso_protocol.training.share import late_from

from ..conftest import World
from ..trainings import (
    TRAINS,
    dataset,
    honest_state,
    refused,
    rest,
    said,
    state_is,
    task_of,
    training,
)

pytestmark = pytest.mark.anyio


async def nothing_comes(world: World, node: Node, terms: Terms, word: str) -> None:
    """A part of nothing is committed and settled: the money goes back, and nobody let anything expire."""
    await world.until(lambda: state_is(world, terms, TaskState.SETTLED), turns=90)
    assert word in await said(node, terms)
    assert world.board.parts[task_of(terms)] == 0
    assert world.board.refunded[task_of(terms)] == terms.fee
    assert world.board.balances[node.address] == 0
    assert [(verb, how) for verb, _, how in world.board.attempts] == [
        ("claim", "ok"),
        ("commit", "ok"),
        ("settle", "ok"),
    ]
    entry = await node._journal.entry(task_of(terms))
    assert entry is not None
    assert entry.result is not None
    assert word in entry.result.profile["stopped"]
    assert entry.result.nothing
    assert ResultManifest.decode(await world.blobs.get(entry.result.ref, max_bytes=10**5)) == entry.result
    assert not (node._workbench._traces.path(task_of(terms))).exists(), "nothing to keep either"


async def test_a_run_that_learns_nothing_costs_nothing(world: World) -> None:
    node = await world.add_node(runner=TrainingThreadExecutor(FakeFaults(nan_at_step=3)), **TRAINS)
    terms = await world.submit(await training(world))
    await nothing_comes(world, node, terms, "nothing was learnt: the loss was not a number in update 4")


@pytest.mark.parametrize("comes_back", [False, True])
async def test_what_is_gone_after_the_claim_is_waited_for_while_there_is_time(comes_back: bool, world: World) -> None:
    node = await world.add_node(runner=TrainingThreadExecutor(), **TRAINS)
    spec = await training(world)
    data = ModelManifest.decode(await world.blobs.get(spec.dataset, max_bytes=10**6))
    pictures = next(one.blob for one in data.files if one.path == "pictures.safetensors")
    raw = await world.blobs.get(pictures, max_bytes=10**6)
    chain = world.chains[0]

    async def claim(terms: Terms, **_: object) -> Any:
        world.blobs.remove(pictures)
        return chain._transact("claim", lambda: world.board.claim(chain.address, terms))

    chain.claim = claim  # type: ignore[method-assign]
    terms = await world.submit(spec)
    await world.until(lambda: state_is(world, terms, TaskState.CLAIMED))
    for _ in range(30):
        await world.turn()
    assert state_is(world, terms, TaskState.CLAIMED), "it may still come"
    if comes_back:
        await world.blobs.put(raw)
        await world.until(lambda: state_is(world, terms, TaskState.COMMITTED))
        assert task_of(terms) not in world.board.parts
        return
    await nothing_comes(world, node, terms, "is not in this directory")
    claimed = next(event for block in world.board.blocks for event in block if isinstance(event, TaskClaimed))
    committed = next(event for block in world.board.blocks for event in block if isinstance(event, TaskCommitted))
    begun = claimed.commit_by - terms.commit_window_s
    assert committed.settle_after - 5 >= late_from(begun, terms.commit_window_s)


async def test_what_is_gone_is_waited_for_no_longer_than_minutes_of_a_long_window(world: World) -> None:
    """Who gives hours and takes the data away would keep nodes from all other work, and from seats, for nothing."""
    node = await world.add_node(runner=TrainingThreadExecutor(), **TRAINS)
    chain, spec = world.chains[0], await training(world)
    data = ModelManifest.decode(await world.blobs.get(spec.dataset, max_bytes=10**6))

    async def claim(terms: Terms, **_: object) -> Any:
        world.blobs.remove(next(one.blob for one in data.files if one.path == "pictures.safetensors"))
        return chain._transact("claim", lambda: world.board.claim(chain.address, terms))

    chain.claim = claim  # type: ignore[method-assign]
    terms = await world.submit(spec, commit_window_s=86_400)
    await world.until(lambda: state_is(world, terms, TaskState.CLAIMED))
    begun = world.board.now
    while world.board.now < begun + INPUT_WAIT_S - 30:
        await world.turn(seconds=10)
    assert state_is(world, terms, TaskState.CLAIMED), "it may still come"
    await nothing_comes(world, node, terms, "is not in this directory")
    assert world.board.now < begun + INPUT_WAIT_S + 60


async def test_a_node_that_is_to_blame_itself_lets_the_task_expire(world: World) -> None:
    node = await world.add_node(runner=TrainingThreadExecutor(FakeFaults(crash_at_step=2)), **TRAINS)
    terms = await world.submit(await training(world))
    await world.until(lambda: state_is(world, terms, TaskState.EXPIRED), turns=90)
    assert "crash" in (await said(node, terms)).lower()


def nan_state(path: Path) -> bytes:
    state = read_state(path)
    broken = {name: array * float("nan") for name, array in state.weights.items()}
    write_state(path, State(state.step, broken, state.first, state.second))
    return path.read_bytes()


@pytest.mark.parametrize(
    ("kind", "word"),
    [("pickle", "pickle"), ("nan", "not numbers"), ("step", "after update 5, not after update 10")],
)
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
    wanted = rest(world, spec, raw, step=10 if kind == "step" else 5)
    terms = await world.submit(wanted)
    await nothing_comes(world, node, terms, word)


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
    await nothing_comes(world, node, terms, word)


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
    await nothing_comes(world, node, terms, word)


async def test_a_data_set_that_nobody_serves_is_waited_for_and_then_not_claimed(world: World) -> None:
    node = await world.add_node(runner=TrainingThreadExecutor(), **TRAINS)
    terms = await world.submit(await training(world, dataset=BlobRef(b"\x09" * 32)))
    assert await refused(world, node) == {"input-unavailable": 1}
    assert state_is(world, terms, TaskState.SUBMITTED)
    assert world.board.attempts == []


async def test_a_data_set_that_comes_late_is_claimed(world: World) -> None:
    await world.add_node(runner=TrainingThreadExecutor(), **TRAINS)
    spec = await training(world)
    raw = await world.blobs.get(spec.dataset, max_bytes=10**6)
    world.blobs.remove(spec.dataset)
    terms = await world.submit(spec)
    for _ in range(3):
        await world.turn()
    assert world.board.attempts == []
    await world.blobs.put(raw)
    await world.until(lambda: state_is(world, terms, TaskState.COMMITTED))


@pytest.mark.parametrize("wrong", ["kind", "files", "size", "too-large"])
async def test_a_data_set_that_cannot_be_one_is_not_claimed(wrong: str, world: World) -> None:
    node = await world.add_node(runner=TrainingThreadExecutor(), **TRAINS)
    honest = ModelManifest.decode(await world.blobs.get(await dataset(world.blobs, world.folder), max_bytes=10**6))
    pictures = next(one for one in honest.files if one.path == "pictures.safetensors")
    others = tuple(one for one in honest.files if one != pictures)
    size = {"size": pictures.size + 1, "too-large": 5 * 1024**3}.get(wrong, pictures.size)
    files = (*others, pictures.model_copy(update={"size": size}))
    forged = honest.model_copy(update={"files": others if wrong == "files" else files})
    if wrong == "kind":
        forged = forged.model_copy(update={"kind": "lora"})
    await world.blobs.put(forged.encode())
    terms = await world.submit(await training(world, dataset=forged.ref))
    assert await refused(world, node) == {"input-unavailable": 1}
    assert state_is(world, terms, TaskState.SUBMITTED)


@pytest.mark.parametrize(
    ("room", "free", "paid", "refusal"),
    [(600, 600, True, None), (599, 900, True, "here"), (900, 599, True, "disk has"), (600, 600, False, "checkpoints")],
)
async def test_a_run_whose_checkpoints_have_no_room_or_are_not_paid_is_not_claimed(
    room: int, free: int, paid: bool, refusal: str | None, world: World
) -> None:
    await world.add_node(runner=TrainingThreadExecutor(), **TRAINS)
    spec = rest(world, await training(world), b"x" * 100)
    await world.blobs.put(b"x" * 100)
    models = world.nodes[0]._models
    asked = []

    def pays(*order: object) -> bool:
        asked.append(order)
        return paid

    intake = Intake(
        world.chains[0].as_chain(),
        world.blobs,
        models,
        needs_model=False,
        room_bytes=room,
        free=lambda: free,
        pays=pays,
    )
    terms = await world.submit(spec)
    found = await intake.look(task_of(terms), spec, terms, spec.dataset)
    assert asked == [(spec, terms, 0)]
    assert (found is None) is (refusal is None)
    if found is not None and not paid:
        assert (found.refusal, found.passing) == (Refusal.PRICE_TOO_LOW, False)
        return
    if found is not None and refusal is not None:
        assert (found.refusal, found.passing) == (Refusal.DISK, free < 600)
        assert refusal in found.reason


@pytest.mark.parametrize("more", [1, -1])
async def test_a_state_of_another_size_is_not_claimed(more: int, world: World) -> None:
    node = await world.add_node(runner=TrainingThreadExecutor(), **TRAINS)
    spec = await training(world)
    raw = await honest_state(world, spec)
    await world.blobs.put(raw)
    wanted = rest(world, spec, raw)
    assert wanted.resume is not None
    resume = wanted.resume.model_copy(update={"size": len(raw) + more})
    terms = await world.submit(wanted.changed(resume=resume))
    assert await refused(world, node) == {"input-unavailable": 1}
    assert state_is(world, terms, TaskState.SUBMITTED)


@pytest.mark.parametrize(("error", "by_input"), [(InputInvalid("no picture"), True), (ModelInvalid("no base"), False)])
def test_a_child_says_whose_fault_it_is(error: ModelInvalid, by_input: bool) -> None:
    def work() -> Loaded:
        raise error

    failed = _or_failed(7, work)
    assert isinstance(failed, Failed)
    assert failure(failed, "") == Unfit(error.message, by_input=by_input)


def test_what_a_requester_brought_is_its_fault_however_deep_it_breaks() -> None:
    with pytest.raises(InputInvalid, match="pickle"), from_requester():
        raise ModelInvalid("a pickle")
    with pytest.raises(MemoryError), from_requester():
        raise MemoryError
