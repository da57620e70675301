"""Speed at real sizes: the node beside bare diffusers, the trace, an audited step, a new LoRA; and errors there."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import anyio
import diffusers
import numpy as np
import torch

from gesso.blobs import LocalBlobs
from gesso.tensorfile import write_tensors
from gesso_node.executors import diffusers as engine_module
from gesso_node.executors.cheats.diffusers import quantised
from gesso_node.executors.child import ChildExecutor
from gesso_node.executors.diffusers import DiffusersEngine
from gesso_node.executors.engine import EngineJob
from gesso_node.executors.environment import ChildSettings
from gesso_node.executors.port import Finished, Job, ReplayCheck, ReplayJob
from gesso_node.executors.trace import RecordedTrace
from gesso_node.work.results import publish_result
from gesso_protocol.audit.compare import Branches, rgb_error, step_errors
from gesso_protocol.fields import UsedAdapter
from gesso_protocol.ids import Address, BlobRef, TaskId
from gesso_protocol.result import result_root
from gesso_protocol.spec import TextToImage
from gesso_protocol.trace import Binding, LeafKind, Slot
from gpu.common import MANIFEST, Here, Section, median, switched, wait
from gpu.realistic import write_sd15, write_sdxl
from gpu.rows import in_fp8

STEPS, CHECKS, AUDITORS, RATE = 25, 2, 2, 0.05
GUIDANCE = 6.0
PROMPT = "a lighthouse in a storm"
RANK = 16
_diffusers: Any = diffusers


def main(section: Section, size: str) -> None:
    """`sd15` or `sdxl`."""
    make, side, kind = {
        "sd15": (write_sd15, 512, _diffusers.StableDiffusionPipeline),
        "sdxl": (write_sdxl, 1024, _diffusers.StableDiffusionXLPipeline),
    }[size]
    side = 128 if section.quick else side
    memory = Path("/dev/shm")  # where there is room, so that no disk is timed
    root = memory if memory.is_dir() and shutil.disk_usage(memory).free > 20e9 else None
    with tempfile.TemporaryDirectory(prefix="gesso-gpu-", dir=root) as name:
        folder = Path(name)
        begun = time.perf_counter()
        base = make(folder / "model", section.device, small=section.quick)
        section.add(what="model written", seconds=time.perf_counter() - begun)
        bench = Bench(section, folder, base, kind, side)
        for what in (bench.execution, bench.trace, bench.audit, bench.swap, bench.errors):
            with section.tried(what.__name__):
                what()


class Bench:
    """One model at one size."""

    def __init__(self, section: Section, folder: Path, base: Path, kind: Any, side: int) -> None:
        self._section = section
        self._folder = folder
        self._base = base
        self._kind = kind
        self._side = side
        self._device = section.device
        self._steps = 3 if section.quick else STEPS
        self._runs = 2 if section.quick else 3

    def execution(self) -> None:
        """Bare diffusers twice, with its own decode and with one as exact as ours, and the node's way, in turns."""
        bare = Bare(self._base, self._kind, self._device, self._side, self._steps)
        ways: dict[str, Callable[[], Any]] = {
            "bare": lambda: bare.draw(wide=False),
            "bare, decode in fp32": lambda: bare.draw(wide=True),
        }
        engine = Here(self._device).engine
        ways["engine"] = lambda: self._draw(engine)
        spent = anyio.run(lambda: self._in_turns(ways))
        base = spent["bare, decode in fp32"]
        for way, seconds in spent.items():
            paired = statistics.median(one / other for one, other in zip(seconds, base, strict=True))
            self._section.add(what=f"picture: {way}", median_s=median(seconds), least_s=min(seconds),
                              ms_a_step=1000 * median(seconds) / self._steps, of_bare=paired,
                              of_bare_narrow=median(seconds) / median(spent["bare"]))  # fmt: skip
        with self._section.tried("switches"):
            self._switches(engine)

    async def _in_turns(self, ways: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
        options = {"device": self._device}
        spent: dict[str, list[float]] = {way: [] for way in (*ways, "node")}
        async with ChildExecutor("diffusers", self._folder / "home", ChildSettings(options=options)) as child:
            node = NodeWay(child, self._base, self._folder, self._spec())
            for turn in range(self._runs + 1):
                for way in spent:
                    wait(self._device)
                    begun = time.perf_counter()
                    if way == "node":
                        await node.draw()
                    else:
                        with arithmetic_of_torch() if way.startswith("bare") else switched():
                            ways[way]()
                            wait(self._device)
                    spent[way].append(time.perf_counter() - begun)
                if turn == 0:
                    spent = {way: [] for way in spent}  # the first round warms up
        return spent

    def _switches(self, engine: DiffusersEngine) -> None:
        """What the engine would gain from each freedom that it does not take."""
        for what, flags in (
            ("as shipped", {}), ("any algorithms", {"deterministic": False}),
            ("any algorithms, benchmark", {"deterministic": False, "benchmark": True}),
        ):  # fmt: skip
            with switched(**flags):
                seconds = self._timed(lambda: self._draw(engine))
            self._section.add(what=f"engine: {what}", median_s=seconds)

    def trace(self) -> None:
        """Whole runs with the recorder and without it, in turns."""
        engine = Here(self._device).engine
        spent: dict[bool, list[float]] = {True: [], False: []}
        for turn in range(2 * self._runs + 1):
            for recorded in (True, False) if turn % 2 else (False, True):
                wait(self._device)
                begun = time.perf_counter()
                if recorded:
                    self._draw(engine)
                else:
                    with patch.object(engine_module, "TraceRecorder", NoRecorder):
                        self._draw(engine)
                spent[recorded].append(time.perf_counter() - begun)
        on, off = spent[True][1:], spent[False][1:]
        paired = statistics.median(one / other for one, other in zip(on, off, strict=True))
        size = (self._folder / "out" / "trace.bin").stat().st_size
        self._section.add(what="trace", on_s=median(on), off_s=median(off), on_of_off=paired, bytes_a_task=size)

    def audit(self) -> None:
        """The parts of an audit, and what they add to a network that audits one task of twenty."""
        engine = Here(self._device).engine
        task = self._timed(lambda: self._draw(engine))
        trace = RecordedTrace.read(self._folder / "out", self._spec())
        latent = trace.bytes_of(Slot(LeafKind.LATENT, 0, 1))
        nothing = ReplayJob(self._spec(), self._base, MANIFEST, embeddings=False)
        places = range(min(5, self._steps))

        def replay(**changes: Any) -> float:
            return self._timed(lambda: engine.replay(dataclasses.replace(nothing, **changes)))

        base = replay()
        one = replay(checks=(ReplayCheck(0, 1, latent),))
        more = replay(checks=tuple(ReplayCheck(0, step, latent) for step in places))
        step = (more - one) / max(1, len(places) - 1)
        decode, text = replay(decode=((0, latent),)) - base, replay(embeddings=True) - base
        audit = AUDITORS * (base + CHECKS * step + decode + text)
        self._section.add(what="audit", task_s=task, step_ms=1000 * step, decode_ms=1000 * decode, text_ms=1000 * text,
                          ground_ms=1000 * base, audit_of_task=audit / task,
                          extra_at_5_percent=RATE * audit / task)  # fmt: skip

    def swap(self) -> None:
        """A new LoRA on the warm engine beside loading the pipeline with it, each up to where drawing begins."""
        engine = Here(self._device).engine
        loaded = engine._pipeline(self._base, "fp16")
        loras = [random_lora(loaded.pipeline.unet, self._folder / f"lora{at}", at) for at in range(self._runs + 1)]

        def swapped(lora: Path) -> None:
            with loaded.adapters.applied([(lora, 1.0)]):
                wait(self._device)

        def reloaded(lora: Path) -> None:
            pipe = self._kind.from_pretrained(str(self._base), dtype=torch.float16).to(self._device)
            pipe.load_lora_weights(str(lora), weight_name="adapter.safetensors")
            wait(self._device)

        swaps = [timed(lambda lora=lora: swapped(lora)) for lora in loras][1:]
        kept = timed(lambda: swapped(loras[-1]))
        pictures = [timed(lambda lora=lora: self._draw(engine, lora)) for lora in loras[-2:]]
        plain = self._timed(lambda: self._draw(engine))
        reloads = [timed(lambda lora=lora: reloaded(lora)) for lora in loras[:3]][1:]
        self._section.add(what="new LoRA", swap_s=median(swaps), at_hand_s=kept, reload_s=median(reloads),
                          faster=median(reloads) / median(swaps), picture_with_s=median(pictures),
                          picture_without_s=plain)  # fmt: skip

    def errors(self) -> None:
        """One latent of the run, a few steps: every way to compute against strict fp32 on this device."""
        spec = self._spec()
        trace = RecordedTrace.read(self._folder / "out", spec)
        places = sorted({1, self._steps // 2, self._steps - 1})
        checks = tuple(ReplayCheck(0, at, trace.bytes_of(Slot(LeafKind.LATENT, 0, at - 1))) for at in places)
        last = trace.bytes_of(Slot(LeafKind.LATENT, 0, self._steps - 1))
        job = ReplayJob(spec, self._base, MANIFEST, checks, ((0, last),), embeddings=False)
        strict = Here(self._device).engine.replay(dataclasses.replace(job, strict=True))
        reference = outputs(strict)
        for dtype, what, options in WAYS:
            if self._device == "cpu" and (options.get("flags") or dtype != "fp32"):
                continue
            if self._side > 512 and what in LEFT_OUT:  # loading takes longer than all that is measured
                continue
            with self._section.tried(f"{dtype} {what}"):
                here = Here(self._device, kernels=options.get("kernels", {}))
                narrow = dataclasses.replace(job, spec=spec.model_copy(update={"dtype": dtype}))
                if "change" in options:
                    options["change"](here.unet(dtype, self._base))
                with switched(**options.get("flags", {})):
                    done = here.engine.replay(narrow)
                errors = [step_errors(0, 0, own, other, GUIDANCE)
                          for own, other in zip(reference, outputs(done), strict=True)]  # fmt: skip
                levels, _ = rgb_error(strict.rgb[0], done.rgb[0])
                self._section.add(what=f"{dtype} {what}", branch=[one.branch for one in errors],
                                  guided=[one.guided for one in errors], rgb_levels=levels)  # fmt: skip

    def _spec(self, **changes: Any) -> TextToImage:
        return TextToImage(prompt=PROMPT, model="bench@1", width=self._side, height=self._side, steps=self._steps,
                           guidance=GUIDANCE, seed=5, scheduler="euler", dtype="fp16", **changes)  # fmt: skip

    def _draw(self, engine: DiffusersEngine, lora: Path | None = None) -> None:
        used = {} if lora is None else {"loras": (UsedAdapter(manifest=MANIFEST),)}
        out, loras = self._folder / "out", () if lora is None else (lora,)
        engine.run(EngineJob(self._spec(**used), self._base, out, MANIFEST, TaskId(bytes(32)), loras), lambda _: None)

    def _timed(self, work: Callable[[], Any]) -> float:
        work()
        return median([timed(work, self._device) for _ in range(self._runs)])


WAYS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("fp32", "default", {}),
    ("fp32", "branches apart", {"kernels": {"split_guidance": True}}),
    ("fp32", "channels last", {"kernels": {"channels_last": True}}),
    ("fp32", "TF32", {"flags": {"tf32_products": True, "tf32_convolutions": True}}),
    ("fp32", "int8", {"change": lambda unet: quantised(unet, 8)}),
    ("fp16", "default", {}),
    ("fp16", "math attention", {"kernels": {"attention": "math"}}),
    ("fp16", "efficient attention", {"kernels": {"attention": "efficient"}}),
    ("fp16", "cudnn attention", {"kernels": {"attention": "cudnn"}}),
    ("fp16", "batch of 4, channels last", {"kernels": {"batch_to": 4, "channels_last": True}}),
    ("fp16", "narrow sums", {"flags": {"narrow_fp16_sums": True}}),
    ("fp16", "int8", {"change": lambda unet: quantised(unet, 8)}),
    ("fp16", "fp8", {"change": in_fp8}),
    ("fp16", "int4", {"change": lambda unet: quantised(unet, 4)}),
    ("bf16", "default", {}),
    ("bf16", "math attention", {"kernels": {"attention": "math"}}),
    ("bf16", "int8", {"change": lambda unet: quantised(unet, 8)}),
    ("bf16", "int4", {"change": lambda unet: quantised(unet, 4)}),
)


LEFT_OUT = ("branches apart", "channels last", "efficient attention", "cudnn attention", "narrow sums", "int4")


class Bare:
    """A plain call in fp16, with a PNG at its end, as anyone would write it."""

    def __init__(self, base: Path, kind: Any, device: str, side: int, steps: int) -> None:
        self._pipe = kind.from_pretrained(str(base), dtype=torch.float16).to(device)
        self._pipe.set_progress_bar_config(disable=True)
        self._device = device
        self._call = {"prompt": PROMPT, "width": side, "height": side, "num_inference_steps": steps,
                      "guidance_scale": GUIDANCE}  # fmt: skip

    def draw(self, *, wide: bool) -> bytes:
        self._pipe.vae.to(torch.float32 if wide else torch.float16)
        image: Any
        generator = torch.Generator("cpu").manual_seed(5)
        if wide:
            latents = self._pipe(**self._call, generator=generator, output_type="latent").images
            with torch.inference_mode():
                decoded = self._pipe.vae.decode(latents.float() / self._pipe.vae.config.scaling_factor).sample
            image = self._pipe.image_processor.postprocess(decoded.detach(), output_type="pil")[0]
        else:
            image = self._pipe(**self._call, generator=generator).images[0]
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()


class NodeWay:
    """A task as a node does it, from the job to the roots that it would commit."""

    def __init__(self, executor: ChildExecutor, base: Path, folder: Path, spec: TextToImage) -> None:
        self._executor = executor
        self._base = base
        self._folder = folder
        self._spec = spec
        self._blobs = LocalBlobs(folder / "blobs")
        self._count = 0

    async def draw(self) -> None:
        self._count += 1
        node = Address("0x" + "22" * 20)
        binding = Binding(1, Address("0x" + "11" * 20), TaskId(os.urandom(32)), node, os.urandom(32))
        job = Job(self._spec, self._base, self._folder / f"work{self._count}", 600.0, BlobRef.of(b"bench"), binding)
        outcome = await self._executor.run(job, on_event=_ignored)
        if not isinstance(outcome, Finished):
            raise RuntimeError(f"the executor failed: {outcome}")
        result_root(await publish_result(self._blobs, job, outcome, node))


async def _ignored(_: Any) -> None:
    return None


class NoRecorder:
    """Takes everything and keeps nothing."""

    @classmethod
    def open(cls, *_: Any) -> NoRecorder:
        return cls()

    def __enter__(self) -> NoRecorder:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def tensor(self, *_: Any) -> None:
        return None

    def file(self, *_: Any) -> None:
        return None

    def finish(self) -> None:
        return None


def arithmetic_of_torch() -> Any:
    """Torch's own settings, as a plain program has them."""
    return switched(deterministic=False, tf32_convolutions=True, narrow_fp16_sums=True)


def timed(work: Callable[[], Any], device: str = "cuda") -> float:
    wait(device if torch.cuda.is_available() else "cpu")
    begun = time.perf_counter()
    work()
    wait(device if torch.cuda.is_available() else "cpu")
    return time.perf_counter() - begun


def outputs(done: Any) -> list[Branches]:
    wide = [[None if raw is None else np.frombuffer(raw, "<f4") for raw in both] for both in done.outputs.values()]
    return [Branches(cond, uncond) for cond, uncond in wide]


def random_lora(unet: Any, folder: Path, seed: int) -> Path:
    """Of the attention, as most are, in fp16."""
    rng = np.random.default_rng(seed)
    rows: list[Any] = []
    for name, module in unet.named_modules():
        if name.endswith(("to_q", "to_k", "to_v", "to_out.0")):
            outer, inner = module.weight.shape
            for half, shape in (("A", (RANK, inner)), ("B", (outer, RANK))):
                numbers = (rng.standard_normal(shape, np.float32) / 100).astype(np.float16)
                rows.append((f"unet.{name}.lora_{half}.weight", "F16", shape, numbers.tobytes()))
    folder.mkdir()
    write_tensors(folder / "adapter.safetensors", rows)
    return folder
