"""Stage 2b: the text encoder, taught before the UNet to say what a caption means.

A UNet trained beside a random text encoder ignores its prompts for long. So the encoder first learns, from
text alone, to put the meaning of a caption into its last eight positions: the background's colour, size, colour
and shape of the upper or left thing, the same of the other one, and where things lie. The classifier heads are
thrown away; what stays is a standard ``CLIPTextModel``, whose causal attention lets those last (padding)
positions see the whole prompt.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from base_model.run import Run, cosine_rate
from base_model.words import LENGTH
from gesso_devnet.world.caption import caption, with_fillers
from gesso_devnet.world.scene import COLOURS, PLACES, SHAPES, SIZES, Scene, held_out_scene, training_scene

WIDTH = 96
BATCH = 128
PEAK_RATE = 2e-3
OPEN = "open"
_COLOURS, _SHAPES, _SIZES = list(COLOURS), list(SHAPES), [*SIZES, OPEN]
SLOTS: dict[str, list[str]] = {
    "background": _COLOURS,
    "first size": _SIZES,
    "first colour": _COLOURS,
    "first shape": _SHAPES,
    "second size": [*_SIZES, "none"],
    "second colour": [*_COLOURS, "none"],
    "second shape": [*_SHAPES, "none"],
    "layout": [*PLACES, OPEN, "stacked", "side by side"],
}


def meaning(scene: Scene) -> list[int]:
    """The class index of each slot; of two things the upper or left one comes first."""
    things = list(scene.things)
    if scene.relation in ("below", "right of"):
        things.reverse()
    first = things[0]
    values = [scene.background, first.size or OPEN, first.colour, first.shape]
    if len(things) == 2:
        values += [things[1].size or OPEN, things[1].colour, things[1].shape]
        values.append("stacked" if scene.relation in ("above", "below") else "side by side")
    else:
        values += ["none", "none", "none", first.place or OPEN]
    return [SLOTS[slot].index(value) for slot, value in zip(SLOTS, values, strict=True)]


class Reader(nn.Module):
    """The text encoder with one throw-away classifier for each of its last positions."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=WIDTH,
                intermediate_size=4 * WIDTH,
                num_hidden_layers=3,
                num_attention_heads=4,
                max_position_embeddings=LENGTH,
                projection_dim=WIDTH,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        for table in (m for m in self.encoder.modules() if isinstance(m, nn.Embedding)):
            nn.init.normal_(table.weight, std=0.35)
        self.heads = nn.ModuleList(nn.Linear(WIDTH, len(values)) for values in SLOTS.values())

    def forward(self, tokens: Tensor) -> list[Tensor]:
        states = self.encoder(tokens).last_hidden_state[:, -len(SLOTS) :]
        return [head(states[:, i]) for i, head in enumerate(self.heads)]


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Token ids (N, LENGTH), padded as the diffusers pipeline pads them."""
    padded = tokenizer(captions, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
    return padded.input_ids


def train(folder: Path, tokenizer: CLIPTokenizer, steps: int, seed: int) -> CLIPTextModel:
    torch.manual_seed(seed)
    reader = Reader(tokenizer)
    run = Run(folder, reader, (torch.optim.AdamW(reader.parameters(), weight_decay=0.01),), steps, seed)
    run.resume()
    for step in run.steps(save_every=500):
        rng = run.rng(step)
        scenes = [training_scene(rng, pair_share=0.6) for _ in range(BATCH)]
        texts = [with_fillers(caption(s, rng), rng) for s in scenes]
        answers = torch.tensor([meaning(s) for s in scenes])
        guesses = reader(tokenize(tokenizer, texts))
        loss = sum((nn.functional.cross_entropy(g, answers[:, i]) for i, g in enumerate(guesses)), torch.zeros(()))
        run.descend(loss, cosine_rate(step, steps, PEAK_RATE))
        if step % 100 == 99:
            run.note(loss=loss.item())
    print("held-out captions read right:", {k: round(v, 4) for k, v in accuracy(reader, tokenizer, seed).items()})
    return reader.encoder.eval()


@torch.no_grad()
def accuracy(reader: Reader, tokenizer: CLIPTokenizer, seed: int, count: int = 2000) -> dict[str, float]:
    """Share of held-out captions whose slot is read right."""
    rng = np.random.default_rng([seed, 5])
    scenes = [held_out_scene(rng, pair_share=0.5) for _ in range(count)]
    answers = torch.tensor([meaning(s) for s in scenes])
    guesses = reader.eval()(tokenize(tokenizer, [caption(s, rng) for s in scenes]))
    return {slot: (guesses[i].argmax(1) == answers[:, i]).float().mean().item() for i, slot in enumerate(SLOTS)}
