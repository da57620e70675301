"""Stage 1: the autoencoder. 64 x 64 pixels to 16 x 16 x 4 latents of unit variance.

Trained on collages: several shapes of the training vocabulary a picture, so that a batch is mostly edges.
Three quarters of the steps see 32-pixel crops (a quarter of the cost), the rest whole pictures, which settles
the group norms. At the end each latent channel is normalised by folding its mean and deviation into the
two 1x1 convolutions next to the latent, so ``scaling_factor`` is 1 and every scheduler sees unit variance.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from base_model.run import Run, cosine_rate, to_model, to_pictures
from gesso_devnet.world.draw import coverage, draw
from gesso_devnet.world.scene import COLOURS, PICTURE_SIDE, SHAPES, training_scene

BATCH = 32
PEAK_RATE = 2e-3
CROP = 32
CROP_SHARE = 0.7
KL_WEIGHT = 1e-3


def new_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(24, 48, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=PICTURE_SIDE,
        scaling_factor=1.0,
    )


def collage(rng: np.random.Generator) -> np.ndarray:
    """A 64 x 64 picture of two to six shapes anywhere, in training colours with strong jitter."""
    side = PICTURE_SIDE
    rows, cols = np.mgrid[0:side, 0:side].astype(np.float32) + 0.5
    palette = np.array(list(COLOURS.values()), np.float32)
    canvas = np.broadcast_to(palette[rng.integers(len(palette))] + rng.uniform(-12, 12, 3), (side, side, 3)).copy()
    for _ in range(rng.integers(2, 7)):
        x, y = rng.uniform(4, side - 4, 2)
        cover = coverage(SHAPES[rng.integers(len(SHAPES))], cols - x, rows - y, rng.uniform(7, 16))[..., None]
        canvas += cover * (palette[rng.integers(len(palette))] + rng.uniform(-12, 12, 3) - canvas)
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def train(folder: Path, steps: int, seed: int) -> AutoencoderKL:
    torch.manual_seed(seed)
    vae = new_vae()
    run = Run(folder, vae, (torch.optim.AdamW(vae.parameters(), weight_decay=0.0, fused=True),), steps, seed)
    run.resume()
    for step in run.steps(save_every=500):
        rng = run.rng(step)
        torch.manual_seed(seed * 1_000_003 + step)
        pixels = to_model(_batch(rng, crops=step < CROP_SHARE * steps))
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(pixels).latent_dist
            decoded = vae.decode(posterior.sample()).sample
        error = decoded.float() - pixels
        kl = posterior.kl().float().mean() / posterior.mean[0].numel()
        loss = error.abs().mean() + 2 * error.square().mean() + KL_WEIGHT * kl
        run.descend(loss, cosine_rate(step, steps, PEAK_RATE))
        run.update_ema(0.998)
        if step % 100 == 99:
            run.note(loss=loss.item(), l1=error.abs().mean().item(), kl=kl.item())
    vae.load_state_dict(run.ema)
    normalise(vae, seed)
    report(vae, seed, folder)
    return vae.eval()


def _batch(rng: np.random.Generator, *, crops: bool) -> np.ndarray:
    if not crops:
        half = BATCH // 4
        return np.stack([collage(rng) for _ in range(half)] + [draw(training_scene(rng), rng) for _ in range(half)])
    pictures = [collage(rng) for _ in range(BATCH // 2)]
    corners = rng.integers(0, PICTURE_SIDE - CROP + 1, (BATCH, 2))
    return np.stack([pictures[i // 2][y : y + CROP, x : x + CROP] for i, (y, x) in enumerate(corners)])


@torch.no_grad()
def normalise(vae: AutoencoderKL, seed: int) -> None:
    """Folds the latent channels' mean and deviation into the neighbouring 1x1 convolutions."""
    rng = np.random.default_rng([seed, 7])
    pixels = to_model(np.stack([draw(training_scene(rng), rng) for _ in range(512)]))
    means = torch.cat([vae.encode(part).latent_dist.mean for part in pixels.split(64)])
    shift, scale = means.mean((0, 2, 3)), means.std((0, 2, 3))
    to_latent, from_latent = vae.quant_conv, vae.post_quant_conv
    from_latent.bias += from_latent.weight[:, :, 0, 0] @ shift
    from_latent.weight *= scale[None, :, None, None]
    to_latent.bias[:4] -= shift
    to_latent.bias[:4] /= scale
    to_latent.weight[:4] /= scale[:, None, None, None]
    to_latent.bias[4:] -= 2 * scale.log()


@torch.no_grad()
def report(vae: AutoencoderKL, seed: int, folder: Path) -> None:
    """Prints PSNR and latent statistics on fresh scenes and writes a grid: drawn above, decoded below."""
    from PIL import Image

    rng = np.random.default_rng([seed, 11])
    pictures = np.stack([draw(training_scene(rng), rng) for _ in range(128)])
    latents = encode(vae, pictures)
    decoded = decode(vae, latents)
    mse = np.square(decoded.astype(float) - pictures.astype(float)).mean((1, 2, 3))
    psnr = 10 * np.log10(255**2 / mse)
    print(f"PSNR mean {psnr.mean():.1f} dB, worst {psnr.min():.1f} dB; latent std {latents.std((0, 2, 3)).tolist()}")
    grid = np.concatenate([np.concatenate(list(p[:12]), axis=1) for p in (pictures, decoded)], axis=0)
    Image.fromarray(grid).resize((grid.shape[1] * 2, grid.shape[0] * 2), 0).save(folder / "samples.png")


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: np.ndarray) -> Tensor:
    """uint8 pictures to latent means."""
    return torch.cat([vae.encode(part).latent_dist.mean for part in to_model(pictures).split(64)])


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: Tensor) -> np.ndarray:
    """Latents to uint8 pictures."""
    return np.concatenate([to_pictures(vae.decode(part).sample) for part in latents.split(64)])
