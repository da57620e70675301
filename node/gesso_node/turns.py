"""Who is answered when: one question a peer at a time, work shared by all who wait for it, room for those with a stake.

A peer's name costs nothing, so strangers together never take the last places: registered nodes, which auditors and
jurors are, always find some.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import anyio

from gesso.transport.port import PeerId
from gesso_protocol.errors import RateLimited
from gesso_protocol.ids import TaskId

MAX_BUILDING = 4
"""Tasks whose traces are read, hashed and put together at a time."""
MAX_FOR_STRANGERS = 2
T = TypeVar("T")


@dataclass(eq=False, slots=True)
class _Building:
    """What is done for one task; those who want the same task wait for the lock."""

    lock: anyio.Lock = field(default_factory=anyio.Lock)
    waiting: int = 0


class Turns:
    """Shares turns out. `registered` says whether a peer is that of a node with a stake."""

    def __init__(self, registered: Callable[[PeerId], Awaitable[bool]]) -> None:
        self._registered = registered
        self._asking: set[PeerId] = set()
        self._tasks: dict[TaskId, _Building] = {}
        self._building: dict[PeerId, bool] = {}

    @contextmanager
    def question(self, peer: PeerId) -> Iterator[None]:
        """For as long as a peer's question is answered. Raises RateLimited while another one of it is."""
        if peer in self._asking:
            raise RateLimited("one question at a time")
        self._asking.add(peer)
        try:
            yield
        finally:
            self._asking.remove(peer)

    async def build(
        self, peer: PeerId, task: TaskId, known: Callable[[], Awaitable[T | None]], made: Callable[[], Awaitable[T]]
    ) -> T:
        """What `made` gives, or what somebody had made of this task meanwhile. Raises RateLimited without a place."""
        building = self._tasks.setdefault(task, _Building())
        building.waiting += 1
        try:
            async with building.lock:
                found = await known()
                if found is not None:
                    return found
                with self._place(peer, stranger=not await self._registered(peer)):
                    return await made()
        finally:
            building.waiting -= 1
            if not building.waiting:
                del self._tasks[task]

    @contextmanager
    def _place(self, peer: PeerId, *, stranger: bool) -> Iterator[None]:
        strangers = sum(self._building.values())
        if len(self._building) >= MAX_BUILDING or (stranger and strangers >= MAX_FOR_STRANGERS):
            raise RateLimited("others are being answered", hint="ask again in a moment")
        self._building[peer] = stranger
        try:
            yield
        finally:
            del self._building[peer]
