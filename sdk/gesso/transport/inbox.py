"""A bounded inbox between a network thread and one asyncio reader: never blocks the writer, loses the oldest first."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

from gesso.transport.port import Message

T = TypeVar("T")


class Inbox(Generic[T]):
    """`put` and `close` may be called from any thread; iterate from asyncio."""

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError("an inbox holds at least one item")
        self._items: deque[T] = deque()
        self._size = size
        self._lock = threading.Lock()
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._closed = False
        self.dropped = 0
        self.delivered = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        with self._lock:
            if self._closed:
                return
            if len(self._items) >= self._size:
                self._items.popleft()
                self.dropped += 1
            self._items.append(item)
            waiters, self._waiters = self._waiters, []
        _wake(waiters)

    def close(self) -> None:
        """What is queued can still be read; then the iteration ends."""
        with self._lock:
            self._closed = True
            waiters, self._waiters = self._waiters, []
        _wake(waiters)

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        while True:
            with self._lock:
                if self._items:
                    self.delivered += 1
                    return self._items.popleft()
                if self._closed:
                    raise StopAsyncIteration
                loop = asyncio.get_running_loop()
                waiter: asyncio.Future[None] = loop.create_future()
                self._waiters.append((loop, waiter))
            try:
                await waiter
            finally:
                with self._lock:
                    self._waiters = [entry for entry in self._waiters if entry[1] is not waiter]


class TopicSubscription:
    """The `Subscription` of both adapters: an inbox with a join and a leave."""

    def __init__(
        self, inbox: Inbox[Message], *, join: Callable[[], Awaitable[None]], leave: Callable[[], Awaitable[None]]
    ) -> None:
        self._inbox = inbox
        self._join = join
        self._leave = leave

    async def __aenter__(self) -> Self:
        await self._join()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        return await self._inbox.__anext__()

    async def aclose(self) -> None:
        self._inbox.close()
        await self._leave()


def _wake(waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]]) -> None:
    for loop, waiter in waiters:
        if not loop.is_closed():
            loop.call_soon_threadsafe(_finish, waiter)


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
