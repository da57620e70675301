"""How a LoRA is to be trained, as options of `gesso train`. What is left out is what suits the base."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from gesso.cli.inputs import whole
from gesso_protocol.training.spec import Target


def _help(text: str) -> Parameter:
    return Parameter(help=text)


def _switch(text: str) -> Parameter:
    return Parameter(help=text, negative_bool=("no-",))


def _whole(text: str) -> Parameter:
    return Parameter(help=text, converter=whole)


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Every setting of the spec that people change; None leaves it to the preset of the base."""

    steps: Annotated[int | None, _whole("Updates in all.")] = None
    rank: Annotated[int | None, _whole("Size of the LoRA: larger holds more and weighs more.")] = None
    alpha: Annotated[int | None, _whole("Scale of the LoRA is alpha / rank; the rank when left out.")] = None
    target: Annotated[tuple[Target, ...], _help("Layers that are trained; may be given several times.")] = ()
    text_encoder: Annotated[bool | None, _switch("Train the text encoder too (of XL: both).")] = None
    learning_rate: Annotated[float | None, _help("Such as 1e-4.")] = None
    text_learning_rate: Annotated[float | None, _help("The text encoder's own; the same when left out.")] = None
    schedule: Annotated[Literal["constant", "cosine", "linear"] | None, _help("How the rate falls.")] = None
    warmup_steps: Annotated[int | None, _whole("Updates in which the rate rises.")] = None
    weight_decay: Annotated[float | None, _help("Of AdamW, 0 to 1.")] = None
    max_grad_norm: Annotated[float | None, _help("Gradients are clipped to this length.")] = None
    batch: Annotated[int | None, _whole("Pictures at once.")] = None
    accumulation: Annotated[int | None, _whole("Batches an update.")] = None
    resolution: Annotated[int | None, _whole("Pixels a side; pictures of other shapes go to buckets of that area.")] = (
        None
    )
    buckets: Annotated[bool | None, _switch("Keep the shapes of pictures; else all are cropped square.")] = None
    bucket_step_px: Annotated[int | None, _whole("Sides of buckets are multiples of this.")] = None
    caption_dropout: Annotated[float | None, _help("Share of pictures that are shown without words, 0 to 1.")] = None
    noise_offset: Annotated[float | None, _help("For very dark and very light pictures, 0 to 1.")] = None
    min_snr: Annotated[float | None, _help("Min-SNR gamma, often 5; 0 switches it off.")] = None
    prior: Annotated[
        float | None,
        _help("Weight of staying close to the base on --prior-prompt, so that other prompts keep their pictures."),
    ] = None
    prior_prompt: Annotated[tuple[str, ...], _help("What is to stay as it is; may be given several times.")] = ()
    sample_prompt: Annotated[tuple[str, ...], _help("Drawn on the way and at the end; up to four.")] = ()
    sample_every: Annotated[int | None, _whole("Draw samples every so many updates; 0: only at the end.")] = None
    sample_steps: Annotated[int | None, _whole("Denoising steps of a sample.")] = None
    sample_guidance: Annotated[float | None, _help("Guidance of a sample.")] = None
    checkpoint_every: Annotated[
        int | None, _whole("Updates between checkpoints, where the run can be stopped, checked or handed on; up to 20.")
    ] = None
    seed: Annotated[int | None, _whole("Random when left out.")] = None
    dtype: Annotated[Literal["fp32", "bf16"] | None, _help("bf16 is faster and only loosely checked.")] = None

    def settings(self) -> dict[str, Any]:
        """As `Client.train_lora` takes them."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        renamed = {"target": "targets", "prior_prompt": "prior_prompts", "sample_prompt": "sample_prompts"}
        return {renamed.get(name, name): value for name, value in given.items() if value not in (None, ())}
