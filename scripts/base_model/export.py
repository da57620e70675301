"""Stage 4: the standard pipeline folder in fp16, the early snapshot, and pictures of what the model does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer

from base_model.run import Run
from base_model.unet import new_unet, scheduler
from gesso_devnet.world.caption import plain_caption
from gesso_devnet.world.evaluate import read
from gesso_devnet.world.scene import Scene, held_out_scene
from gesso_devnet.world.score import Share, judge, tally

NAME = "gesso-tiny"
GUIDANCE = 3.0
STEPS = 25
# Held-out or free wordings; the sample grid of the model card shows them in this order, row by row.
SHOWN = (
    "a big red circle in the centre on a yellow background",
    "a small blue square in the top left on a white background",
    "a huge green triangle on the right, pink backdrop",
    "white background with a purple ring at the bottom",
    "tiny black cross, bottom right, orange background",
    "a large white ring on black",
    "a red circle above a blue square on a white background",
    "a yellow triangle below a purple ring on a green background",
    "a small pink square to the left of a big black circle on a yellow background",
    "a green cross next to an orange circle on a purple background",
    "please paint a nice crimson ball on top of a golden box, dark background",
    "on a blue canvas, a little white plus sign to the right of a huge red donut",
)


def pipeline(
    vae: AutoencoderKL, encoder: CLIPTextModel, tokenizer: CLIPTokenizer, unet: UNet2DConditionModel
) -> StableDiffusionPipeline:
    made = StableDiffusionPipeline(
        vae=vae,
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made


def save(pipe: StableDiffusionPipeline, folder: Path, tokenizer_files: Path) -> None:
    """Writes the folder with fp16 weights, and the classic tokenizer files that other tools read."""
    pipe.to(dtype=torch.float16)
    pipe.save_pretrained(folder, safe_serialization=True)
    pipe.to(dtype=torch.float32)
    for name in ("vocab.json", "merges.txt"):
        (folder / "tokenizer" / name).write_bytes((tokenizer_files / name).read_bytes())
    # transformers loads a model in the type its config names, diffusers in fp32: without this line a plain
    # ``from_pretrained(folder)`` mixes half and single precision and fails at the first step.
    config = folder / "text_encoder" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text("utf-8")), "dtype": "float32"}))
    for file in folder.rglob("*"):
        if file.suffix == ".json":  # 20 kB of white space, in a folder that is to stay under 12 MB
            content = json.loads(file.read_text("utf-8"))
            content.pop("_name_or_path", None)  # where the parts lay while they were trained is nobody's business
            file.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")))
        if file.is_file():
            file.chmod(0o644)


def save_snapshot(weights: dict[str, torch.Tensor], file: Path) -> None:
    """An early UNet in fp16: the "wrong model" that cheats use in audits."""
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.half().contiguous() for k, v in weights.items()}, file)


def draw_prompts(
    pipe: StableDiffusionPipeline, prompts: list[str], seed: int, guidance: float = GUIDANCE, batch: int = 16
) -> np.ndarray:
    """One picture a prompt, each from its own CPU generator."""
    pictures = []
    for start in range(0, len(prompts), batch):
        part = prompts[start : start + batch]
        draws = [torch.Generator().manual_seed(seed + start + i) for i in range(len(part))]
        made = pipe(part, num_inference_steps=STEPS, guidance_scale=guidance, generator=draws, output_type="np")
        pictures.append(np.rint(made.images * 255).astype(np.uint8))
    return np.concatenate(pictures)


class Checker:
    """Scores the averaged weights on held-out prompts during training and writes a grid of what it saw."""

    def __init__(
        self, folder: Path, vae: AutoencoderKL, encoder: CLIPTextModel, tokenizer: CLIPTokenizer, each: int = 32
    ) -> None:
        self._folder, self._parts = folder, (vae, encoder, tokenizer)
        rng = np.random.default_rng(991)
        self._scenes = [held_out_scene(rng, 0.0) for _ in range(each)] + [held_out_scene(rng, 1.0) for _ in range(each)]

    def __call__(self, run: Run) -> None:
        unet = new_unet()
        unet.load_state_dict(run.ema)
        scores, pictures = self.score(unet.eval())
        for kind, shares in scores.items():
            print(
                f"step {run.step + 1} {kind}: "
                + "  ".join(f"{k} {100 * s.value:.0f}" for k, s in shares.items() if s.of)
            )
        save_grid(pictures, self._folder / f"samples-{run.step + 1:06d}.png")
        save_snapshot(run.ema, self._folder / f"snapshot-{run.step + 1:06d}.safetensors")
        plot_losses(run.log, self._folder / "loss.png")

    def score(self, unet: UNet2DConditionModel) -> tuple[dict[str, dict[str, Share]], np.ndarray]:
        vae, encoder, tokenizer = self._parts
        pictures = draw_prompts(pipeline(vae, encoder, tokenizer, unet), [plain_caption(s) for s in self._scenes], 7)
        verdicts = [(s, judge(s, read(p))) for s, p in zip(self._scenes, pictures, strict=True)]
        kinds: dict[str, list[Scene]] = {"one object": [], "two objects": []}
        rows = {k: [v for s, v in verdicts if (len(s.things) == 1) == (k == "one object")] for k in kinds}
        return {k: tally(v) for k, v in rows.items()}, pictures


def save_grid(pictures: np.ndarray, file: Path, columns: int = 16, zoom: int = 2) -> None:
    rows = [np.concatenate(list(pictures[i : i + columns]), axis=1) for i in range(0, len(pictures), columns)]
    grid = np.concatenate([r for r in rows if r.shape == rows[0].shape], axis=0)
    Image.fromarray(grid).resize((grid.shape[1] * zoom, grid.shape[0] * zoom), Image.Resampling.NEAREST).save(file)


def plot_losses(log: list[dict[str, float]], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="tight")
    axes.semilogy([r["step"] for r in log], [r["loss"] for r in log])
    axes.set(xlabel="step", ylabel="loss", title=file.parent.name)
    axes.grid(alpha=0.3)
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def read_snapshot(file: Path) -> dict[str, torch.Tensor]:
    return {k: v.float() for k, v in load_file(file).items()}


def write_facts(file: Path, facts: dict[str, object]) -> None:
    """What the run was, beside the weights: steps, pictures, seconds, library versions."""
    file.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")


def export(
    out: Path,
    to: Path,
    vae: AutoencoderKL,
    encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    snapshot_step: int,
) -> None:
    """Writes the pipeline folder, the early snapshot, the sample grid and the facts of the run into ``to``."""
    from base_model.resume import facts

    unet = new_unet()
    run = facts(out / "unet" / "checkpoint.safetensors")
    unet.load_state_dict(run.ema)
    pipe = pipeline(vae, encoder, tokenizer, unet.eval())
    save(pipe, to / NAME, out / "tokenizer")
    early = out / "unet" / f"snapshot-{snapshot_step:06d}.safetensors"
    (to / "early_unet.safetensors").write_bytes(early.read_bytes())
    save_grid(draw_prompts(pipe, list(SHOWN), 20), to / "samples.png", columns=6, zoom=3)
    plot_losses(run.log, to / "loss.png")
    write_facts(to / "training.json", run.summary(snapshot_step))
