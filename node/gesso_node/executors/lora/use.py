"""Drawing with LoRAs: beside a loaded pipeline, never in it, so that one costs no more than reading its file.

The base keeps its modules and its weights. While LoRAs are on, what each one adds is summed to the outputs of the
layers that it changes, in the operations and the order of peft (a test holds that to the bit); merging them would leave
rounding in the base, and giving layers to peft rebuilds the model. Nothing is skipped in silence: a file whose layers
or shapes do not fit this base is refused.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from gesso.checkpointfile import Array
from gesso_node.executors.conditioning import is_xl, text_encoders
from gesso_node.executors.lora.adapter_file import AdapterFile, Layer, read_adapter
from gesso_node.executors.lora.sgm_names import sgm_name
from gesso_protocol.errors import ModelInvalid
from gesso_protocol.spec import TextToImage

MAX_KEPT = 4
"""Adapters whose numbers stay at hand; more, and the one not used for longest leaves."""


@dataclass(frozen=True, slots=True)
class _Matrices:
    """What one adapter adds to one layer, on the base's device and in its type."""

    down: torch.Tensor
    up: torch.Tensor
    alpha: float
    rank: int


_Adapter = dict[torch.nn.Module, _Matrices]


class AdapterSet:
    """The adapters of one pipeline. Keyed by path: a node's folders are named by the hash of what is in them."""

    def __init__(self, pipe: Any, *, keep: int = MAX_KEPT) -> None:
        self._parts: dict[str, torch.nn.Module] = {"unet": pipe.unet, **text_encoders(pipe)}
        self._layers = pipe.unet.config.layers_per_block if is_xl(pipe) else None
        self._keep = keep
        self._kept: OrderedDict[Path, _Adapter] = OrderedDict()
        self._modules: dict[str, dict[str, torch.nn.Module]] = {}
        self._unet = frozenset(pipe.unet.modules())
        self._on = ExitStack()
        self._words = False

    @contextmanager
    def applied(self, wanted: Sequence[tuple[Path, float]]) -> Iterator[None]:
        """These adapters and no others, at these strengths, inside the block. Raises ModelInvalid with a sentence."""
        adapters = [(self._ready(path, keep=len(wanted)), strength) for path, strength in wanted]
        try:
            self._switch(adapters)
            yield
        finally:
            self.off()

    def clear(self) -> None:
        """Forget every adapter."""
        self.off()
        self._kept.clear()

    @property
    def kept(self) -> tuple[Path, ...]:
        """What is ready to be switched on, the most recently used last."""
        return tuple(self._kept)

    @property
    def changes_words(self) -> bool:
        """Whether what is on now adds to a text encoder."""
        return self._words

    def off(self) -> None:
        """The base alone; what is at hand stays so."""
        self._on.close()
        self._words = False

    def _ready(self, path: Path, *, keep: int) -> _Adapter:
        """The numbers of a file, read and checked to the last one. `keep` is how many the task needs at once."""
        if path not in self._kept:
            self._kept[path] = self._read(path)
            while len(self._kept) > max(self._keep, keep):
                self._kept.popitem(last=False)
        self._kept.move_to_end(path)
        return self._kept[path]

    def _read(self, path: Path) -> _Adapter:
        file = read_adapter(path)
        modules = {key: self._module(file, *key) for key in file.layers}
        if len(set(modules.values())) != len(modules):
            raise ModelInvalid(f"{file.file.path.name} names a layer twice, in two ways")
        for key, layer in file.layers.items():
            _check_shapes(file, layer, modules[key])
        arrays = dict(file.arrays())
        return {modules[key]: _matrices(layer, modules[key], arrays) for key, layer in file.layers.items()}

    def _module(self, file: AdapterFile, part: str, key: str) -> torch.nn.Module:
        modules = self._names(part)
        found = modules.get(key) or modules.get(f"text_model_{key}")
        if found is None:
            module = file.layers[part, key].module
            raise ModelInvalid(
                f"{file.file.path.name} is made for another base: this one has no layer {module}",
                hint="a LoRA works on the model family that it was trained on",
            )
        return found

    def _names(self, part: str) -> dict[str, torch.nn.Module]:
        """What may be adapted, by its name with underscores."""
        if part not in self._modules:
            found = {
                name: module
                for name, module in (self._parts[part].named_modules() if part in self._parts else ())
                if isinstance(module, torch.nn.Linear) or (isinstance(module, torch.nn.Conv2d) and module.groups == 1)
            }
            if part == "unet" and isinstance(self._layers, int):
                found = {sgm_name(name, self._layers): module for name, module in found.items()} | found
            self._modules[part] = {name.replace(".", "_"): module for name, module in found.items()}
        return self._modules[part]

    def _switch(self, adapters: Sequence[tuple[_Adapter, float]]) -> None:
        self.off()
        here: dict[torch.nn.Module, list[tuple[_Matrices, float]]] = {}
        for adapter, strength in adapters:
            for module, matrices in adapter.items():
                here.setdefault(module, []).append((matrices, strength * matrices.alpha / matrices.rank))
        self._words = not self._unet.issuperset(here)
        for module, scaled in here.items():
            self._on.callback(module.register_forward_hook(_Sum(scaled)).remove)


class _Sum:
    """A layer's output and what the adapters add to it."""

    def __init__(self, scaled: Sequence[tuple[_Matrices, float]]) -> None:
        self._scaled = scaled

    def __call__(self, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        result = output
        for matrices, scale in self._scaled:
            result = result + _change(module, matrices, inputs[0].to(matrices.down.dtype)) * scale
        return result.to(output.dtype)


def strengths(spec: TextToImage, folders: Sequence[Path]) -> list[tuple[Path, float]]:
    """The folders of a spec's LoRAs with their strengths. Raises ModelInvalid when one is missing."""
    if len(folders) != len(spec.loras):
        raise ModelInvalid(f"the task names {len(spec.loras)} LoRAs and {len(folders)} are here")
    return [(folder, one.strength) for folder, one in zip(folders, spec.loras, strict=True)]


def _change(module: torch.nn.Module, matrices: _Matrices, x: torch.Tensor) -> torch.Tensor:
    if isinstance(module, torch.nn.Conv2d):
        return functional.conv2d(functional.conv2d(x, matrices.down, None, module.stride, module.padding), matrices.up)
    return functional.linear(functional.linear(x, matrices.down), matrices.up)


def _matrices(layer: Layer, module: torch.nn.Module, arrays: Mapping[str, Array]) -> _Matrices:
    weight: Any = module.weight
    deeper = (1,) * (weight.dim() - 2)
    return _Matrices(
        down=_like(weight, arrays[layer.down], (layer.rank, *weight.shape[1:])),
        up=_like(weight, arrays[layer.up], (weight.shape[0], layer.rank, *deeper)),
        alpha=float(layer.alpha or layer.rank),
        rank=layer.rank,
    )


def _like(weight: torch.Tensor, array: Array, shape: Sequence[int]) -> torch.Tensor:
    """The numbers in memory of torch's own: how memory is aligned may change what a product adds up to."""
    return torch.empty(tuple(shape), dtype=weight.dtype, device=weight.device).copy_(
        torch.from_numpy(array).reshape(tuple(shape))
    )


def _check_shapes(file: AdapterFile, layer: Layer, module: torch.nn.Module) -> None:
    weight: Any = module.weight
    down, up = file.shapes(layer)
    inner = weight.shape[1:].numel()
    fits = down[0] * inner == torch.Size(down).numel() and up[0] == weight.shape[0] and torch.Size(up[2:]).numel() == 1
    if not fits:
        raise ModelInvalid(
            f"{file.file.path.name} is made for another base: layer {layer.module} has {tuple(weight.shape)} there, "
            f"the LoRA {down} and {up}",
            hint="a LoRA works on the model family that it was trained on",
        )
