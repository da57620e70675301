"""Honest errors of every kernel that a device has, and those of cheats, on the shipped vectors: the rows of a dtype."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import anyio
import numpy as np
import torch
from safetensors.torch import load_file

from gesso_devnet import model
from gesso_node.executors.cheats.diffusers import quantised
from gesso_node.executors.port import Replayed, ReplayJob
from gesso_node.operator.calibration import Calibration, VectorSet, calibrate, limit_row
from gesso_protocol.audit.compare import Branches, embedding_error, step_errors
from gpu.common import MANIFEST, Here, Section, switched

KERNELS: dict[str, dict[str, Any]] = {
    "default": {},
    "math attention": {"attention": "math"},
    "efficient attention": {"attention": "efficient"},
    "flash attention": {"attention": "flash"},
    "cudnn attention": {"attention": "cudnn"},
    "bmm attention": {"attention": "bmm"},
    "sliced attention": {"attention": "sliced"},
    "branches apart": {"split_guidance": True},
    "batch of 8": {"batch_to": 8},
    "channels last": {"channels_last": True},
}
SWITCHES: dict[str, dict[str, bool]] = {
    "cudnn benchmark": {"benchmark": True, "deterministic": False},
    "any algorithms": {"deterministic": False},
}
NARROW_SUMS = {"fp16": "narrow_fp16_sums", "bf16": "narrow_bf16_sums"}
TRAPS: dict[str, dict[str, bool]] = {
    "TF32 in products": {"tf32_products": True},
    "TF32 in convolutions": {"tf32_convolutions": True},
    "TF32 in both": {"tf32_products": True, "tf32_convolutions": True},
}


@dataclass(frozen=True)
class Measured:
    """What one way to compute gave on every vector."""

    what: str
    calibration: Calibration
    outputs: list[Branches]


class Keeping(Here):
    """Keeps the outputs that pass through."""

    def __init__(self, device: str, **options: Any) -> None:
        super().__init__(device, **options)
        self.kept: list[Branches] = []

    async def replay(self, job: ReplayJob) -> Replayed:
        done = await super().replay(job)
        for cond, uncond in done.outputs.values():
            wide = (None if raw is None else np.frombuffer(raw, "<f4") for raw in (cond, uncond))
            self.kept.append(Branches(*wide))
        return done


def main(section: Section, dtype: str) -> None:
    """All of one dtype."""
    vectors = VectorSet.read(model.calibration_path())
    if section.quick:
        vectors = VectorSet(vectors.vectors[::16], vectors.pictures[:1], vectors.ref)
    bench = Bench(section, dtype, vectors)
    bench.honest()
    bench.pairs()
    bench.embeddings()
    bench.cheats()


class Bench:
    """One dtype on one device."""

    def __init__(self, section: Section, dtype: str, vectors: VectorSet) -> None:
        self._section = section
        self._dtype = dtype
        self._vectors = vectors
        self._found: list[Measured] = []

    def honest(self) -> None:
        """Every kernel and every switch that does not narrow numbers; then the CPU beside this device."""
        section, dtype = self._section, self._dtype
        for what, kernels in KERNELS.items():
            if section.device == "cpu" and what in ("efficient attention", "cudnn attention"):
                continue
            if dtype == "fp32" and what in ("flash attention", "cudnn attention"):
                continue
            with section.tried(what):
                self._keep(self._measure(what, section.device, kernels))
        switches = dict(SWITCHES)
        if dtype in NARROW_SUMS:
            switches["sums in parts narrow"] = {NARROW_SUMS[dtype]: True}
        for what, flags in switches.items() if section.device == "cuda" else ():
            with section.tried(what):
                self._keep(self._measure(what, section.device, {}, switched(**flags)))
        mine = [one.calibration for one in self._found]
        section.notes["calibrations"] = [one.model_dump(mode="json") for one in mine]
        section.notes["row"] = limit_row(mine, f"{len(mine)} kernels on the shipped vectors").model_dump(mode="json")
        if section.device == "cuda":
            with section.tried("the CPU beside it"):
                self._keep(self._measure("the CPU beside it", "cpu", {}))

    def pairs(self) -> None:
        """The two that lie furthest apart: limits must hold between any of them."""
        worst = {"branch": (0.0, ""), "guided": (0.0, "")}
        for own in self._found:
            for other in self._found:
                errors = list(self._errors(own.outputs, other.outputs))
                for kind, at in (("branch", 0), ("guided", 1)):
                    worst[kind] = max(worst[kind], (max(one[at] for one in errors), f"{own.what} / {other.what}"))
        self._section.add(what="furthest apart", branch=worst["branch"][0], pair=worst["branch"][1],
                          guided=worst["guided"][0], guided_pair=worst["guided"][1])  # fmt: skip

    def embeddings(self) -> None:
        """What the text encoder gives here against strict fp32 on a CPU."""
        strict, here = Here("cpu", threads=1), Here(self._section.device)
        errors = []
        for spec in {vector.spec.prompt: vector.spec for vector in self._vectors.vectors}.values():
            narrow = spec.model_copy(update={"dtype": self._dtype})
            asked = ReplayJob(narrow, model.path(), MANIFEST)
            own = strict.engine.replay(ReplayJob(spec, model.path(), MANIFEST, strict=True)).embeddings
            theirs = here.engine.replay(asked).embeddings
            for mine, other in zip(own or (), theirs or (), strict=True):
                errors.append(embedding_error(np.frombuffer(mine, "<f4"), np.frombuffer(other, "<f4")))
        self._section.add(what="embeddings", worst=max(errors), samples=len(errors))

    def cheats(self) -> None:
        """What a cheat gives on the same vectors; the least error is what an audit would have to see."""
        forged: dict[str, Callable[[Any], object]] = {
            "int8": lambda unet: quantised(unet, 8),
            "fp8": in_fp8,
            "int4": lambda unet: quantised(unet, 4),
            "wrong-model": lambda unet: unet.load_state_dict(load_file(model.early_unet_path())),
        }
        for what, change in forged.items():
            with self._section.tried(what):
                self._forged(what, self._measure(what, self._section.device, {}, change=change))
        for what, flags in TRAPS.items() if self._dtype == "fp32" and self._section.device == "cuda" else ():
            with self._section.tried(what):
                self._forged(what, self._measure(what, "cuda", {}, switched(**flags)))
        for narrow in {"fp32": ("fp16", "bf16"), "fp16": ("bf16",), "bf16": ()}[self._dtype]:
            what = f"{narrow} posing as {self._dtype}"
            with self._section.tried(what):
                self._forged(what, self._measure(what, self._section.device, {}, dtype=narrow))

    def _measure(
        self,
        what: str,
        device: str,
        kernels: dict[str, Any],
        context: AbstractContextManager[None] | None = None,
        *,
        change: Callable[[Any], object] | None = None,
        dtype: str = "",
    ) -> Measured:
        here: Any = Keeping(device, kernels=kernels)
        dtype = dtype or self._dtype
        if change is not None:
            change(here.unet(dtype))
        with context or nullcontext():
            found = anyio.run(lambda: calibrate(here, model.path(), MANIFEST, self._vectors, dtype=dtype))
        return Measured(what, found, here.kept)

    def _keep(self, found: Measured) -> None:
        self._found.append(found)
        one = found.calibration
        self._section.add(what=found.what, profile=one.profile, samples=one.samples, branch_p50=one.branch.p50,
                          branch_p999=one.branch.p999, branch_worst=one.branch.worst, guided_worst=one.guided.worst,
                          rgb_levels=one.rgb_levels, step_ms=1000 * one.seconds_a_step)  # fmt: skip

    def _forged(self, what: str, found: Measured) -> None:
        errors = list(self._errors([vector.reference for vector in self._vectors.vectors], found.outputs))
        branch, guided = zip(*errors, strict=True)
        self._section.add(what=what, of="not honest", branch_least=min(branch), branch_p50=float(np.median(branch)),
                          branch_worst=max(branch), guided_least=min(guided), guided_p50=float(np.median(guided)),
                          rgb_levels=found.calibration.rgb_levels)  # fmt: skip

    def _errors(self, own: list[Branches], theirs: list[Branches]) -> Iterator[tuple[float, float]]:
        for vector, mine, other in zip(self._vectors.vectors, own, theirs, strict=True):
            error = step_errors(0, vector.step, mine, other, vector.spec.guidance)
            yield error.branch, error.guided


@torch.no_grad()
def in_fp8(unet: Any) -> None:
    """Weights rounded to e4m3, scaled an output channel: what GPUs of this kind offer to save memory."""
    for module in unet.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            weight = module.weight
            flat = weight.float().flatten(1)
            scale = flat.abs().amax(1, keepdim=True).clamp_min(1e-12) / 448
            weight.copy_(((flat / scale).to(torch.float8_e4m3fn).float() * scale).reshape(weight.shape))
