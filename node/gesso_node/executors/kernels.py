"""Honest ways to compute the same thing: attention kernels, batch shapes, memory layout. Imported in the child only.

They differ in the order of additions, so in the last bits. An operator may choose one; benches and calibration run all
of them, because limits must hold between any two.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Literal

import torch
from diffusers.models.attention_processor import AttnProcessor
from pydantic import BaseModel, ConfigDict, Field
from torch.nn.attention import SDPBackend, sdpa_kernel

Attention = Literal["default", "math", "bmm", "sliced", "flash", "efficient", "cudnn"]
_BACKENDS = {
    "math": SDPBackend.MATH,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
"""Torch's own ones. The last two need a GPU, and two of them narrow numbers there: what a device cannot do falls back
to the plain one."""


class KernelOptions(BaseModel):
    """Which kernels the denoiser uses. The defaults are what a plain pipeline does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attention: Attention = "default"
    onednn: bool = True
    """CPU convolutions and products by oneDNN; off means torch's own."""
    split_guidance: bool = False
    """Two calls of one branch instead of one call of both: half the memory."""
    batch_to: int = Field(default=0, ge=0, le=64)
    """Fill every call up to this batch size, as a node that batches unlike tasks would."""
    channels_last: bool = False


STRICT = KernelOptions(attention="math")


def use_kernels(unet: Any, options: KernelOptions) -> None:
    """Make `unet` compute that way from now on, and answer in fp32. Call once, on a freshly loaded model."""
    if unet.dtype != torch.float32:
        # Guidance multiplies rounding: both branches are summed in fp32, and from what is committed.
        unet.register_forward_hook(lambda _module, _args, output: (output[0].float(),))
    if options.channels_last:
        unet.to(memory_format=torch.channels_last)
    if options.attention == "bmm":
        unet.set_attn_processor(AttnProcessor())
    if options.attention == "sliced":
        unet.set_attention_slice(1)
    if options.attention in _BACKENDS or not options.onednn or options.split_guidance or options.batch_to:
        unet.forward = _forward(unet.forward, options)


def _forward(forward: Callable[..., Any], options: KernelOptions) -> Callable[..., Any]:
    """`forward` with other kernels and batch shapes; only for calls as a pipeline makes them (`return_dict=False`)."""

    def call(sample: torch.Tensor, t: Any, encoder_hidden_states: torch.Tensor, **kwargs: Any) -> Any:
        with ExitStack() as stack:
            if options.attention in _BACKENDS:
                stack.enter_context(sdpa_kernel([_BACKENDS[options.attention], SDPBackend.MATH]))
            if not options.onednn:
                stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
            rows = len(sample)
            size = 1 if options.split_guidance else rows
            parts = [
                _filled(
                    forward,
                    sample[at : at + size],
                    t,
                    encoder_hidden_states[at : at + size],
                    options,
                    {**kwargs, **_added(kwargs, slice(at, at + size))},
                )
                for at in range(0, rows, size)
            ]
        return (torch.cat(parts),)

    return call


def _filled(
    forward: Callable[..., Any], sample: torch.Tensor, t: Any, states: torch.Tensor, options: KernelOptions, kwargs: Any
) -> torch.Tensor:
    rows, more = len(sample), max(0, options.batch_to - len(sample))
    if more:
        # Neighbours of the batch: other numbers, so that nothing is computed once and shared.
        sample = torch.cat([sample, *(sample[:1].roll(shift, -1) for shift in range(1, more + 1))])
        states = torch.cat([states, states[:1].expand(more, -1, -1)])
        kwargs = {**kwargs, **_added(kwargs, [*range(rows), *[0] * more])}
    output: torch.Tensor = forward(sample, t, encoder_hidden_states=states, **kwargs)[0]
    return output[:rows]


def _added(kwargs: dict[str, Any], rows: slice | list[int]) -> dict[str, Any]:
    """These rows of what XL is told beside the words."""
    added = kwargs.get("added_cond_kwargs")
    return {} if added is None else {"added_cond_kwargs": {name: value[rows] for name, value in added.items()}}
