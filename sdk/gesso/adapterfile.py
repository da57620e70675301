"""A LoRA file as anyone may hand it over, its header read without any tensor library: every tensor accounted for.

Two forms exist: diffusers/peft (`unet.<module>.lora_A.weight`) and kohya (`lora_unet_<module>.lora_down.weight`). A
file that mixes in anything else is refused, because what a loader does not know it would silently leave out.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic_core import from_json

from gesso.tensorfile import TensorFile, open_tensors
from gesso_protocol.errors import ModelInvalid

MAX_ADAPTER_BYTES = 2 * 1024**3
MAX_RANK = 1024
ADAPTER_FILE = "adapter.safetensors"
METADATA_KEY = "lora_adapter_metadata"
FLOATS = ("F16", "F32", "F64", "BF16")
_PEFT = re.compile(r"(unet|text_encoder|text_encoder_2)\.(?:text_model\.)?(.+)\.lora_([AB])\.(?:\w+\.)?weight\Z")
_KOHYA = re.compile(r"lora_(unet|te|te1|te2)_(?:text_model_)?(.+)\.(?:lora_(down|up)\.weight|(alpha))\Z")
_KOHYA_PARTS = {"unet": "unet", "te": "text_encoder", "te1": "text_encoder", "te2": "text_encoder_2"}
_SCALARS = {"F16": "<e", "F32": "<f", "F64": "<d"}


@dataclass(slots=True)
class Layer:
    """The two matrices of one adapted layer, by tensor name. `module` has dots (diffusers) or underscores (kohya)."""

    part: str
    module: str
    down: str = ""
    up: str = ""
    alpha: float | None = None
    rank: int = 0


@dataclass(frozen=True)
class AdapterFile:
    """A checked file. Layers are keyed by (part, module name with underscores), the same for both forms."""

    file: TensorFile
    layers: dict[tuple[str, str], Layer]
    kohya: bool = field(default=False)

    @property
    def metadata(self) -> Mapping[str, str]:
        """As written; the text is the publisher's and is only ever shown."""
        return self.file.metadata

    def shapes(self, layer: Layer) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of the layer's two matrices: down, up."""
        return self.file.tensors[layer.down].shape, self.file.tensors[layer.up].shape


def read_adapter(path: Path) -> AdapterFile:
    """A LoRA file, or the folder that holds one. Raises ModelInvalid with a sentence that says what is wrong."""
    if path.is_dir():
        path = _the_file(path)
    file = open_tensors(path, max_bytes=MAX_ADAPTER_BYTES)
    layers: dict[tuple[str, str], Layer] = {}
    forms = {_sort(file, name, layers) for name in file.tensors}
    if not layers:
        raise ModelInvalid(f"{path.name} holds no LoRA")
    if len(forms) != 1:
        raise ModelInvalid(f"{path.name} mixes two ways of naming its tensors")
    for layer in layers.values():
        _check_layer(file, layer)
    kohya = forms == {"kohya"}
    if not kohya:
        _alphas_of_metadata(file, layers)
    return AdapterFile(file, layers, kohya)


def _the_file(folder: Path) -> Path:
    named = folder / ADAPTER_FILE
    if named.is_file():
        return named
    found = sorted(folder.glob("*.safetensors"))
    if len(found) != 1:
        raise ModelInvalid(f"a LoRA's folder holds one safetensors file, not {len(found)}")
    return found[0]


def _sort(file: TensorFile, name: str, layers: dict[tuple[str, str], Layer]) -> str:
    match = _PEFT.match(name)
    if match:
        part, module, side = match.groups()
        layer = layers.setdefault((part, module.replace(".", "_")), Layer(part, module))
        _set(file, layer, "down" if side == "A" else "up", name)
        return "peft"
    match = _KOHYA.match(name)
    if not match:
        raise ModelInvalid(
            f"{file.path.name}: {name} belongs to no LoRA that can be used here",
            hint="supported are LoRAs for Stable Diffusion 1, 2 and XL in diffusers, peft and kohya form",
        )
    part, module, side, alpha = match.groups()
    part = _KOHYA_PARTS[part]
    layer = layers.setdefault((part, module), Layer(part, module))
    if alpha:
        layer.alpha = _scalar(file, name)
    else:
        _set(file, layer, side, name)
    return "kohya"


def _set(file: TensorFile, layer: Layer, side: str, name: str) -> None:
    """Two names for one matrix would leave one of them out in silence."""
    if getattr(layer, side):
        raise ModelInvalid(f"{file.path.name} has two tensors for one matrix: {getattr(layer, side)} and {name}")
    setattr(layer, side, name)


def _scalar(file: TensorFile, name: str) -> float:
    info = file.tensors[name]
    if info.size > 8 or info.dtype not in FLOATS or math.prod(info.shape) != 1:
        raise ModelInvalid(f"{file.path.name}: {name} is not one number")
    raw = file.read(name)
    wide = b"\0\0" + raw if info.dtype == "BF16" else raw
    (value,) = struct.unpack(_SCALARS.get(info.dtype, "<f"), wide)
    if not 0 < value <= 4 * MAX_RANK:
        raise ModelInvalid(f"{file.path.name}: {name} is {value:g}, which is no alpha")
    return float(value)


def _check_layer(file: TensorFile, layer: Layer) -> None:
    if not layer.down or not layer.up:
        raise ModelInvalid(f"{file.path.name}: layer {layer.module} lacks one of its two matrices")
    down, up = file.tensors[layer.down], file.tensors[layer.up]
    for info in (down, up):
        if info.dtype not in FLOATS:
            raise ModelInvalid(f"{file.path.name}: element type {info.dtype} is not supported")
    if len(down.shape) not in (2, 4) or len(up.shape) != len(down.shape):
        raise ModelInvalid(f"{file.path.name}: layer {layer.module} has shapes of no LoRA")
    layer.rank = down.shape[0]
    if up.shape[1] != layer.rank or not 1 <= layer.rank <= MAX_RANK:
        raise ModelInvalid(f"{file.path.name}: the matrices of layer {layer.module} have different ranks")


def _alphas_of_metadata(file: TensorFile, layers: Mapping[tuple[str, str], Layer]) -> None:
    """peft keeps alpha beside the weights; a file without it means alpha = rank."""
    text = file.metadata.get(METADATA_KEY)
    if text is None:
        return
    try:
        metadata = from_json(text)
    except ValueError as error:
        raise ModelInvalid(f"{file.path.name} has broken adapter metadata") from error
    if not isinstance(metadata, dict):
        raise ModelInvalid(f"{file.path.name} has broken adapter metadata")
    for layer in layers.values():
        alpha = metadata.get(f"{layer.part}.lora_alpha", metadata.get("lora_alpha"))
        if alpha is None:
            continue
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha <= 4 * MAX_RANK:
            raise ModelInvalid(f"{file.path.name} has an alpha that is no number")
        layer.alpha = float(alpha)
