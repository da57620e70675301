"""Stage 2a: the tokenizer, a CLIP byte-level BPE whose merges are learnt from the captions of the world.

The full byte alphabet is in the vocabulary, so any text tokenizes; words of the world become one token each.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from transformers import CLIPTokenizer

from gesso_devnet.world.caption import FILLERS, caption
from gesso_devnet.world.scene import training_scene

VOCABULARY = 720
LENGTH = 40


def build_tokenizer(folder: Path, seed: int) -> CLIPTokenizer:
    """Learns the merges and saves the tokenizer with the classic ``vocab.json`` and ``merges.txt`` beside it."""
    rng = np.random.default_rng([seed, 3])
    corpus = [caption(training_scene(rng), rng) for _ in range(20_000)] + [" ".join(FILLERS)] * 500
    base = CLIPTokenizer(vocab=_bytes_only(), merges=[], model_max_length=LENGTH)
    learnt = base.train_new_from_iterator(corpus, vocab_size=VOCABULARY, show_progress=False)
    state = json.loads(learnt.backend_tokenizer.to_str())["model"]
    vocab, merges = state["vocab"], [tuple(m) for m in state["merges"]]
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=LENGTH)
    tokenizer.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    return tokenizer


def _bytes_only() -> dict[str, int]:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(tokens)}
