"""`gesso task`: list, show, follow, fetch, cancel and stop tasks."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from gesso.cli.inputs import Count, MaybeWhole, check_output, doubt, expect_given, task_named
from gesso.cli.live import TaskLine
from gesso.cli.output import Common
from gesso.cli.saving import save_all
from gesso.cli.session import client_for, relay_url
from gesso.settings import home_folder
from gesso_protocol.errors import GessoError, UsageError
from gesso_protocol.ids import Address
from gesso_protocol.spec import TextToImage

if TYPE_CHECKING:
    from gesso.audits.recheck import Recheck, Replayer
    from gesso.client import AsyncClient
    from gesso.task import AsyncTask

COLUMNS = ("task", "state", "submitted", "node", "fee", "requester")
_REPLAYER = "gesso_node.auditing.recheck"
"""Comes with gesso[node,gpu]; named by string, because nothing here may import what lies above it."""
_NEEDED = ("gesso_node", "torch", "diffusers", "structlog")


async def ls(
    *,
    everyone: Annotated[bool, Parameter(name=["--all", "-a"])] = False,
    state: str | None = None,
    limit: Count = 20,
    common: Common | None = None,
) -> None:
    """List recent tasks, newest first.

    Parameters
    ----------
    everyone
        Everybody's tasks, not only yours.
    state
        Only tasks in this state: submitted, claimed, committed, settled, cancelled, expired.
    limit
        At most this many.
    """
    common = common or Common()
    async with client_for(common, read_only=everyone, signs=False) as client:
        rows = await client.tasks(mine=not everyone, state=state, limit=limit)
    documents = [row.document() for row in rows]
    if common.format == "human":
        documents = [_brief(document) for document in documents]
    common.out.table(documents, COLUMNS, empty="no tasks yet; make one: gesso generate PROMPT")
    if rows:
        common.out.hint(f"gesso task show {documents[0]['task']}")


def _brief(document: Mapping[str, Any]) -> dict[str, Any]:
    """What fits a line of a terminal; the beginning of a task's id is enough to name it."""
    accounts = {name: document[name] and Address(document[name]).short for name in ("node", "requester")}
    at = utc(document["submitted_at"])
    return {**document, **accounts, "task": document["task"][:14], "submitted": at and at[5:16]}


async def show(task: str, /, *, common: Common | None = None) -> None:
    """Show one task as the chain sees it.

    Parameters
    ----------
    task
        A task id, or enough of its beginning to name it; or a picture of it, as in out.png.
    """
    common = common or Common()
    async with client_for(common, read_only=True) as client:
        handle = await client.task(task_named(task))
        await doubt(handle, task, common.out)
        document = await handle.describe() | await _ordered(handle)
        if document["state"] in ("committed", "held", "settled", "expired"):
            audit = await handle.audit()
            document["audit"] = audit.line() if common.format == "human" else audit.model_dump(mode="json")
            if audit.evidence is not None:
                from gesso.receipt import evidence_link

                document["evidence"] = evidence_link(audit.evidence, relay_url(common))
    times = {name: utc(document[name]) for name in ("since", "due")} if common.format == "human" else {}
    common.out.result(document | times)
    if document["state"] in ("submitted", "claimed", "committed"):
        common.out.hint(f"gesso task watch {document['task']}")


async def _ordered(task: AsyncTask) -> dict[str, Any]:
    """What was asked for, in few words; nothing where nobody serves the spec any more."""
    try:
        spec = await task.spec()
    except GessoError:
        return {}
    if isinstance(spec, TextToImage):
        size = f"{spec.width}x{spec.height}"
        return {"model": spec.model, "prompt": spec.prompt, "seed": spec.seed, "steps": spec.steps, "size": size}
    return {"model": spec.model, "trigger": spec.trigger, "seed": spec.seed, "steps": spec.steps}


def utc(second: int | None) -> str | None:
    """A second of the chain's clock, for people."""
    return None if second is None else f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M:%S} UTC"


async def watch(task: str, /, *, common: Common | None = None) -> None:
    """Follow a task until it is settled, cancelled or expired.

    Parameters
    ----------
    task
        A task id, or enough of its beginning to name it; or a picture of it, as in out.png.
    """
    common = common or Common()
    out = common.out
    line = TaskLine(out)
    async with client_for(common, read_only=True) as client:
        handle = await client.task(task_named(task))
        try:
            async for event in handle.events():
                if out.form == "json":
                    out.result(event.model_dump(mode="json", exclude={"preview"}))
                else:
                    line.show(event)
        finally:
            line.close()


async def fetch(
    task: str,
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("out.png"),
    common: Common | None = None,
) -> None:
    """Get the pictures of a task, now or on any later day, checked against the chain; waits until they are drawn.

    Parameters
    ----------
    task
        A task id, or enough of its beginning to name it; or a picture of it, as in out.png.
    output
        Where the PNG goes; with several pictures a number is added to the name.
    """
    common = common or Common()
    out = common.out
    check_output(output, "out.png")
    async with client_for(common, read_only=True) as client:
        handle = await client.task(task_named(task))
        spec = await handle.spec()
        if not isinstance(spec, TextToImage):
            hint = f"get the LoRA: gesso train --resume {handle.id} -o lora.safetensors"
            raise UsageError(f"{handle.id} is a training", hint=hint)
        line = TaskLine(out, pictures=spec.count)
        try:
            result = await handle.result(until="committed", on_event=line.show)
        finally:
            line.close()
        await doubt(handle, task, out)
        paths = save_all(result, output)
    out.result({"images": paths, "receipt": result.receipt.model_dump(mode="json")}, human="\n".join(paths))


async def cancel(task: str, /, *, common: Common | None = None) -> None:
    """Cancel a task that no node has claimed yet; the whole fee comes back.

    Parameters
    ----------
    task
        A task id, or enough of its beginning to name it; or a picture of it, as in out.png.
    """
    common = common or Common()
    async with client_for(common) as client:
        handle = await client.task(task_named(task))
        receipt = await handle.cancel()
    document = {"task": str(handle.id), "state": "cancelled", "refund": handle.fee, "tx": receipt.tx_hash}
    common.out.result(document)


async def stop(task: str, /, *, common: Common | None = None) -> None:
    """Ask the node to stop a training at its next checkpoint; it is paid for what it did, the rest comes back.

    A node that has finished by then is paid for all.

    Parameters
    ----------
    task
        A task id, or enough of its beginning to name it; or a picture of it, as in out.png.
    """
    common = common or Common()
    async with client_for(common) as client:
        handle = await client.task(task_named(task))
        receipt = await handle.stop()
    common.out.result({"task": str(handle.id), "stop_requested": True, "tx": receipt.tx_hash})
    common.out.hint(f"gesso task watch {handle.id}")


async def audit(
    task: str,
    /,
    *,
    steps: MaybeWhole = None,
    plain: bool = False,
    challenge: bool = False,
    yes: bool = False,
    common: Common | None = None,
) -> int:
    """Check a task again on this machine, from what its node opened.

    Exits with 0 when nothing speaks against the work, 5 when something does, 7 when nobody opens it, 8 when this
    machine cannot tell. Running steps again needs gesso[node,gpu]; without it only what needs no model is checked.

    Parameters
    ----------
    task
        A task id, or enough of its beginning to name it; or a picture of it, as in out.png, which is then held
        against what the task gave, to the bit.
    steps
        Run this many steps, drawn by this machine; those that the beacon drew when left out.
    plain
        Run no step even where that is possible.
    challenge
        Bring the task before jurors if the check goes against it; needs the wallet that paid for it, and a bond.
    yes
        Do not ask before the bond is sent.
    """
    common = common or Common()
    async with client_for(common, read_only=not challenge) as client:
        handle = await client.task(task_named(task))
        await expect_given(handle, task)
        async with _replayer(client, wanted=not plain) as replayer:
            report = await handle.recheck(replayer=replayer, steps=steps)
        document = {"task": str(handle.id), **report.document()}
        _print_report(common, document, report)
        if challenge and report.exit_code not in (0, 8):
            from gesso.cli.wallet import confirm

            confirm(f"challenge {handle.id} before jurors, with a bond?", yes)
            receipt = await handle.challenge()
            common.out.say(f"challenged in {receipt.tx_hash}")
            common.out.hint(f"gesso task watch {handle.id}")
    return report.exit_code


def _print_report(common: Common, document: dict[str, object], report: Recheck) -> None:
    out = common.out
    if out.form == "json":
        out.result(document)
        return
    out.table([row.document() for row in report.rows], ["check", "result", "detail"], empty="nothing was checked")
    share = "" if report.error_of_limit is None else f", largest error {_share(report.error_of_limit)} its limit"
    out.say(f"{report.verdict.upper()}{share}")


def _share(error: float) -> str:
    return f"{error:,.0f} times" if error >= 2 else f"{error:.2g} of"


@asynccontextmanager
async def _replayer(client: AsyncClient, *, wanted: bool) -> AsyncIterator[Replayer | None]:
    """What runs steps again, where it is installed; None otherwise."""
    if not wanted or any(importlib.util.find_spec(name) is None for name in _NEEDED):
        yield None
        return
    importlib.import_module("gesso.logs").configure_logs("human", "warning", node="audit")
    home = importlib.import_module(_REPLAYER)
    async with home.open_replayer(home_folder(), client.blobs) as replayer:
        yield replayer
