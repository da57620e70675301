"""Stage 3: the denoiser. v-prediction on cached latents, one run, constant rate and then a decay to zero.

Outlines are the last thing such a model learns, and they are decided between the noise levels at which an object has
a place and at which it has sharp edges; half of the time steps are therefore drawn from that middle. The rate
stays constant until the last quarter, so the length of a run may be changed on resume until then.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from base_model.muon import Muon, split
from base_model.pool import LatentPool
from base_model.run import Run
from base_model.text import WIDTH, tokenize
from gesso_devnet.world.caption import caption, with_fillers

BATCH = 32
PEAK_RATE = 2e-3
WARMUP_STEPS = 200
DECAY_SHARE = 0.25
EMA_DECAY = 0.998
EMPTY_PROMPT_SHARE = 0.1
MIDDLE = (350, 950)


def new_unet() -> UNet2DConditionModel:
    attended, plain = "CrossAttnDownBlock2D", "DownBlock2D"
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(64, 96, 128),
        down_block_types=(attended, attended, plain),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        only_cross_attention=(True, False, False),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def scheduler() -> DDIMScheduler:
    """The noise schedule that every sampler of the pipeline derives from."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )


def rate(step: int, total: int) -> float:
    """Warm-up, a long plateau, then a linear decay over the last quarter."""
    decay_from = total * (1 - DECAY_SHARE)
    fall = 1.0 if step < decay_from else max(0.01, (total - step) / (total - decay_from))
    return PEAK_RATE * min(1.0, (step + 1) / WARMUP_STEPS) * fall


def train(
    folder: Path,
    vae: AutoencoderKL,
    encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    steps: int,
    seed: int,
    on_checkpoint: Callable[[Run], None],
    check_every: int = 1000,
) -> UNet2DConditionModel:
    """Trains to ``steps`` and returns the averaged model; ``on_checkpoint`` runs every ``check_every`` steps."""
    torch.manual_seed(seed)
    unet = new_unet()
    matrices, rest = split(unet)
    optimisers = (Muon(matrices, PEAK_RATE), torch.optim.AdamW(rest, PEAK_RATE, (0.9, 0.99), fused=True))
    run = Run(folder, unet, optimisers, steps, seed)
    run.resume()
    pool = LatentPool(folder / "latents.npy", vae, seed)
    alphas = scheduler().alphas_cumprod
    losses: list[float] = []
    for step in run.steps(save_every=250):
        pool.grow_to(step)
        rng = run.rng(step)
        latents, scenes = pool.sample(rng, step, BATCH)
        texts = [_wording(s, rng) for s in scenes]
        with torch.no_grad():
            words = encoder(tokenize(tokenizer, texts)).last_hidden_state
        loss = v_loss(unet, alphas, latents, words, torch.Generator().manual_seed(seed * 1_000_003 + step))
        run.descend(loss, rate(step, steps))
        run.update_ema(EMA_DECAY)
        losses.append(loss.item())
        if step % 100 == 99:
            run.note(loss=float(np.mean(losses[-100:])), rate=rate(step, steps))
        if (step + 1) % check_every == 0:
            on_checkpoint(run)
    unet.load_state_dict(run.ema)
    return unet.eval()


def v_loss(unet: UNet2DConditionModel, alphas: Tensor, latents: Tensor, words: Tensor, draw: torch.Generator) -> Tensor:
    """Mean squared error of the predicted velocity, a*noise - s*latent, at time steps drawn as described above."""
    count = len(latents)
    anywhere = torch.randint(0, 1000, (count,), generator=draw)
    middle = torch.randint(*MIDDLE, (count,), generator=draw)
    t = torch.where(torch.rand(count, generator=draw) < 0.5, anywhere, middle)
    noise = torch.randn(latents.shape, generator=draw)
    signal, spread = alphas[t].sqrt()[:, None, None, None], (1 - alphas[t]).sqrt()[:, None, None, None]
    with torch.autocast("cpu", torch.bfloat16):
        guess = unet(signal * latents + spread * noise, t, words).sample
    return (guess.float() - (signal * noise - spread * latents)).square().mean()


def _wording(scene, rng: np.random.Generator) -> str:
    if rng.random() < EMPTY_PROMPT_SHARE:
        return ""
    text = caption(scene, rng)
    return with_fillers(text, rng) if rng.random() < 0.3 else text
