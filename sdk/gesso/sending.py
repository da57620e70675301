"""Putting a task on the board: announced while its transaction is on the way, and followed from its first event on."""

from __future__ import annotations

from anyio.abc import TaskGroup

from gesso.announce import announce_all
from gesso.feed import TaskFeed
from gesso.stream import TaskStream
from gesso.task import AsyncTask
from gesso.wiring import Ports
from gesso_protocol.messages import TaskAnnouncement
from gesso_protocol.spec import Spec
from gesso_protocol.terms import BoardParams, Terms, task_id


async def send(
    ports: Ports, feed: TaskFeed, group: TaskGroup, spec: Spec, terms: Terms, params: BoardParams
) -> AsyncTask:
    """Escrow the fee; returns once it is on chain. Raises what the chain raises; nothing is paid then,
    but after ChainError, which may be mined yet."""
    task = task_id(ports.chain_id, ports.board, terms)
    announcement = TaskAnnouncement.of(ports.chain_id, ports.board, terms, spec_from=ports.spec_from)
    stream = await feed.open_new(task)
    # Announced while the transaction is on its way: nodes read the spec before the block is there.
    group.start_soon(announce_all, ports.announcers, announcement)
    try:
        receipt = await ports.chain.submit(terms)
    except BaseException:
        stream.close()
        raise
    streams = [stream]

    def open_stream() -> TaskStream:
        # One that nobody read to the task's end has closed itself.
        first = streams.pop() if streams else None
        return feed.open_past(task, receipt.block) if first is None or first.closed else first

    return AsyncTask(
        ports,
        task,
        terms,
        params,
        open_stream,
        lambda: feed.past(task, receipt.block),
        spec=spec,
        submitted=receipt,
    )
