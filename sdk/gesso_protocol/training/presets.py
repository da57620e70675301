"""Sensible training settings for the shapes of model that people use, to be changed field by field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from gesso_protocol.encoding import explain
from gesso_protocol.errors import SpecInvalid
from gesso_protocol.training.ordinary import ORDINARY_TINY
from gesso_protocol.training.spec import TrainLora

_TINY: dict[str, Any] = {
    "rank": 16,
    "alpha": 16,
    "targets": ("attention", "convolution", "feed_forward", "projection"),
    "text_encoder": True,
    "learning_rate_nano": 2_000_000,
    "text_learning_rate_nano": 1_000_000,
    "warmup_steps": 10,
    "steps": 700,
    "batch": 4,
    "resolution": 64,
    "bucket_step_px": 16,
    # A few pictures of one thing teach the model that everything is that thing, unless it is held to what it was; and
    # guidance draws away from whatever is shown without words.
    "caption_dropout_milli": 0,
    "prior_milli": 500,
    "prior_prompts": ORDINARY_TINY,
    "checkpoint_every": 20,
}
_SD15: dict[str, Any] = {
    "rank": 16,
    "alpha": 16,
    "targets": ("attention",),
    "learning_rate_nano": 100_000,
    "warmup_steps": 20,
    "steps": 1500,
    "batch": 2,
    "resolution": 512,
    "min_snr_milli": 5000,
    "checkpoint_every": 20,
    "sample_every": 150,
    "sample_guidance_milli": 7500,
}
_SDXL: dict[str, Any] = {
    **_SD15,
    "rank": 32,
    "alpha": 16,
    "batch": 1,
    "accumulation": 2,
    "resolution": 1024,
    "sample_guidance_milli": 6000,
}
_PRESETS = {"gesso-tiny": _TINY, "sd-1": _SD15, "sd-2": {**_SD15, "resolution": 768}, "sdxl": _SDXL}


def preset(model: str) -> dict[str, Any]:
    """Settings for the family that a model's name begins with, publisher aside; those of SD 1.5 for other names."""
    own = model.rpartition("/")[2]
    return dict(next((fields for name, fields in _PRESETS.items() if own.startswith(name)), _SD15))


def filled(model: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The preset, changed field by field. Who switches the prior off need not take its prompts away too."""
    given = preset(model)
    if fields.get("prior_milli") == 0:
        given.pop("prior_prompts", None)
    return {**given, **fields}


def make_training(model: str, *, family: str = "", **fields: Any) -> TrainLora:
    """A spec from the preset of `family`, or of the model's name, and named values. Raises `SpecInvalid`."""
    try:
        return TrainLora(**{"model": model, **filled(family or model, fields)})
    except ValidationError as error:
        raise SpecInvalid(explain(error)) from None
