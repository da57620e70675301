"""Every cheat really differs from honest work, exactly where it says, and hides it as well as can be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gesso.tensorfile import write_tensors
from gesso_node.executors.cheats import CHEATS, ENGINE_CHEATS, NODE_CHEATS, check_cheat
from gesso_node.executors.cheats.forgeries import LATE, SKIP_EVERY, SPREAD
from gesso_node.executors.engine import Engine, EngineJob, load_engine
from gesso_node.executors.port import Job, ReplayCheck, Replayed, ReplayJob, StepDone
from gesso_node.executors.trace import RecordedTrace
from gesso_node.executors.walk import F32, array, guided
from gesso_protocol.audit.schedules import Schedule
from gesso_protocol.errors import ConfigError, ModelInvalid
from gesso_protocol.ids import BlobRef
from gesso_protocol.trace import LeafKind, Slot, TraceManifest

from .conftest import BINDING

MakeJob = Callable[..., Job]
STEPS = 10
LIMIT = 1e-4
"""What counts as wrong here: the limit of fp32."""

EVERY = frozenset(range(STEPS))
WRONG_STEPS: dict[str, frozenset[int]] = {
    **dict.fromkeys(("fewer-steps", "wrong-model", "low-guidance", "other-prompt", "int8", "int4", "bridge"), EVERY),
    "skip-steps": frozenset(step for step in range(STEPS) if step % SKIP_EVERY == SKIP_EVERY - 1),
    "feature-reuse": frozenset(range(1, STEPS, 2)),
    "output-reuse": frozenset(range(1, STEPS, 2)),
    "late-guidance": frozenset(step for step in range(STEPS) if step >= LATE * STEPS),
    "cached": frozenset({0}),
    "spread-jump": frozenset(range(round(SPREAD * STEPS))),
    **dict.fromkeys(("swap-image", "wrong-noise", "missing-lora", *NODE_CHEATS), frozenset()),
}


class Inspected:
    """A cheat's trace beside what an honest auditor computes from its latents."""

    def __init__(self, cheat: str, trace: RecordedTrace, job: Job, schedule: Schedule, engine: Engine) -> None:
        self.cheat = cheat
        self.trace = trace
        self.steps = job.spec.steps
        self.guidance = job.spec.guidance
        self.schedule = schedule
        checks = tuple(ReplayCheck(0, step, self.before(step).tobytes()) for step in range(self.steps))
        last = ((0, self.leaf(LeafKind.LATENT, self.steps - 1).tobytes()),)
        asked = ReplayJob(job.spec, job.model_dir, job.manifest, checks, last, loras=job.loras)
        self.own: Replayed = engine.replay(asked)

    def leaf(self, kind: LeafKind, step: int = 0) -> F32:
        return array(self.trace.bytes_of(Slot(kind, 0, step)))

    def before(self, step: int) -> F32:
        if step:
            return self.leaf(LeafKind.LATENT, step - 1)
        return (self.leaf(LeafKind.NOISE) * self.schedule.init_noise_sigma).astype(np.float32)

    def output(self, step: int) -> F32:
        return guided(self.leaf(LeafKind.COND, step), self.leaf(LeafKind.UNCOND, step), self.guidance)

    def branch_error(self, step: int) -> float:
        cond, uncond = self.own.outputs[0, step]
        assert uncond is not None
        pairs = ((cond, LeafKind.COND), (uncond, LeafKind.UNCOND))
        return max(relative(array(own), self.leaf(kind, step)) for own, kind in pairs)

    def wrong_steps(self) -> frozenset[int]:
        return frozenset(step for step in range(self.steps) if self.branch_error(step) > LIMIT)

    def arithmetic(self, step: int) -> float:
        """How far the latent after `step` is from what follows from the committed outputs."""
        previous = (self.before(step - 1), self.output(step - 1)) if step else None
        noise = self.own.step_noises.get((0, step))
        again = self.schedule.step(
            step, self.before(step), self.output(step), previous, None if noise is None else array(noise)
        )
        return relative(again, self.leaf(LeafKind.LATENT, step))


def relative(own: Any, theirs: Any) -> float:
    return float(np.linalg.norm(own - theirs) / np.linalg.norm(own))


def inspect(name: str, options: dict[str, Any], job: Job, cheat: str) -> Inspected:
    chosen = {**options, "cheat": cheat}
    steps: list[StepDone] = []
    work = EngineJob(job.spec, job.model_dir, job.out_dir, job.manifest, BINDING.task, job.loras)
    result = load_engine(name, chosen).run(work, steps.append)
    assert len(result.images) == job.spec.count
    assert [step.index for step in steps] == list(range(1, job.spec.steps + 1))
    trace = RecordedTrace.read(job.out_dir, job.spec)
    trace.root(BINDING)
    honest = load_engine(name, {key: value for key, value in options.items() if key != "cheat_files"})
    config = honest.replay(ReplayJob(job.spec, job.model_dir, job.manifest, loras=job.loras)).scheduler_config
    return Inspected(cheat, trace, job, Schedule.of(config, job.spec.scheduler, job.spec.steps), honest)


def wrong_steps(cheat: str, scheduler: str) -> frozenset[int]:
    """A jump is one wrong output. A sampler that remembers, or adds noise of the seed, spoils what follows as well;
    only its last step, which does neither, can be true."""
    remembers = scheduler in ("euler_a", "dpmpp_2m")
    return EVERY - {STEPS - 1} if remembers and cheat in ("cached", "spread-jump") else WRONG_STEPS[cheat]


def check(found: Inspected) -> None:
    cheat = found.cheat
    assert found.wrong_steps() == wrong_steps(cheat, found.schedule.name)
    assert max(found.arithmetic(step) for step in range(found.steps)) < 1e-5, "forged outputs must explain the latents"
    embeddings = tuple(found.trace.bytes_of(Slot(LeafKind.EMBEDDING, 0, at)) for at in (0, 1))
    assert found.own.embeddings == embeddings, "no cheat gives itself away by its embeddings"
    assert (found.own.noises[0] == found.leaf(LeafKind.NOISE).tobytes()) == (cheat != "wrong-noise")
    assert (found.own.rgb[0] == found.trace.bytes_of(Slot(LeafKind.RGB))) == (cheat != "swap-image")


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "euler_a", "dpmpp_2m"])
@pytest.mark.parametrize("cheat", sorted(CHEATS))
def test_the_fake_engine_cheats_where_it_says(make_job: MakeJob, cheat: str, scheduler: str) -> None:
    job = make_job(scheduler=scheduler, steps=STEPS, guidance=3.0, model_dir=None)
    check(inspect("fake", {}, job, cheat))


@pytest.fixture(scope="module")
def early_unet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of another model of the same shape."""
    from gesso_node.executors.sample import write_sample_pipeline

    folder = write_sample_pipeline(tmp_path_factory.mktemp("early") / "sample", seed=1)
    return folder / "unet" / "diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize("cheat", sorted(CHEATS))
def test_the_real_engine_cheats_where_it_says(make_job: MakeJob, early_unet: Path, cheat: str) -> None:
    scheduler = ("ddim", "euler_a", "dpmpp_2m")[sorted(CHEATS).index(cheat) % 3]
    job = make_job(scheduler=scheduler, steps=STEPS, guidance=3.0)
    options = {"device": "cpu", "threads": 1, "cheat_files": {"early_unet": early_unet}}
    check(inspect("diffusers", options, job, cheat))


@pytest.mark.parametrize("cheat", ["fewer-steps", "other-prompt", "int8", "low-guidance"])
def test_cheats_on_an_xl_base_are_as_plain(make_job: MakeJob, xl_model: Path, cheat: str) -> None:
    job = make_job(scheduler="euler", steps=STEPS, guidance=3.0, model_dir=xl_model)
    check(inspect("diffusers", {"device": "cpu", "threads": 1}, job, cheat))


LORA = BlobRef(b"\x05" * 32)
ADAPTED = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_v"


@pytest.fixture(scope="module")
def small_lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rank 2 on one layer of the sample pipeline: as little as somebody would be tempted to leave out."""
    rng = np.random.default_rng(1)
    down, up = (rng.standard_normal(shape).astype("<f4") * np.float32(0.1) for shape in ((2, 64), (64, 2)))
    path = tmp_path_factory.mktemp("lora") / "adapter.safetensors"
    sides = (("A", down), ("B", up))
    write_tensors(path, [(f"{ADAPTED}.lora_{side}.weight", "F32", data.shape, data.tobytes()) for side, data in sides])
    return path.parent


@pytest.mark.parametrize("name", ["fake", "diffusers"])
@pytest.mark.parametrize("cheat", ["missing-lora", "withhold"])
def test_a_lora_that_is_left_out_shows_in_every_step(
    make_job: MakeJob, small_lora: Path, name: str, cheat: str
) -> None:
    """`withhold` computes honestly: the same measure finds nothing there, and its first leaf names the adapter."""
    loras = ({"manifest": LORA, "strength_milli": 800},)
    job = make_job(scheduler="euler_a", steps=STEPS, guidance=3.0, loras=loras)
    job = replace(job, loras=(small_lora,)) if name == "diffusers" else replace(job, model_dir=None)
    options = {"device": "cpu", "threads": 1} if name == "diffusers" else {}
    found = inspect(name, options, job, cheat)
    assert found.wrong_steps() == (EVERY if cheat == "missing-lora" else frozenset())
    assert max(found.arithmetic(step) for step in range(STEPS)) < 1e-5
    told = TraceManifest.decode(found.trace.bytes_of(Slot(LeafKind.MANIFEST)))
    assert [(one.manifest, one.strength_milli) for one in told.loras] == [(LORA, 800)]


def test_other_cheats_work_on_a_pipeline_with_an_adapter(make_job: MakeJob, small_lora: Path) -> None:
    loras = ({"manifest": LORA, "strength_milli": 1000},)
    job = replace(make_job(steps=STEPS, guidance=3.0, loras=loras), loras=(small_lora,))
    assert inspect("diffusers", {"device": "cpu", "threads": 1}, job, "int4").wrong_steps() == EVERY


def test_an_honest_trace_has_no_wrong_step(make_job: MakeJob) -> None:
    """The measure itself: without a cheat nothing is found, so that what is found above means something."""
    for scheduler in ("ddim", "euler", "euler_a", "dpmpp_2m"):
        found = inspect(
            "fake", {}, make_job(scheduler=scheduler, steps=STEPS, guidance=3.0, model_dir=None), "withhold"
        )
        assert found.wrong_steps() == frozenset()


def test_wrong_model_without_its_file_is_a_typed_error(make_job: MakeJob) -> None:
    with pytest.raises(ModelInvalid, match="early_unet"):
        inspect("diffusers", {"device": "cpu", "threads": 1}, make_job(steps=2), "wrong-model")


def test_every_cheat_is_described_and_tried() -> None:
    assert set(WRONG_STEPS) == set(CHEATS) == {*ENGINE_CHEATS, *NODE_CHEATS}
    assert all(text and text[0].islower() for text in CHEATS.values())


def test_a_node_cheats_only_where_cheats_are_allowed() -> None:
    check_cheat(None, allowed=False)
    check_cheat("int4", allowed=True)
    with pytest.raises(ConfigError, match="loses its stake"):
        check_cheat("int4", allowed=False)
    with pytest.raises(ConfigError, match="no cheat called"):
        check_cheat("int5", allowed=True)
