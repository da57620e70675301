"""Audits of pictures by an XL base, on the real engine: auditors and jurors run steps again and see what was told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("diffusers")

import numpy as np

from gesso_node.auditing.inspect import Inspector
from gesso_node.executors.diffusers import DiffusersEngine, DiffusersOptions
from gesso_node.executors.engine import EngineJob
from gesso_node.executors.port import Executor, Finished, Job, Replayed, ReplayJob
from gesso_node.executors.sample_xl import write_xl_pipeline
from gesso_node.executors.trace import RecordedTrace
from gesso_node.models.cache import ModelCache
from gesso_protocol.audit.verdict import Decision, Fault
from gesso_protocol.ids import BlobRef
from gesso_protocol.trace import LeafKind, Slot, tensor_digest, trace_root

from .traces import SPEC, Sold, sell, verdict_on

pytestmark = pytest.mark.anyio
STEPS = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_xl_pipeline(tmp_path_factory.mktemp("model") / "xl")


class Here:
    """An engine in this process, as an executor."""

    name = "diffusers"

    def __init__(self, cheat: str | None = None) -> None:
        self._engine = DiffusersEngine(DiffusersOptions(device="cpu", threads=1, max_loaded=2, cheat=cheat))

    async def run(self, job: Job, *, on_event: Any) -> Finished:
        work = EngineJob(job.spec, job.model_dir, job.out_dir, job.manifest, job.binding.task)
        made = self._engine.run(work, lambda _: None)
        root = RecordedTrace.read(job.out_dir, job.spec).root(job.binding)
        return Finished(made.images, root, made.profile, self.name, made.seconds)

    async def replay(self, job: ReplayJob) -> Replayed:
        return self._engine.replay(job)


class OneModel:
    """A cache that has what is asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, _: BlobRef) -> Path:
        return self._folder

    @asynccontextmanager
    async def held(self, _: BlobRef, **__: object) -> AsyncIterator[Path]:
        yield self._folder


@pytest.fixture(scope="module")
def look(model: Path) -> Inspector:
    return Inspector(cast(Executor, Here()), cast(ModelCache, OneModel(model)), needs_model=True)


async def sold_by(folder: Path, model: Path, cheat: str | None = None, **fields: Any) -> Sold:
    spec = SPEC.model_copy(
        update={"steps": STEPS, "scheduler": "euler", "width": 96, "negative_prompt": "fog", **fields}
    )
    return await sell(folder, spec=spec, executor=cast(Executor, Here(cheat)), model_dir=model)


@pytest.mark.parametrize("strict", [False, True])
async def test_honest_work_passes(strict: bool, look: Inspector, model: Path, tmp_path: Path) -> None:
    verdict = await verdict_on(tmp_path, await sold_by(tmp_path, model), look=look, strict=strict)
    assert verdict.decision is Decision.PASS, verdict.reasons
    assert verdict.max_error_of_limit < 0.5


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("cheat", ["other-prompt", "fewer-steps"])
async def test_a_cheat_is_seen(cheat: str, strict: bool, look: Inspector, model: Path, tmp_path: Path) -> None:
    verdict = await verdict_on(tmp_path, await sold_by(tmp_path, model, cheat), look=look, strict=strict)
    assert verdict.decision is Decision.FLAG
    assert verdict.slashable


@pytest.mark.parametrize("place", [3, -10, -1], ids=["words", "summary", "sizes"])
async def test_whatever_else_was_told_shows(place: int, look: Inspector, model: Path, tmp_path: Path) -> None:
    """A trace whose leaf says that something else was told, everything else as it should be."""
    verdict = await verdict_on(tmp_path, told_otherwise(await sold_by(tmp_path, model), place), look=look)
    assert {reason.fault for reason in verdict.reasons} == {Fault.EMBEDDING}


def told_otherwise(sold: Sold, place: int) -> Sold:
    trace, slot = sold.own.trace, Slot(LeafKind.EMBEDDING, 0, 0)
    entry = trace.entries[slot]
    numbers = np.frombuffer(trace.bytes_of(slot), "<f4").copy()
    numbers[place] += 1
    raw = numbers.tobytes()
    file = trace.folder / "trace.bin"
    file.write_bytes(file.read_bytes()[: entry.offset] + raw + file.read_bytes()[entry.offset + len(raw) :])
    changed = entry.model_copy(update={"digest": tensor_digest(raw, entry.shape).hex()})
    other = RecordedTrace(trace.folder, trace.layout, {**trace.entries, slot: changed})
    tree = tuple(other.leaves(sold.own.binding))
    filing = replace(sold.assignment.filing, trace_root=trace_root(tree))
    return replace(
        sold,
        own=replace(sold.own, trace=other, tree=tree),
        assignment=replace(sold.assignment, filing=filing),
    )
