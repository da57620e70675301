"""What is thought of states before anything is fetched, against bases of their true sizes: shapes alone, no weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from gesso_protocol.ids import BlobRef
from gesso_protocol.training.checkpoint import MAX_STATE_BYTES, most_state_bytes
from gesso_protocol.training.disk import likely_state_bytes
from gesso_protocol.training.presets import make_training
from gesso_protocol.training.targets import TEXT_TARGETS, UNET_TARGETS

BYTES_A_WEIGHT = 12
"""The weight and two moments, in fp32."""
UNETS: dict[str, dict[str, Any]] = {
    "sdxl@1": {
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
        "use_linear_projection": True,
    },
    "sd-1@5": {"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768, "attention_head_dim": 8},
}
ENCODERS = {"sdxl@1": ((768, 12), (1280, 32)), "sd-1@5": ((768, 12),)}
PUBLISHED = {"sdxl@1": (2_567_463_684, 6_940_000_000), "sd-1@5": (859_520_964, 2_130_000_000)}
"""Parameters of the UNet, and bytes of the whole base with weights of two bytes."""


def weights_a_rank(model: Any, layers: tuple[str, ...]) -> int:
    """What a LoRA has for each unit of its rank."""
    found = (part.weight for name, part in model.named_modules() if name.endswith(layers))
    return sum(weight[0].numel() + weight.shape[0] for weight in found)


@pytest.mark.parametrize("base", UNETS)
def test_no_state_is_larger_than_is_thought_and_none_is_refused_for_its_size(base: str) -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(**UNETS[base])
        encoders = [
            CLIPTextModel(CLIPTextConfig(hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers))
            for width, layers in ENCODERS[base]
        ]
    parameters, size = PUBLISHED[base]
    assert sum(weight.numel() for weight in unet.parameters()) == parameters, "it is that base"
    words = sum(weights_a_rank(one, tuple(f".{layer}" for layer in TEXT_TARGETS)) for one in encoders)
    for targets in (("attention",), ("feed_forward",), tuple(UNET_TARGETS)):
        layers = tuple(f".{layer}" for kind in targets for layer in UNET_TARGETS[kind])
        drawn = weights_a_rank(unet, layers)
        for text_encoder in (False, True):
            for rank in (4, 32, 128):
                spec = make_training(
                    base, dataset=BlobRef.of(b"data"), rank=rank, alpha=rank, targets=targets, text_encoder=text_encoder
                )
                state = BYTES_A_WEIGHT * rank * (drawn + words * text_encoder)
                assert state <= likely_state_bytes(spec, size) <= 6 * state, (targets, text_encoder, rank)
                assert likely_state_bytes(spec, size) <= most_state_bytes(size) <= MAX_STATE_BYTES
