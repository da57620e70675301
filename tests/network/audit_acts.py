"""What the tests of audits do again and again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import anyio
from network_acts import PATIENCE_S, until_state

from gesso.chain.arbiter import Arbiter, AuditRecord, DisputeRecord, Filing
from gesso.chain.cursor import Cursor
from gesso.chain.events import TaskCommitted, TaskSubmitted
from gesso_devnet import Devnet
from gesso_devnet.network import NodeHandle
from gesso_protocol.audit.disputes import DisputePhase
from gesso_protocol.audit.lifecycle import AuditPhase
from gesso_protocol.ids import Address, TaskId
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.terms import Terms

Seen = TypeVar("Seen")
ALWAYS = 10_000
LOOK_S = 0.1


def arbiter_of(net: Devnet) -> Arbiter:
    assert net.chain.arbiter is not None
    return net.chain.arbiter


def quick(_: int, document: dict[str, Any]) -> dict[str, Any]:
    """A lost transaction is sent again soon."""
    return {**document, "resend_after_s": 4}


async def order(net: Devnet, prompt: str, **fields: Any) -> TaskId:
    """Submit a small task."""
    return (await net.submitter.submit(await net.submitter.spec(prompt, steps=10, **fields))).id


async def poll(look: Callable[[], Awaitable[Seen]], wanted: Callable[[Seen], bool]) -> Seen:
    """Look until it is as wanted; the chain tells only who asks."""
    with anyio.fail_after(PATIENCE_S):
        while not wanted(seen := await look()):  # noqa: ASYNC110
            await anyio.sleep(LOOK_S)
        return seen


async def ended(net: Devnet, task: TaskId) -> TaskState:
    """How the task ended, once it has, and its dispute with it if there was one."""
    record = await poll(lambda: net.chain.task(task), lambda seen: seen.state.terminal)
    over = (DisputePhase.NONE, DisputePhase.EXECUTED)
    await poll(lambda: arbiter_of(net).dispute(task), lambda seen: seen.phase in over)
    return record.state


async def until_sealed(net: Devnet, task: TaskId, seats: int) -> AuditRecord:
    """Wait until so many auditors have committed."""
    return await poll(lambda: arbiter_of(net).audit(task), lambda seen: len(seen.auditors) >= seats)


async def until_phase(net: Devnet, task: TaskId, phase: AuditPhase) -> AuditRecord:
    """Wait until the audit is there or beyond."""
    return await poll(lambda: arbiter_of(net).audit(task), lambda seen: seen.phase >= phase)


async def until_jurors(net: Devnet, task: TaskId, count: int) -> DisputeRecord:
    """Wait until so many jurors have committed."""
    return await poll(lambda: arbiter_of(net).dispute(task), lambda seen: seen.seats >= count)


async def stop(handles: Iterable[NodeHandle]) -> None:
    async with anyio.create_task_group() as group:
        for handle in handles:
            group.start_soon(handle.stop)


async def start(handles: Iterable[NodeHandle]) -> None:
    async with anyio.create_task_group() as group:
        for handle in handles:
            group.start_soon(handle.start)


async def stake(net: Devnet, address: Address) -> int:
    return int((await net.chain.node(address)).stake)


async def filing_of(net: Devnet, task: TaskId) -> Filing:
    """What the chain's log says was committed."""
    cursor, terms = Cursor.before(0), None
    while (page := await net.chain.read_page(cursor)) is not None:
        cursor = page.cursor
        for event in page.events:
            if isinstance(event, TaskSubmitted) and event.task == task:
                terms = event.terms
            if isinstance(event, TaskCommitted) and event.task == task:
                assert isinstance(terms, Terms)
                return Filing(terms, event.node, event.result_root, event.trace_root)
    raise AssertionError("the task was never committed")


__all__ = [
    "ALWAYS",
    "arbiter_of",
    "ended",
    "filing_of",
    "order",
    "quick",
    "stake",
    "start",
    "stop",
    "until_jurors",
    "until_phase",
    "until_sealed",
    "until_state",
]
