"""LoRAs on a real pipeline (random weights): training to the bit, files for other tools, drawing with several."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("peft")

import torch

from gesso.checkpointfile import read_state
from gesso.datasets import pack
from gesso.datasets.pictures import Shape
from gesso.tensorfile import open_tensors, write_tensors
from gesso_node.executors.diffusers import DiffusersEngine
from gesso_node.executors.engine import EngineJob
from gesso_node.executors.environment import ChildSettings
from gesso_node.executors.lora.adapter_file import read_adapter
from gesso_node.executors.lora.cheats import cheating
from gesso_node.executors.lora.host import TrainingChildExecutor
from gesso_node.executors.lora.pausing import PausedError, ask_to_pause, take_pause_back
from gesso_node.executors.lora.port import (
    Revisited,
    RevisitJob,
    SegmentJob,
    Trained,
    TrainingInputs,
    TrainingJob,
    TrainingStep,
)
from gesso_node.executors.lora.run import Run, retrain, train
from gesso_node.executors.lora.runfolder import checkpoint_file, read_losses
from gesso_node.executors.port import Replayed, ReplayJob
from gesso_node.executors.precedence import Precedence
from gesso_node.executors.sample import write_sample_pipeline
from gesso_protocol.errors import ModelInvalid
from gesso_protocol.fields import UsedAdapter
from gesso_protocol.ids import Address, BlobRef, TaskId
from gesso_protocol.spec import TextToImage
from gesso_protocol.trace import Binding
from gesso_protocol.training.audit import TrainingVerdict, judge_segment, update_error
from gesso_protocol.training.checkpoint import Resume
from gesso_protocol.training.presets import make_training
from gesso_protocol.training.trace import segments

SEED = bytes(range(32))
BINDING = Binding(1, Address("0x" + "11" * 20), TaskId(bytes(32)), Address("0x" + "22" * 20), bytes(32))
ONE, TWO = BlobRef(b"\x01" * 32), BlobRef(b"\x02" * 32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_sample_pipeline(tmp_path_factory.mktemp("model") / "sample")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BlobRef]:
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    pictures = [
        (Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)), f"zbx number {number}") for number in range(5)
    ]
    return folder, pack(pictures, folder, Shape(64, 16)).ref


@pytest.fixture(scope="module")
def engine(model: Path) -> DiffusersEngine:
    made = DiffusersEngine()
    made.load(model)
    return made


@pytest.fixture
def inputs(model: Path, data: tuple[Path, BlobRef]) -> Callable[..., TrainingInputs]:
    def make(start_dir: Path | None = None, **fields: Any) -> TrainingInputs:
        small: dict[str, Any] = {
            "steps": 7,
            "checkpoint_every": 3,
            "batch": 2,
            "rank": 3,
            "alpha": 2,
            "sample_steps": 2,
            "prior_milli": 0,
        }
        spec = make_training("gesso-tiny@1", dataset=data[1], **{**small, **fields})
        return TrainingInputs(spec, model, data[0], start_dir, ONE, SEED)

    return make


Inputs = Callable[..., TrainingInputs]


def test_a_run_makes_way_while_it_reads_its_texts_and_leaves_the_base_as_it_was(
    engine: DiffusersEngine, inputs: Inputs
) -> None:
    plain, calls = inputs(text_encoder=False, text_learning_rate_nano=0), list[int]()

    def between() -> None:
        calls.append(len(calls))
        if len(calls) == 5 + 3:  # five pictures, and two texts
            raise PausedError

    with pytest.raises(PausedError):
        engine.trainer(replace(plain, between=between))
    trainer = engine.trainer(replace(plain, between=lambda: calls.append(0)))
    assert len(calls) == 8 + 5 + 6, "each picture, each caption, and no words at all"
    trainer.close()


def go(
    engine: DiffusersEngine, inputs: TrainingInputs, folder: Path, cheat: str | None = None, task: str = "0x00"
) -> Run:
    trainer = cheating(cheat, engine.trainer(inputs))
    try:
        return train(trainer, inputs, folder, task, lambda _: None)
    finally:
        trainer.close()


@pytest.fixture(scope="module")
def adapter(
    engine: DiffusersEngine, model: Path, data: tuple[Path, BlobRef], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    spec = make_training("gesso-tiny@1", dataset=data[1], steps=6, batch=2, rank=3, alpha=2, sample_steps=2,
                         prior_milli=0, learning_rate_nano=20_000_000)  # fmt: skip
    folder = tmp_path_factory.mktemp("adapter")
    go(engine, TrainingInputs(spec, model, data[0], None, ONE, SEED), folder)
    return folder / "adapter"


def weights_of(engine: DiffusersEngine, model: Path) -> str:
    pipe = engine._pipeline(model, "fp32").pipeline
    digest = hashlib.sha256()
    for part in (pipe.unet, pipe.text_encoder):
        for name, tensor in sorted(part.state_dict().items()):
            digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def picture(
    engine: DiffusersEngine, model: Path, folder: Path, loras: dict[Path, int] | None = None, **fields: Any
) -> bytes:
    used = [UsedAdapter(manifest=BlobRef(hashlib.sha256(str(path).encode()).digest()), strength_milli=strength)
            for path, strength in (loras or {}).items()]  # fmt: skip
    spec = TextToImage(prompt="zbx", model="sample@1", width=64, height=64, steps=3, loras=tuple(used), **fields)
    job = EngineJob(spec, model, folder, ONE, TaskId(bytes(32)), tuple(loras or {}))
    path = engine.run(job, lambda _: None).images[0].path
    with Image.open(path) as image:
        return image.tobytes()


UNET_ONLY: dict[str, Any] = {"text_encoder": False, "text_learning_rate_nano": 0, "targets": ("attention",)}


@pytest.mark.parametrize("fields", [{}, UNET_ONLY,
                                    {"accumulation": 2, "noise_offset_milli": 100, "min_snr_milli": 5000},
                                    {"prior_milli": 500, "prior_prompts": ("a", "b")}, {"dtype": "bf16"}])  # fmt: skip
def test_resuming_and_running_again_give_the_same_bytes(
    fields: dict[str, Any], engine: DiffusersEngine, model: Path, inputs: Inputs, tmp_path: Path
) -> None:
    before = weights_of(engine, model)
    whole = inputs(**fields)
    run = go(engine, whole, tmp_path / "whole")
    assert run.steps_done == 7
    for number in (3, 2):
        checkpoint_file(tmp_path / "whole", number).rename(tmp_path / f"kept-{number}")
    again = go(engine, whole, tmp_path / "whole")
    assert again.losses == run.losses
    for number in (3, 2):
        assert checkpoint_file(tmp_path / "whole", number).read_bytes() == (tmp_path / f"kept-{number}").read_bytes()
    assert weights_of(engine, model) == before, "the base is what it was, to the bit"


@pytest.mark.parametrize("fields", [{}, {**UNET_ONLY, "noise_offset_milli": 100, "schedule": "linear"}])
def test_another_node_finishes_a_run_with_the_same_bytes(
    fields: dict[str, Any], engine: DiffusersEngine, inputs: Inputs, tmp_path: Path
) -> None:
    first = str(TaskId(b"\x05" * 32))
    mine = inputs(sample_prompts=("a zbx",), **fields)
    run = go(engine, mine, tmp_path / "whole", task=first)
    state = checkpoint_file(tmp_path / "whole", 1)
    raw = state.read_bytes()
    resume = Resume(task=TaskId(b"\x05" * 32), seed=SEED.hex(), step=3, state=BlobRef.of(raw), size=len(raw))
    rest = replace(mine, spec=mine.spec.rest(resume), state=state)
    again = go(engine, rest, tmp_path / "rest", task="0x" + "09" * 32)
    assert (again.steps_done, again.losses) == (7, run.losses[3:])
    assert [one.sha256 for one in again.images] == [one.sha256 for one in run.images]
    for name in ("adapter.safetensors", "adapter_kohya.safetensors", "adapter.json"):
        ours, theirs = tmp_path / "rest" / "adapter" / name, tmp_path / "whole" / "adapter" / name
        assert ours.read_bytes() == theirs.read_bytes()
    other = inputs(rank=2, alpha=2, **fields)
    wrong = replace(other, spec=other.spec.rest(resume), state=state)
    with pytest.raises(ModelInvalid, match="another network"):
        go(engine, wrong, tmp_path / "wrong")


def test_training_changes_the_loss_it_is_asked_to(engine: DiffusersEngine, inputs: Inputs) -> None:
    trainer = engine.trainer(inputs(steps=40, learning_rate_nano=20_000_000, text_learning_rate_nano=0))
    try:
        before = [trainer.loss_at(step, trained=True) for step in range(8)]
        assert before == [trainer.loss_at(step, trained=False) for step in range(8)], "nothing is changed at the start"
        for step in range(40):
            trainer.update(step)
        after = [trainer.loss_at(step, trained=True) for step in range(8)]
        assert np.mean(after) < 0.9 * np.mean(before)
        assert before == pytest.approx([trainer.loss_at(step, trained=False) for step in range(8)])
    finally:
        trainer.close()


def test_the_loop_is_the_plain_one_of_peft(engine: DiffusersEngine, model: Path, inputs: Inputs) -> None:
    """The same updates written out with the libraries alone, from the same draws."""
    from diffusers import StableDiffusionPipeline

    from gesso_node.executors.lora.data import Pictures
    from gesso_node.executors.lora.network import Network
    from gesso_protocol.training.draws import Draws
    from gesso_protocol.training.order import DataOrder

    wanted = inputs(text_encoder=False, text_learning_rate_nano=0, schedule="constant", warmup_steps=0,
                    caption_dropout_milli=0)  # fmt: skip
    trainer = engine.trainer(wanted)
    try:
        losses = [trainer.update(step) for step in range(3)]
        end = trainer.state(3).weights
    finally:
        trainer.close()
    pipe = StableDiffusionPipeline.from_pretrained(str(model), safety_checker=None)
    spec, data, draws = wanted.spec, Pictures.open(wanted.dataset_dir, wanted.spec), Draws(SEED)
    network = Network(pipe, spec)
    network.start(draws)
    parameters = list(network.parameters.values())
    optimiser = torch.optim.AdamW(parameters, lr=spec.learning_rate_nano / 1e9, weight_decay=0.01)
    pixels = (
        torch.stack([torch.from_numpy(data.pixels(at).copy()).permute(2, 0, 1) for at in range(5)]).float() / 127.5 - 1
    )
    latents = torch.cat([pipe.vae.encode(one[None]).latent_dist.mode() for one in pixels]).detach()
    latents = latents * pipe.vae.config.scaling_factor
    plain = []
    for step in range(3):
        (batch,) = DataOrder(draws, data.index.samples, spec.batch, 1).batches(step)
        drawn = [
            draws.sample(step, at, (4, 16, 16), timesteps=1000, dropout_milli=0, offset_milli=0) for at in range(2)
        ]
        noise = torch.from_numpy(np.stack([one.noise for one in drawn]))
        times = torch.tensor([one.timestep for one in drawn])
        clean = latents[list(batch)]
        words = pipe.tokenizer([data.index.samples[at].caption for at in batch], padding="max_length", max_length=32,
                               return_tensors="pt").input_ids  # fmt: skip
        predicted = pipe.unet(pipe.scheduler.add_noise(clean, noise, times), times, pipe.text_encoder(words)[0]).sample
        target = pipe.scheduler.get_velocity(clean, noise, times)
        loss = torch.nn.functional.mse_loss(predicted, target)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        plain.append(loss.item())
    assert losses == pytest.approx(plain, rel=1e-5)
    start = {name: array * 0 for name, array in end.items()}
    assert update_error(start, end, network.weights()) < 1e-4


def test_both_files_load_everywhere_and_draw_the_same(
    adapter: Path, engine: DiffusersEngine, model: Path, tmp_path: Path
) -> None:
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    plain = picture(engine, model, tmp_path / "plain")
    drawn = []
    for name in ("adapter.safetensors", "adapter_kohya.safetensors"):
        pipe = StableDiffusionPipeline.from_pretrained(str(model), safety_checker=None)
        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
        pipe.load_lora_weights(str(adapter), weight_name=name)
        noise = torch.Generator("cpu").manual_seed(0)
        latents = pipe("zbx", width=64, height=64, num_inference_steps=3, guidance_scale=7.5, generator=noise,
                       output_type="np").images[0]  # fmt: skip
        theirs = (latents * 255).round().astype(np.uint8).tobytes()
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes((adapter / name).read_bytes())
        ours = picture(engine, model, tmp_path / f"out-{name}", {tmp_path / name: 1000})
        assert ours == theirs, f"{name}: our way of putting it on is the library's"
        drawn.append(ours)
    assert drawn[0] == drawn[1] != plain


def test_metadata_for_other_tools(adapter: Path) -> None:
    for name in ("adapter.safetensors", "adapter_kohya.safetensors"):
        notes = open_tensors(adapter / name, max_bytes=10**8).metadata
        assert notes["ss_network_dim"] == "3"
        assert notes["ss_network_alpha"] == "2"
        assert notes["modelspec.sai_model_spec"] == "1.0.1"
        assert notes["gesso.task"] == "0x00"
        folders = json.loads(notes["ss_dataset_dirs"])
        assert notes["ss_num_train_images"] == str(sum(one["n_repeats"] * one["img_count"] for one in folders.values()))
        assert json.loads(notes["ss_tag_frequency"]).keys() == folders.keys()
        assert json.loads(notes["ss_bucket_info"])["buckets"]["0"]["resolution"] == [64, 64]
        raw = (adapter / name).read_bytes()
        (header,) = struct.unpack("<Q", raw[:8])
        assert notes["sshs_model_hash"] == hashlib.sha256(raw[8 + header :]).hexdigest()
        assert str(Path.home()) not in json.dumps(notes)
    assert json.loads((adapter / "adapter.json").read_text())["rank"] == 3


def test_strength_is_honoured_and_adapters_leave_no_trace(
    adapter: Path, engine: DiffusersEngine, model: Path, tmp_path: Path
) -> None:
    plain = picture(engine, model, tmp_path / "0")
    shown = {s: picture(engine, model, tmp_path / str(s), {adapter: s}) for s in (100, 500, 1000, 2000, -1000)}
    assert len({plain, *shown.values()}) == 6

    def apart(one: bytes) -> float:
        return float(np.abs(np.frombuffer(one, np.uint8).astype(int) - np.frombuffer(plain, np.uint8)).mean())

    assert apart(shown[100]) < apart(shown[500]) < apart(shown[1000]) < apart(shown[2000])
    assert picture(engine, model, tmp_path / "again") == plain
    assert picture(engine, model, tmp_path / "same", {adapter: 500}) == shown[500]


def test_several_adapters_add_up_and_the_oldest_leaves(
    adapter: Path, engine: DiffusersEngine, model: Path, tmp_path: Path
) -> None:
    copies = []
    for number in range(6):
        copy = tmp_path / f"copy{number}"
        copy.mkdir()
        (copy / "adapter.safetensors").write_bytes((adapter / "adapter.safetensors").read_bytes())
        copies.append(copy)
    both = picture(engine, model, tmp_path / "both", {copies[0]: 400, copies[1]: 600})
    one = picture(engine, model, tmp_path / "one", {copies[0]: 1000})
    assert np.abs(np.frombuffer(both, np.uint8).astype(int) - np.frombuffer(one, np.uint8)).max() <= 1
    for copy in copies:
        picture(engine, model, tmp_path / copy.name / "out", {copy: 1000})
    kept = engine._pipeline(model, "fp32").adapters.kept
    assert kept == tuple(copies[2:])
    assert picture(engine, model, tmp_path / "back", {copies[0]: 400, copies[1]: 600}) == both


def test_an_audit_replays_steps_with_the_adapter(adapter: Path, engine: DiffusersEngine, model: Path) -> None:
    spec = TextToImage(prompt="zbx", model="sample@1", width=64, height=64, steps=3)
    with_lora = spec.model_copy(update={"loras": (UsedAdapter(manifest=ONE),)})
    from gesso_node.executors.port import ReplayCheck

    check = (ReplayCheck(0, 0, np.ones(1024, "<f4").tobytes()),)
    plain = engine.replay(ReplayJob(spec, model, ONE, check))
    adapted = engine.replay(ReplayJob(with_lora, model, ONE, check, loras=(adapter,)))
    assert isinstance(adapted, Replayed)
    assert plain.outputs != adapted.outputs
    with pytest.raises(ModelInvalid, match="names 1 LoRAs"):
        engine.replay(ReplayJob(with_lora, model, ONE, check))


def variant(adapter: Path, folder: Path, change: Callable[[list[Any]], list[Any]]) -> Path:
    file = open_tensors(adapter / "adapter.safetensors", max_bytes=10**8)
    rows = [(name, info.dtype, info.shape, file.read(name)) for name, info in file.tensors.items()]
    folder.mkdir(exist_ok=True)
    write_tensors(folder / "adapter.safetensors", change(rows), file.metadata)
    return folder


def poisoned(rows: list[Any]) -> list[Any]:
    name, dtype, shape, data = rows[0]
    return [(name, dtype, shape, np.float32("nan").tobytes() + data[4:]), *rows[1:]]


def renamed(rows: list[Any]) -> list[Any]:
    """The first layer under the name of one that the base does not have."""
    part, _, rest = rows[0][0].partition(".")
    module = rest.rpartition(".lora_")[0]
    return [(name.replace(f"{part}.{module}.", f"{part}.x.{module}."), *row) for name, *row in rows]


def narrowed(rows: list[Any]) -> list[Any]:
    """Every down-projection for half as many channels."""
    return [
        (name, dtype, (shape[0], shape[1] // 2, *shape[2:]), data[: len(data) // 2])
        if ".lora_A." in name and shape[1] % 2 == 0
        else (name, dtype, shape, data)
        for name, dtype, shape, data in rows
    ]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (poisoned, "not numbers"),
        (lambda rows: rows[1:], "lacks one"),
        (renamed, "another base"),
        (narrowed, "another base"),
        (lambda rows: [*rows, ("alien.weight", "F32", (1,), bytes(4))], "no LoRA that can be used"),
        (lambda rows: [*rows, ("lora_te3_x.lora_down.weight", "F32", (1, 1), bytes(4))], "no LoRA that can be"),
        (lambda rows: [*rows, ("lora_unet_x.alpha", "F32", (), bytes(4))], "no alpha"),
        (lambda rows: [(name, "I32", shape, data) for name, _, shape, data in rows], "element type"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_sentence(
    change: Callable[[list[Any]], list[Any]],
    word: str,
    adapter: Path,
    engine: DiffusersEngine,
    model: Path,
    tmp_path: Path,
) -> None:
    plain = picture(engine, model, tmp_path / "before")
    with pytest.raises(ModelInvalid, match=word):
        picture(engine, model, tmp_path / "out", {variant(adapter, tmp_path / "bad", change): 1000})
    assert picture(engine, model, tmp_path / "after") == plain, "a refused adapter leaves nothing behind"


def test_pickles_and_header_bombs_are_refused(
    adapter: Path, engine: DiffusersEngine, model: Path, tmp_path: Path
) -> None:
    for number, data in enumerate((pickle.dumps({"a": 1}), struct.pack("<Q", 2**62) + b"{}", b"")):
        folder = tmp_path / f"bad{number}"
        folder.mkdir()
        (folder / "adapter.safetensors").write_bytes(data)
        with pytest.raises(ModelInvalid):
            picture(engine, model, tmp_path / "out", {folder: 1000})


def test_continuing_needs_the_same_rank_and_layers(
    adapter: Path, engine: DiffusersEngine, inputs: Inputs, tmp_path: Path
) -> None:
    go(engine, inputs(start_dir=adapter), tmp_path / "more")
    first = read_state(checkpoint_file(tmp_path / "more", 0)).weights
    kept = read_adapter(adapter).diffusers_weights()
    assert all(np.array_equal(first[name], kept[name]) for name in kept)
    for fields, word in (({"rank": 4, "alpha": 4}, "shape"), ({"targets": ("attention",)}, "other layers")):
        with pytest.raises(ModelInvalid, match=word):
            engine.trainer(inputs(start_dir=adapter, **fields))
    engine.trainer(inputs()).close()


@pytest.mark.parametrize("cheat", [None, "skipped-steps", "half-batch", "other-data", "own-order", "straight-line",
                                   "rescaled-adapter", "untrained-adapter", "higher-rate", "base-int8",
                                   "forged-moments", "zeroed-moments"])  # fmt: skip
def test_a_segment_tells_honest_from_forged(cheat: str | None, model: Path, inputs: Inputs, tmp_path: Path) -> None:
    fresh = DiffusersEngine()
    mine = inputs(steps=20, checkpoint_every=10, learning_rate_nano=2_000_000)
    go(fresh, mine, tmp_path / "run", cheat)
    one = segments(mine.spec)[1]
    state = checkpoint_file(tmp_path / "run", 1)
    judge = DiffusersEngine()
    trainer = judge.trainer(mine)
    try:
        path, losses = retrain(trainer, SegmentJob(mine, one, state), tmp_path / "again")
    finally:
        trainer.close()
    theirs = read_state(checkpoint_file(tmp_path / "run", 2))
    told = read_losses(tmp_path / "run", one)
    report = judge_segment(mine.spec, one, read_state(state).weights, theirs, read_state(path), told, losses)
    assert report.verdict is (TrainingVerdict.PASS if cheat is None else TrainingVerdict.FLAG)
    assert report.of_limit == 0 if cheat is None else report.of_limit > 3


def test_a_run_that_makes_way_in_the_middle_of_a_segment_ends_with_the_same_bytes(
    engine: DiffusersEngine, inputs: Inputs, tmp_path: Path
) -> None:
    wanted, folder = inputs(steps=5, text_encoder=True), tmp_path / "paused"

    def asked(step: TrainingStep) -> None:
        if step.index in (2, 4):
            ask_to_pause(folder)

    for _ in range(2):
        trainer = engine.trainer(wanted)
        with pytest.raises(PausedError):
            train(trainer, wanted, folder, "0x00", asked)
        trainer.close()
        take_pause_back(folder)
    go(engine, wanted, folder)
    go(engine, wanted, tmp_path / "whole")
    states = [
        checkpoint_file(where, number).read_bytes() for where in (folder, tmp_path / "whole") for number in (1, 2)
    ]
    assert states[:2] == states[2:]


@pytest.mark.slow
@pytest.mark.anyio
async def test_in_a_child_process_a_cancelled_run_goes_on_and_makes_way_for_a_check(
    model: Path, inputs: Inputs, tmp_path: Path
) -> None:
    job = TrainingJob(inputs(steps=9), tmp_path / "out", 100, BINDING)
    told: list[TrainingStep] = []
    done: list[Any] = []

    async def stop_at_five(step: TrainingStep) -> None:
        if step.index == 5:
            scope.cancel()
        await anyio.lowlevel.checkpoint()

    async def on_event(step: TrainingStep) -> None:
        told.append(step)

    with anyio.fail_after(110):
        async with TrainingChildExecutor(
            "diffusers", tmp_path / "home", ChildSettings(options={"threads": 1})
        ) as executor:
            with anyio.CancelScope() as scope:
                await executor.train(job, on_event=stop_at_five)
            executor.precedence = Precedence(grace_s=0)

            async def train() -> None:
                done.append(await executor.train(job, on_event=on_event))

            async def check() -> None:
                done.append(await executor.revisit(RevisitJob(job.inputs, begin=True), tmp_path / "check"))

            async with anyio.create_task_group() as tasks, executor.precedence.turn():
                tasks.start_soon(train)  # both wait in line, the training first
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(check)
                await anyio.wait_all_tasks_blocked()
            parts = tuple((one, checkpoint_file(job.out_dir, one.number)) for one in segments(job.inputs.spec)[1:])
            last = checkpoint_file(job.out_dir, 3)
            looks = RevisitJob(job.inputs, segments=parts, weigh=last, sample=0)
            again = await executor.revisit(looks, tmp_path / "audit")
            assert executor.health().started == 1
    checked, outcome = done
    assert isinstance(checked, Revisited)
    assert isinstance(outcome, Trained)
    first = told[0].index
    assert first in (4, 7), "it went on from a checkpoint, whichever was the last before the cancel was seen"
    assert [step.index for step in told if step.resumed] == [first], "it made way while it read its pictures"
    assert isinstance(again, Revisited)
    assert again.sample is not None
    assert again.sample.read_bytes() == outcome.images[0].path.read_bytes()
    for (one, _), rerun in zip(parts, again.segments, strict=True):
        assert rerun.state is not None
        assert rerun.state.read_bytes() == checkpoint_file(job.out_dir, one.number + 1).read_bytes()
    assert outcome.profile["key"].startswith("fp32/cpu")
