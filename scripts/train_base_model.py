#!/usr/bin/env python3
"""Trains gesso-tiny from nothing: ``scripts/train_base_model.py [--out build/base_model] [--stage all]``.

The recipe (sizes and reasons stand in each stage's file under ``scripts/base_model``):

1. ``vae``   autoencoder, 64 x 64 pixels to 16 x 16 x 4 latents of unit variance, trained on collages of shapes
2. ``text``  tokenizer and text encoder, taught to read captions before any picture is seen
3. ``unet``  v-prediction denoiser on cached latents, one schedule, checked on held-out prompts on the way
4. ``export``  the standard fp16 pipeline folder, an early snapshot, a sample grid

Every stage resumes from its checkpoint when it is run again, draws all randomness from (seed, step), writes its
loss plot and samples beside the checkpoint, and stops cleanly on Ctrl-C. The time each stage took, and on what,
is in the model card. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "sdk"), str(ROOT / "scripts")]
STAGES = ("vae", "text", "unet", "export")


def main() -> None:
    options = _arguments()
    import torch

    torch.set_num_threads(options.threads)
    from diffusers import AutoencoderKL
    from transformers import CLIPTextModel, CLIPTokenizer

    from base_model import export, text, unet, vae, words

    out: Path = options.out
    wanted = STAGES if options.stage == "all" else (options.stage,)
    tokenizer_folder = out / "tokenizer"
    if not (tokenizer_folder / "merges.txt").exists():
        tokenizer_folder.mkdir(parents=True, exist_ok=True)
        words.build_tokenizer(tokenizer_folder, options.seed)
    tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder)
    if "vae" in wanted:
        trained: Any = vae.train(out / "vae", options.vae_steps, options.seed)
        trained.save_pretrained(out / "vae" / "final")
    if "text" in wanted:
        text.train(out / "text", tokenizer, options.text_steps, options.seed).save_pretrained(out / "text" / "final")
    if not {"unet", "export"} & set(wanted):
        return
    autoencoder = AutoencoderKL.from_pretrained(out / "vae" / "final").eval().requires_grad_(False)
    encoder = CLIPTextModel.from_pretrained(out / "text" / "final").eval().requires_grad_(False)
    checker = export.Checker(out / "unet", autoencoder, encoder, tokenizer)
    if "unet" in wanted:
        unet.train(
            out / "unet",
            autoencoder,
            encoder,
            tokenizer,
            options.unet_steps,
            options.seed,
            checker,
            options.check_every,
        )
    if "export" in wanted:
        export.export(out, options.to, autoencoder, encoder, tokenizer, options.snapshot_step)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "base_model", help="work folder with checkpoints")
    parser.add_argument("--to", type=Path, default=ROOT / "sdk" / "gesso_devnet" / "model", help="where export writes")
    parser.add_argument("--stage", choices=("all", *STAGES), default="all")
    parser.add_argument("--vae-steps", type=int, default=4350)
    parser.add_argument("--text-steps", type=int, default=900)
    parser.add_argument("--unet-steps", type=int, default=4000)
    parser.add_argument("--check-every", type=int, default=1000)
    parser.add_argument("--snapshot-step", type=int, default=2000, help="the early UNet that is kept")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    return parser.parse_args()


if __name__ == "__main__":
    main()
