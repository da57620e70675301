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

from gesso.checkpointfile import Array
from gesso_node.executors.lora.adapter_file import AdapterFile, Layer, read_adapter
from gesso_node.executors.lora.network import remove_adapters
from gesso_protocol.errors import ModelInvalid
from gesso_protocol.spec import TextToImage

MAX_KEPT = 4
"""Adapters that stay on a pipeline, ready to be switched on; more, and the one not used for longest leaves."""


_Form = dict[str, dict[str, tuple[int, float]]]
"""Rank and alpha by module name, by part: adapters of one form differ in nothing but their numbers."""


@dataclass(frozen=True, slots=True)
class _Put:
    name: str
    form: _Form


@dataclass(frozen=True, slots=True)
class _Ready:
    """A file read and checked to its last number, so that nothing can be refused once layers are touched."""

    plans: dict[str, dict[str, Layer]]
    weights: dict[tuple[str, str], tuple[Array, Array]]

    @property
    def form(self) -> _Form:
        return {
            part: {name: (layer.rank, float(layer.alpha or layer.rank)) for name, layer in plan.items()}
            for part, plan in self.plans.items()
        }


class AdapterSet:
    """The adapters of one pipeline. Keyed by path: a node's folders are named by the hash of what is in them.

    Building layers costs more than filling them. So when no place is free, a new adapter takes over the layers of an
    idle one of the same form, if there is one; only their numbers change, and the result is the same to the bit.
    """

    def __init__(self, pipe: Any, *, keep: int = MAX_KEPT) -> None:
        self._parts = {"unet": pipe.unet, "text_encoder": pipe.text_encoder}
        self._keep = keep
        self._put: OrderedDict[Path, _Put] = OrderedDict()
        self._layers: dict[tuple[str, str], Any] = {}
        self._modules: dict[str, dict[str, str]] = {}
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
        self._layers.clear()

    @property
    def kept(self) -> tuple[Path, ...]:
        """What is ready to be switched on, the most recently used last."""
        return tuple(self._put)

    def _ensure(self, path: Path, needed: set[Path]) -> None:
        if path in self._put:
            return
        ready = self._read(path)
        idle = [other for other in self._put if other not in needed]
        if len(self._put) >= self._keep:
            twin = next((other for other in idle if self._put[other].form == ready.form), None)
            if twin is not None:
                self._put[path] = self._refill(self._put.pop(twin), ready)
                return
        while len(self._put) >= self._keep and idle:
            self._remove(idle.pop(0))
        self._count += 1
        self._put[path] = self._build(ready, f"lora{self._count}")

    def _read(self, path: Path) -> _Ready:
        file = read_adapter(path)
        plans = {part: plan for part in self._parts if (plan := self._plan(file, part))}
        weights = {
            (part, name): (file.array(layer.down), file.array(layer.up))
            for part, plan in plans.items()
            for name, layer in plan.items()
        }
        return _Ready(plans, weights)

    @torch.no_grad()
    def _build(self, ready: _Ready, name: str) -> _Put:
        try:
            for part, plan in ready.plans.items():
                self._insert(part, plan, name)
            self._fill(ready, name)
        except BaseException:
            self._delete(name)
            raise
        finally:
            self.off()
        return _Put(name, ready.form)

    @torch.no_grad()
    def _refill(self, slot: _Put, ready: _Ready) -> _Put:
        try:
            self._fill(ready, slot.name)
        except BaseException:
            self._delete(slot.name)
            raise
        return slot

    def _fill(self, ready: _Ready, name: str) -> None:
        for where, (down, up) in ready.weights.items():
            layer = self._layers[where]
            for side, array in ((layer.lora_A, down), (layer.lora_B, up)):
                weight: Any = side[name].weight
                weight.copy_(_as(array, weight))

    def _plan(self, file: AdapterFile, part: str) -> dict[str, Layer]:
        """Module name to layer, checked against the base."""
        base = self._parts[part]
        modules = self._names(part)
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

    def _names(self, part: str) -> dict[str, str]:
        """What may be adapted, by its name with underscores; adapters come and go, these names stay."""
        if part not in self._modules:
            self._modules[part] = {
                name.replace(".", "_"): name
                for name, module in self._parts[part].named_modules()
                if isinstance(module, torch.nn.Linear | torch.nn.Conv2d | LoraLayer) and not _inside_adapter(name)
            }
        return self._modules[part]

    def _insert(self, part: str, plan: dict[str, Layer], name: str) -> None:
        base = self._parts[part]
        base.add_adapter(_config(plan), adapter_name=name)
        device, dtype = base.device, base.dtype  # these walk the whole model each time they are asked for
        for module_name in plan:
            module: Any = base.get_submodule(module_name)
            if not isinstance(module, LoraLayer) or name not in module.lora_A:
                raise ModelInvalid(f"layer {module_name} cannot be adapted")
            for side in (module.lora_A, module.lora_B):
                side[name].to(device=device, dtype=dtype)
            self._layers[part, module_name] = module
        base.eval()

    def _switch(self, strengths: dict[str, float]) -> None:
        for module in self._layers.values():
            here = [name for name in strengths if name in module.lora_A]
            module.enable_adapters(bool(here))
            if here:
                module.set_adapter(here, inference_mode=True)
            for name in here:
                module.set_scale(name, strengths[name])

    def off(self) -> None:
        """The base alone; what is put on stays ready."""
        for module in self._layers.values():
            if not module.disable_adapters:
                module.enable_adapters(False)

    def _remove(self, path: Path) -> None:
        self._delete(self._put.pop(path).name)
        if not self._put:
            self.clear()

    def _delete(self, name: str) -> None:
        for part in self._parts.values():
            for module in part.modules():
                if isinstance(module, LoraLayer) and name in module.lora_A:
                    module.delete_adapter(name)
                    module.enable_adapters(False)
            getattr(part, "peft_config", {}).pop(name, None)


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
