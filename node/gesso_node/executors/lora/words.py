"""Texts as a model in training takes them: tokens made once, and embeddings kept where no text encoder learns.

In the child process only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

from gesso_node.executors.conditioning import Conditioning, is_xl


class Words:
    """The texts of one run. `arithmetic` is the context in which the base computes."""

    def __init__(self, pipe: Any, texts: Iterable[str], arithmetic: Callable[[], AbstractContextManager[Any]]) -> None:
        self._pipe = pipe
        self._arithmetic = arithmetic
        self._kept: dict[str, Conditioning] = {}
        known = sorted(set(texts))
        tokenizers = (pipe.tokenizer, pipe.tokenizer_2) if is_xl(pipe) else (pipe.tokenizer,)
        made = [_tokens(tokenizer, known).to(pipe.device) for tokenizer in tokenizers]
        self._tokens = {text: tuple(one[at] for one in made) for at, text in enumerate(known)}

    @torch.no_grad()
    def keep(self, between: Callable[[], None]) -> None:
        """Embed every text now, for good; `between` is called before each, of which there may be thousands."""
        kept = {}
        for text in self._tokens:
            between()
            kept[text] = self._read([text])
        self._kept = kept

    def told(self, texts: Sequence[str], *, fresh: bool = False) -> Conditioning:
        """What these texts tell the model, one row each, in fp32; without sizes. `fresh`: not the kept ones."""
        if fresh or not self._kept:
            return self._read(texts)
        kept = [self._kept[text] for text in texts]
        pooled = [one.pooled for one in kept if one.pooled is not None]
        return Conditioning(torch.cat([one.words for one in kept]), torch.cat(pooled) if pooled else None)

    def _read(self, texts: Sequence[str]) -> Conditioning:
        tokens = [torch.stack(one) for one in zip(*(self._tokens[text] for text in texts), strict=True)]
        with self._arithmetic():
            if not is_xl(self._pipe):
                return Conditioning(self._pipe.text_encoder(tokens[0])[0].float())
            # As the pipeline takes them: the layer before the last of both, and the second one's projection.
            first = self._pipe.text_encoder(tokens[0], output_hidden_states=True)
            second = self._pipe.text_encoder_2(tokens[1], output_hidden_states=True)
        words = torch.cat([first.hidden_states[-2].float(), second.hidden_states[-2].float()], dim=-1)
        return Conditioning(words, second.text_embeds.float())


def _tokens(tokenizer: Any, texts: Sequence[str]) -> torch.Tensor:
    found = tokenizer(
        list(texts), padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    )
    tokens: torch.Tensor = found.input_ids
    return tokens
