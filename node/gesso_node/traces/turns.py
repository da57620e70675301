"""Who is answered when: one question a peer at a time, work shared by all who wait for it, room for those with a stake.

A peer's name costs nothing, so strangers together never take the last places: registered nodes, which auditors and
jurors are, always find some. Who is neither known as one nor as the other yet has places of its own, for as long as
it takes to ask the chain.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import anyio

from gesso.transport.port import PeerId
from gesso_protocol.errors import RateLimited
from gesso_protocol.ids import TaskId

MAX_ASKED = 32
"""Questions under way; those that wait for a bundle that is put together already cost nothing but a place."""
MAX_STRANGERS = MAX_ASKED // 2
MAX_LOOKED_UP = MAX_ASKED // 4
"""Peers of which the chain is being asked whether they are nodes; the rest is for those that are."""
MAX_STRANGERS_A_TASK = 4
"""They stand in a registered node's way to this task: it waits until each of them has had its turn."""
MAX_BUILDING = 4
"""Tasks whose traces are read, hashed and put together at a time."""
MAX_FOR_STRANGERS = 2
T = TypeVar("T")


@dataclass(eq=False, slots=True)
class _Building:
    """What is done for one task; those who want the same task wait for the lock."""

    lock: anyio.Lock = field(default_factory=anyio.Lock)
    waiting: int = 0
    strangers: int = 0


class Turns:
    """Shares turns out. `registered` says whether a peer is that of a node with a stake; `remembered` says the same
    at once, or None when it would have to ask."""

    def __init__(
        self, registered: Callable[[PeerId], Awaitable[bool]], remembered: Callable[[PeerId], bool | None]
    ) -> None:
        self._registered = registered
        self._remembered = remembered
        self._asking: dict[PeerId, bool | None] = {}
        self._tasks: dict[TaskId, _Building] = {}
        self._building: dict[PeerId, bool] = {}

    @asynccontextmanager
    async def question(self, peer: PeerId) -> AsyncIterator[None]:
        """For as long as a peer's question is answered. Raises RateLimited while another one of it is, or too many of
        strangers are, before anything is awaited: what waits takes a place of the protocol itself."""
        if peer in self._asking:
            raise RateLimited("one question at a time")
        known = self._remembered(peer)
        self._admit(known)
        self._asking[peer] = known
        try:
            if known is None:
                known = await self._registered(peer)
                if not known:
                    self._admit(known)
                self._asking[peer] = known
            yield
        finally:
            del self._asking[peer]

    def _admit(self, known: bool | None) -> None:
        taken = sum(one is known for one in self._asking.values())
        if known is not True and taken >= (MAX_LOOKED_UP if known is None else MAX_STRANGERS):
            raise RateLimited("others are being answered", hint="ask again in a moment")

    async def build(
        self, peer: PeerId, task: TaskId, known: Callable[[], Awaitable[T | None]], made: Callable[[], Awaitable[T]]
    ) -> T:
        """What `made` gives, or what somebody had made of this task meanwhile. Raises RateLimited without a place."""
        stranger = not self._asking.get(peer)
        building = self._tasks.setdefault(task, _Building())
        if stranger and building.strangers >= MAX_STRANGERS_A_TASK:
            raise RateLimited("others wait for the same", hint="ask again in a moment")
        building.waiting += 1
        building.strangers += stranger
        try:
            async with building.lock:
                found = await known()
                if found is not None:
                    return found
                with self._place(peer, stranger=stranger):
                    return await made()
        finally:
            building.waiting -= 1
            building.strangers -= stranger
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
