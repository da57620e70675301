"""LoRAs on an XL base: on the UNet and both text encoders, in every way that files name their layers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("peft")

import torch

from gesso.tensorfile import write_tensors
from gesso_node.executors.conditioning import conditioned, text_encoders, told
from gesso_node.executors.diffusers import DiffusersEngine
from gesso_node.executors.lora.sgm_names import sgm_name
from gesso_node.executors.lora.use import AdapterSet
from gesso_protocol.errors import ModelInvalid
from gesso_protocol.training.targets import TEXT_TARGETS

RANK, ALPHA = 3, 2.0
KOHYA_PARTS = {"unet": "lora_unet", "text_encoder": "lora_te1_text_model", "text_encoder_2": "lora_te2_text_model"}
ENDS = ("to_q", "to_out.0", "ff.net.0.proj", "proj_in", *TEXT_TARGETS)
"""Layers of every kind that files have."""
CONVOLUTIONS = ("conv1", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "conv_in", "conv_out")


def pipeline(model: Path) -> Any:
    torch.set_num_threads(1)
    return DiffusersEngine()._pipeline(model, "fp32").pipeline


def layers(pipe: Any, ends: tuple[str, ...]) -> dict[str, torch.Size]:
    return {
        f"{part}.{name}": module.weight.shape
        for part, root in {"unet": pipe.unet, **text_encoders(pipe)}.items()
        for name, module in root.named_modules()
        if name.endswith(ends)
    }


def diffusers_rows(shapes: Mapping[str, torch.Size]) -> list[Any]:
    rng = np.random.default_rng(7)
    rows: list[Any] = []
    for name, (outer, *inner) in shapes.items():
        for side, shape in (("A", (RANK, *inner)), ("B", (outer, RANK, *(1 for _ in inner[1:])))):
            rows.append(
                (f"{name}.lora_{side}.weight", "F32", shape, rng.standard_normal(shape).astype("<f4").tobytes())
            )
    return rows


def kohya_rows(rows: list[Any], original: bool) -> list[Any]:
    """The same numbers as kohya's trainer names them; its XL files have the original's names of the UNet's layers."""
    found = []
    for name, dtype, shape, data in rows:
        part, _, rest = name.removesuffix(".weight").partition(".")
        module, _, side = rest.rpartition(".lora_")
        if part == "unet" and original:
            module = sgm_name(module, 2)
        layer = f"{KOHYA_PARTS[part]}_{module.removeprefix('text_model.').replace('.', '_')}"
        if side == "A":
            found.append((f"{layer}.alpha", "F32", (), np.float32(ALPHA).tobytes()))
        found.append((f"{layer}.lora_{'down' if side == 'A' else 'up'}.weight", dtype, shape, data))
    return found


def lora(folder: Path, rows: list[Any]) -> Path:
    folder.mkdir()
    write_tensors(folder / "adapter.safetensors", rows, {})
    return folder


@torch.no_grad()
def output(pipe: Any) -> torch.Tensor:
    """What the UNet makes of words that both text encoders have read."""
    cond, uncond = conditioned(pipe, "a red circle", "blue", (64, 64))
    noise = torch.randn((1, 4, 16, 16), generator=torch.Generator().manual_seed(0))
    made: torch.Tensor = pipe.unet(torch.cat([noise] * 2), 10, **told([uncond, cond]), return_dict=False)[0]
    return made


@pytest.mark.parametrize("form", ["diffusers", "kohya", "kohya-original", "kohya-original-convolutions"])
def test_a_file_of_any_form_does_what_the_library_makes_of_it(form: str, xl_model: Path, tmp_path: Path) -> None:
    ours, library = pipeline(xl_model), pipeline(xl_model)
    rows = diffusers_rows(layers(ours, CONVOLUTIONS if "convolutions" in form else ENDS))
    file = lora(tmp_path / "lora", rows if form == "diffusers" else kohya_rows(rows, "original" in form))
    library.load_lora_weights(str(file), weight_name="adapter.safetensors", adapter_name="one")
    library.set_adapters(["one"], [0.7])
    before = output(ours)
    with AdapterSet(ours).applied([(file, 0.7)]):
        assert torch.equal(output(ours), output(library))
        assert not torch.equal(output(ours), before)
    assert torch.equal(output(ours), before)


@pytest.mark.parametrize("part", ["unet", "text_encoder", "text_encoder_2"])
def test_each_part_alone_changes_the_picture(part: str, xl_model: Path, tmp_path: Path) -> None:
    pipe = pipeline(xl_model)
    before = output(pipe)
    mine = {name: shape for name, shape in layers(pipe, ("layers.0.self_attn.q_proj", "to_v")).items()
            if name.startswith(f"{part}.")}  # fmt: skip
    with AdapterSet(pipe).applied([(lora(tmp_path / "lora", diffusers_rows(mine)), 1.0)]):
        assert not torch.equal(output(pipe), before)


def test_a_lora_of_another_kind_of_base_is_refused(xl_model: Path, sample_model: Path, tmp_path: Path) -> None:
    xl, sd = pipeline(xl_model), pipeline(sample_model)
    rows = diffusers_rows(layers(xl, ENDS))
    for name, mine in (("whole", rows), ("second", [row for row in rows if row[0].startswith("text_encoder_2.")])):
        for form, found in (("diffusers", mine), ("kohya", kohya_rows(mine, True))):
            file = lora(tmp_path / f"{name}-{form}", found)
            with pytest.raises(ModelInvalid, match="made for another base"), AdapterSet(sd).applied([(file, 1.0)]):
                pass
    other = lora(tmp_path / "sd", diffusers_rows(layers(sd, ENDS)))
    with pytest.raises(ModelInvalid, match="made for another base"), AdapterSet(xl).applied([(other, 1.0)]):
        pass


def test_a_layer_named_in_two_ways_is_refused(xl_model: Path, tmp_path: Path) -> None:
    """One of the two would be left out without a word."""
    pipe = pipeline(xl_model)
    rows = diffusers_rows({name: shape for name, shape in layers(pipe, ("attn1.to_q",)).items() if "mid_block" in name})
    twice = lora(tmp_path / "twice", [*kohya_rows(rows, True), *kohya_rows(rows, False)])
    with pytest.raises(ModelInvalid, match="twice"), AdapterSet(pipe).applied([(twice, 1.0)]):
        pass
