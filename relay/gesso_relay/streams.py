"""Server-sent events of one task: the chain's, replayed from the index and then live; and the node's progress."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

from gesso_protocol import events
from gesso_protocol.errors import GessoError
from gesso_protocol.ids import Address, Root, TaskId
from gesso_protocol.messages import ProgressEvent
from gesso_protocol.money import Wei
from gesso_relay.hub import Hub
from gesso_relay.index.entries import Document, Entry, Json
from gesso_relay.index.follow import News, Rewound
from gesso_relay.index.queries import Queries
from gesso_relay.replies import ServerEvent
from gesso_relay.settings import Limits
from gesso_relay.told import audit_event

TaskHub: TypeAlias = Hub[News]
ProgressHub: TypeAlias = Hub[ProgressEvent]

TERMINAL = ("settled", "cancelled", "expired")


async def task_events(queries: Queries, hub: TaskHub, task: TaskId, after: int | None) -> AsyncIterator[ServerEvent]:
    """What happened to the task, from the beginning or after an event id; ends when nothing more can happen.

    An event named `rewound` says that the chain took something back: what follows it is the task's story anew.
    """
    with hub.listen(str(task)) as news:
        seen, end = -1 if after is None else after, _End()
        for entry in await queries.history("task", str(task), "audit"):
            if entry.position > seen:
                seen = entry.position
                yield _chain_event(entry)
            if end.reached(entry):
                return
        while True:
            item = await news.next()
            if isinstance(item, Rewound):
                seen, end = -1, _End()
                yield ServerEvent("rewound", json.dumps({"task": str(task), "to_block": item.to_block}))
                for entry in await queries.history("task", str(task), "audit"):
                    seen = entry.position
                    yield _chain_event(entry)
                    if end.reached(entry):
                        return
            elif item.position > seen:
                seen = item.position
                yield _chain_event(item)
                if end.reached(item):
                    return


class _End:
    """Whether a task's story is over. Where the arbiter rules, its last word comes after the task's, in one block."""

    def __init__(self) -> None:
        self._ruled = self._judged = self._ended = False

    def reached(self, entry: Entry) -> bool:
        self._ended = self._ended or entry.name in TERMINAL
        self._ruled = self._ruled or entry.name == "ruled"
        self._judged = self._judged or entry.name == "dispute-executed"
        self._judged = self._judged or (entry.name == "audit-closed" and entry.data["outcome"] != "disputed")
        return self._ended and (self._judged or not self._ruled)


async def followed_s(queries: Queries, task: TaskId, limits: Limits) -> float:
    """How long a task's stream lasts: what this relay has not seen on chain may never be there."""
    try:
        known = await queries.task(str(task)) is not None
    except GessoError:
        known = True  # the index is away, and progress does not need it
    return limits.stream_s if known else min(limits.stream_s, limits.unknown_stream_s)


async def progress_events(hub: ProgressHub, task: TaskId) -> AsyncIterator[ServerEvent]:
    """What the node says about its progress, beginning with the last few things it said."""
    with hub.listen(str(task)) as listener:
        while True:
            event = await listener.next()
            yield ServerEvent(event.stage, event.encode().decode(), id=str(event.sequence))


def _chain_event(entry: Entry) -> ServerEvent:
    told = audit_event(entry) if entry.subject == "audit" else None
    if told is not None:
        return ServerEvent(entry.name, events.event_json(told).decode(), id=str(entry.position))
    make = _EVENTS.get(entry.name)
    if make is None:
        return ServerEvent(entry.name, json.dumps(entry.data), id=str(entry.position))
    return ServerEvent(entry.name, events.event_json(make(entry)).decode(), id=str(entry.position))


def _submitted(entry: Entry) -> events.Event:
    return events.Submitted(task=_task(entry), at_ms=entry.at * 1000, fee=_wei(entry.data["fee"]), tx=entry.tx)


def _claimed(entry: Entry) -> events.Event:
    return events.Claimed(
        task=_task(entry),
        at_ms=entry.at * 1000,
        node=Address(str(entry.data["node"])),
        commit_by=_int(entry.data["commit_by"]),
        tx=entry.tx,
    )


def _committed(entry: Entry) -> events.Event:
    return events.Committed(
        task=_task(entry),
        at_ms=entry.at * 1000,
        node=Address(str(entry.data["node"])),
        result_root=Root.parse(str(entry.data["result_root"])),
        trace_root=Root.parse(str(entry.data["trace_root"])),
        settle_after=_int(entry.data["settle_after"]),
        tx=entry.tx,
    )


def _stop_requested(entry: Entry) -> events.Event:
    node = Address(str(entry.data["node"]))
    return events.StopRequested(task=_task(entry), at_ms=entry.at * 1000, node=node)


def _part_committed(entry: Entry) -> events.Event:
    return events.PartCommitted(
        task=_task(entry),
        at_ms=entry.at * 1000,
        node=Address(str(entry.data["node"])),
        done_bps=_int(entry.data["done_bps"]),
        stop_requested=bool(entry.data["stop_requested"]),
    )


def _rest_returned(entry: Entry) -> events.Event:
    return events.RestReturned(task=_task(entry), at_ms=entry.at * 1000, refund=_wei(entry.data["rest_returned"]))


def _settled(entry: Entry) -> events.Event:
    data: Document = entry.data
    return events.Settled(
        task=_task(entry),
        at_ms=entry.at * 1000,
        node=Address(str(data["node"])),
        paid=_wei(data["paid"]),
        royalty=_wei(data["royalty"]),
        royalty_to=_somebody(data["royalty_to"]),
        protocol_fee=_wei(data["protocol_fee"]),
        tx=entry.tx,
    )


def _cancelled(entry: Entry) -> events.Event:
    return events.Cancelled(task=_task(entry), at_ms=entry.at * 1000, refund=_wei(entry.data["refund"]))


def _expired(entry: Entry) -> events.Event:
    refund, node = _wei(entry.data["refund"]), _somebody(entry.data["node"])
    return events.Expired(task=_task(entry), at_ms=entry.at * 1000, refund=refund, node=node)


_EVENTS: dict[str, Callable[[Entry], events.Event]] = {
    "submitted": _submitted,
    "claimed": _claimed,
    "stop-requested": _stop_requested,
    "part-committed": _part_committed,
    "committed": _committed,
    "rest-returned": _rest_returned,
    "settled": _settled,
    "cancelled": _cancelled,
    "expired": _expired,
}


def _task(entry: Entry) -> TaskId:
    return TaskId.parse(entry.key)


def _wei(value: Json) -> Wei:
    return Wei(int(str(value)))


def _int(value: Json) -> int:
    return int(str(value))


def _somebody(value: Json) -> Address | None:
    return None if value is None else Address(str(value))
