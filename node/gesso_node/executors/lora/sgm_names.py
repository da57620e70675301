"""Names of XL's UNet as its authors and kohya's trainer have them, beside diffusers' own.

For Stable Diffusion 1 and 2 kohya's files name layers as diffusers does; for XL they name those of the original code.
"""

from __future__ import annotations

import re
from pathlib import Path

from gesso.diffusers_layout import SDXL, check_index
from gesso_node.executors.folder import read_json

_OUTER = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_INNER = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
    "time_emb_proj": "emb_layers.1",
}
_KINDS = {"resnets": 0, "attentions": 1}
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)\Z")
_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)\Z")


def sgm_name(module: str, layers: int) -> str:
    """The original name of a UNet module that diffusers calls `module` (dots in both); its own where there is none.

    `layers` is the number of residual layers a level.
    """
    if module in _OUTER:
        return _OUTER[module]
    if found := _MIDDLE.match(module):
        kind, number, rest = found.groups()
        return f"middle_block.{2 * int(number) if kind == 'resnets' else 1}.{_inner(kind, rest)}"
    if not (found := _BLOCK.match(module)):
        return module
    side, level, kind, number, rest = found.groups()
    if kind == "downsamplers":
        return f"input_blocks.{(int(level) + 1) * (layers + 1)}.0.op"
    if kind == "upsamplers":
        return f"output_blocks.{int(level) * (layers + 1) + layers}.2.{rest}"
    # The first of all input blocks is the convolution before the levels.
    place = int(level) * (layers + 1) + int(number) + (side == "down")
    return f"{'input' if side == 'down' else 'output'}_blocks.{place}.{_KINDS[kind]}.{_inner(kind, rest)}"


def _inner(kind: str, rest: str) -> str:
    return _INNER.get(rest, rest) if kind == "resnets" else rest


def layers_in(folder: Path | None) -> int | None:
    """Residual layers a level of the XL base in `folder`; None where kohya's names are diffusers', and for no folder.

    Raises ModelInvalid for a folder that is no base.
    """
    if folder is None or check_index(read_json(folder / "model_index.json")) is not SDXL:
        return None
    layers = read_json(folder / "unet" / "config.json").get("layers_per_block", 2)
    return layers if isinstance(layers, int) else None
