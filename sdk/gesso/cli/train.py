"""`gesso train`: a folder of pictures in, a LoRA out."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from gesso.cli.live import TaskLine
from gesso.cli.output import Common
from gesso.cli.session import client_for


async def train(
    pictures: Path,
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("lora.safetensors"),
    base: Annotated[str, Parameter(name=["--base", "-b"])] = "gesso-tiny@1",
    trigger: str = "",
    steps: int | None = None,
    rank: int | None = None,
    alpha: int | None = None,
    batch: int | None = None,
    resolution: int | None = None,
    learning_rate: float | None = None,
    text_encoder: bool | None = None,
    schedule: Literal["constant", "cosine", "linear"] | None = None,
    prior: float | None = None,
    prior_prompt: tuple[str, ...] = (),
    sample_prompt: tuple[str, ...] = (),
    sample_every: int | None = None,
    continue_: Annotated[str | None, Parameter(name="--continue")] = None,
    seed: int | None = None,
    kohya: bool = False,
    fee: str | None = None,
    max_fee: str | None = None,
    dry_run: bool = False,
    common: Common | None = None,
) -> None:
    """Train a LoRA on a folder or a zip of pictures.

    Parameters
    ----------
    pictures
        A folder or a zip: captions beside the pictures, <repeats>_<trigger> folders, metadata.jsonl, or no words.
    output
        Where the LoRA goes.
    base
        The model that it is trained for, NAME@VERSION.
    trigger
        The made-up word that stands for what is learnt; put before captions that lack it.
    prior
        Weight of staying close to the base on --prior-prompt texts, so that other prompts keep their pictures.
    continue_
        Start from this LoRA: NAME@VERSION of the marketplace, or a safetensors file.
    kohya
        Write the file for kohya-style tools instead of the one for diffusers.
    dry_run
        Say what was recognised and what it would cost, and stop.
    """
    common = common or Common()
    out = common.out
    fields = {
        "steps": steps,
        "rank": rank,
        "alpha": alpha if alpha is not None else rank,
        "batch": batch,
        "resolution": resolution,
        "learning_rate": learning_rate,
        "text_encoder": text_encoder,
        "schedule": schedule,
        "prior": prior,
        "prior_prompts": prior_prompt or None,
        "sample_prompts": sample_prompt or None,
        "sample_every": sample_every,
        "seed": seed,
    }
    with tempfile.TemporaryDirectory(prefix="gesso-dataset-") as folder:
        async with client_for(common, read_only=dry_run) as client:
            order = await client.training_order(
                pictures, base=base, trigger=trigger, continue_from=continue_, folder=Path(folder), **fields
            )
            for line in order.bundle.report.lines():
                out.say(line)
            if dry_run:
                quote = await client.quote(order.spec, fee=fee, audit="none")
                out.result({**order.bundle.report.document(), "price": quote.document()})
                return
            run = await client.submit_training(order, fee=fee, max_fee=max_fee)
            line_ = TaskLine(out)
            try:
                adapter = await run.result(on_event=line_.show)
            finally:
                line_.close()
    path = adapter.save(output, kohya=kohya)
    samples = [
        str(image.save(path.with_name(f"{path.stem}-sample-{at}.png"))) for at, image in enumerate(adapter.samples)
    ]
    document = {"lora": str(path), "samples": samples, "steps": adapter.steps_done, "stopped": adapter.stopped,
                "manifest": str(adapter.ref), "receipt": adapter.receipt.model_dump(mode="json")}  # fmt: skip
    out.result(document, human="\n".join([str(path), *samples]))
    if adapter.stopped:
        out.say(f"stopped early: {adapter.stopped}")
    out.hint(f'gesso generate "a {trigger or "picture"}" --lora {path}:0.8 -o out.png')
