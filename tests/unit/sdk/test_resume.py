"""What a requester makes of a lost node's checkpoints: the newest good one, the chain's seed, a share of the fee."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gesso.blobs import LocalBlobs
from gesso.chain.events import TaskClaimed
from gesso.chain.records import Done
from gesso.checkpointfile import State, check_state, write_state
from gesso.outcome import Result
from gesso.receipt import Origin, Receipt
from gesso.rests import nonce_of_rest
from gesso.resume import rest_of_run, share_of_fee
from gesso.training import MAX_RESUMES, AsyncTraining
from gesso_protocol.errors import (
    FeeTooLow,
    ModelInvalid,
    NoEligibleNode,
    ShareContradicted,
    StateDoubtful,
    TaskFailed,
    WorkRejected,
)
from gesso_protocol.events import Checkpoint, Claimed
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import Address, BlobRef, ListingId, Root, TaskId
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.manifest import FileEntry, ModelManifest
from gesso_protocol.money import Wei
from gesso_protocol.spec import TrainLora
from gesso_protocol.training.checkpoint import KeptCheckpoint, Resume, most_state_bytes
from gesso_protocol.training.draws import run_seed
from gesso_protocol.training.presets import make_training

pytestmark = pytest.mark.anyio
NODE, OTHER = Address("0x" + "11" * 20), Address("0x" + "12" * 20)
TASK, NEXT = TaskId(b"\x02" * 32), TaskId(b"\x03" * 32)
SPEC = make_training("gesso-tiny@1", dataset=BlobRef(bytes(32)), steps=100)
CLAIM = Claimed(task=TASK, at_ms=1, node=NODE, commit_by=160)
SEED = run_seed(keccak256(b"gesso/train/1/no-beacon" + TASK.value), TASK.value, SPEC.seed)


class World:
    """A store, a relay's memory and a task whose node was lost."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = LocalBlobs(folder / "blobs")
        self.remembered: KeptCheckpoint | None = None
        self.told: list[Checkpoint] = []
        directory = SimpleNamespace(checkpoint_of=self._remembered)
        self.ports: Any = SimpleNamespace(
            blobs=self.blobs, directory=directory, chain=SimpleNamespace(arbiter=None), can_send=True
        )
        self.state = TaskState.EXPIRED
        self.sent: list[str] = []
        self.task: Any = self.lost(TASK)

    def lost(self, task: TaskId, problem: TaskFailed | None = None, claim: Claimed | None = CLAIM) -> Any:
        async def result(**_: object) -> None:
            raise problem or TaskFailed("node did not deliver in time")

        async def status() -> object:
            return SimpleNamespace(state=self.state)

        terms = SimpleNamespace(commit_window_s=60, fee=Wei(1000))

        async def verb(name: str) -> None:
            self.sent.append(name)

        return SimpleNamespace(id=task, terms=terms, checkpoints=self.told, claim=claim, committed=False,
                               stop_requested=False, result=result, status=status,
                               stop=lambda: verb("stop"), cancel=lambda: verb("cancel"))  # fmt: skip

    async def _remembered(self, task: TaskId, node: Address) -> KeptCheckpoint | None:
        return self.remembered if (task, node) == (TASK, NODE) else None

    async def keep(
        self,
        step: int,
        *,
        says: int | None = None,
        by: Address = NODE,
        put: bool = True,
        value: float = 1,
        seed: bytes = SEED,
    ) -> BlobRef:
        """The node tells of a checkpoint; `says` is after which update, if not the truth."""
        one = {"w": np.full((SPEC.rank, 2), value, np.float32)}
        path = self.folder / f"{step}.safetensors"
        write_state(path, State(step, one, one, {"w": np.ones((SPEC.rank, 2), np.float32)}))
        raw = path.read_bytes()
        if put:
            await self.blobs.put(raw)
        ref = BlobRef.of(raw)
        self.told.append(
            Checkpoint(
                task=TASK, at_ms=1, node=by, index=says or step, total=100, state=ref, size=len(raw), seed=seed.hex()
            )
        )
        return ref


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def found(world: World, spec: TrainLora = SPEC) -> Resume | None:
    rest = await rest_of_run(world.ports, world.task, spec, CLAIM)
    if rest is None:
        return None
    assert rest.run == spec.run
    return rest.resume


async def test_the_newest_checkpoint_is_taken_and_the_seed_is_the_chains(world: World) -> None:
    await world.keep(20)
    newest = await world.keep(40)
    resume = await found(world)
    assert resume is not None
    assert (resume.step, resume.state, resume.task, resume.seed) == (40, newest, TASK, SEED.hex())


async def test_what_is_no_checkpoint_of_this_run_is_passed_over(world: World) -> None:
    good = await world.keep(20)
    await world.keep(40, put=False)  # nobody has it
    await world.keep(41, says=60)  # another place
    await world.keep(80, value=float("nan"))
    await world.keep(33)  # between checkpoints
    await world.keep(60, seed=bytes(32))  # of another run: the claim was in another block
    await world.keep(100)  # nothing is left
    await world.keep(99, by=OTHER)  # somebody else's word
    rubbish = await world.blobs.put(b"\x80\x04 a pickle")
    world.told.append(
        Checkpoint(task=TASK, at_ms=1, node=NODE, index=60, total=100, state=rubbish, size=11, seed=SEED.hex())
    )
    world.told.append(
        Checkpoint(task=TASK, at_ms=1, node=NODE, index=60, total=100, state=good, size=3, seed=SEED.hex())
    )
    resume = await found(world)
    assert resume is not None
    assert (resume.step, resume.state) == (20, good)


async def test_a_checkpoint_that_is_larger_than_its_base_allows_is_not_fetched(world: World) -> None:
    await world.keep(20)
    entry = FileEntry(path="unet/model.safetensors", size=10**7, blob=BlobRef(bytes(32)))
    base = ModelManifest(name="tiny", version=1, kind="base", licence="MIT", files=(entry,))
    await world.blobs.put(base.encode())
    spec = SPEC.changed(model_manifest=base.ref)
    world.told.append(world.told[0].model_copy(update={"index": 40, "size": 6 * 32 * 1024**2 + 1}))
    asked: list[int] = []
    fetch = world.blobs.fetch
    world.blobs.fetch = lambda ref, path, max_bytes: asked.append(max_bytes) or fetch(ref, path, max_bytes=max_bytes)  # type: ignore[method-assign]
    resume = await found(world, spec)
    assert resume is not None
    assert (resume.step, asked) == (20, [world.told[0].size])


async def test_a_pace_that_is_too_good_is_not_gone_on_with_by_itself(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = SPEC.resolution**2 * SPEC.passes(60) / 2 / 10**6 / world.task.terms.commit_window_s
    monkeypatch.setattr("gesso_protocol.training.haste.FASTEST_MEGAPIXEL_STEPS_S", most)
    newest = await world.keep(80)
    desk = Desk(world)
    with pytest.raises(StateDoubtful, match="80 updates in 60 s are more than") as caught:
        await AsyncTraining(world.ports, world.task, SPEC, desk).result()
    assert caught.value.hint == f"go on from its checkpoint all the same: gesso train --resume {TASK} --trust-state"
    assert desk.orders == []
    trusted = AsyncTraining(world.ports, world.task, SPEC, Desk(world, further=False), trust_state=True)
    with pytest.raises(TaskFailed, match="did not deliver"):
        await trusted.result()
    assert trusted.spec.resume is not None
    assert trusted.spec.resume.state == newest
    older = await world.keep(40)
    resume = await found(world)
    assert resume is not None
    assert resume.state == older, "what can be believed is gone on from without asking"


@pytest.mark.parametrize(
    ("shape", "word"),
    [((3, 2), "no layer of rank"), ((16,), "no layer"), ((2, 2, 16, 2), "no layer"), ((16, 1 << 19), "no layer"),
     ((16, 2), ""), ((2, 16), ""), ((16, 2, 3, 3), ""), ((2, 16, 1, 1), "")],
)  # fmt: skip
def test_a_state_is_held_to_its_rank_before_a_tensor_is_read(shape: tuple[int, ...], word: str, tmp_path: Path) -> None:
    one, path = {"w": np.zeros(shape, np.float32)}, tmp_path / "state"
    write_state(path, State(20, one, one, one))
    if not word:
        check_state(path, step=20, rank=16)
        return
    with pytest.raises(ModelInvalid, match=word):
        check_state(path, step=20, rank=16)


@pytest.mark.parametrize(
    ("part", "value", "word"), [(0, np.nan, "not numbers"), (1, np.inf, "not numbers"), (2, -1.0, "below zero")]
)
def test_every_number_of_a_state_is_looked_at(part: int, value: float, word: str, tmp_path: Path) -> None:
    parts = [{name: np.ones((16, 2), np.float32) for name in "ab"} for _ in range(3)]
    parts[part]["b"][15, 1] = value
    write_state(tmp_path / "state", State(20, *parts))
    with pytest.raises(ModelInvalid, match=word):
        check_state(tmp_path / "state", step=20, rank=16)
    with pytest.raises(ModelInvalid, match="after update 20"):
        check_state(tmp_path / "state", step=40, rank=16)


class Delivered:
    """A rest that was done. Its chain knows who had claimed the run's first task."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.receipts: list[Any] = []
        self.asked: list[TaskId] = []

        async def fetch(_: Any, result: Any) -> Any:
            self.receipts.append(result.receipt)

        async def course(task: TaskId) -> Any:
            self.asked.append(task)
            return (
                TaskClaimed.model_construct(task=task, node=OTHER),
                TaskClaimed.model_construct(task=task, node=NODE),
            )

        async def done_of(_: TaskId) -> Done:
            return Done(bps=10_000, stop_requested=True)

        world.ports.chain.course_of, world.ports.chain.done_of = course, done_of
        monkeypatch.setattr("gesso.training.fetch_adapter", fetch)

    def task(self, world: World, nonce: int = 0) -> Any:
        task = world.lost(NEXT)
        receipt = Receipt.model_construct(node=NODE, profile={"steps-done": "100"}, resumed=None)
        task.result = given(Result((), receipt, {}))
        task.terms.nonce = nonce
        return task


async def test_a_result_says_whose_work_it_goes_on_with(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    state = await world.keep(80)
    told = Delivered(world, monkeypatch)

    class Done(Desk):
        async def order(self, spec: TrainLora, *, lost: TaskId, share: Wei) -> Any:
            return told.task(world)

    run = AsyncTraining(world.ports, world.task, SPEC, Done(world))
    await run.result()
    origin = Origin(run=TASK, step=80, state=state, lost=TASK, node=NODE)
    assert [one.resumed for one in told.receipts] == [origin]
    assert told.asked == []
    rest, unseen = run.spec, origin.model_copy(update={"lost": None, "node": None})
    for nonce, found in ((nonce_of_rest(TASK), origin), (7, unseen)):
        again = AsyncTraining(world.ports, told.task(world, nonce), rest, Desk(world))
        await again.result()
        assert told.receipts[-1].resumed == found
    assert told.asked == [TASK]
    await AsyncTraining(world.ports, told.task(world), SPEC, Desk(world)).result()
    assert told.receipts[-1].resumed is None


async def test_a_node_that_was_lost_before_its_first_checkpoint_vouches_for_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.keep(80)
    told = Delivered(world, monkeypatch)
    second = world.lost(NEXT, claim=Claimed(task=NEXT, at_ms=1, node=OTHER, commit_by=160))

    class Twice(Desk):
        async def order(self, spec: TrainLora, *, lost: TaskId, share: Wei) -> Any:
            return told.task(world) if lost == NEXT else second

    run = AsyncTraining(world.ports, world.task, SPEC, Twice(world))
    await run.result()
    assert (told.receipts[0].resumed.lost, told.receipts[0].resumed.node) == (TASK, NODE)


def test_a_result_without_pictures_says_why() -> None:
    receipt = Receipt.model_construct(profile={"stopped": "the data set is none"})
    with pytest.raises(TaskFailed, match="the data set is none"):
        _ = Result((), receipt, {}).image


def test_a_receipt_says_whom_it_goes_on_from() -> None:
    origin = Origin(run=TASK, step=80, state=BlobRef(bytes(32)), lost=TASK, node=NODE)
    receipt = Receipt(
        task=NEXT, chain_id=1, requester=OTHER, node=OTHER, model="m@1", listing=ListingId(1), model_manifest=None,
        spec=BlobRef(bytes(32)), result=BlobRef(bytes(32)), result_root=Root(bytes(32)), trace_root=Root(bytes(32)),
        executor="fake", fee=Wei(1), resumed=origin,
    )  # fmt: skip
    assert f"resumed   after update 80 of {TASK}, on the word of node {NODE}" in receipt.summary()
    assert Receipt.model_validate_json(receipt.model_dump_json()) == receipt


@pytest.mark.parametrize(("base", "most"), [(0, 192 << 20), (10**9, 6 * 10**9), (10**10, 8 << 30)])
def test_how_large_a_state_can_be(base: int, most: int) -> None:
    assert most_state_bytes(base) == most


async def test_a_relay_remembers_for_who_was_away(world: World) -> None:
    ref = await world.keep(40)
    size = world.told.pop().size
    assert await found(world) is None
    world.remembered = KeptCheckpoint(state=ref, step=40, size=size, seed=SEED.hex(), signature="00" * 65)
    resume = await found(world)
    assert resume is not None
    assert resume.step == 40


async def test_a_rest_is_handed_on_with_the_runs_own_seed(world: World) -> None:
    old = Resume(task=NEXT, seed="ab" * 32, step=40, state=BlobRef(bytes(32)), size=1)
    await world.keep(40)
    assert await found(world, SPEC.rest(old)) == old, "no step further than it began, and not lost either"
    await world.keep(60, seed=bytes.fromhex("ab" * 32))
    await world.keep(80)  # its node signs for what the run draws from, not the task
    resume = await found(world, SPEC.rest(old))
    assert resume is not None
    assert (resume.task, resume.seed, resume.step) == (NEXT, "ab" * 32, 60)


def test_the_share_is_what_is_left_rounded_up() -> None:
    rest = SPEC.rest(Resume(task=TASK, seed="ab" * 32, step=40, state=BlobRef(bytes(32)), size=1))
    later = SPEC.rest(Resume(task=TASK, seed="ab" * 32, step=80, state=BlobRef(bytes(32)), size=1))
    assert share_of_fee(Wei(1001), SPEC, rest) == 601
    assert share_of_fee(Wei(601), rest, later) == 201


class Desk:
    """Takes what is ordered again."""

    def __init__(self, world: World, problem: Exception | None = None, *, further: bool = True) -> None:
        self.world = world
        self.problem = problem
        self.further = further
        """Whether the next node gets one checkpoint further before it is lost too."""
        self.orders: list[tuple[TrainLora, Wei]] = []
        self.before: dict[TaskId, Any] = {}
        """What was ordered in another session."""

    async def ordered(self, lost: TaskId) -> Any:
        return self.before.pop(lost, None)

    async def order(self, spec: TrainLora, *, lost: TaskId, share: Wei) -> Any:
        if self.problem is not None:
            raise self.problem
        self.orders.append((spec, share))
        if self.further:
            await self.world.keep(spec.first_step + spec.checkpoint_every)
        return self.world.lost(NEXT)


async def test_it_goes_on_a_few_times_and_then_gives_up(world: World) -> None:
    await world.keep(10)
    desk = Desk(world)
    run = AsyncTraining(world.ports, world.task, SPEC.changed(checkpoint_every=10), desk)
    with pytest.raises(TaskFailed, match="did not deliver"):
        await run.result()
    assert [spec.first_step for spec, _ in desk.orders] == [10, 20, 30][:MAX_RESUMES]


async def test_what_was_asked_to_stop_does_not_go_on_elsewhere(world: World) -> None:
    await world.keep(20)
    desk = Desk(world)
    run = AsyncTraining(world.ports, world.task, SPEC, desk)
    for state in (TaskState.SUBMITTED, TaskState.CLAIMED):
        world.state = state
        await run.stop()
    assert world.sent == ["cancel", "stop"]
    world.state = TaskState.EXPIRED
    with pytest.raises(TaskFailed, match="did not deliver"):
        await run.result()
    assert desk.orders == []


async def test_a_stop_that_was_asked_for_elsewhere_is_remembered(world: World) -> None:
    await world.keep(20)
    desk = Desk(world)
    world.task.stop_requested = True
    with pytest.raises(TaskFailed, match="did not deliver"):
        await AsyncTraining(world.ports, world.task, SPEC, desk, unclaimed_too=True).result()
    assert desk.orders == []


async def test_nodes_that_die_before_their_first_checkpoint_leave_the_run_where_it_was(world: World) -> None:
    await world.keep(80)
    desk = Desk(world, further=False)
    with pytest.raises(TaskFailed, match="did not deliver"):
        await AsyncTraining(world.ports, world.task, SPEC, desk).result()
    assert [(spec.first_step, share) for spec, share in desk.orders] == [(80, 200), (80, 1000), (80, 1000)]


async def test_a_run_that_never_came_to_a_checkpoint_is_not_begun_again(world: World) -> None:
    desk = Desk(world)
    with pytest.raises(TaskFailed, match="did not deliver"):
        await AsyncTraining(world.ports, world.task, SPEC, desk, unclaimed_too=True).result()
    assert desk.orders == []


async def test_what_was_ordered_before_is_followed_and_not_paid_for_again(world: World) -> None:
    await world.keep(20)
    resume = await found(world)
    desk, elsewhere = Desk(world), world.lost(NEXT, WorkRejected("an audit found it bad"))
    elsewhere.committed = True
    elsewhere.spec = given(SPEC.rest(resume) if resume else SPEC)
    desk.before[TASK] = elsewhere
    run = AsyncTraining(world.ports, world.task, SPEC, desk)
    with pytest.raises(WorkRejected):
        await run.result()
    assert (desk.orders, run.id, run.spec.first_step) == ([], NEXT, 20)


async def test_another_run_is_not_taken_for_the_rest(world: World) -> None:
    desk, elsewhere = Desk(world), world.lost(NEXT)
    elsewhere.spec = given(SPEC.changed(seed=SPEC.seed + 1))
    desk.before[TASK] = elsewhere
    with pytest.raises(TaskFailed, match="another run"):
        await AsyncTraining(world.ports, world.task, SPEC, desk).result()
    assert desk.orders == []


def given(value: object) -> Any:
    async def read(**_: object) -> object:
        return value

    return read


@pytest.mark.parametrize(
    "problem", [WorkRejected("an audit found it bad"), NoEligibleNode("nobody claimed it"), TaskFailed("cancelled")]
)
async def test_it_goes_on_only_when_a_node_was_lost(problem: TaskFailed, world: World) -> None:
    await world.keep(20)
    desk = Desk(world)
    claim = None if isinstance(problem, NoEligibleNode) else CLAIM
    world.state = TaskState.CANCELLED if "cancelled" in problem.message else TaskState.EXPIRED
    task = world.lost(TASK, problem, claim)
    task.committed = isinstance(problem, WorkRejected)
    with pytest.raises(type(problem), match=problem.message):
        await AsyncTraining(world.ports, task, SPEC, desk).result()
    assert desk.orders == []


async def test_a_rest_that_nobody_claimed_is_ordered_again_by_hand(world: World) -> None:
    desk = Desk(world, further=False)
    task = world.lost(TASK, NoEligibleNode("nobody claimed it"), None)
    with pytest.raises(TaskFailed):
        await AsyncTraining(world.ports, task, SPEC, desk, unclaimed_too=True).result()
    assert desk.orders == [(SPEC, Wei(1000))]


async def test_a_rest_that_costs_too_much_says_so_and_how_to_go_on(world: World) -> None:
    await world.keep(20)
    run = AsyncTraining(world.ports, world.task, SPEC, Desk(world, FeeTooLow("9 is asked and at most 8 is allowed")))
    with pytest.raises(TaskFailed, match="at most 8 is allowed") as caught:
        await run.result()
    assert f"gesso train --resume {TASK}" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("claimed", "said", "fault"),
    [(10_000, "100", False), (10_000, "80", True), (8000, "80", False), (8001, "80", True), (10_000, "eighty", True),
     (10_000, "", True), (1, "9" * 5000, True), (0, "-5", False)],
)  # fmt: skip
async def test_a_share_is_compared_with_what_the_result_says(
    claimed: int, said: str, *, fault: bool, world: World
) -> None:
    async def done_of(_: TaskId) -> Done:
        return Done(bps=claimed, stop_requested=True)

    world.ports.chain.done_of = done_of
    receipt: Any = SimpleNamespace(profile={"steps-done": said}, node=NODE)
    world.task.result = given(Result((), receipt, {}))
    run = AsyncTraining(world.ports, world.task, SPEC, Desk(world))
    for kind in (ShareContradicted, TaskFailed) if fault else (TaskFailed,):
        with pytest.raises(kind) as caught:
            await run.result()
        assert type(caught.value) is kind, "said once, then what is there can be had"
