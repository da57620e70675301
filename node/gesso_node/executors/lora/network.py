"""Adapters on a pipeline's UNet and text encoders: where they sit, how they start, how they leave without a trace.

Names are those of the exported file: `unet.<module>.lora_A.weight`, `text_encoder.<module>.lora_B.weight`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict

from gesso.checkpointfile import Array, Shapes
from gesso_node.executors.conditioning import text_encoders
from gesso_protocol.errors import ModelInvalid
from gesso_protocol.spec import TrainLora
from gesso_protocol.training.draws import Draws
from gesso_protocol.training.targets import TEXT_TARGETS, UNET_TARGETS

ADAPTER = "trained"


class Network:
    """The adapters of one run. The base stays frozen; `close` takes the adapters off again."""

    def __init__(self, pipe: Any, spec: TrainLora) -> None:
        encoders = text_encoders(pipe)
        self._parts = {"unet": pipe.unet, **(encoders if spec.text_encoder else {})}
        self._modes = {name: part.training for name, part in self._parts.items()}
        for part in (pipe.unet, *encoders.values(), pipe.vae):
            part.requires_grad_(False)
        self.configs = {name: self._config(name, spec) for name in self._parts}
        for name, part in self._parts.items():
            part.add_adapter(self.configs[name], adapter_name=ADAPTER)
            part.eval()
        self.parameters = dict(self._named())
        if not self.parameters:
            raise ModelInvalid("the model has no layers of the kinds that the task wants to train")

    @property
    def shapes(self) -> Shapes:
        """Names and shapes of everything that is trained."""
        return {name: tuple(parameter.shape) for name, parameter in self.parameters.items()}

    def start(self, draws: Draws) -> None:
        """Initial weights: down-projections from the run's seed, up-projections zero, so that nothing changes yet."""
        for name, parameter in self.parameters.items():
            if ".lora_A." in name:
                fan_in = parameter[0].numel()
                values = draws.initial(name, parameter.numel(), fan_in).reshape(tuple(parameter.shape))
                parameter.data.copy_(torch.from_numpy(values))
            else:
                parameter.data.zero_()

    def load(self, weights: Mapping[str, Array]) -> None:
        """Continue from these weights. Raises ModelInvalid when they are of another rank, base or choice of layers."""
        weights = {_plain(name): array for name, array in weights.items()}
        wanted = {_plain(name): shape for name, shape in self.shapes.items()}
        found = {name: array.shape for name, array in weights.items()}
        if set(wanted) != set(found):
            raise ModelInvalid("the LoRA to continue from adapts other layers than the task trains")
        wrong = next((name for name in wanted if wanted[name] != found[name]), None)
        if wrong is not None:
            raise ModelInvalid(f"the LoRA to continue from has shape {found[wrong]} at {wrong}, not {wanted[wrong]}")
        for name, parameter in self.parameters.items():
            parameter.data.copy_(torch.from_numpy(np.array(weights[_plain(name)])))

    def weights(self) -> dict[str, Array]:
        """Copies of all trained weights, sorted by name."""
        return {name: parameter.detach().float().cpu().numpy().copy() for name, parameter in self.parameters.items()}

    @contextmanager
    def off(self) -> Iterator[None]:
        """The base alone, inside the block."""
        for part in self._parts.values():
            part.disable_adapters()
        try:
            yield
        finally:
            for part in self._parts.values():
                part.enable_adapters()

    def close(self) -> None:
        """Take the adapters off; nothing was ever merged, so the base is what it was, to the bit."""
        for name, part in self._parts.items():
            remove_adapters(part)
            part.train(self._modes[name])

    def _named(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        found = [
            (f"{prefix}.{name.replace(f'.{ADAPTER}.', '.')}", parameter)
            for prefix, part in self._parts.items()
            for name, parameter in part.named_parameters()
            if parameter.requires_grad
        ]
        return iter(sorted(found, key=lambda item: item[0]))

    def _config(self, part: str, spec: TrainLora) -> LoraConfig:
        layers = TEXT_TARGETS if part != "unet" else [x for kind in spec.targets for x in UNET_TARGETS[kind]]
        return LoraConfig(r=spec.rank, lora_alpha=spec.alpha, target_modules=sorted(layers), init_lora_weights=False)


def _plain(name: str) -> str:
    """A parameter's name whether its text encoder keeps its layers in an inner model or not."""
    return name.replace(".text_model.", ".", 1)


def remove_adapters(part: Any) -> None:
    """Take every adapter off a UNet or text encoder; their layers become plain ones again."""
    from peft.tuners.lora import LoraLayer

    for name, module in list(part.named_modules()):
        if isinstance(module, LoraLayer):
            parent, _, child = name.rpartition(".")
            setattr(part.get_submodule(parent) if parent else part, child, module.get_base_layer())
    part._hf_peft_config_loaded = False
    if hasattr(part, "peft_config"):
        del part.peft_config


__all__ = ["ADAPTER", "Network", "get_peft_model_state_dict", "remove_adapters", "set_peft_model_state_dict"]
