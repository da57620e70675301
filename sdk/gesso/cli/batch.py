"""Many prompts from a file: `gesso generate --prompts FILE`. One fails, the others go on."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from gesso.cli.inputs import check_output
from gesso.cli.output import Output
from gesso.cli.saving import save_all
from gesso.cli.wallet import confirm
from gesso.settings import read_bounded
from gesso_protocol.errors import GessoError, UsageError
from gesso_protocol.money import Wei, format_amount

if TYPE_CHECKING:
    from gesso.client import AsyncClient
    from gesso.many import Drawn
    from gesso.quote import AuditChoice
    from gesso_protocol.ids import TaskId

EXIT_FAILED = 5
MAX_STDIN_BYTES = 256 * 1024


def read_prompts(path: Path) -> list[str]:
    """One prompt a line; empty lines and those that begin with # are passed over. `-` is stdin. Raises UsageError."""
    text = sys.stdin.read(MAX_STDIN_BYTES + 1) if str(path) == "-" else read_bounded(path)
    if len(text) > MAX_STDIN_BYTES:
        raise UsageError(f"the prompts are longer than {MAX_STDIN_BYTES} characters", hint="split them")
    lines = [line.strip() for line in text.splitlines()]
    prompts = [line for line in lines if line and not line.startswith("#")]
    if not prompts:
        raise UsageError(f"{path} holds no prompt", hint="one prompt a line")
    return prompts


async def generate_all(
    client: AsyncClient,
    out: Output,
    prompts: list[str],
    output: Path,
    *,
    settings: dict[str, Any],
    fee: str | None,
    max_fee: str | None,
    audit: AuditChoice,
    settle: bool,
    dry_run: bool,
    yes: bool = False,
) -> int:
    """Order all, save each as it comes; returns the exit code."""
    places = [numbered(output, at, len(prompts)) for at in range(1, len(prompts) + 1)]
    check_output(places[0], "out.png")
    quote = await client.quote(await client.spec(prompts[0], **settings), fee=fee, audit=audit)
    total = format_amount(Wei(int(quote.total) * len(prompts)))
    if dry_run:
        out.result({"prompts": len(prompts), "each": quote.document(), "total": total})
        return 0
    out.say(f"{len(prompts)} prompts at {format_amount(quote.total)} each, {total} in all")
    if sys.stdin.isatty():  # what runs by itself has said --max-fee, or has a deposit for it
        rising = "" if max_fee is None else f", each up to {max_fee} where prices rise"
        confirm(f"pay {total} fee tokens for {len(prompts)} pictures{rising}?", yes)
    rows: list[dict[str, Any]] = []
    under_way: dict[int, TaskId] = {}

    def ordered(drawn: Drawn) -> None:
        if drawn.task is not None:
            under_way[drawn.index] = drawn.task

    def keep(drawn: Drawn) -> None:
        under_way.pop(drawn.index, None)
        rows.append(_kept(drawn, places[drawn.index]))
        what = ", ".join(rows[-1]["images"]) or f"failed: {rows[-1]['error']['message']}"
        out.say(f"{len(rows)}/{len(prompts)}  {what}  {drawn.prompt[:60]}")
        if drawn.task is not None and "error" in rows[-1]:
            out.hint(f"gesso task show {drawn.task}", "what became of it, and of its fee; then gesso task fetch TASK")

    try:
        await client.generate_many(
            prompts,
            fee=fee,
            max_fee=max_fee,
            max_total=total if max_fee is None else None,  # what was said, whatever nodes ask by then
            audit=audit,
            until="settled" if settle else "committed",
            on_ordered=ordered,
            on_drawn=keep,
            **settings,
        )
    except anyio.get_cancelled_exc_class():
        _leave(out, len(rows), {places[at]: task for at, task in sorted(under_way.items())})
        raise
    rows.sort(key=lambda row: int(row["number"]))
    out.result({"prompts": rows}, human="\n".join(path for row in rows for path in row["images"]))
    return EXIT_FAILED if any("error" in row for row in rows) else 0


def _leave(out: Output, done: int, under_way: dict[Path, TaskId]) -> None:
    """Where the pictures are that are paid for and not here."""
    out.say(f"{done} done, {len(under_way)} under way, which go on without this terminal; no more are ordered")
    for place, task in under_way.items():
        out.say(f"gesso task fetch {task} -o {shlex.quote(str(place))}")
    out.hint("gesso task ls", "what was being ordered just now is there too, if it was")


def numbered(output: Path, number: int, of: int) -> Path:
    """`out.png` as `out-07.png`, the seventh of some dozens."""
    return output.with_name(f"{output.stem}-{number:0{len(str(of))}}{output.suffix}")


def _kept(drawn: Drawn, place: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"number": drawn.index + 1, "prompt": drawn.prompt, "seed": drawn.spec.seed, "images": []}
    if drawn.task is not None:
        row["task"] = str(drawn.task)
    error = drawn.error
    if drawn.result is not None:
        row["receipt"] = drawn.result.receipt.model_dump(mode="json")
        try:
            row["images"] = save_all(drawn.result, place)
        except GessoError as unwritten:
            error = unwritten
    if error is None:
        return row
    return {**row, "error": {"code": error.code, "message": error.message, "hint": error.hint}}
