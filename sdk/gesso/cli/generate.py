"""`gesso generate`: a prompt in, a picture out; many of them from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from gesso.cli.batch import generate_all, read_prompts
from gesso.cli.inputs import Count, MaybeWhole, Whole, check_output
from gesso.cli.live import TaskLine
from gesso.cli.output import Common
from gesso.cli.saving import names, save_all
from gesso.cli.session import client_for, relay_url
from gesso.cli.waiting import waiting
from gesso_protocol.errors import UsageError


async def generate(
    prompt: str | None = None,
    /,
    *,
    prompts: Path | None = None,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("out.png"),
    model: Annotated[str, Parameter(name=["--model", "-m"])] = "gesso-tiny@1",
    negative_prompt: str = "",
    width: MaybeWhole = None,
    height: MaybeWhole = None,
    steps: Whole = 25,
    guidance: str | None = None,
    scheduler: Literal["ddim", "euler", "euler_a", "dpmpp_2m"] = "ddim",
    seed: MaybeWhole = None,
    count: Annotated[Count, Parameter(name=["--count", "-n"])] = 1,
    lora: tuple[str, ...] = (),
    fee: str | None = None,
    max_fee: str | None = None,
    audit: Literal["sampled", "always", "none"] = "sampled",
    settle: bool = False,
    dry_run: bool = False,
    yes: bool = False,
    common: Common | None = None,
) -> int:
    """Make an image from a prompt, or one from each line of a file.

    Parameters
    ----------
    prompt
        What the picture shows.
    prompts
        A file with a prompt a line instead, - for stdin; several are drawn at a time, each is paid for by itself.
    output
        Where the PNG goes; with --count above 1, or several prompts, a number is added to the name.
    count
        So many pictures of the prompt, each from a seed of its own that follows from --seed.
    model
        A model of the marketplace, NAME@VERSION.
    negative_prompt
        What it is not to show.
    width
        Pixels, a multiple of 8; the model's own size when left out.
    height
        Pixels, a multiple of 8; the model's own size when left out.
    steps
        Denoising steps, up to 200: the price goes with them.
    scheduler
        The sampler that walks them.
    guidance
        How strongly the prompt steers, 0 to 30; what suits the model when left out.
    lora
        A LoRA and its strength, NAME@1:0.8 or file.safetensors:0.8; may be given several times.
    seed
        Same seed, same picture; random when left out.
    fee
        What to pay, in fee tokens; the quoted price when left out.
    max_fee
        Refuse to pay more than this, audit included.
    audit
        Have the work checked: by lot, always (costs the audit fee), or not. Where two auditors accuse it and jurors
        cannot tell, nobody has the fee.
    settle
        Wait until the money has moved, not only until the picture is there.
    dry_run
        Print the quote and stop.
    yes
        Do not ask before many prompts are paid for.
    """
    common = common or Common()
    out = common.out
    if (prompt is None) == (prompts is None):
        raise UsageError("give a prompt, or a file of them with --prompts", hint="see: gesso generate --help")
    if prompt is not None and not prompt.strip():  # most likely a variable of a script that is not set
        raise UsageError("the prompt is empty", hint="see: gesso generate --help")
    settings: dict[str, Any] = {
        "model": model,
        "negative_prompt": negative_prompt,
        "width": width,
        "height": height,
        "steps": steps,
        "guidance": guidance,
        "scheduler": scheduler,
        "seed": seed,
        "count": count,
        "loras": lora,
    }
    terms: dict[str, Any] = {"fee": fee, "max_fee": max_fee, "audit": audit}
    many = [] if prompts is None else read_prompts(prompts)
    for path in names(output, count):
        check_output(path, "out.png")
    async with client_for(common, read_only=dry_run) as client:
        if prompt is None:
            ends: dict[str, Any] = {"settle": settle, "dry_run": dry_run, "yes": yes}
            return await generate_all(client, out, many, output, settings=settings, **terms, **ends)
        spec = await client.spec(prompt, **settings)
        if dry_run:
            out.result((await client.quote(spec, fee=fee, audit=audit)).document())
            return 0
        task = await client.submit(spec, **terms)
        line = TaskLine(out, pictures=count)
        try:
            async with waiting(out, line, task.id, then=f"gesso task fetch {task.id} -o {output}"):
                result = await task.result(until="delivered", on_event=line.show)
                save_all(result, output)
                # The picture is there to look at; the receipt inside it becomes final when the chain has said its word.
                result = await task.result(until="settled" if settle else "committed", on_event=line.show)
        finally:
            line.close()
        paths = save_all(result, output)
    receipt = result.receipt
    out.result({"images": paths, "seed": spec.seed, "receipt": receipt.model_dump(mode="json")}, human="\n".join(paths))
    if out.form == "human":
        out.say(receipt.summary(relay_url(common)))
    out.hint(f"gesso task show {receipt.task}")
    return 0
