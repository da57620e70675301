"""The numbers of a LoRA file as numpy arrays; which tensors make a LoRA is `gesso.adapterfile`'s to say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gesso import adapterfile
from gesso.adapterfile import ADAPTER_FILE, METADATA_KEY, Layer
from gesso.checkpointfile import Array
from gesso_protocol.errors import ModelInvalid

__all__ = ["ADAPTER_FILE", "METADATA_KEY", "AdapterFile", "Layer", "read_adapter"]

_DTYPES = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}


class AdapterFile(adapterfile.AdapterFile):
    """A checked file whose tensors can be read."""

    def array(self, name: str) -> Array:
        """One tensor as fp32. Raises ModelInvalid for values that are not numbers."""
        return self._numbers(name, self.file.read(name))

    def arrays(self) -> Iterator[tuple[str, Array]]:
        """Every tensor as `array` gives it, the file read through once."""
        for name, raw in self.file.read_all():
            yield name, self._numbers(name, raw)

    def _numbers(self, name: str, raw: bytes) -> Array:
        info = self.file.tensors[name]
        if info.dtype == "BF16":
            wide = np.frombuffer(raw, "<u2").astype(np.uint32) << 16
            values = wide.view(np.float32)
        else:
            values = np.frombuffer(raw, _DTYPES[info.dtype]).astype(np.float32)
        if not np.isfinite(values).all():
            raise ModelInvalid(f"{self.file.path.name}: {name} holds values that are not numbers")
        return values.reshape(info.shape)

    def diffusers_weights(self) -> dict[str, Array]:
        """The tensors of a file in diffusers form by their own names, for training on."""
        if self.kohya:
            raise ModelInvalid(
                "training goes on from a file in diffusers form only",
                hint=f"use the {ADAPTER_FILE} of the same training",
            )
        return {
            f"{layer.part}.{layer.module}.lora_{side}.weight": self.array(name)
            for layer in self.layers.values()
            for side, name in (("A", layer.down), ("B", layer.up))
        }


def read_adapter(path: Path) -> AdapterFile:
    """A LoRA file, or the folder that holds one. Raises ModelInvalid with a sentence that says what is wrong."""
    found = adapterfile.read_adapter(path)
    return AdapterFile(found.file, found.layers, found.kohya)
