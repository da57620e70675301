"""What every executor promises, the in-process fake included."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
import pytest

from gesso.png import dimensions, read_text
from gesso_node.executors.port import (
    Executor,
    Finished,
    Job,
    ReplayCheck,
    Replayed,
    ReplayJob,
    StepDone,
    TimedOut,
    Unfit,
)
from gesso_node.executors.trace import RecordedTrace
from gesso_protocol.hashing import sha256
from gesso_protocol.trace import Binding, LeafKind, Slot, TraceManifest

from .conftest import BINDING

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]
MakeJob = Callable[..., Job]


class Events:
    def __init__(self) -> None:
        self.steps: list[StepDone] = []

    async def __call__(self, step: StepDone) -> None:
        self.steps.append(step)


async def finished(executor: Executor, job: Job, events: Events | None = None) -> Finished:
    with anyio.fail_after(180):
        outcome = await executor.run(job, on_event=events or Events())
    assert isinstance(outcome, Finished), outcome
    return outcome


async def test_one_executor_many_jobs(executor: Executor, make_job: MakeJob) -> None:
    """One start of a child costs seconds, so the promises about pictures, steps, seeds and traces share it."""
    events = Events()
    first = await finished(executor, job := make_job(count=2), events)

    # pictures: as ordered, real, and as described
    assert [image.index for image in first.images] == [0, 1]
    assert [image.seed for image in first.images] == [5, 6]
    for image in first.images:
        data = image.path.read_bytes()
        assert dimensions(data) == (64, 64)
        assert hashlib.sha256(data).digest() == image.sha256
        texts = read_text(data)
        assert "a red circle" in texts["parameters"]
        assert f"Seed: {image.seed}" in texts["parameters"]
        assert f'"executor":"{executor.name}"' in texts["gesso"]
    assert first.images[0].sha256 != first.images[1].sha256
    assert first.executor == executor.name

    # steps: every one, in order, with a preview now and then
    assert [(s.image, s.index) for s in events.steps] == [(i, k) for i in range(2) for k in range(1, 7)]
    assert {s.total for s in events.steps} == {6}
    previews = [s.preview for s in events.steps if s.preview]
    assert previews
    assert all(len(preview) <= 12 * 1024 for preview in previews)

    # trace: complete, bound, and openable
    trace = RecordedTrace.read(job.out_dir, job.spec)
    assert trace.root(BINDING) == first.trace_root
    other = Binding(BINDING.chain_id, BINDING.board, BINDING.task, BINDING.node, b"\x08" * 32)
    assert trace.root(other) != first.trace_root
    assert len(trace.bytes_of(Slot(LeafKind.RGB, 1))) == 64 * 64 * 3
    file_leaf = trace.entries[Slot(LeafKind.FILE, 1)]
    assert file_leaf.digest == sha256(first.images[1].path.read_bytes()).hex()
    latents = [trace.bytes_of(Slot(LeafKind.LATENT, 0, step)) for step in range(6)]
    assert all(one != two for one, two in pairwise(latents))

    # the same seed gives the same picture and the same trace, wherever it stands in a task
    again = await finished(executor, job_again := make_job(count=1))
    assert again.images[0].sha256 == first.images[0].sha256
    again_trace = RecordedTrace.read(job_again.out_dir, job_again.spec)
    assert again_trace.bytes_of(Slot(LeafKind.LATENT, 0, 5)) == latents[5]
    other_seed = await finished(executor, make_job(seed=99))
    assert other_seed.images[0].sha256 != first.images[0].sha256


async def replayed(executor: Executor, job: ReplayJob) -> Replayed:
    with anyio.fail_after(180):
        outcome = await executor.replay(job)
    assert isinstance(outcome, Replayed), outcome
    return outcome


def replay_of(job: Job, trace: RecordedTrace, steps: tuple[int, ...], **changes: Any) -> ReplayJob:
    """Steps after the first, from the latents that the trace holds."""
    checks = tuple(
        ReplayCheck(image, step, trace.bytes_of(Slot(LeafKind.LATENT, image, step - 1)))
        for image in range(job.spec.count)
        for step in steps
    )
    last = trace.bytes_of(Slot(LeafKind.LATENT, 0, job.spec.steps - 1))
    return ReplayJob(job.spec, job.model_dir, job.manifest, checks, decode=((0, last),), **changes)


async def test_what_was_recorded_can_be_computed_again(executor: Executor, make_job: MakeJob, homes: Path) -> None:
    """An honest node's trace and an auditor's replay are the same on one machine, whatever the guidance."""
    for guidance in (3.0, 1.0):
        await finished(executor, job := make_job(count=2, guidance=guidance, scheduler="euler_a"))
        trace = RecordedTrace.read(job.out_dir, job.spec)
        again = await replayed(executor, replay_of(job, trace, (1, 5)))
        assert set(again.outputs) == {(0, 1), (0, 5), (1, 1), (1, 5)}
        for (image, step), (cond, uncond) in again.outputs.items():
            assert cond == trace.bytes_of(Slot(LeafKind.COND, image, step))
            assert uncond == (trace.bytes_of(Slot(LeafKind.UNCOND, image, step)) if guidance > 1 else None)
        assert again.embeddings == tuple(trace.bytes_of(Slot(LeafKind.EMBEDDING, 0, at)) for at in (0, 1))
        assert again.noises == {image: trace.bytes_of(Slot(LeafKind.NOISE, image)) for image in (0, 1)}
        assert set(again.step_noises) == {(image, step) for image in (0, 1) for step in range(6)}
        assert again.rgb == {0: trace.bytes_of(Slot(LeafKind.RGB))}
        assert again.executor == executor.name
        assert TraceManifest.decode(trace.bytes_of(Slot(LeafKind.MANIFEST))).profile == again.profile_key

        # another latent gives another output, and a juror's strict replay agrees with the ordinary one
        nudged = replay_of(job, trace, (1,))
        moved = np.frombuffer(nudged.checks[0].latent, "<f4") * np.float32(1.01)
        other = await replayed(executor, replace(nudged, checks=(ReplayCheck(0, 1, moved.tobytes()),), decode=()))
        assert other.outputs[0, 1][0] != again.outputs[0, 1][0]
        assert other.rgb == {}
        strict = await replayed(executor, replay_of(job, trace, (1,), strict=True, embeddings=False))
        assert strict.embeddings is None
        assert np.allclose(*(np.frombuffer(r.outputs[0, 1][0], "<f4") for r in (strict, again)), atol=1e-4)
    left = await anyio.to_thread.run_sync(lambda: list(homes.rglob("replay-*")))
    assert left == [], "the tensors of a replay are removed"


async def test_a_replay_that_cannot_be_is_unfit_and_costs_no_child(executor: Executor, make_job: MakeJob) -> None:
    job = make_job()
    for check in (ReplayCheck(0, 1, b"short"), ReplayCheck(1, 0, bytes(4096)), ReplayCheck(0, 6, bytes(4096))):
        with anyio.fail_after(180):
            outcome = await executor.replay(ReplayJob(job.spec, job.model_dir, job.manifest, (check,)))
        assert isinstance(outcome, Unfit), outcome
    assert executor.health().ended == {}
    late = ReplayJob(job.spec, job.model_dir, job.manifest, images=(0,), deadline_s=0.0)
    assert isinstance(await executor.replay(late), TimedOut)


async def test_deadline_is_an_outcome(executor: Executor, make_job: MakeJob) -> None:
    with anyio.fail_after(60):
        outcome = await executor.run(make_job(deadline_s=0.001, steps=200, width=256, height=256), on_event=Events())
    assert isinstance(outcome, TimedOut)


async def test_cancelling_the_call_ends_the_work(executor: Executor, make_job: MakeJob, tmp_path: Path) -> None:
    seen = anyio.Event()

    async def first_step(_: StepDone) -> None:
        seen.set()
        await anyio.sleep_forever()

    with anyio.fail_after(120):
        async with anyio.create_task_group() as tasks:

            async def run() -> None:
                await executor.run(make_job(steps=50), on_event=first_step)

            tasks.start_soon(run)
            await seen.wait()
            tasks.cancel_scope.cancel()
        assert not executor.health().busy
        after = await executor.run(make_job(steps=2), on_event=Events())
    assert isinstance(after, Finished)
