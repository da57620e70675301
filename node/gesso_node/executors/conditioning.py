"""What a UNet is told beside the latent: the words, and for XL also a summary of them and the picture's sizes.

One place knows how both kinds of pipeline are asked. What is told is recorded whole, and computed again by auditors.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

TIME_IDS = 6
"""How many numbers tell XL of a picture's sizes."""
MAX_ENCODED = 8
"""Prompts whose encodings stay at hand: a quarter of a megabyte each, XL's three times as much."""
_Encoded: TypeAlias = tuple[torch.Tensor, torch.Tensor | None]


@dataclass(frozen=True, slots=True)
class Conditioning:
    """One prompt as the model takes it, one row each. `pooled` and `time_ids` are XL's."""

    words: torch.Tensor
    """Hidden states of the text encoder; XL: of both, side by side."""
    pooled: torch.Tensor | None = None
    """The second encoder's projection of the whole prompt."""
    time_ids: torch.Tensor | None = None
    """Height and width of the original, top and left of the crop, height and width of the picture."""

    @property
    def parts(self) -> tuple[int, ...]:
        """How many numbers belong together in `recorded`; empty when all of them do."""
        return () if self.pooled is None else tuple(part.numel() for part in self._parts())

    @property
    def recorded(self) -> torch.Tensor:
        """The tensor of the trace's leaf: the words as they are, or for XL one row of all that is told."""
        if self.pooled is None:
            return self.words
        return torch.cat([part.float().flatten() for part in self._parts()])[None]

    def _parts(self) -> tuple[torch.Tensor, ...]:
        assert self.pooled is not None
        assert self.time_ids is not None
        return self.words, self.pooled, self.time_ids


def is_xl(pipe: Any) -> bool:
    """Whether a pipeline has two text encoders."""
    return hasattr(pipe, "text_encoder_2")


def text_encoders(pipe: Any) -> dict[str, Any]:
    """Every text encoder by its name."""
    return {name: getattr(pipe, name) for name in ("text_encoder", "text_encoder_2") if hasattr(pipe, name)}


def conditioned(pipe: Any, prompt: str, negative: str, size: tuple[int, int]) -> tuple[Conditioning, Conditioning]:
    """A prompt and a negative prompt for a picture of `size` (height, width), just as the pipeline's own call asks.

    An empty negative prompt is none; what that means the model says (XL: often zeros in place of the words).
    """
    return _sized(_encoded_both(pipe, prompt, negative), size)


class Encodings:
    """What a pipeline's text encoders made of prompts lately: most orders have the same negative prompt, none, and many
    draw one prompt again from other seeds. The same bits, as a prompt is encoded alone whatever stands beside it.
    """

    def __init__(self, pipe: Any, *, keep: int = MAX_ENCODED) -> None:
        self._pipe = pipe
        self._keep = keep
        self._known: OrderedDict[tuple[bool, str], _Encoded] = OrderedDict()

    def conditioned(self, prompt: str, negative: str, size: tuple[int, int]) -> tuple[Conditioning, Conditioning]:
        """As `conditioned`. For text encoders as they were loaded: what a LoRA adds to them is not in here."""
        words, others = self._known.get((True, prompt)), self._known.get((False, negative))
        if others is None:
            words, others = _encoded_both(self._pipe, prompt, negative)
        elif words is None:
            words = _encoded(self._pipe, prompt)
        for key, encoded in (((True, prompt), words), ((False, negative), others)):
            self._known[key] = encoded
            self._known.move_to_end(key)
        while len(self._known) > self._keep:
            self._known.popitem(last=False)
        return _sized((words, others), size)


def _encoded(pipe: Any, prompt: str) -> _Encoded:
    """A prompt alone: its words, and XL's summary of them."""
    found = pipe.encode_prompt(prompt, device=pipe.device, num_images_per_prompt=1, do_classifier_free_guidance=False)
    return (found[0], found[2]) if is_xl(pipe) else (found[0], None)


def _encoded_both(pipe: Any, prompt: str, negative: str) -> tuple[_Encoded, _Encoded]:
    found = pipe.encode_prompt(
        prompt,
        device=pipe.device,
        num_images_per_prompt=1,
        do_classifier_free_guidance=True,
        negative_prompt=negative or None,
    )
    words, others, *summaries = found
    pooled, other = summaries if is_xl(pipe) else (None, None)
    return (words, pooled), (others, other)


def _sized(both: tuple[_Encoded, _Encoded], size: tuple[int, int]) -> tuple[Conditioning, Conditioning]:
    (words, pooled), (others, other) = both
    ids = None if pooled is None else time_ids(words, size)
    return Conditioning(words, pooled, ids), Conditioning(others, other, ids)


def time_ids(like: torch.Tensor, size: tuple[int, int], rows: int = 1) -> torch.Tensor:
    """A picture that was never larger, and never cut."""
    height, width = size
    ids = torch.tensor([[height, width, 0, 0, height, width]], dtype=like.dtype, device=like.device)
    return ids.repeat(rows, 1)


def told(conditionings: Sequence[Conditioning]) -> dict[str, Any]:
    """Arguments of the UNet, a row for each."""
    arguments: dict[str, Any] = {"encoder_hidden_states": torch.cat([one.words for one in conditionings])}
    pooled = [one.pooled for one in conditionings if one.pooled is not None]
    ids = [one.time_ids for one in conditionings if one.time_ids is not None]
    if pooled:
        arguments["added_cond_kwargs"] = {"text_embeds": torch.cat(pooled), "time_ids": torch.cat(ids)}
    return arguments


def call_arguments(cond: Conditioning, uncond: Conditioning | None) -> dict[str, Any]:
    """Arguments of the pipeline's own call. The sizes it knows from the picture's."""
    arguments: dict[str, Any] = {"prompt_embeds": cond.words, "negative_prompt_embeds": uncond and uncond.words}
    if cond.pooled is not None:
        arguments["pooled_prompt_embeds"] = cond.pooled
        arguments["negative_pooled_prompt_embeds"] = uncond and uncond.pooled
    return arguments
