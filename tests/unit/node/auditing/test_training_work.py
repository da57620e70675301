"""A training before auditor and juror: honest runs pass with both, every cheat is proof, nothing opened crashes."""

from __future__ import annotations

import errno
import json
import pickle
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gesso.chain.records import Done
from gesso.checkpointfile import State, read_state, write_state
from gesso.tensorfile import open_tensors, write_tensors
from gesso_node.auditing import run_files
from gesso_node.auditing.ask import NotOpenedError
from gesso_node.auditing.inspect import CannotRunError
from gesso_node.auditing.work import NO_PROJECTION, Finding
from gesso_node.executors.cheats import TRAINING_CHEATS
from gesso_node.executors.fake import FakeEngine, FakeFaults
from gesso_node.executors.lora.fake_trainer import FakeTrainer
from gesso_node.executors.lora.port import TrainingInputs
from gesso_node.executors.lora.trainer import Trainer
from gesso_node.traces import opened_run
from gesso_protocol.audit.outcomes import Ballot
from gesso_protocol.audit.projection import differ, unpack
from gesso_protocol.audit.verdict import Decision, vote
from gesso_protocol.ids import BlobRef
from gesso_protocol.manifest import ModelManifest
from gesso_protocol.trace import LeafKind, Slot
from gesso_protocol.training.audit import segments_to_check
from gesso_protocol.training.openings import RunLeaf
from gesso_protocol.training.share import share_of
from gesso_protocol.training.trace import TrainingFacts

from .runs import Change, Run, train

pytestmark = pytest.mark.anyio
BEYOND_THE_FAKE = {"higher-rate", "base-int8"}
MANIFEST, DATASET, BEGIN, FILE = (
    Slot(kind) for kind in (LeafKind.MANIFEST, LeafKind.DATASET, LeafKind.CHECKPOINT, LeafKind.FILE)
)


async def audited(run: Run, changes: dict[Slot, Change] | None = None, **options: Any) -> tuple[bytes, Finding]:
    """What an auditor seals, and what it finds when everything is open."""
    assignment, answers = await run.answers(changes)
    work = run.work(assignment, answers, **options)
    await work.ready(seconds=60)
    own = await work.compute(await work.opened("inputs", 60), seconds=60)
    finding = await work.examine(await work.opened("outputs", 60), own, strict=False, seconds=60)
    return own.projection, finding


async def judged(run: Run, changes: dict[Slot, Change] | None = None) -> Finding:
    """What a juror finds."""
    assignment, answers = await run.answers(changes)
    work = run.work(assignment, answers, result=run.result)
    await work.ready(seconds=60)
    return await work.examine(await work.opened("outputs", 60), None, strict=True, seconds=60)


async def test_an_honest_training_passes_before_auditor_and_juror(tmp_path: Path) -> None:
    for draw in range(3):
        run = await train(tmp_path / str(draw), draw=draw)
        sealed, finding = await audited(run, result=run.result)
        assert finding.verdict.decision is Decision.PASS, finding.verdict
        assert finding.verdict.reasons == ()
        assert finding.verdict.max_error_of_limit <= 1 / 3
        assert finding.projection == sealed != NO_PROJECTION
        assert finding.profile == "fp32/fake"
        juror = await judged(run)
        assert vote(juror.verdict) is Ballot.GOOD
        assert juror.projection is not None
        assert differ(unpack(juror.projection), unpack(sealed)) <= 1


async def test_a_run_that_goes_on_from_a_lora_and_one_of_a_single_segment_pass_too(tmp_path: Path) -> None:
    run = await train(tmp_path / "short", steps=3)
    assert (await audited(run))[1].verdict.decision is Decision.PASS


async def test_the_rest_of_a_run_passes_from_the_state_that_it_was_given(tmp_path: Path) -> None:
    for draw in range(2):
        run = await train(tmp_path / str(draw), rest_from=2, draw=draw)
        sealed, finding = await audited(run, result=run.result)
        assert finding.verdict.decision is Decision.PASS, finding.verdict
        assert finding.projection == sealed != NO_PROJECTION
        assert run.own.trace.layout.steps == 3, "its own segments only"
        assert vote((await judged(run)).verdict) is Ballot.GOOD


@pytest.mark.parametrize("cheat", ["half-batch", "straight-line", "untrained-adapter"])
async def test_whoever_cheats_in_a_rest_is_found_too(cheat: str, tmp_path: Path) -> None:
    run = await train(tmp_path, rest_from=2, cheat=cheat)
    _, finding = await audited(run)
    assert (finding.verdict.decision, finding.verdict.slashable) == (Decision.FLAG, True)
    assert vote((await judged(run)).verdict) is Ballot.BAD


async def test_a_rest_that_begins_elsewhere_than_it_was_told_is_exact_proof(tmp_path: Path) -> None:
    run = await train(tmp_path, rest_from=2)
    _, finding = await audited(run, {BEGIN: filled(0.5)})
    assert finding.verdict.slashable
    assert "checkpoint 0" in str(finding.verdict.reasons[0])


async def test_the_share_of_a_rest_is_held_against_its_own_updates(tmp_path: Path) -> None:
    engine = FakeEngine(FakeFaults(nan_at_step=41))
    run = await train(tmp_path, rest_from=2, engine=engine, looks=engine, share=Done(bps=6667, stop_requested=False))
    assert share_of(run.assignment.spec, 40) == 6666
    _, finding = await audited(run)
    assert finding.verdict.slashable
    assert "66.67 % were claimed, 20 of 30 updates were done" in str(finding.verdict.reasons[0])
    honest = replace(run, assignment=replace(run.assignment, share=Done(bps=6666, stop_requested=False)))
    assert (await audited(honest))[1].verdict.decision is Decision.PASS


@pytest.mark.parametrize("cheat", sorted(set(TRAINING_CHEATS) - BEYOND_THE_FAKE))
async def test_every_cheat_is_proof_before_auditor_and_juror(cheat: str, tmp_path: Path) -> None:
    run = await train(tmp_path, cheat=cheat)
    _, finding = await audited(run, result=run.result)
    assert finding.verdict.decision is Decision.FLAG
    assert finding.verdict.slashable
    assert finding.verdict.max_error_of_limit >= 3
    assert vote((await judged(run)).verdict) is Ballot.BAD


async def test_a_loosely_checked_run_is_flagged_and_never_slashed(tmp_path: Path) -> None:
    honest = await train(tmp_path / "honest", checkpoint_every=25)
    sealed, finding = await audited(honest)
    assert finding.verdict.decision is Decision.PASS
    assert "loosely" in str(finding.verdict.reasons[0])
    assert max(map(abs, unpack(sealed))) < 400, "fingerprints of loose runs are coarse"
    cheat = await train(tmp_path / "cheat", cheat="own-order", checkpoint_every=25)
    verdict = (await judged(cheat)).verdict
    assert (verdict.decision, verdict.slashable) == (Decision.FLAG, False)
    assert vote(verdict) is Ballot.CANNOT_TELL


async def test_one_who_did_not_compute_seals_something_else(tmp_path: Path) -> None:
    run = await train(tmp_path)
    sealed, _ = await audited(run)
    other = replace(run, assignment=replace(run.assignment, challenge=bytes(32)))
    assert differ(unpack(sealed), unpack((await audited(other))[0])) > run.assignment.rules.projection_tolerance


# Openings of a node that would rather see its auditor fall over


def state_with(change: Callable[[State], State]) -> Change:
    def changed(_: RunLeaf, data: bytes) -> bytes:
        path = Path(f"/tmp/{np.random.default_rng().integers(2**62):x}.safetensors")
        path.write_bytes(data)
        try:
            write_state(path, change(read_state(path)))
            return path.read_bytes()
        finally:
            path.unlink()

    return changed


def filled(value: float) -> Change:
    def change(state: State) -> State:
        weights = {name: np.full_like(array, value) for name, array in state.weights.items()}
        return State(state.step, weights, state.first, state.second)

    return state_with(change)


def transposed(state: State) -> State:
    return State(state.step, *({n: a.T.copy() for n, a in part.items()} for part in _parts(state)))


def fewer(state: State) -> State:
    return State(state.step, *(dict(list(part.items())[:1]) for part in _parts(state)))


def _parts(state: State) -> tuple[dict[str, Any], ...]:
    return (state.weights, state.first, state.second)


def constant(data: bytes) -> Change:
    return lambda _leaf, _data: data


BROKEN: dict[str, Change] = {
    "empty": constant(b""),
    "text": constant(b"no checkpoint at all"),
    "pickle": constant(pickle.dumps({"w": 1})),
    "header bomb": constant(struct.pack("<Q", 2**62) + b"{}"),
    "deep header": constant(struct.pack("<Q", 50_000) + b"[" * 50_000),
    "cut off": lambda _, data: data[: len(data) // 2],
    "other shapes": state_with(transposed),
    "fewer parameters": state_with(fewer),
    "other step": state_with(lambda state: State(state.step + 1, *_parts(state))),
    "not numbers": filled(float("nan")),
    "infinite": filled(float("inf")),
    "huge": filled(3e38),
    "zeros": filled(0.0),
}


def drawn(run: Run) -> int:
    """The first segment that is drawn."""
    return segments_to_check(run.assignment.challenge, run.assignment.spec, run.own.trace.facts.steps_done)[0].number


@pytest.mark.parametrize("place", ["start", "end", "begin", "last"])
@pytest.mark.parametrize("how", BROKEN)
async def test_a_broken_checkpoint_is_proof_wherever_it_stands(place: str, how: str, tmp_path: Path) -> None:
    run = await train(tmp_path, steps=50)
    first = drawn(run)
    number = {"start": first, "end": first + 1, "begin": 0, "last": run.own.trace.layout.steps}[place]
    changes = {Slot(LeafKind.CHECKPOINT, step=number): BROKEN[how]}
    _, finding = await audited(run, changes)
    assert finding.verdict.decision is Decision.FLAG
    assert finding.verdict.slashable
    assert vote((await judged(run, changes)).verdict) is Ballot.BAD


def facts_with(**fields: Any) -> Change:
    return lambda _, data: TrainingFacts.model_validate({**json.loads(data), **fields}).encode()


LIES: dict[str, tuple[Slot, Change]] = {
    "seed": (MANIFEST, facts_with(seed="ab" * 32)),
    "spec": (MANIFEST, facts_with(spec=str(BlobRef(bytes(32))))),
    "model": (MANIFEST, facts_with(model_manifest=str(BlobRef(bytes(32))))),
    "data set": (MANIFEST, facts_with(dataset=str(BlobRef(bytes(32))))),
    "start": (MANIFEST, facts_with(start=str(BlobRef(bytes(32))))),
    "type": (MANIFEST, facts_with(dtype="bf16")),
    "profile": (MANIFEST, facts_with(profile="")),
    "fewer updates": (MANIFEST, facts_with(steps_done=40)),
    "more updates": (MANIFEST, facts_with(steps_done=51)),
    "many more updates": (MANIFEST, facts_with(steps_done=10**15)),
    "no updates": (MANIFEST, facts_with(steps_done=0)),
    "data set's leaf": (DATASET, constant(bytes(32))),
    "losses short": (Slot(LeafKind.LOSSES, step=0), lambda _, data: data[:-8]),
    "losses odd": (Slot(LeafKind.LOSSES, step=4), lambda _, data: data[:-3]),
    "file empty": (FILE, constant(b"")),
    "file text": (FILE, constant(b"no adapter")),
    "file bomb": (FILE, constant(struct.pack("<Q", 2**63) + b"{}")),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_in_any_field_is_proof(lie: str, tmp_path: Path) -> None:
    run = await train(tmp_path)
    slot, change = LIES[lie]
    for finding in ((await audited(run, {slot: change}))[1], await judged(run, {slot: change})):
        assert finding.verdict.decision is Decision.FLAG
        assert finding.verdict.slashable


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 0.0])
async def test_losses_that_were_not_had_are_proof(value: float, tmp_path: Path) -> None:
    run = await train(tmp_path)
    slot = Slot(LeafKind.LOSSES, step=drawn(run))
    _, finding = await audited(run, {slot: constant(struct.pack("<10d", *[value] * 10))})
    assert finding.verdict.slashable


async def test_facts_that_cannot_be_read_are_openings_that_prove_nothing(tmp_path: Path) -> None:
    run = await train(tmp_path)
    for data in (b"", b"{}", b"[" * 4000, b"\xff" * 300):
        with pytest.raises(NotOpenedError):
            await audited(run, {MANIFEST: constant(data)})


async def test_a_checkpoint_that_is_too_large_is_never_fetched(tmp_path: Path) -> None:
    run = await train(tmp_path)
    with pytest.raises(NotOpenedError, match="more than it can have"):
        await audited(run, {Slot(LeafKind.CHECKPOINT, step=drawn(run)): constant(bytes(1 << 20))})


async def test_a_blob_of_something_else_and_one_that_nobody_has_are_withheld(tmp_path: Path) -> None:
    run = await train(tmp_path)
    assignment, answers = await run.answers()
    slot = Slot(LeafKind.CHECKPOINT, step=drawn(run))
    leaf = await run.own.leaf(slot, run.handed)
    assert leaf.blob is not None
    run.blobs.remove(leaf.blob)
    work = run.work(assignment, answers)
    await work.ready(seconds=60)
    for phase in ("inputs", "outputs"):
        with pytest.raises(NotOpenedError, match="blob-missing"):
            await work.opened(phase, 60)  # type: ignore[arg-type]
    other = await run.blobs.put(b"something else")
    bent = replace(leaf, blob=other, size=14)
    swapped = answers["inputs"].replace(leaf.blob.value, other.value)
    assert swapped != answers["inputs"]
    assert bent.digest == leaf.digest
    work = run.work(assignment, {"inputs": swapped})
    await work.ready(seconds=60)
    with pytest.raises(NotOpenedError, match="not what was committed"):
        await work.opened("inputs", 60)
    with pytest.raises(NotOpenedError, match="busy"):
        await work.opened("outputs", 60)


async def test_no_other_name_can_be_put_on_a_file_that_is_here_already(tmp_path: Path) -> None:
    run = await train(tmp_path)
    assignment, answers = await run.answers()
    leaf = await run.own.leaf(FILE, run.handed)
    assert leaf.blob is not None
    work = run.work(assignment, answers, result=run.result)
    await work.ready(seconds=60)
    honest = await work.opened("outputs", 60)
    bent = answers["outputs"].replace(leaf.blob.value, bytes(32))
    with pytest.raises(NotOpenedError, match="the blob that is named"):
        await work.taken(bent)
    finding = await work.examine(honest, None, strict=True, seconds=60)
    assert finding.verdict.decision is Decision.PASS


async def test_a_checkpoint_is_read_and_stored_once_however_often_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await train(tmp_path)
    first = await run.own.leaf(FILE, run.handed)

    def read(_: Path) -> bytes:
        raise MemoryError

    monkeypatch.setattr(opened_run, "_sha256", read)
    assert await run.own.leaf(FILE, run.handed) == first
    assert first.blob is not None
    run.blobs.remove(first.blob)
    with pytest.raises(MemoryError):
        await run.own.leaf(FILE, run.handed)


def had(folder: Path, names: str) -> list[Path]:
    """What lies where a work keeps files that were opened."""
    return list(folder.glob(f"work-*/*/opened/{names}"))


async def test_a_file_that_was_not_checked_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = await train(tmp_path)
    assignment, answers = await run.answers()
    work = run.work(assignment, answers)
    await work.ready(seconds=60)

    def stopped(_: Path) -> bytes:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(run_files, "_sha256", stopped)
        with pytest.raises(MemoryError):
            await work.opened("outputs", 60)
    assert had(tmp_path, "*.fetched")
    assert not had(tmp_path, "*.safetensors")
    assert (await work.opened("outputs", 60)).files


async def test_a_disk_of_ours_that_fails_is_no_proof_against_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await train(tmp_path)
    assignment, answers = await run.answers()
    work = run.work(assignment, answers)
    await work.ready(seconds=60)
    inputs, opened = await work.opened("inputs", 60), await work.opened("outputs", 60)
    own = await work.compute(inputs, seconds=60)
    part = own.parts[0].state
    assert part is not None
    begin, end = Slot(LeafKind.CHECKPOINT), Slot(LeafKind.CHECKPOINT, step=drawn(run) + 1)
    for path in {part, *(opened.files[slot] for slot in (begin, end, FILE))}:
        with unreadable(path, monkeypatch), pytest.raises(CannotRunError):
            await work.examine(opened, own, strict=False, seconds=60)
    path = inputs.files[Slot(LeafKind.CHECKPOINT, step=drawn(run))]
    with unreadable(path, monkeypatch), pytest.raises(CannotRunError):
        await work.compute(inputs, seconds=60)
    assert (await work.examine(opened, own, strict=False, seconds=60)).verdict.decision is Decision.PASS


async def test_an_own_state_that_broke_is_no_proof_either(tmp_path: Path) -> None:
    run = await train(tmp_path)
    assignment, answers = await run.answers()
    work = run.work(assignment, answers)
    await work.ready(seconds=60)
    own = await work.compute(await work.opened("inputs", 60), seconds=60)
    assert own.parts[0].state is not None
    own.parts[0].state.write_bytes(b"half")
    with pytest.raises(CannotRunError, match="our own state"):
        await work.examine(await work.opened("outputs", 60), own, strict=False, seconds=60)


@contextmanager
def unreadable(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A disk that gives everything but this one file back."""
    plain = Path.open

    def failing(self: Path, *args: Any, **options: Any) -> Any:
        if self == path:
            raise OSError(errno.EIO, "Input/output error")
        return plain(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", failing)
        yield


# Runs that end early


class Sick(FakeTrainer):
    """Its loss is no number from update 33 on."""

    def update(self, step: int) -> float:
        return float("nan") if step >= 33 else super().update(step)


class SickEngine(FakeEngine):
    def trainer(self, inputs: TrainingInputs, *, strict: bool = False) -> Trainer:
        return Sick(inputs)


@pytest.mark.parametrize(("bps", "asked", "sick", "fault"), [
    (6000, False, True, ""),
    (6000, True, False, ""),
    (6001, False, True, "share: 60.01 % were claimed, 30 of 50 updates were done"),
    (10_000, True, False, "share: 100 % were claimed, 30 of 50 updates were done"),
    (6000, False, False, "stop: it ended after 30 of 50 updates, though nobody had asked and it could have gone on in "
     "time"),
])  # fmt: skip
async def test_a_run_that_ended_early_is_paid_for_what_it_did(
    bps: int, asked: bool, sick: bool, fault: str, tmp_path: Path
) -> None:
    share = Done(bps=bps, stop_requested=asked)
    run = await train(tmp_path, share=share, engine=SickEngine(), looks=SickEngine() if sick else FakeEngine())
    _, finding = await audited(run, result=run.result)
    assert [str(reason) for reason in finding.verdict.reasons] == ([fault] if fault else [])
    assert finding.verdict.slashable == bool(fault)


# What is handed over


def handed(**metadata: str) -> Change:
    def change(_: RunLeaf, data: bytes) -> bytes:
        path = Path(f"/tmp/{np.random.default_rng().integers(2**62):x}.safetensors")
        path.write_bytes(data)
        file = open_tensors(path, max_bytes=10**7)
        rows = [(name, "F32", info.shape, file.read(name)) for name, info in file.tensors.items()]
        write_tensors(path, rows, {**file.metadata, **metadata})
        try:
            return path.read_bytes()
        finally:
            path.unlink()

    return change


async def test_a_file_that_says_another_strength_is_proof(tmp_path: Path) -> None:
    run = await train(tmp_path)
    louder = handed(lora_adapter_metadata='{"unet.r": 4, "unet.lora_alpha": 8}')
    _, finding = await audited(run, {FILE: louder})
    assert "alpha 8" in str(finding.verdict.reasons[0])
    assert finding.verdict.slashable


async def test_the_result_hands_over_what_the_trace_ends_with(tmp_path: Path) -> None:
    run = await train(tmp_path)
    assert run.result.adapter is not None
    manifest = ModelManifest.decode(await run.blobs.get(run.result.adapter, max_bytes=10**6))
    files = tuple(
        entry.model_copy(update={"blob": BlobRef(bytes(32))}) if entry.path == "adapter.safetensors" else entry
        for entry in manifest.files
    )
    other = manifest.model_copy(update={"files": files})
    await run.blobs.put(other.encode())
    lies = {
        "not the trace's": run.result.model_copy(update={"adapter": other.ref}),
        "no adapter": run.result.model_copy(update={"adapter": None}),
        "999 updates": run.result.model_copy(update={"profile": {**run.result.profile, "steps-done": "999"}}),
    }
    for words, result in lies.items():
        _, finding = await audited(run, result=result)
        assert words in str(finding.verdict.reasons[0])
        assert finding.verdict.slashable
