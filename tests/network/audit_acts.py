"""What the tests of audits do again and again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import anyio
from network_acts import PATIENCE_S, until_state

from gesso.chain.arbiter import Arbiter, AuditRecord, DisputeRecord, Filing
from gesso.chain.audit_events import AuditClosed, AuditCommitted, AuditOpened, AuditRevealed
from gesso.chain.cursor import Cursor
from gesso.chain.deploy import DeploySettings
from gesso.chain.events import ContractEvent, TaskCommitted, TaskSubmitted
from gesso_devnet import Devnet
from gesso_devnet.network import NodeHandle
from gesso_protocol.audit.disputes import DisputePhase
from gesso_protocol.audit.lifecycle import AuditPhase
from gesso_protocol.audit.outcomes import AuditOutcome, AuditVerdict
from gesso_protocol.ids import Address, TaskId
from gesso_protocol.lifecycle import TaskState

Seen = TypeVar("Seen")
ALWAYS = 10_000
LOOK_S = 0.1
_QUICK = DeploySettings.devnet()
assert _QUICK.audits is not None
RULES = _QUICK.model_copy(
    update={
        "challenge_window_s": 30,
        "audits": _QUICK.audits.model_copy(
            update={
                "audit_commit_window_s": 36,
                "audit_reveal_window_s": 24,
                "vote_commit_window_s": 24,
                "vote_reveal_window_s": 24,
            }
        ),
    }
)
"""For what waits for windows to end: eight seconds are left of each when silence is told, enough for a busy machine."""
assert RULES.audits is not None
_CALM = dict.fromkeys(
    ("audit_commit_window_s", "audit_reveal_window_s", "vote_commit_window_s", "vote_reveal_window_s"), 80
)
PATIENT = RULES.model_copy(
    update={
        "challenge_window_s": 70,
        "hold_window_s": 900,
        "unbonding_period_s": 900,
        "audits": RULES.audits.model_copy(update=_CALM),
    }
)
"""Time for nodes to stop and start again, where everybody comes in the end and no window is waited out."""


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


async def until_sealed(net: Devnet, task: TaskId, seats: int) -> tuple[Address, ...]:
    """Wait until so many auditors have committed: who they are, in their order. The log is asked and not the arbiter,
    which forgets an audit that has passed, perhaps before anybody looks."""

    async def look() -> tuple[Address, ...]:
        events = await happened(net)
        seated = AuditOpened | AuditCommitted
        return tuple(event.auditor for event in events if isinstance(event, seated) and event.task == task)

    return await poll(look, lambda seen: len(seen) >= seats)


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


async def happened(net: Devnet) -> list[ContractEvent]:
    """Everything that the chain's log says."""
    cursor, found = Cursor.before(0), []
    while (page := await net.chain.read_page(cursor)) is not None:
        cursor = page.cursor
        found += page.events
    return found


async def said(net: Devnet, task: TaskId) -> dict[Address, AuditVerdict]:
    """What each auditor revealed."""
    events = await happened(net)
    return {event.auditor: event.verdict for event in events if isinstance(event, AuditRevealed) and event.task == task}


async def outcome(net: Devnet, task: TaskId) -> AuditOutcome:
    """How the audit was closed; NONE when there was none."""
    closings = [event.outcome for event in await happened(net) if isinstance(event, AuditClosed) and event.task == task]
    return closings[-1] if closings else AuditOutcome.NONE


async def filing_of(net: Devnet, task: TaskId) -> Filing:
    """What the chain's log says was committed."""
    events = await happened(net)
    (terms,) = (event.terms for event in events if isinstance(event, TaskSubmitted) and event.task == task)
    (made,) = (event for event in events if isinstance(event, TaskCommitted) and event.task == task)
    return Filing(terms, made.node, made.result_root, made.trace_root)


__all__ = [
    "ALWAYS",
    "PATIENT",
    "RULES",
    "arbiter_of",
    "ended",
    "filing_of",
    "happened",
    "order",
    "outcome",
    "quick",
    "said",
    "stake",
    "start",
    "stop",
    "until_jurors",
    "until_phase",
    "until_sealed",
    "until_state",
]
