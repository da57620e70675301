"""LoRA training on an XL base (random weights): both text encoders, to the bit, files for others, segments again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("peft")

import torch
from diffusers import DDIMScheduler, StableDiffusionXLPipeline

from gesso.checkpointfile import read_state
from gesso.datasets import pack
from gesso.datasets.pictures import Shape
from gesso.tensorfile import open_tensors, write_tensors
from gesso_node.auditing.run_checks import adapter_fault
from gesso_node.executors.diffusers import DiffusersEngine
from gesso_node.executors.engine import EngineJob
from gesso_node.executors.lora.adapter_file import read_adapter
from gesso_node.executors.lora.cheats import cheating
from gesso_node.executors.lora.data import Pictures
from gesso_node.executors.lora.network import Network
from gesso_node.executors.lora.port import SegmentJob, TrainingInputs
from gesso_node.executors.lora.run import Run, retrain, train
from gesso_node.executors.lora.runfolder import checkpoint_file, read_losses
from gesso_node.executors.lora.sgm_names import layers_in
from gesso_protocol.errors import ModelInvalid
from gesso_protocol.fields import UsedAdapter
from gesso_protocol.ids import BlobRef, TaskId
from gesso_protocol.spec import TextToImage
from gesso_protocol.training.audit import TrainingVerdict, judge_segment, update_error
from gesso_protocol.training.checkpoint import Resume
from gesso_protocol.training.draws import Draws
from gesso_protocol.training.order import DataOrder
from gesso_protocol.training.presets import make_training
from gesso_protocol.training.trace import segments

SEED = bytes(range(32))
FIRST, ONE = TaskId(b"\x05" * 32), BlobRef(b"\x01" * 32)
FILES = ("adapter.safetensors", "adapter_kohya.safetensors")
STEPS = 5
Inputs = Callable[..., TrainingInputs]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BlobRef]:
    """Pictures of two shapes: what is told of their sizes differs."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    sides = ((64, 64), (64, 64), (48, 80), (48, 80))
    pictures = [(Image.fromarray(rng.integers(0, 255, (*side, 3), np.uint8)), f"zbx number {at}")
                for at, side in enumerate(sides)]  # fmt: skip
    return folder, pack(pictures, folder, Shape(64, 16)).ref


@pytest.fixture(scope="module")
def engine() -> DiffusersEngine:
    torch.set_num_threads(1)
    return DiffusersEngine()


@pytest.fixture(scope="module")
def inputs(xl_model: Path, data: tuple[Path, BlobRef]) -> Inputs:
    def make(start_dir: Path | None = None, **fields: Any) -> TrainingInputs:
        small = {
            "steps": STEPS, "checkpoint_every": 2, "batch": 2, "rank": 3, "alpha": 2, "accumulation": 1,
            "resolution": 64, "bucket_step_px": 16, "sample_steps": 2, "sample_every": 0, "text_encoder": True,
            "text_learning_rate_nano": 10_000_000, "learning_rate_nano": 20_000_000, "warmup_steps": 0,
        }  # fmt: skip
        spec = make_training("sdxl@1", dataset=data[1], **{**small, **fields})
        return TrainingInputs(spec, xl_model, data[0], start_dir, ONE, SEED)

    return make


def go(engine: DiffusersEngine, inputs: TrainingInputs, folder: Path, cheat: str | None = None) -> Run:
    trainer = cheating(cheat, engine.trainer(inputs))
    try:
        return train(trainer, inputs, folder, str(FIRST), lambda _: None)
    finally:
        trainer.close()


@pytest.fixture(scope="module")
def whole(engine: DiffusersEngine, inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    folder = tmp_path_factory.mktemp("whole")
    return go(engine, inputs(sample_prompts=("a zbx",)), folder), folder


def numbers(pipe: Any) -> str:
    digest = hashlib.sha256()
    for part in (pipe.unet, pipe.text_encoder, pipe.text_encoder_2):
        for name, tensor in sorted(part.state_dict().items()):
            digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def test_another_node_finishes_a_run_with_the_same_bytes(
    engine: DiffusersEngine, xl_model: Path, inputs: Inputs, whole: tuple[Run, Path], tmp_path: Path
) -> None:
    run, folder = whole
    state = checkpoint_file(folder, 1)
    raw = state.read_bytes()
    resume = Resume(task=FIRST, seed=SEED.hex(), step=2, state=BlobRef.of(raw), size=len(raw))
    mine = inputs(sample_prompts=("a zbx",))
    pipe = engine._pipeline(xl_model, "fp32").pipeline
    before = numbers(pipe)
    again = go(engine, replace(mine, spec=mine.spec.rest(resume), state=state), tmp_path)
    assert (again.steps_done, again.losses) == (STEPS, run.losses[2:])
    assert [one.sha256 for one in again.images] == [one.sha256 for one in run.images]
    for name in (*FILES, "adapter.json"):
        assert (tmp_path / "adapter" / name).read_bytes() == (folder / "adapter" / name).read_bytes()
    assert numbers(pipe) == before, "the base is what it was, to the bit"


def test_both_text_encoders_and_the_unet_learn(inputs: Inputs, whole: tuple[Run, Path]) -> None:
    first, last = (read_state(checkpoint_file(whole[1], number)).weights for number in (0, 3))
    moved = {name.partition(".")[0] for name in first if not np.array_equal(first[name], last[name])}
    assert moved == {"unet", "text_encoder", "text_encoder_2"}
    assert all(np.isfinite(array).all() for array in last.values())


@pytest.mark.parametrize("text_encoder", [True, False])
def test_the_loop_is_the_plain_one_of_peft(
    text_encoder: bool, engine: DiffusersEngine, xl_model: Path, inputs: Inputs
) -> None:
    """The same updates written out with the libraries alone, from the same draws."""
    rates = {} if text_encoder else {"text_learning_rate_nano": 0}
    wanted = inputs(text_encoder=text_encoder, schedule="constant", caption_dropout_milli=0, min_snr_milli=0, **rates)
    trainer = engine.trainer(wanted)
    try:
        losses = [trainer.update(step) for step in range(3)]
        end = trainer.state(3).weights
    finally:
        trainer.close()
    pipe: Any = StableDiffusionXLPipeline.from_pretrained(str(xl_model), add_watermarker=False)
    scheduler: Any = DDIMScheduler.from_config(pipe.scheduler.config)
    spec, pictures, draws = wanted.spec, Pictures.open(wanted.dataset_dir, wanted.spec), Draws(SEED)
    network = Network(pipe, spec)
    network.start(draws)
    groups = [
        {"params": [value for name, value in network.parameters.items() if name.startswith(start)], "lr": rate / 1e9}
        for start, rate in (("unet", spec.learning_rate_nano), ("text", spec.text_learning_rate_nano))
    ]
    optimiser = torch.optim.AdamW([group for group in groups if group["params"]], weight_decay=0.01)
    samples, plain = pictures.index.samples, []
    for step in range(3):
        (batch,) = DataOrder(draws, samples, spec.batch, 1).batches(step)
        pixels = torch.stack([torch.from_numpy(pictures.pixels(at).copy()).permute(2, 0, 1) for at in batch])
        height, width = pixels.shape[-2:]
        with torch.no_grad():
            clean = torch.cat([pipe.vae.encode(one[None].float() / 127.5 - 1).latent_dist.mode() for one in pixels])
        clean = clean * pipe.vae.config.scaling_factor
        drawn = [draws.sample(step, at, tuple(clean.shape[1:]), timesteps=1000, dropout_milli=0, offset_milli=0)
                 for at in range(2)]  # fmt: skip
        noise = torch.from_numpy(np.stack([one.noise for one in drawn]))
        times = torch.tensor([one.timestep for one in drawn])
        captions = [samples[at].caption for at in batch]
        words, _, pooled, _ = pipe.encode_prompt(captions, do_classifier_free_guidance=False)
        sizes = torch.tensor([[height, width, 0, 0, height, width]] * 2, dtype=torch.float32)
        predicted = pipe.unet(scheduler.add_noise(clean, noise, times), times, words,
                              added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes}).sample  # fmt: skip
        loss = torch.nn.functional.mse_loss(predicted, noise)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(network.parameters.values()), 1.0)
        optimiser.step()
        plain.append(float(loss.detach()))
    assert losses == pytest.approx(plain, rel=1e-5)
    assert update_error({name: array * 0 for name, array in end.items()}, end, network.weights()) < 1e-4


def test_both_files_load_everywhere_and_draw_the_same(
    engine: DiffusersEngine, xl_model: Path, whole: tuple[Run, Path], tmp_path: Path
) -> None:
    drawn = []
    for name in FILES:
        pipe: Any = StableDiffusionXLPipeline.from_pretrained(str(xl_model), add_watermarker=False)
        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
        pipe.load_lora_weights(str(whole[1] / "adapter"), weight_name=name)
        noise = torch.Generator("cpu").manual_seed(0)
        theirs = np.asarray(pipe("zbx", width=64, height=64, num_inference_steps=2, generator=noise,
                                 guidance_scale=5.0).images[0])  # fmt: skip
        alone = tmp_path / name
        alone.mkdir()
        (alone / name).write_bytes((whole[1] / "adapter" / name).read_bytes())
        used = (UsedAdapter(manifest=ONE),)
        spec = TextToImage(prompt="zbx", model="xl@1", width=64, height=64, steps=2, guidance=5.0, scheduler="ddim",
                           seed=0, loras=used)  # fmt: skip
        job = EngineJob(spec, xl_model, tmp_path / f"out-{name}", ONE, FIRST, (alone,))
        ours = np.asarray(Image.open(engine.run(job, lambda _: None).images[0].path))
        assert np.array_equal(ours, theirs), f"{name}: our way of putting it on is the library's"
        drawn.append(ours)
    assert np.array_equal(*drawn)


def test_kohyas_form_has_the_originals_names_and_says_xl(whole: tuple[Run, Path]) -> None:
    diffusers, kohya = (open_tensors(whole[1] / "adapter" / name, max_bytes=10**8) for name in FILES)
    middle = "middle_block_1_transformer_blocks_0_attn1_to_q"
    assert {f"lora_unet_{middle}.lora_down.weight", f"lora_unet_{middle}.alpha"} < set(kohya.tensors)
    assert "lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_k.lora_up.weight" in kohya.tensors
    for te in ("te1", "te2"):
        assert f"lora_{te}_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight" in kohya.tensors
    for file in (diffusers, kohya):
        assert file.metadata["ss_base_model_version"] == "sdxl_base_v1-0"
        assert file.metadata["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"


def test_an_auditor_finds_the_trained_weights_in_both_files(
    xl_model: Path, inputs: Inputs, whole: tuple[Run, Path], tmp_path: Path
) -> None:
    spec, last, layers = inputs().spec, checkpoint_file(whole[1], 3), layers_in(xl_model)
    assert layers == 2
    plain, kohya = (whole[1] / "adapter" / name for name in FILES)
    assert adapter_fault(last, plain, spec) == adapter_fault(last, kohya, spec, layers) == ""
    assert "other layers" in adapter_fault(last, kohya, spec)
    assert "not that of the last" in adapter_fault(checkpoint_file(whole[1], 2), kohya, spec, layers)
    file = open_tensors(kohya, max_bytes=10**8)
    rows = [(name, info.dtype, info.shape, file.read(name)) for name, info in file.tensors.items()]
    swapped = [(name.replace("_te1_", "_te2_"), *row) for name, *row in rows if "_te2_" not in name]
    write_tensors(tmp_path / "swapped.safetensors", swapped, file.metadata)
    assert "other layers" in adapter_fault(last, tmp_path / "swapped.safetensors", spec, layers)


def test_training_goes_on_from_a_lora_with_both_encoders(
    engine: DiffusersEngine, inputs: Inputs, whole: tuple[Run, Path], tmp_path: Path
) -> None:
    adapter = whole[1] / "adapter"
    go(engine, inputs(start_dir=adapter, steps=2), tmp_path / "more")
    first = read_state(checkpoint_file(tmp_path / "more", 0)).weights
    last = read_state(checkpoint_file(whole[1], 3)).weights
    assert all(np.array_equal(first[name], last[name]) for name in last)
    assert len(read_adapter(adapter).layers) * 2 == len(last)
    unet_only = inputs(start_dir=adapter, text_encoder=False, text_learning_rate_nano=0)
    with pytest.raises(ModelInvalid, match="other layers"):
        engine.trainer(unet_only)


@pytest.mark.parametrize("cheat", [None, "other-data"])
def test_a_segment_tells_honest_from_forged(
    cheat: str | None, inputs: Inputs, whole: tuple[Run, Path], tmp_path: Path
) -> None:
    mine, folder = inputs(sample_prompts=("a zbx",)), whole[1]
    if cheat is not None:
        folder = tmp_path / "run"
        go(DiffusersEngine(), mine, folder, cheat)
    one = segments(mine.spec)[1]
    state = checkpoint_file(folder, 1)
    trainer = DiffusersEngine().trainer(mine)
    try:
        path, losses = retrain(trainer, SegmentJob(mine, one, state), tmp_path / "again")
    finally:
        trainer.close()
    theirs = read_state(checkpoint_file(folder, 2))
    told = read_losses(folder, one)
    report = judge_segment(mine.spec, one, read_state(state).weights, theirs, read_state(path), told, losses)
    assert report.verdict is (TrainingVerdict.PASS if cheat is None else TrainingVerdict.FLAG)
    assert report.of_limit == 0 if cheat is None else report.of_limit > 3


def test_resuming_with_a_prior_and_accumulation_gives_the_same_bytes(
    engine: DiffusersEngine, inputs: Inputs, tmp_path: Path
) -> None:
    mine = inputs(prior_milli=500, prior_prompts=("a", "b"), accumulation=2, steps=2, checkpoint_every=1)
    run = go(engine, mine, tmp_path)
    kept = checkpoint_file(tmp_path, 2).read_bytes()
    checkpoint_file(tmp_path, 2).unlink()
    assert go(engine, mine, tmp_path).losses == run.losses
    assert checkpoint_file(tmp_path, 2).read_bytes() == kept
