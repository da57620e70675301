"""The real engine: a folder for `StableDiffusionPipeline` or its XL sister, run step by step, its trace recorded.

Same seed, same start on every device: noise is drawn in fp32 by a CPU generator. The scheduler computes in fp32
whatever the weights are, so that a single step can be checked by re-running it. This module is imported in the child
process only; torch must never reach the node's own process.
"""

from __future__ import annotations

import functools
import io
import itertools
import time
from collections import OrderedDict
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import diffusers
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from gesso_node.executors.cheats import ENGINE_CHEATS
from gesso_node.executors.conditioning import Conditioning, Encodings, call_arguments, conditioned
from gesso_node.executors.denoiser import DTYPES, Denoiser, TensorSteps, latent_shape, make_scheduler, raw_bytes
from gesso_node.executors.engine import Emit, EngineJob, EngineResult, finish_picture, run_facts
from gesso_node.executors.folder import check_model_folder
from gesso_node.executors.kernels import STRICT, KernelOptions, use_kernels
from gesso_node.executors.lora.cheats import cheating
from gesso_node.executors.lora.port import TrainingInputs
from gesso_node.executors.lora.trainer import Trainer
from gesso_node.executors.lora.use import AdapterSet, strengths
from gesso_node.executors.machine import (
    chosen_device,
    device_name,
    family_of,
    give_back_memory,
    one_thread,
    settle_arithmetic,
)
from gesso_node.executors.memory import MemoryErrors
from gesso_node.executors.pipeline import open_pipeline
from gesso_node.executors.port import ImageFile, Replayed, ReplayJob, StepDone
from gesso_node.executors.preview import Previewer
from gesso_node.executors.profiles import profile_key
from gesso_node.executors.replay import replay_with
from gesso_node.executors.trace import TraceRecorder
from gesso_node.executors.vae import to_rgb
from gesso_protocol.errors import ModelInvalid
from gesso_protocol.spec import TextToImage, TrainLora
from gesso_protocol.trace import LeafKind, Slot, TensorType


class DiffusersOptions(BaseModel):
    """How the engine uses this machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(default=0, ge=0, le=1024)
    """CPU threads; 0 leaves torch's own choice."""
    max_loaded: int = Field(default=1, ge=1, le=8)
    kernels: KernelOptions = KernelOptions()
    """Which of several honest ways to compute is used."""
    cheat: str | None = None
    """Sell forged work; see `executors/cheats`. For tests of audits."""
    cheat_files: dict[str, Path] = Field(default_factory=dict)
    """What a cheat needs beside the model, as `early_unet`."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    pipeline: Any
    scheduler_config: dict[str, Any]
    """As the publisher gave it; every job's scheduler is made from this one, not from the job before."""
    previewer: Previewer
    adapters: AdapterSet
    encodings: Encodings


class DiffusersEngine:
    """Keeps the last pipelines loaded; one picture at a time, so that a picture never depends on its neighbours."""

    name = "diffusers"

    def __init__(self, options: DiffusersOptions | None = None) -> None:
        self._options = options or DiffusersOptions()
        self._device = chosen_device(self._options.device)
        self._loaded: OrderedDict[tuple[Path, str], _Loaded] = OrderedDict()
        if self._options.threads:
            torch.set_num_threads(self._options.threads)
        settle_arithmetic()

    def load(self, model_dir: Path, /, dtype: str = "fp32") -> float:
        begun = time.perf_counter()
        with MemoryErrors():
            self._pipeline(model_dir, dtype)
        return time.perf_counter() - begun

    def run(self, job: EngineJob, emit: Emit) -> EngineResult:
        if job.model_dir is None:
            raise ModelInvalid("the diffusers engine needs a model folder")
        load_seconds = self.load(job.model_dir, job.spec.dtype)
        begun = time.perf_counter()
        job.out_dir.mkdir(parents=True, exist_ok=True)
        with MemoryErrors():
            loaded = self._pipeline(job.model_dir, job.spec.dtype)
            _check_size(loaded.pipeline, job.spec)
            facts = run_facts(job, self._key(job.spec.dtype))
            with (
                loaded.adapters.applied(strengths(job.spec, job.loras)),
                TraceRecorder.open(job.out_dir, job.spec, facts) as recorder,
            ):
                images = self._pictures(loaded, job, recorder, emit)
                recorder.finish()
        return EngineResult(images, self._profile(job.spec.dtype), time.perf_counter() - begun, load_seconds)

    def _pictures(self, loaded: _Loaded, job: EngineJob, recorder: TraceRecorder, emit: Emit) -> tuple[ImageFile, ...]:
        if self._options.cheat not in ENGINE_CHEATS:
            return _Run(loaded, job, recorder, emit).pictures()
        from gesso_node.executors.cheats.diffusers import DiffusersKit, forged_pictures

        def without_loras() -> Any:
            loaded.adapters.off()
            return loaded.pipeline

        kit = DiffusersKit(
            loaded.pipeline,
            loaded.scheduler_config,
            job.spec,
            files=self._options.cheat_files,
            without_loras=without_loras,
        )
        return forged_pictures(self._options.cheat, kit, job, recorder, emit)

    def replay(self, job: ReplayJob) -> Replayed:
        if job.model_dir is None:
            raise ModelInvalid("the diffusers engine needs a model folder")
        begun = time.perf_counter()
        dtype = "fp32" if job.strict else job.spec.dtype
        with MemoryErrors(), one_thread(job.strict):
            loaded = self._pipeline(job.model_dir, dtype, strict=job.strict)
            _check_size(loaded.pipeline, job.spec)
            with loaded.adapters.applied(strengths(job.spec, job.loras)):
                denoiser = Denoiser(loaded.pipeline, loaded.scheduler_config, job.spec, DTYPES[dtype])
                parts = replay_with(job, TensorSteps(denoiser))
        return parts.finished(loaded.scheduler_config, self._profile(dtype, job.strict), begun, self.name)

    def trainer(self, inputs: TrainingInputs, *, strict: bool = False) -> Trainer:
        if inputs.model_dir is None:
            raise ModelInvalid("the diffusers engine needs a model folder")
        from gesso_node.executors.lora.peft_trainer import PeftTrainer

        loaded = self._pipeline(inputs.model_dir, "fp32", strict=strict)
        loaded.adapters.clear()
        return cheating(self._options.cheat, PeftTrainer(loaded.pipeline, loaded.scheduler_config, inputs))

    def training_profile(self, spec: TrainLora, *, strict: bool = False) -> dict[str, str]:
        return self._profile("fp32" if strict else spec.dtype, strict)

    def computing(self, *, strict: bool) -> AbstractContextManager[None]:
        return one_thread(strict)

    def _pipeline(self, model_dir: Path, dtype: str, *, strict: bool = False) -> _Loaded:
        key = (model_dir, f"{dtype} strict" if strict else dtype)
        if key in self._loaded:
            self._loaded.move_to_end(key)
            return self._loaded[key]
        layout = check_model_folder(model_dir)
        while len(self._loaded) >= self._options.max_loaded:
            self._loaded.popitem(last=False)
            give_back_memory(self._device)
        pipeline = open_pipeline(model_dir, layout, DTYPES[dtype], self._device)
        use_kernels(pipeline.unet, STRICT if strict else self._options.kernels)
        loaded = _Loaded(
            pipeline,
            dict(pipeline.scheduler.config),
            Previewer.of(pipeline),
            AdapterSet(pipeline),
            Encodings(pipeline),
        )
        self._loaded[key] = loaded
        return loaded

    def _key(self, dtype: str) -> str:
        return profile_key(dtype, family_of(self._device))

    def _profile(self, dtype: str, strict: bool = False) -> dict[str, str]:
        return {
            "engine": "diffusers",
            "device": f"{self._device.type} {device_name(self._device)}"[:200],
            "dtype": dtype,
            "key": self._key(dtype),
            "mode": "strict" if strict else "normal",
            "threads": str(1 if strict else torch.get_num_threads()),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
        }


class _Run:
    """One job on one loaded pipeline, step by step through the pipeline's own loop."""

    def __init__(self, loaded: _Loaded, job: EngineJob, recorder: TraceRecorder, emit: Emit) -> None:
        self._pipe = loaded.pipeline
        self._scheduler_config = loaded.scheduler_config
        self._previewer = loaded.previewer
        self._conditioned = (
            functools.partial(conditioned, self._pipe)
            if loaded.adapters.changes_words
            else loaded.encodings.conditioned
        )
        self._job = job
        self._recorder = recorder
        self._emit = emit

    @torch.inference_mode()
    def pictures(self) -> tuple[ImageFile, ...]:
        spec = self._job.spec
        # Both prompts are embedded even without guidance: the trace has a place for both.
        cond, uncond = self._conditioned(spec.prompt, spec.negative_prompt, (spec.height, spec.width))
        for step, embedding in enumerate((cond, uncond)):
            self._record(Slot(LeafKind.EMBEDDING, step=step), embedding.recorded)
        return tuple(self._picture(index, cond, uncond) for index in range(spec.count))

    def _picture(self, index: int, cond: Conditioning, uncond: Conditioning) -> ImageFile:
        spec, pipe = self._job.spec, self._pipe
        self._previewer.begin()
        generator = torch.Generator("cpu").manual_seed(spec.image_seed(index))
        noise = torch.randn(latent_shape(pipe, spec), generator=generator, dtype=torch.float32)
        self._record(Slot(LeafKind.NOISE, index), noise)
        pipe.scheduler = make_scheduler(self._scheduler_config, spec.scheduler, DTYPES[spec.dtype])
        hook = self._watch_branches(index)
        try:
            latents = pipe(
                **call_arguments(cond, uncond if spec.guidance > 1 else None),
                width=spec.width,
                height=spec.height,
                num_inference_steps=spec.steps,
                guidance_scale=spec.guidance,
                latents=noise,
                generator=generator,
                output_type="latent",
                return_dict=False,
                callback_on_step_end=functools.partial(self._after_step, index),
                callback_on_step_end_tensor_inputs=["latents"],
            )[0]
        finally:
            hook.remove()
        return self._decode(index, latents)

    def _after_step(self, image: int, _pipe: Any, step: int, _t: Any, state: dict[str, Any]) -> dict[str, Any]:
        latents = state["latents"]
        self._record(Slot(LeafKind.LATENT, image, step), latents)
        total = self._job.spec.steps
        preview = self._previewer.take(latents) if step + 1 < total else None
        self._emit(StepDone(image, step + 1, total, preview))
        return {}

    def _watch_branches(self, image: int) -> Any:
        steps = itertools.count()

        def seen(_module: Any, _args: Any, output: Any) -> None:
            step = next(steps)
            if self._job.spec.guidance > 1:
                uncond, cond = output[0].chunk(2)
                self._record(Slot(LeafKind.COND, image, step), cond)
                self._record(Slot(LeafKind.UNCOND, image, step), uncond)
            else:
                self._record(Slot(LeafKind.COND, image, step), output[0])

        return self._pipe.unet.register_forward_hook(seen)

    def _decode(self, index: int, latents: torch.Tensor) -> ImageFile:
        pixels = to_rgb(self._pipe, latents)
        height, width = pixels.shape[:2]
        raw = pixels.numpy().tobytes()
        self._recorder.tensor(Slot(LeafKind.RGB, index), raw, (height, width, 3), TensorType.UINT8)
        buffer = io.BytesIO()
        Image.frombytes("RGB", (width, height), raw).save(buffer, "PNG")
        return finish_picture(self._job, DiffusersEngine.name, index, buffer.getvalue(), self._recorder)

    def _record(self, slot: Slot, tensor: torch.Tensor) -> None:
        # Called in the recorder's thread: nobody writes into these tensors again, and the run does not wait for a copy.
        self._recorder.tensor(slot, functools.partial(raw_bytes, tensor.detach()), tuple(tensor.shape))


def _check_size(pipe: Any, spec: TextToImage) -> None:
    levels = 2 ** (len(pipe.unet.config.block_out_channels) - 1)
    unit = pipe.vae_scale_factor * levels
    if spec.width % unit or spec.height % unit:
        raise ModelInvalid(f"this model draws sides that are multiples of {unit} pixels")
