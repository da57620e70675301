"""What the tests of audits do again and again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

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


async def ended(net: Devnet, task: TaskId) -> TaskState:
    """How the task ended, once it has, and its dispute with it if there was one."""
    with anyio.fail_after(PATIENCE_S):
        while not (state := (await net.chain.task(task)).state).terminal:
            await anyio.sleep(LOOK_S)
        while (await arbiter_of(net).dispute(task)).phase not in (DisputePhase.NONE, DisputePhase.EXECUTED):
            await anyio.sleep(LOOK_S)
        return state


async def until_sealed(net: Devnet, task: TaskId, seats: int) -> AuditRecord:
    """Wait until so many auditors have committed."""
    with anyio.fail_after(PATIENCE_S):
        while len((audit := await arbiter_of(net).audit(task)).auditors) < seats:
            await anyio.sleep(LOOK_S)
        return audit


async def until_phase(net: Devnet, task: TaskId, phase: AuditPhase) -> AuditRecord:
    """Wait until the audit is there or beyond."""
    with anyio.fail_after(PATIENCE_S):
        while (audit := await arbiter_of(net).audit(task)).phase < phase:
            await anyio.sleep(LOOK_S)
        return audit


async def until_jurors(net: Devnet, task: TaskId, count: int) -> DisputeRecord:
    """Wait until so many jurors have committed."""
    with anyio.fail_after(PATIENCE_S):
        while (dispute := await arbiter_of(net).dispute(task)).seats < count:
            await anyio.sleep(LOOK_S)
        return dispute


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
