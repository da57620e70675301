"""A diffusers pipeline as a forger has it: other weights, fewer bits, features kept from the step before.

Imported in the child only, and only when a cheat is asked for.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from gesso_node.executors.cheats import NODE_CHEATS
from gesso_node.executors.cheats.forgeries import forged_walk, known_variant
from gesso_node.executors.denoiser import Denoiser, TensorSteps, latent_shape
from gesso_node.executors.engine import Emit, EngineJob
from gesso_node.executors.port import ImageFile, StepDone
from gesso_node.executors.trace import TraceRecorder
from gesso_node.executors.walk_recorder import WalkRecorder
from gesso_protocol.errors import ModelInvalid
from gesso_protocol.spec import TextToImage

EARLY_UNET = "early_unet"
VARIANTS = ("wrong-model", "missing-lora", "feature-reuse", "int8", "int4", *NODE_CHEATS)


class DiffusersKit:
    """A spec, a loaded pipeline, and the files that some cheats need."""

    def __init__(
        self,
        pipe: Any,
        scheduler_config: dict[str, Any],
        spec: TextToImage,
        *,
        files: Mapping[str, Path] | None = None,
        without_loras: Callable[[], Any] | None = None,
    ) -> None:
        self.pipe = pipe
        self.scheduler_config = scheduler_config
        self.spec = spec
        self._files = files or {}
        self._without_loras = without_loras
        self._changed: dict[str, Any] = {}

    def steps(
        self, spec: TextToImage | None = None, *, prompt: str | None = None, variant: str | None = None
    ) -> TensorSteps:
        """See `forgeries.Kit`."""
        pipe = self._variant(variant)
        return TensorSteps(Denoiser(pipe, self.scheduler_config, spec or self.spec, pipe.unet.dtype), prompt)

    def _variant(self, name: str | None) -> Any:
        if name is None or known_variant(name, VARIANTS) in NODE_CHEATS:
            return self.pipe
        if name == "missing-lora":
            return self._without_loras() if self._without_loras else self.pipe
        if name not in self._changed:
            self._changed[name] = self._changed_unet(name)
        changed = copy.copy(self.pipe)
        changed.unet = self._changed[name]
        return changed

    def _changed_unet(self, name: str) -> Any:
        unet = fresh_copy(self.pipe.unet)
        if name == "wrong-model":
            if EARLY_UNET not in self._files:
                raise ModelInvalid(f"the cheat {name!r} needs cheat_files.{EARLY_UNET}")
            unet.load_state_dict(load_file(self._files[EARLY_UNET]))
            return unet.to(self.pipe.unet.dtype)
        if name == "feature-reuse":
            return keep_deep_features(unet)
        return quantised(unet, 8 if name == "int8" else 4)


def fresh_copy(unet: Any) -> Any:
    """The base's weights in a module of their own, without adapters, hooks or replaced kernels."""
    made = type(unet).from_config(unet.config)
    base = {name.replace(".base_layer.", "."): weight for name, weight in unet.state_dict().items()}
    made.load_state_dict({name: weight for name, weight in base.items() if ".lora_" not in name})
    return made.to(unet.device, unet.dtype).eval()


@torch.no_grad()
def quantised(unet: Any, bits: int) -> Any:
    """Weights of convolutions and products rounded to `bits` an output channel, as weight-only quantisers do."""
    steps = 2 ** (bits - 1) - 1
    for module in unet.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            weight = module.weight
            flat = weight.float().flatten(1)
            scale = flat.abs().amax(1, keepdim=True).clamp_min(1e-12) / steps
            weight.copy_(((flat / scale).round() * scale).reshape(weight.shape).to(weight.dtype))
    return unet


def keep_deep_features(unet: Any) -> Any:
    """Every second call takes what the deepest blocks gave in the call before: about a third of the work is saved."""
    calls = itertools.count()
    state = {"fresh": True}

    def count(_module: Any, _args: Any) -> None:
        state["fresh"] = next(calls) % 2 == 0

    unet.register_forward_pre_hook(count)
    for block in (unet.mid_block, unet.up_blocks[0]):
        block.forward = _kept(block.forward, state)
    return unet


def _kept(forward: Callable[..., Any], state: Mapping[str, bool]) -> Callable[..., Any]:
    last: list[Any] = []

    def call(*args: Any, **kwargs: Any) -> Any:
        if state["fresh"] or not last:
            last[:] = [forward(*args, **kwargs)]
        return last[0]

    return call


def forged_pictures(
    name: str, kit: DiffusersKit, job: EngineJob, recorder: TraceRecorder, emit: Emit
) -> tuple[ImageFile, ...]:
    """What the engine makes when it cheats: pictures, files and a complete trace."""
    walk = forged_walk(name, kit)
    drawing = WalkRecorder(job, walk, latent_shape(kit.pipe, job.spec), recorder)
    embedding, _ = Denoiser(kit.pipe, kit.scheduler_config, job.spec, kit.pipe.unet.dtype).embed()
    drawing.embeddings(tuple(embedding.recorded.shape))
    images = []
    for index in range(job.spec.count):
        for step, _ in drawing.steps(index):
            emit(StepDone(index, step, job.spec.steps))
        images.append(drawing.finish("diffusers", index))
    return tuple(images)
