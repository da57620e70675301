"""Drawing with LoRAs: put on a loaded pipeline and taken off again without reloading or ever merging into the base.

Merging and unmerging leaves rounding in the base, so it is never done: adapters stay beside the layers they change and
are switched. Nothing is skipped in silence: a file whose layers or shapes do not fit this base is refused.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer

from gesso_node.executors.lora.adapter_file import AdapterFile, Layer, read_adapter
from gesso_node.executors.lora.network import remove_adapters
from gesso_node.executors.lora.state import Array
from gesso_protocol.errors import ModelInvalid
from gesso_protocol.spec import TextToImage

MAX_KEPT = 4
"""Adapters that stay on a pipeline, ready to be switched on; more, and the one not used for longest leaves."""


@dataclass(frozen=True, slots=True)
class _Put:
    name: str
    parts: tuple[str, ...]


class AdapterSet:
    """The adapters of one pipeline. Keyed by path: a node's folders are named by the hash of what is in them."""

    def __init__(self, pipe: Any, *, keep: int = MAX_KEPT) -> None:
        self._parts = {"unet": pipe.unet, "text_encoder": pipe.text_encoder}
        self._keep = keep
        self._put: OrderedDict[Path, _Put] = OrderedDict()
        self._count = 0

    @contextmanager
    def applied(self, wanted: Sequence[tuple[Path, float]]) -> Iterator[None]:
        """These adapters and no others, at these strengths, inside the block. Raises ModelInvalid with a sentence."""
        for path, _ in wanted:
            self._ensure(path, {one for one, _ in wanted})
        for path, _ in wanted:
            self._put.move_to_end(path)
        try:
            if wanted:
                self._switch({self._put[path].name: strength for path, strength in wanted})
            yield
        finally:
            self.off()

    def clear(self) -> None:
        """Take everything off; the layers are plain ones again, their weights untouched."""
        for part in self._parts.values():
            remove_adapters(part)
        self._put.clear()

    @property
    def kept(self) -> tuple[Path, ...]:
        """What is ready to be switched on, the most recently used last."""
        return tuple(self._put)

    def _ensure(self, path: Path, needed: set[Path]) -> None:
        if path in self._put:
            return
        idle = [other for other in self._put if other not in needed]
        while len(self._put) >= self._keep and idle:
            self._remove(idle.pop(0))
        self._count += 1
        self._put[path] = self._load(path, f"lora{self._count}")

    @torch.no_grad()
    def _load(self, path: Path, name: str) -> _Put:
        file = read_adapter(path)
        plans = {part: self._plan(file, part) for part in self._parts}
        parts = tuple(part for part, plan in plans.items() if plan)
        try:
            for part in parts:
                self._insert(file, part, plans[part], name)
        except BaseException:
            self._delete(name)
            raise
        return _Put(name, parts)

    def _plan(self, file: AdapterFile, part: str) -> dict[str, Layer]:
        """Module name to layer, checked against the base."""
        base = self._parts[part]
        modules = {
            name.replace(".", "_"): name
            for name, module in base.named_modules()
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d | LoraLayer) and not _inside_adapter(name)
        }
        plan = {}
        for (where, key), layer in file.layers.items():
            if where != part:
                continue
            name = modules.get(key) or modules.get(f"text_model_{key}")
            if name is None:
                raise ModelInvalid(
                    f"{file.file.path.name} is made for another base: this one has no layer {layer.module}",
                    hint="a LoRA works on the model family that it was trained on",
                )
            _check_shapes(file, layer, base.get_submodule(name))
            plan[name] = layer
        return plan

    def _insert(self, file: AdapterFile, part: str, plan: dict[str, Layer], name: str) -> None:
        base = self._parts[part]
        base.add_adapter(_config(plan), adapter_name=name)
        device, dtype = base.device, base.dtype  # these walk the whole model each time they are asked for
        for module_name, layer in plan.items():
            module: Any = base.get_submodule(module_name)
            if not isinstance(module, LoraLayer) or name not in module.lora_A:
                raise ModelInvalid(f"layer {module_name} cannot be adapted")
            for side, tensor in ((module.lora_A, layer.down), (module.lora_B, layer.up)):
                weight: Any = side[name].weight
                weight.copy_(_as(file.array(tensor), weight))
            for side in (module.lora_A, module.lora_B):
                side[name].to(device=device, dtype=dtype)
        base.eval()
        self.off()

    def _switch(self, strengths: dict[str, float]) -> None:
        for module in self._layers():
            here = [name for name in strengths if name in module.lora_A]
            module.enable_adapters(bool(here))
            module.set_adapter(here)
            for name in here:
                module.set_scale(name, strengths[name])
            for parameter in module.parameters():
                parameter.requires_grad_(False)

    def off(self) -> None:
        """The base alone; what is put on stays ready."""
        for module in self._layers():
            module.enable_adapters(False)

    def _remove(self, path: Path) -> None:
        self._delete(self._put.pop(path).name)
        if not self._put:
            self.clear()

    def _delete(self, name: str) -> None:
        for module in self._layers():
            if name in module.lora_A:
                module.delete_adapter(name)
        for part in self._parts.values():
            getattr(part, "peft_config", {}).pop(name, None)

    def _layers(self) -> Iterator[Any]:
        return (module for part in self._parts.values() for module in part.modules() if isinstance(module, LoraLayer))


def strengths(spec: TextToImage, folders: Sequence[Path]) -> list[tuple[Path, float]]:
    """The folders of a spec's LoRAs with their strengths. Raises ModelInvalid when one is missing."""
    if len(folders) != len(spec.loras):
        raise ModelInvalid(f"the task names {len(spec.loras)} LoRAs and {len(folders)} are here")
    return [(folder, one.strength) for folder, one in zip(folders, spec.loras, strict=True)]


def _inside_adapter(name: str) -> bool:
    return ".lora_" in name or ".base_layer" in name


def _config(plan: dict[str, Layer]) -> LoraConfig:
    sizes = {(layer.rank, float(layer.alpha or layer.rank)) for layer in plan.values()}
    rank, alpha = min(sizes)
    patterns: dict[str, Any] = {}
    if len(sizes) > 1:
        # looked up by regular expression for every layer: slow, so only where layers differ
        patterns = {
            "rank_pattern": {_exact(module): layer.rank for module, layer in plan.items()},
            "alpha_pattern": {_exact(module): layer.alpha or layer.rank for module, layer in plan.items()},
        }
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # a factor like any other; files hold fractions
        target_modules=sorted(plan),
        init_lora_weights=False,
        **patterns,
    )


def _exact(module: str) -> str:
    return f"^{module.replace('.', chr(92) + '.')}$"


def _check_shapes(file: AdapterFile, layer: Layer, module: Any) -> None:
    bare: Any = module.get_base_layer() if isinstance(module, LoraLayer) else module
    weight: torch.Tensor = bare.weight
    down, up = file.file.tensors[layer.down].shape, file.file.tensors[layer.up].shape
    inner = weight.shape[1:].numel()
    fits = down[0] * inner == torch.Size(down).numel() and up[0] == weight.shape[0] and torch.Size(up[2:]).numel() == 1
    if not fits:
        raise ModelInvalid(
            f"{file.file.path.name} is made for another base: layer {layer.module} has {tuple(weight.shape)} there, "
            f"the LoRA {down} and {up}",
            hint="a LoRA works on the model family that it was trained on",
        )


def _as(array: Array, weight: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(array.copy()).reshape(weight.shape).to(weight.dtype)
