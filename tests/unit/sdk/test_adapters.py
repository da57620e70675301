"""A LoRA that does not fit is refused with a sentence before anything is paid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gesso.adapterfile import AdapterFile, read_adapter
from gesso.adapters import Form, agree, check_lineage, check_named_base, check_shapes, form_of
from gesso.chain.records import Listing
from gesso.tensorfile import write_tensors
from gesso_devnet.stray_lora import write_stray_lora
from gesso_protocol.errors import ModelInvalid, UsageError
from gesso_protocol.ids import Address, BlobRef, ListingId
from gesso_protocol.training.targets import targets_of

BASE, OTHER = BlobRef.of(b"base"), BlobRef.of(b"other")
UNET = {"cross_attention_dim": 96, "block_out_channels": [64, 96, 128]}
TEXT = {"hidden_size": 96}


def listing(number: int, name: str, manifest: BlobRef, kind: int = 1, parent: int | None = None) -> Listing:
    return Listing(
        id=ListingId(number), owner=Address("0x" + "11" * 20), manifest=manifest, kind=kind,
        parent=None if parent is None else ListingId(parent), royalty_bps=0, licence=bytes(32), yanked=False,
        name=name, version=1,
    )  # fmt: skip


def lora(path: Path, *layers: tuple[str, int, int, int], alpha: float | None = None, **metadata: str) -> AdapterFile:
    """Layers are (module, outputs, inputs, rank), zeros all."""
    rows = []
    for module, outputs, inputs, rank in layers:
        for side, shape in (("A", (rank, inputs)), ("B", (outputs, rank))):
            rows.append((f"{module}.lora_{side}.weight", "F32", shape, bytes(4 * shape[0] * shape[1])))
    if alpha is not None:
        metadata["lora_adapter_metadata"] = json.dumps({"unet.lora_alpha": alpha, "text_encoder.lora_alpha": alpha})
    write_tensors(path, rows, metadata)
    return read_adapter(path)


def test_a_lora_of_this_base_passes() -> None:
    base = listing(1, "base", BASE, kind=0)
    fine = listing(2, "alice/zbx", OTHER, parent=1)
    check_lineage("alice/zbx@1", (fine, base), BASE)
    check_lineage("bob/zbx@1", (listing(3, "bob/zbx", BlobRef.of(b"b"), parent=2), fine, base), BASE)


def test_a_lora_of_another_base_is_refused() -> None:
    other = listing(1, "sd-1.5", OTHER, kind=0)
    with pytest.raises(UsageError, match=r"alice/zbx@1 is made for sd-1.5@1, which is not the model of this task"):
        check_lineage("alice/zbx@1", (listing(2, "alice/zbx", BASE, parent=1), other), BASE)
    with pytest.raises(UsageError, match="listed without the base"):
        check_lineage("alice/zbx@1", (listing(2, "alice/zbx", BASE),), BASE)


def test_a_file_says_which_base_it_was_trained_on(tmp_path: Path) -> None:
    layer = ("unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q", 128, 128, 4)
    here = lora(tmp_path / "a.safetensors", layer, **{"gesso.base_manifest": str(BASE)})
    check_named_base(here, BASE)
    check_named_base(lora(tmp_path / "b.safetensors", layer), BASE)
    check_named_base(lora(tmp_path / "c.safetensors", layer, **{"gesso.base_manifest": "nonsense"}), BASE)
    with pytest.raises(ModelInvalid, match="trained on another base"):
        check_named_base(here, OTHER)


@pytest.mark.parametrize(
    ("layer", "fits"),
    [
        (("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k", 64, 96, 4), True),
        (("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k", 64, 768, 4), False),
        (("unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q", 96, 96, 4), True),
        (("unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q", 640, 640, 4), False),
        (("unet.down_blocks.9.attentions.0.transformer_blocks.0.attn1.to_q", 96, 96, 4), False),
        (("unet.up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q", 96, 96, 4), True),
        (("unet.up_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", 64, 64, 4), False),
        (("text_encoder.encoder.layers.0.self_attn.q_proj", 96, 96, 4), True),
        (("text_encoder.encoder.layers.0.self_attn.q_proj", 768, 768, 4), False),
    ],
)
def test_widths_tell_another_family(layer: tuple[str, int, int, int], fits: bool, tmp_path: Path) -> None:
    file = lora(tmp_path / "a.safetensors", layer)
    if fits:
        check_shapes(file, UNET, TEXT)
    else:
        with pytest.raises(ModelInvalid, match="made for another base"):
            check_shapes(file, UNET, TEXT)
    check_shapes(file, {}, {})  # a base that says nothing of its widths refuses nobody


@pytest.mark.parametrize(
    ("name", "width", "fits"),
    [
        ("text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj", 128, True),
        ("text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj", 96, False),
        ("text_encoder.text_model.encoder.layers.0.self_attn.q_proj", 96, True),
    ],
)
def test_a_second_text_encoder_has_a_width_of_its_own(name: str, width: int, fits: bool, tmp_path: Path) -> None:
    file = lora(tmp_path / "a.safetensors", (name, width, width, 4))
    if fits:
        check_shapes(file, UNET, TEXT, {"hidden_size": 128})
    else:
        with pytest.raises(ModelInvalid, match="made for another base"):
            check_shapes(file, UNET, TEXT, {"hidden_size": 128})
    if name.startswith("text_encoder_2"):
        with pytest.raises(ModelInvalid, match="no second text encoder"):
            check_shapes(file, {}, {})


@pytest.mark.parametrize(
    ("te", "part"), [("te", "text_encoder"), ("te1", "text_encoder"), ("te2", "text_encoder_2"), ("te3", None)]
)
def test_kohya_numbers_text_encoders(te: str, part: str | None, tmp_path: Path) -> None:
    base, path = f"lora_{te}_text_model_encoder_layers_0_mlp_fc1", tmp_path / "a.safetensors"
    write_tensors(path, [(f"{base}.lora_{side}.weight", "F32", (2, 2), bytes(16)) for side in ("down", "up")], {})
    if part is None:
        with pytest.raises(ModelInvalid, match="belongs to no LoRA"):
            read_adapter(path)
    else:
        assert set(read_adapter(path).layers) == {(part, "encoder_layers_0_mlp_fc1")}


def test_two_names_of_one_matrix_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    rows = [(f"lora_{te}_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", "F32", (2, 2), bytes(16))
            for te in ("te", "te1")]  # fmt: skip
    write_tensors(path, rows, {})
    with pytest.raises(ModelInvalid, match="two tensors for one matrix"):
        read_adapter(path)


@pytest.mark.parametrize(
    "unet", [{"block_out_channels": "x"}, {"block_out_channels": [None]}, {"cross_attention_dim": []}]
)
def test_a_senseless_configuration_refuses_nobody(unet: dict[str, Any], tmp_path: Path) -> None:
    layer = ("unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k", 128, 96, 4)
    check_shapes(lora(tmp_path / "a.safetensors", layer), unet, {"hidden_size": "wide"})


def test_a_lora_of_the_shipped_base_fits_it(tmp_path: Path) -> None:
    from gesso_devnet import model

    config = json.loads((model.path() / "unet" / "config.json").read_text())
    check_shapes(read_adapter(write_stray_lora(tmp_path / "stray.safetensors")), config, {})


def test_the_form_of_a_lora(tmp_path: Path) -> None:
    unet = "unet.down_blocks.0.attentions.0.transformer_blocks.0"
    layers = [(f"{unet}.attn1.to_q", 64, 64, 8), (f"{unet}.ff.net.2", 64, 256, 8)]
    text = ("text_encoder.text_model.encoder.layers.0.mlp.fc1", 96, 96, 8)
    assert form_of(lora(tmp_path / "a.safetensors", *layers, alpha=4)) == Form(
        8, 4, ("attention", "feed_forward"), False
    )
    assert form_of(lora(tmp_path / "b.safetensors", *layers, text)) == Form(8, 8, ("attention", "feed_forward"), True)
    assert form_of(lora(tmp_path / "c.safetensors", (f"{unet}.attn1.to_q", 64, 64, 4), layers[1])) is None
    assert form_of(lora(tmp_path / "d.safetensors", *layers, alpha=4.5)) is None


def test_training_goes_on_with_what_the_lora_has() -> None:
    form = Form(8, 4, ("attention",), False)
    fields = agree("alice/zbx@1", form, {"steps": 5})
    assert fields == {
        "rank": 8,
        "alpha": 4,
        "targets": ("attention",),
        "text_encoder": False,
        "text_learning_rate_nano": 0,
    }
    agree("alice/zbx@1", form, {"rank": 8, "alpha": 4, "targets": ["attention"]})
    with pytest.raises(UsageError, match="alice/zbx@1 has rank 8, and 16 is asked for"):
        agree("alice/zbx@1", form, {"rank": 16})
    with pytest.raises(UsageError, match="targets attention, and"):
        agree("alice/zbx@1", form, {"targets": ("attention", "projection")})
    with pytest.raises(UsageError, match="cannot be trained on"):
        agree("alice/zbx@1", None, {})


def test_modules_of_no_kind() -> None:
    assert targets_of(["a.to_q", "a_to_out_0"]) == ("attention",)
    assert targets_of(["a.to_q", "time_emb_proj"]) is None
    assert targets_of([]) == ()
