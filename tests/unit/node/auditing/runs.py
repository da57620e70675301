"""Trainings of the fake engine, honest and forged, opened as a node opens them and as it would rather open them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import anyio.to_thread
from PIL import Image

from gesso.blobs import LocalBlobs
from gesso.chain.arbiter import Filing
from gesso.chain.records import Done
from gesso.datasets import pack
from gesso.datasets.pictures import Shape
from gesso.runseed import seed_of_run
from gesso.training import put_bundle
from gesso_node.auditing.ask import Asker, NotOpenedError, Phase, Wanted
from gesso_node.auditing.assignment import RunAssignment
from gesso_node.auditing.shelf import Shelf
from gesso_node.auditing.trainings import TrainingWork
from gesso_node.executors.fake import FakeEngine, FakeFaults
from gesso_node.executors.lora.host import TrainingThreadExecutor
from gesso_node.executors.lora.port import Trained
from gesso_node.executors.lora.runfolder import checkpoint_file
from gesso_node.models.cache import ModelCache
from gesso_node.traces.handed import Handed
from gesso_node.traces.opened_run import OwnRun
from gesso_node.work.checkpoints import CheckpointSharer
from gesso_node.work.run_bench import RunBench
from gesso_node.work.training import TrainingDesk, TrainingOrder
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.hashing import keccak256, sha256
from gesso_protocol.ids import Address, BlobRef, TaskId
from gesso_protocol.messages import OpenReply
from gesso_protocol.money import Wei
from gesso_protocol.result import ResultManifest, result_root
from gesso_protocol.spec import TrainLora, spec_ref
from gesso_protocol.terms import Terms
from gesso_protocol.trace import Binding, Slot, trace_root
from gesso_protocol.training.checkpoint import Resume
from gesso_protocol.training.openings import RunLeaf, RunOpenings
from gesso_protocol.training.presets import make_training

from .courts import ChainDouble
from .traces import BOARD, MODEL, NODE, REQUESTER

COLOURS = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)]
WHOLE = Done(bps=10_000, stop_requested=False)
TASK = TaskId(keccak256(b"training"))
Change = Callable[[RunLeaf, bytes], bytes]
"""A leaf and its bytes to other bytes."""


class Told(Asker):
    """An asker that knows one node's answers; blobs lie in one store."""

    def __init__(self, blobs: LocalBlobs, answers: Mapping[str, bytes], result: ResultManifest | None) -> None:
        super().__init__(NODE, blobs, None, None, ())
        self._answers = answers
        self._result = result

    async def _asked(self, assignment: Wanted, phase: Phase) -> tuple[OpenReply, bytes]:
        data, wanted = self._answers.get(phase), assignment
        if data is None:
            raise NotOpenedError("the node says busy")
        root = wanted.filing.trace_root
        return OpenReply(task=wanted.task, phase=phase, trace_root=root, bundle=BlobRef.of(data)), data

    async def result(self, task: TaskId, filing: Filing, hint: BlobRef | None) -> ResultManifest | None:
        return self._result


@dataclass(frozen=True)
class Run:
    """A training as its node could open it. `bench` is the auditor's."""

    own: OwnRun
    assignment: RunAssignment
    result: ResultManifest
    blobs: LocalBlobs
    bench: RunBench
    folder: Path

    @cached_property
    def handed(self) -> Handed:
        """What the node makes of files that it opens."""
        return Handed(self.blobs, self.blobs)

    async def answers(self, changes: Mapping[Slot, Change] | None = None) -> tuple[RunAssignment, dict[str, bytes]]:
        """What the node opens in both phases; with changes, as if it had committed to the changed bytes."""
        layout, leaves = self.own.trace.layout, {}
        for slot in layout.slots():
            leaf = await self.own.leaf(slot, self.handed)
            path = self.own.trace.path(slot)
            change = (changes or {}).get(slot)
            if change is not None:
                leaf = await self._changed(leaf, change(leaf, b"" if path is None else path.read_bytes()))
            leaves[slot] = leaf
        tree = [self.assignment.run.salted_leaf(slot, leaf.digest, leaf.salt) for slot, leaf in leaves.items()]
        filing = replace(self.assignment.filing, trace_root=trace_root(tree))
        inputs = self.own.inputs(self.assignment.challenge)
        opened = {
            "inputs": RunOpenings.encode([leaves[slot] for slot in inputs], tree, layout),
            "outputs": RunOpenings.encode(list(leaves.values()), tree, layout),
        }
        return replace(self.assignment, filing=filing), opened

    async def _changed(self, leaf: RunLeaf, data: bytes) -> RunLeaf:
        if leaf.blob is not None:
            return RunLeaf.file(leaf.slot, leaf.salt, sha256(data), await self.blobs.put(data), len(data))
        if leaf.data:
            return RunLeaf.inline(leaf.slot, leaf.salt, data)
        return RunLeaf(leaf.slot, leaf.salt, data)

    async def seed(self) -> bytes:
        """What the run drew its numbers from."""
        spec = self.assignment.spec
        return await seed_of_run(ChainDouble(NODE, arbiter=None).as_chain(), spec, TASK, 0)

    def work(
        self, assignment: RunAssignment, answers: Mapping[str, bytes], *, result: ResultManifest | None = None
    ) -> TrainingWork:
        """A fresh auditor's or juror's."""
        folder = self.folder / f"work-{len(list(self.folder.iterdir()))}"
        shelf = Shelf(folder, self.blobs, budget_bytes=1 << 30)
        return TrainingWork(assignment, Told(self.blobs, answers, result), self.bench, self.seed, self.blobs, shelf)


async def train(
    folder: Path, *, cheat: str | None = None, draw: int = 0, share: Done = WHOLE, engine: FakeEngine | None = None,
    looks: FakeEngine | None = None, rest_from: int = 0, **fields: Any,
) -> Run:  # fmt: skip
    """Train on flat pictures, or do what a cheat does; challenge number `draw`. `engine` trains, `looks` audits.

    With `rest_from` an honest node did the run up to that checkpoint and was lost, and this is the rest of it.
    """
    pictures = [(Image.new("RGB", (64, 64), colour), f"picture {at} of zbx") for at, colour in enumerate(COLOURS)]
    bundle = await anyio.to_thread.run_sync(pack, pictures, folder / "data", Shape(64, 16))
    blobs = LocalBlobs(folder / "blobs")
    await put_bundle(blobs, bundle)
    small = {"steps": 50, "checkpoint_every": 10, "batch": 2, "rank": 4, "alpha": 4, **fields}
    spec = make_training("gesso-tiny@1", dataset=bundle.ref, **small)
    if rest_from:
        spec = await _rest(_desk(folder / "lost", TrainingThreadExecutor(), blobs), spec, rest_from, folder / "first")
    made, auditor = TrainingThreadExecutor(FakeFaults(cheat=cheat)), TrainingThreadExecutor()
    made.engine, auditor.engine = engine, looks
    outcome, result = await _trained(_desk(folder / "node", made, blobs), spec, folder / "out")
    own = OwnRun.read(None, folder / "out", spec, _binding())  # type: ignore[arg-type]
    terms = Terms(
        requester=REQUESTER, fee=Wei(10**16), spec=spec_ref(spec), kind=2, claim_window_s=60, commit_window_s=60,
        nonce=1,
    )  # fmt: skip
    filing = Filing(terms, NODE, result_root(result), outcome.trace_root)
    drawn = keccak256(b"challenge" + draw.to_bytes(4, "big"))
    assignment = RunAssignment(_binding(), filing, spec, MODEL, drawn, AuditRules(), share)
    return Run(own, assignment, result, blobs, _desk(folder / "auditor", auditor, blobs).bench, folder)


async def _rest(desk: TrainingDesk, spec: TrainLora, number: int, out: Path) -> TrainLora:
    """What is left of a run from its checkpoint `number` on."""
    await _trained(desk, spec, out)
    path = checkpoint_file(out, number)
    state = await desk._blobs.put(path)
    seed = await seed_of_run(ChainDouble(NODE, arbiter=None).as_chain(), spec, TASK, 0)
    step = number * spec.checkpoint_every
    return spec.rest(Resume(task=TASK, seed=seed.hex(), step=step, state=state, size=path.stat().st_size))


async def _trained(desk: TrainingDesk, spec: TrainLora, out: Path) -> tuple[Trained, ResultManifest]:
    order = TrainingOrder(TASK, spec, MODEL, 0, _binding(), out, 60.0)
    outcome = await desk.run(order, lambda _: None)
    assert isinstance(outcome, Trained), outcome
    return outcome, await desk.publish(order, outcome, NODE)


def _desk(folder: Path, executor: TrainingThreadExecutor, blobs: LocalBlobs) -> TrainingDesk:
    models = ModelCache(folder / "models", blobs, budget_bytes=10**9)
    chain = ChainDouble(NODE, arbiter=None).as_chain()
    sharer = CheckpointSharer(blobs, None, None, None, every_s=0)  # type: ignore[arg-type]
    return TrainingDesk(chain=chain, executor=executor, models=models, blobs=blobs, needs_model=False, sharer=sharer)


def _binding() -> Binding:
    return Binding(31337, Address(BOARD), TASK, NODE, bytes(32))
