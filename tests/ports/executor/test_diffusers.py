"""The diffusers engine in this process: the same pixels as the plain pipeline, a true trace, every scheduler."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
diffusers: Any = pytest.importorskip("diffusers")

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from gesso_node.executors.denoiser import SCHEDULERS, make_scheduler  # noqa: E402
from gesso_node.executors.diffusers import DiffusersEngine, DiffusersOptions  # noqa: E402
from gesso_node.executors.engine import EngineJob, EngineResult  # noqa: E402
from gesso_node.executors.folder import check_model_folder  # noqa: E402
from gesso_node.executors.port import Job, ReplayCheck, ReplayJob, StepDone  # noqa: E402
from gesso_node.executors.trace import RecordedTrace  # noqa: E402
from gesso_protocol.audit.compare import Branches  # noqa: E402
from gesso_protocol.audit.schedules import Schedule  # noqa: E402
from gesso_protocol.audit.transitions import OpenedPicture, check_transitions  # noqa: E402
from gesso_protocol.errors import ModelInvalid  # noqa: E402
from gesso_protocol.ids import BlobRef  # noqa: E402
from gesso_protocol.spec import UsedAdapter  # noqa: E402
from gesso_protocol.trace import LeafKind, Slot, TraceManifest  # noqa: E402

from .conftest import BINDING  # noqa: E402
from .test_adapters import write  # noqa: E402

MakeJob = Callable[..., Job]


@pytest.fixture(scope="module")
def engine() -> DiffusersEngine:
    return DiffusersEngine(DiffusersOptions(device="cpu", threads=1))


def work(job: Job) -> EngineJob:
    return EngineJob(job.spec, job.model_dir, job.out_dir, job.manifest, BINDING.task)


def run(engine: DiffusersEngine, job: Job) -> tuple[EngineResult, list[StepDone]]:
    steps: list[StepDone] = []
    return engine.run(work(job), steps.append), steps


def pixels(result: EngineResult, index: int = 0) -> Any:
    return np.asarray(Image.open(result.images[index].path))


def latent(trace: RecordedTrace, kind: LeafKind, step: int = 0) -> Any:
    slot = Slot(kind, 0, step)
    return np.frombuffer(trace.bytes_of(slot), np.float32).reshape(trace.entries[slot].shape)


@pytest.mark.parametrize("scheduler", sorted(SCHEDULERS))
def test_the_picture_is_that_of_the_bare_pipeline(
    engine: DiffusersEngine, make_job: MakeJob, sample_model: Path, scheduler: str
) -> None:
    job = make_job(scheduler=scheduler, guidance=3.5, negative_prompt="blue")
    result, _ = run(engine, job)
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(str(sample_model), safety_checker=None)
    kind, changes = SCHEDULERS[scheduler]
    pipe.scheduler = kind.from_config(pipe.scheduler.config, **changes)
    pipe.set_progress_bar_config(disable=True)
    plain = pipe(
        "a red circle",
        negative_prompt="blue",
        width=64,
        height=64,
        num_inference_steps=6,
        guidance_scale=3.5,
        generator=torch.Generator("cpu").manual_seed(5),
    ).images[0]
    assert np.array_equal(pixels(result), np.asarray(plain))


def test_the_trace_holds_what_really_happened(engine: DiffusersEngine, make_job: MakeJob, sample_model: Path) -> None:
    """One recorded DDIM step is run again from the trace alone and must land on the next latent."""
    job = make_job(guidance=3.0)
    run(engine, job)
    trace = RecordedTrace.read(job.out_dir, job.spec)
    noise = torch.randn((1, 4, 16, 16), generator=torch.Generator("cpu").manual_seed(5))
    assert np.array_equal(latent(trace, LeafKind.NOISE), noise.numpy())

    unet = diffusers.UNet2DConditionModel.from_pretrained(str(sample_model / "unet"))
    scheduler = diffusers.DDIMScheduler.from_pretrained(str(sample_model / "scheduler"))
    scheduler.set_timesteps(6)
    before, after = (torch.tensor(latent(trace, LeafKind.LATENT, step)) for step in (2, 3))
    cond, uncond = (torch.tensor(latent_embedding(trace, step)) for step in (0, 1))
    with torch.inference_mode():
        output = unet(torch.cat([before] * 2), scheduler.timesteps[3], torch.cat([uncond, cond])).sample
        base, prompted = output.chunk(2)
        again = scheduler.step(base + 3.0 * (prompted - base), scheduler.timesteps[3], before).prev_sample
    assert torch.allclose(again, after, atol=1e-5)


def latent_embedding(trace: RecordedTrace, step: int) -> Any:
    slot = Slot(LeafKind.EMBEDDING, 0, step)
    return np.frombuffer(trace.bytes_of(slot), np.float32).reshape(trace.entries[slot].shape)


def test_branches_are_recorded(make_job: MakeJob) -> None:
    engine = DiffusersEngine(DiffusersOptions(device="cpu", threads=1))
    job = make_job(guidance=3.0)
    run(engine, job)
    trace = RecordedTrace.read(job.out_dir, job.spec)
    assert trace.layout.guided
    assert not np.array_equal(latent(trace, LeafKind.COND, 4), latent(trace, LeafKind.UNCOND, 4))
    trace.root(BINDING)


def replay_job(job: Job, trace: RecordedTrace, steps: range, **changes: Any) -> ReplayJob:
    """Every step of `steps` from what the trace holds; the latent before step 0 is the scaled start noise."""
    scale = 1.0
    if job.spec.scheduler.startswith("euler"):
        scheduler = SCHEDULERS[job.spec.scheduler][0].from_pretrained(str(job.model_dir / "scheduler"))  # type: ignore[operator]
        scheduler.set_timesteps(job.spec.steps)
        scale = scheduler.init_noise_sigma

    def before(step: int) -> bytes:
        if step:
            return trace.bytes_of(Slot(LeafKind.LATENT, 0, step - 1))
        return bytes((torch.tensor(latent(trace, LeafKind.NOISE)) * scale).numpy().tobytes())

    last = trace.bytes_of(Slot(LeafKind.LATENT, 0, job.spec.steps - 1))
    checks = tuple(ReplayCheck(0, step, before(step)) for step in steps)
    return ReplayJob(job.spec, job.model_dir, job.manifest, checks, decode=((0, last),), **changes)


@pytest.mark.parametrize("scheduler", sorted(SCHEDULERS))
def test_what_a_picture_does_to_its_scheduler_is_not_seen_by_the_next(sample_model: Path, scheduler: str) -> None:
    kind, changes = SCHEDULERS[scheduler]
    config = dict(kind.load_config(str(sample_model / "scheduler")))
    used = make_scheduler(config, scheduler, torch.float32)
    used.set_timesteps(3)
    used.step(torch.ones(1, 4, 2, 2), used.timesteps[0], torch.ones(1, 4, 2, 2))
    used.betas.zero_()
    fresh, bare = make_scheduler(config, scheduler, torch.float32), kind.from_config(config, **changes)
    assert {name: str(value) for name, value in vars(fresh).items() if name != "_internal_dict"} == {
        name: str(value) for name, value in vars(bare).items() if name != "_internal_dict"
    }


@pytest.mark.parametrize("scheduler", sorted(SCHEDULERS))
@pytest.mark.parametrize("guidance", [3.0, 1.0])
def test_a_replayed_step_is_the_recorded_one_to_the_bit(
    engine: DiffusersEngine, make_job: MakeJob, scheduler: str, guidance: float
) -> None:
    job = make_job(guidance=guidance, scheduler=scheduler)
    run(engine, job)
    trace = RecordedTrace.read(job.out_dir, job.spec)
    replayed = engine.replay(replay_job(job, trace, range(6)))
    for step in range(6):
        cond, uncond = replayed.outputs[0, step]
        assert cond == trace.bytes_of(Slot(LeafKind.COND, 0, step))
        assert uncond == (trace.bytes_of(Slot(LeafKind.UNCOND, 0, step)) if guidance > 1 else None)
    assert replayed.embeddings == tuple(trace.bytes_of(Slot(LeafKind.EMBEDDING, 0, step)) for step in (0, 1))
    assert replayed.noises == {0: trace.bytes_of(Slot(LeafKind.NOISE))}
    assert replayed.rgb == {0: trace.bytes_of(Slot(LeafKind.RGB))}
    assert len(replayed.step_noises) == (6 if scheduler == "euler_a" else 0)
    manifest = TraceManifest.decode(trace.bytes_of(Slot(LeafKind.MANIFEST)))
    assert manifest.profile == replayed.profile_key
    assert manifest.scheduler == scheduler


def test_ancestral_noise_is_what_the_scheduler_added(engine: DiffusersEngine, make_job: MakeJob) -> None:
    job = make_job(guidance=3.0, scheduler="euler_a")
    run(engine, job)
    trace = RecordedTrace.read(job.out_dir, job.spec)
    noises = engine.replay(replay_job(job, trace, range(0))).step_noises
    scheduler = SCHEDULERS["euler_a"][0].from_pretrained(str(job.model_dir / "scheduler"))  # type: ignore[operator]
    scheduler.set_timesteps(6)
    for step in (1, 4):
        cond, uncond = (torch.tensor(latent(trace, kind, step)) for kind in (LeafKind.COND, LeafKind.UNCOND))
        before, after = (torch.tensor(latent(trace, LeafKind.LATENT, at)) for at in (step - 1, step))
        scheduler._step_index, scheduler.is_scale_input_called = step, True
        quiet = scheduler.step(
            uncond + 3.0 * (cond - uncond), scheduler.timesteps[step], before, torch.Generator().manual_seed(0)
        )
        unwanted = torch.randn(before.shape, generator=torch.Generator().manual_seed(0))
        start, end = scheduler.sigmas[step], scheduler.sigmas[step + 1]
        up = (end**2 * (start**2 - end**2) / start**2) ** 0.5
        ours = torch.tensor(np.frombuffer(noises[0, step], np.float32).reshape(before.shape))
        assert torch.allclose(quiet.prev_sample + up * (ours - unwanted), after, atol=1e-4)


def test_strict_is_fp32_whatever_the_task_was(engine: DiffusersEngine, make_job: MakeJob) -> None:
    job = make_job(guidance=3.0, dtype="bf16")
    run(engine, job)
    trace = RecordedTrace.read(job.out_dir, job.spec)
    wide = make_job(guidance=3.0)
    strict = engine.replay(replay_job(job, trace, range(1), strict=True))
    same = engine.replay(replay_job(wide, trace, range(1)))
    own = engine.replay(replay_job(job, trace, range(1)))
    assert strict.profile_key.startswith("fp32/")
    assert strict.profile["mode"] == "strict"
    error_strict = relative(strict.outputs[0, 0][0], same.outputs[0, 0][0])
    assert error_strict < 1e-5
    assert relative(own.outputs[0, 0][0], same.outputs[0, 0][0]) > 100 * error_strict


def relative(one: bytes, other: bytes) -> float:
    a, b = np.frombuffer(one, np.float32), np.frombuffer(other, np.float32)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize(
    "kernels",
    [
        {"attention": "math"},
        {"attention": "flash"},
        {"attention": "efficient"},
        {"attention": "bmm"},
        {"attention": "sliced"},
        {"onednn": False},
        {"split_guidance": True},
        {"batch_to": 5},
        {"channels_last": True},
    ],
)
def test_other_kernels_agree_but_for_the_last_bits(
    engine: DiffusersEngine, make_job: MakeJob, kernels: dict[str, object]
) -> None:
    job = make_job(guidance=3.0)
    run(engine, job)
    trace = RecordedTrace.read(job.out_dir, job.spec)
    other = DiffusersEngine(DiffusersOptions.model_validate({"device": "cpu", "threads": 1, "kernels": kernels}))
    outputs = other.replay(replay_job(job, trace, range(6))).outputs
    errors = [relative(outputs[0, step][0], trace.bytes_of(Slot(LeafKind.COND, 0, step))) for step in range(6)]
    assert max(errors) < 1e-5


@pytest.mark.parametrize("wrong", [b"", b"\0" * 4092, b"\0" * 4100])
def test_a_latent_of_a_wrong_size_is_a_typed_error(engine: DiffusersEngine, make_job: MakeJob, wrong: bytes) -> None:
    job = make_job()
    with pytest.raises(ModelInvalid, match="latent"):
        engine.replay(ReplayJob(job.spec, job.model_dir, job.manifest, (ReplayCheck(0, 0, wrong),)))
    with pytest.raises(ModelInvalid, match="latent"):
        engine.replay(ReplayJob(job.spec, job.model_dir, job.manifest, decode=((0, wrong),)))


@pytest.mark.parametrize("place", [(1, 0), (0, 6), (-1, 0), (0, -1)])
def test_places_that_the_task_does_not_have_are_a_typed_error(
    engine: DiffusersEngine, make_job: MakeJob, place: tuple[int, int]
) -> None:
    job = make_job()
    with pytest.raises(ModelInvalid, match="the task has"):
        engine.replay(ReplayJob(job.spec, job.model_dir, job.manifest, (ReplayCheck(*place, bytes(4096)),)))


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@pytest.mark.parametrize("scheduler", sorted(SCHEDULERS))
def test_narrow_weights_leave_arithmetic_that_can_be_checked(
    engine: DiffusersEngine, make_job: MakeJob, dtype: str, scheduler: str
) -> None:
    """Every latent follows from the committed branches in fp32, however coarse the model that made them is."""
    job = make_job(guidance=5.0, dtype=dtype, scheduler=scheduler)
    run(engine, job)
    trace = RecordedTrace.read(job.out_dir, job.spec)
    own = engine.replay(replay_job(job, trace, range(0)))
    schedule = Schedule.of(own.scheduler_config, job.spec.scheduler, 6)
    picture = OpenedPicture(
        0,
        latent(trace, LeafKind.NOISE),
        [latent(trace, LeafKind.LATENT, step) for step in range(6)],
        [Branches(latent(trace, LeafKind.COND, at), latent(trace, LeafKind.UNCOND, at)) for at in range(6)],
        {at: np.frombuffer(noise, "<f4").reshape(1, 4, 16, 16) for (_, at), noise in own.step_noises.items()},
    )
    assert check_transitions([picture], schedule, 5.0).mismatches == ()


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_narrow_weights_keep_wide_latents(engine: DiffusersEngine, make_job: MakeJob, dtype: str) -> None:
    wide, _ = run(engine, make_job(steps=3))
    narrow, _ = run(engine, job := make_job(steps=3, dtype=dtype))
    last = latent(RecordedTrace.read(job.out_dir, job.spec), LeafKind.LATENT, 2)
    rounded = torch.tensor(last).to(torch.float16 if dtype == "fp16" else torch.bfloat16).float().numpy()
    assert not np.array_equal(last, rounded), "the scheduler rounded the latents to the weights' type"
    assert np.abs(pixels(wide).astype(int) - pixels(narrow).astype(int)).mean() < 20


def test_no_guidance_and_other_shapes_work(engine: DiffusersEngine, make_job: MakeJob) -> None:
    result, steps = run(engine, make_job(guidance=0.0, width=96, height=64))
    assert pixels(result).shape == (64, 96, 3)
    assert any(step.preview and step.preview.startswith(b"\xff\xd8") for step in steps)


def test_sides_that_the_model_cannot_draw_are_a_typed_error(engine: DiffusersEngine, make_job: MakeJob) -> None:
    with pytest.raises(ModelInvalid, match="multiples of"):
        run(engine, make_job(width=68 + 4 + 8 * 0, height=64, model_dir=make_deep(make_job)))


def make_deep(make_job: MakeJob) -> Path:
    from gesso_node.executors.sample import write_sample_pipeline

    return write_sample_pipeline(make_job().out_dir, widths=(16, 16, 32, 32))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"_class_name": "OtherPipeline"}, "not StableDiffusionPipeline or StableDiffusionXLPipeline"),
        ({"_class_name": "StableDiffusionXLPipeline"}, "no text_encoder_2"),
        ({"unet": ["my_code", "UNet"]}, "not allowed"),
        ({"scheduler": ["my_code", "DDIMScheduler"]}, "not one of diffusers"),
        ({"vae": None}, "no vae"),
        ({"text_encoder": ["transformers", 3]}, "no text_encoder"),
    ],
)
def test_hostile_model_folders_are_refused(
    sample_model: Path, tmp_path: Path, change: dict[str, object], said: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(sample_model, folder)
    index = folder / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), **change}))
    with pytest.raises(ModelInvalid, match=said):
        check_model_folder(folder)


def test_links_and_code_are_refused(sample_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(sample_model, folder)
    (folder / "unet" / "config2.json").symlink_to("/etc/hostname")
    with pytest.raises(ModelInvalid, match="plain file"):
        check_model_folder(folder)
    (folder / "unet" / "config2.json").unlink()
    (folder / "unet" / "modeling.py").write_text("print('hello')")
    with pytest.raises(ModelInvalid, match="safetensors"):
        check_model_folder(folder)


def test_a_broken_weights_file_is_the_model_s_fault(
    engine: DiffusersEngine, make_job: MakeJob, sample_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(sample_model, folder)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(ModelInvalid, match="cannot be loaded"):
        run(engine, make_job(model_dir=folder))


@pytest.mark.parametrize(("words", "read"), [(False, 1), (True, 4)])
def test_a_prompt_is_read_once_unless_a_lora_changes_what_is_read(
    words: bool, read: int, make_job: MakeJob, sample_model: Path, tmp_path: Path
) -> None:
    """And the pictures are those of an engine that knows nothing yet."""
    part, layer = ("text_encoder", "q_proj") if words else ("unet", "to_q")
    warm = DiffusersEngine(DiffusersOptions(device="cpu", threads=1))
    pipe = warm._pipeline(sample_model, "fp32").pipeline
    modules = getattr(pipe, part).named_modules()
    shapes = {f"{part}.{name}": module.weight.shape for name, module in modules if name.endswith(layer)}
    lora = write(tmp_path / "lora", shapes, 1)
    used = UsedAdapter(manifest=BlobRef.of(b"lora"))
    calls: list[int] = []
    pipe.text_encoder.register_forward_hook(lambda *_: calls.append(1))

    def drawn(engine: DiffusersEngine, prompt: str, *loras: Path) -> Any:
        job = make_job(prompt=prompt, guidance=2, steps=1, loras=(used,) * len(loras))
        return pixels(engine.run(replace(work(job), loras=loras), lambda _: None))

    plain = drawn(warm, "a star")
    assert len(calls) == 2
    calls.clear()
    cold = DiffusersEngine(DiffusersOptions(device="cpu", threads=1))
    assert np.array_equal(drawn(warm, "a ring", lora), drawn(cold, "a ring", lora))
    assert np.array_equal(drawn(warm, "a star", lora), drawn(cold, "a star", lora))
    assert len(calls) == read
    calls.clear()
    assert np.array_equal(drawn(warm, "a star"), plain)
    assert not calls
