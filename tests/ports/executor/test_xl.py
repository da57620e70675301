"""Stable Diffusion XL in the diffusers engine: the bare pipeline's pixels, all that is told bound by the trace."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
diffusers: Any = pytest.importorskip("diffusers")

from PIL import Image  # noqa: E402

from gesso_node.executors.denoiser import SCHEDULERS  # noqa: E402
from gesso_node.executors.diffusers import DiffusersEngine, DiffusersOptions  # noqa: E402
from gesso_node.executors.engine import EngineJob, EngineResult  # noqa: E402
from gesso_node.executors.port import Job, ReplayCheck, ReplayJob, StepDone  # noqa: E402
from gesso_node.executors.preview import Previewer  # noqa: E402
from gesso_node.executors.sample_xl import write_xl_pipeline  # noqa: E402
from gesso_node.executors.trace import RecordedTrace  # noqa: E402
from gesso_protocol.audit.compare import Branches, embedding_error, tensor  # noqa: E402
from gesso_protocol.audit.schedules import Schedule  # noqa: E402
from gesso_protocol.audit.transitions import OpenedPicture, check_transitions  # noqa: E402
from gesso_protocol.errors import ModelInvalid  # noqa: E402
from gesso_protocol.trace import Layout, LeafKind, Slot  # noqa: E402

from .conftest import BINDING  # noqa: E402

STEPS = 3
MakeJob = Callable[..., Job]


@pytest.fixture(scope="module")
def engine() -> DiffusersEngine:
    return DiffusersEngine(DiffusersOptions(device="cpu", threads=1))


@pytest.fixture
def job(make_job: MakeJob, xl_model: Path) -> MakeJob:
    return lambda **changes: make_job(**{"model_dir": xl_model, "steps": STEPS, **changes})


def run(engine: DiffusersEngine, job: Job) -> tuple[EngineResult, list[StepDone]]:
    steps: list[StepDone] = []
    work = EngineJob(job.spec, job.model_dir, job.out_dir, job.manifest, BINDING.task, job.loras)
    return engine.run(work, steps.append), steps


def plain(folder: Path) -> Any:
    """What anybody would load."""
    pipe = diffusers.StableDiffusionXLPipeline.from_pretrained(str(folder), add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def drawn(pipe: Any, job: Job) -> Any:
    """The picture that a plain call gives for a spec."""
    spec = job.spec
    kind, changes = SCHEDULERS[spec.scheduler]
    pipe.scheduler = kind.from_config(pipe.scheduler.config, **changes)
    return np.asarray(
        pipe(
            spec.prompt,
            negative_prompt=spec.negative_prompt or None,
            width=spec.width,
            height=spec.height,
            num_inference_steps=spec.steps,
            guidance_scale=spec.guidance,
            generator=torch.Generator("cpu").manual_seed(spec.seed),
        ).images[0]
    )


def pixels(result: EngineResult) -> Any:
    return np.asarray(Image.open(result.images[0].path))


@pytest.mark.parametrize(
    ("scheduler", "fields"),
    [
        ("ddim", {"negative_prompt": "blue"}),
        ("euler", {}),
        ("euler_a", {"negative_prompt": "blue", "width": 96}),
        ("dpmpp_2m", {"prompt": "another", "guidance": 1.0, "height": 32 + 64}),
    ],
)
def test_the_picture_is_that_of_the_bare_pipeline(
    engine: DiffusersEngine, job: MakeJob, xl_model: Path, scheduler: str, fields: dict[str, Any]
) -> None:
    ordered = job(**{"scheduler": scheduler, "guidance": 3.5, **fields})
    result, steps = run(engine, ordered)
    assert np.array_equal(pixels(result), drawn(plain(xl_model), ordered))
    assert [step.index for step in steps] == [1, 2, 3]


def test_a_preview_is_a_small_picture(engine: DiffusersEngine, xl_model: Path) -> None:
    previewer = Previewer.of(engine._pipeline(xl_model, "fp32").pipeline)
    previewer.begin()
    assert (previewer.take(torch.zeros(1, 4, 16, 16)) or b"").startswith(b"\xff\xd8")


def test_a_base_that_reads_an_empty_negative_prompt_is_asked_so(
    engine: DiffusersEngine, job: MakeJob, tmp_path: Path, xl_model: Path
) -> None:
    folder = write_xl_pipeline(tmp_path / "reads", zeros_for_none=False)
    ordered = job(model_dir=folder, guidance=4.0)
    read = pixels(run(engine, ordered)[0])
    assert np.array_equal(read, drawn(plain(folder), ordered))
    assert not np.array_equal(read, drawn(plain(xl_model), ordered))


def test_an_autoencoder_with_moments_a_channel_is_used_as_it_says(
    engine: DiffusersEngine, job: MakeJob, tmp_path: Path, xl_model: Path
) -> None:
    folder = tmp_path / "moments"
    shutil.copytree(xl_model, folder)
    config = folder / "vae" / "config.json"
    moments = {"latents_mean": [0.5, -1.0, 0.25, 2.0], "latents_std": [2.0, 0.5, 1.5, 1.0]}
    config.write_text(json.dumps({**json.loads(config.read_text()), **moments}))
    ordered = job(model_dir=folder)
    assert np.array_equal(pixels(run(engine, ordered)[0]), drawn(plain(folder), ordered))


def test_the_trace_binds_words_summary_and_sizes(engine: DiffusersEngine, job: MakeJob, xl_model: Path) -> None:
    ordered = job(guidance=3.0, width=96, negative_prompt="blue")
    run(engine, ordered)
    trace = RecordedTrace.read(ordered.out_dir, ordered.spec)
    assert trace.layout == Layout.of(ordered.spec)  # as many leaves as for any other base
    told = plain(xl_model).encode_prompt("a red circle", negative_prompt="blue")
    for step, (words, pooled) in enumerate(((told[0], told[2]), (told[1], told[3]))):
        slot = Slot(LeafKind.EMBEDDING, 0, step)
        sizes = torch.tensor([64.0, 96, 0, 0, 64, 96])
        wanted = torch.cat([words.flatten(), pooled.flatten(), sizes]).detach().numpy()
        assert trace.entries[slot].shape == (1, len(wanted))
        assert trace.bytes_of(slot) == wanted.tobytes()


@pytest.mark.parametrize("scheduler", sorted(SCHEDULERS))
@pytest.mark.parametrize(("guidance", "strict"), [(3.0, False), (1.0, True)])
def test_a_replayed_step_is_the_recorded_one_to_the_bit(
    engine: DiffusersEngine, job: MakeJob, scheduler: str, guidance: float, strict: bool
) -> None:
    ordered = job(guidance=guidance, scheduler=scheduler, width=96)  # not square: sizes that are swapped show
    run(engine, ordered)
    trace = RecordedTrace.read(ordered.out_dir, ordered.spec)
    replayed = engine.replay(replay_job(engine, ordered, trace, strict=strict))
    for step in range(STEPS):
        cond, uncond = replayed.outputs[0, step]
        recorded = trace.bytes_of(Slot(LeafKind.COND, 0, step))
        assert relative(cond, recorded) < 1e-5
        assert strict or not step or cond == recorded  # the start is scaled in another order of rounding
        assert strict or not step or uncond == trace.bytes_of(Slot(LeafKind.UNCOND, 0, step))
    assert replayed.embeddings == tuple(trace.bytes_of(Slot(LeafKind.EMBEDDING, 0, step)) for step in (0, 1))
    assert replayed.rgb == {0: trace.bytes_of(Slot(LeafKind.RGB))}
    assert transitions(trace, replayed.scheduler_config, replayed.step_noises, ordered).mismatches == ()


def replay_job(engine: DiffusersEngine, job: Job, trace: RecordedTrace, **changes: Any) -> ReplayJob:
    """Every step from what the trace holds."""
    ask = ReplayJob(job.spec, job.model_dir, job.manifest, loras=job.loras)
    schedule = Schedule.of(engine.replay(ask).scheduler_config, job.spec.scheduler, STEPS)
    noise = np.frombuffer(trace.bytes_of(Slot(LeafKind.NOISE)), "<f4")
    start = (noise * np.float64(schedule.init_noise_sigma)).astype("<f4").tobytes()
    latents = [start, *(trace.bytes_of(Slot(LeafKind.LATENT, 0, step)) for step in range(STEPS))]
    checks = tuple(ReplayCheck(0, step, latents[step]) for step in range(STEPS))
    return replace(ask, checks=checks, decode=((0, latents[-1]),), **changes)


def transitions(trace: RecordedTrace, config: dict[str, Any], noises: Any, job: Job) -> Any:
    shape = trace.entries[Slot(LeafKind.NOISE)].shape

    def leaf(kind: LeafKind, step: int = 0) -> Any:
        return tensor(trace.bytes_of(Slot(kind, 0, step)), shape)

    guided = job.spec.guidance > 1
    picture = OpenedPicture(
        0,
        leaf(LeafKind.NOISE),
        [leaf(LeafKind.LATENT, step) for step in range(STEPS)],
        [Branches(leaf(LeafKind.COND, at), leaf(LeafKind.UNCOND, at) if guided else None) for at in range(STEPS)],
        {at: tensor(noise, shape) for (_, at), noise in noises.items()},
    )
    return check_transitions([picture], Schedule.of(config, job.spec.scheduler, STEPS), job.spec.guidance)


def relative(one: bytes, other: bytes) -> float:
    a, b = np.frombuffer(one, np.float32), np.frombuffer(other, np.float32)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize(("place", "change"), [(-1, 8.0), (-8, 0.5), (3, 0.5)])
def test_a_change_anywhere_in_what_was_told_is_seen(
    engine: DiffusersEngine, job: MakeJob, place: int, change: float
) -> None:
    """Sizes are thousands, the summary is of ones: in one sum the first would hide the second."""
    ordered = job(width=1024, height=1024)
    replayed = engine.replay(ReplayJob(ordered.spec, ordered.model_dir, ordered.manifest))
    assert replayed.embeddings is not None
    own = np.frombuffer(replayed.embeddings[0], "<f4")
    theirs = own.copy()
    theirs[place] += change
    assert sum(replayed.embedding_parts) == len(own)
    assert embedding_error(own, own, replayed.embedding_parts) == 0
    assert embedding_error(own, theirs, replayed.embedding_parts) > 1e-3


@pytest.mark.parametrize("kernels", [{"attention": "math"}, {"split_guidance": True}, {"batch_to": 5}])
def test_other_kernels_agree_but_for_the_last_bits(
    engine: DiffusersEngine, job: MakeJob, kernels: dict[str, object]
) -> None:
    ordered = job(guidance=3.0, negative_prompt="blue")
    run(engine, ordered)
    trace = RecordedTrace.read(ordered.out_dir, ordered.spec)
    other = DiffusersEngine(DiffusersOptions.model_validate({"device": "cpu", "threads": 1, "kernels": kernels}))
    outputs = other.replay(replay_job(engine, ordered, trace)).outputs
    assert max(relative(outputs[0, at][0], trace.bytes_of(Slot(LeafKind.COND, 0, at))) for at in range(STEPS)) < 1e-5


def test_narrow_weights_leave_arithmetic_that_can_be_checked(engine: DiffusersEngine, job: MakeJob) -> None:
    ordered = job(guidance=5.0, dtype="bf16", scheduler="euler_a")
    wide, narrow = pixels(run(engine, job(guidance=5.0, scheduler="euler_a"))[0]), pixels(run(engine, ordered)[0])
    trace = RecordedTrace.read(ordered.out_dir, ordered.spec)
    own = engine.replay(ReplayJob(ordered.spec, ordered.model_dir, ordered.manifest, images=(0,)))
    assert transitions(trace, own.scheduler_config, own.step_noises, ordered).mismatches == ()
    assert np.abs(wide.astype(int) - narrow.astype(int)).mean() < 20


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("model_index.json", {"text_encoder_2": None}, "no text_encoder_2"),
        ("model_index.json", {"text_encoder_2": ["transformers", "CLIPTextModel"]}, "not allowed"),
        ("model_index.json", {"tokenizer_2": ["my_code", "CLIPTokenizer"]}, "not allowed"),
        ("model_index.json", {"_class_name": "StableDiffusionXLImg2ImgPipeline"}, "more or other"),
        ("model_index.json", {"_class_name": "StableDiffusionPipeline"}, "text_time"),
        ("unet/config.json", {"addition_embed_type": None}, "beside the words"),
        ("text_encoder_2/config.json", {"projection_dim": 24}, "cannot be loaded|does not fit"),
        ("tokenizer_2/tokenizer_config.json", {"model_max_length": 24}, "different lengths"),
    ],
)
def test_folders_whose_parts_are_not_those_of_one_model_are_refused(
    engine: DiffusersEngine, job: MakeJob, xl_model: Path, tmp_path: Path, file: str, change: dict[str, Any], said: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(xl_model, folder)
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelInvalid, match=said):
        engine.load(folder)
