"""Fan-out inside one relay: what is published under a topic reaches everyone who listens to it now.

A listener that is slow loses its oldest items and is told how many; a publisher never waits.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import anyio

T = TypeVar("T")


class Listener(Generic[T]):
    """One reader's bounded queue."""

    def __init__(self, size: int) -> None:
        self._items: deque[T] = deque(maxlen=size)
        self._wake = anyio.Event()
        self.lost = 0

    def put(self, item: T) -> None:
        if len(self._items) == self._items.maxlen:
            self.lost += 1
        self._items.append(item)
        self._wake.set()

    async def next(self) -> T:
        """The oldest item that is still here; waits when there is none."""
        while not self._items:
            self._wake = anyio.Event()
            await self._wake.wait()
        return self._items.popleft()


class Hub(Generic[T]):
    """Topics with listeners, and the last few items of recent topics for those who come late."""

    def __init__(self, *, queue: int = 256, remembered: int = 0, topics: int = 1024) -> None:
        self._queue = queue
        self._remembered = remembered
        self._topics = topics
        self._listeners: dict[str, set[Listener[T]]] = {}
        self._recent: OrderedDict[str, deque[T]] = OrderedDict()

    def publish(self, topic: str, item: T) -> None:
        """Hand the item to all who listen; never blocks, never fails."""
        if self._remembered:
            self._remember(topic, item)
        for listener in self._listeners.get(topic, ()):
            listener.put(item)

    def recent(self, topic: str) -> tuple[T, ...]:
        return tuple(self._recent.get(topic, ()))

    @contextmanager
    def listen(self, topic: str) -> Iterator[Listener[T]]:
        """Listen while in the block, beginning with what is remembered of the topic."""
        listener: Listener[T] = Listener(self._queue)
        for item in self.recent(topic):
            listener.put(item)
        self._listeners.setdefault(topic, set()).add(listener)
        try:
            yield listener
        finally:
            listeners = self._listeners[topic]
            listeners.discard(listener)
            if not listeners:
                del self._listeners[topic]

    def _remember(self, topic: str, item: T) -> None:
        kept = self._recent.pop(topic, None)
        self._recent[topic] = deque(maxlen=self._remembered) if kept is None else kept
        self._recent[topic].append(item)
        if len(self._recent) > self._topics:
            self._recent.popitem(last=False)
