"""`gesso task`: list, show, follow and cancel tasks."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from gesso.cli.live import TaskLine
from gesso.cli.output import Common
from gesso.cli.session import client_for


async def ls(
    *,
    everyone: Annotated[bool, Parameter(name=["--all", "-a"])] = False,
    state: str | None = None,
    limit: int = 20,
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
    async with client_for(common) as client:
        rows = await client.tasks(mine=not everyone, state=state, limit=limit)
    columns = ["task", "state", "node", "fee", "requester"]
    common.out.table([row.document() for row in rows], columns, empty="no tasks yet; make one: gesso generate PROMPT")


async def show(task: str, /, *, common: Common | None = None) -> None:
    """Show one task as the chain sees it.

    Parameters
    ----------
    task
        A task id, or enough of its beginning to name it.
    """
    common = common or Common()
    async with client_for(common, read_only=True) as client:
        handle = await client.task(task)
        document = await handle.describe()
    common.out.result(document)
    if document["state"] in ("submitted", "claimed", "committed"):
        common.out.hint(f"gesso task watch {document['task']}")


async def watch(task: str, /, *, common: Common | None = None) -> None:
    """Follow a task until it is settled, cancelled or expired.

    Parameters
    ----------
    task
        A task id, or enough of its beginning to name it.
    """
    common = common or Common()
    out = common.out
    line = TaskLine(out)
    async with client_for(common, read_only=True) as client:
        handle = await client.task(task)
        try:
            async for event in handle.events():
                if out.form == "json":
                    out.result(event.model_dump(mode="json", exclude={"preview"}))
                else:
                    line.show(event)
        finally:
            line.close()


async def cancel(task: str, /, *, common: Common | None = None) -> None:
    """Cancel a task that no node has claimed yet; the whole fee comes back.

    Parameters
    ----------
    task
        A task id, or enough of its beginning to name it.
    """
    common = common or Common()
    async with client_for(common) as client:
        handle = await client.task(task)
        receipt = await handle.cancel()
    document = {"task": str(handle.id), "state": "cancelled", "refund": handle.fee, "tx": receipt.tx_hash}
    common.out.result(document)
