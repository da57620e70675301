"""Who reads event streams: seats, counted by client and by customer, that change hands when all of them are taken.

A stream costs its reader nothing, so a full house is no reason to turn a newcomer away: whoever has most gives one up,
the one that had nothing to tell for longest. Readers of server-sent events come again by themselves.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio

from gesso_protocol.errors import RateLimited
from gesso_relay.limits import customer_of


class Seat:
    """One stream's. `ended` is set when somebody else has it; `told_at`: when the stream last told anything."""

    def __init__(self, client: str, clock: Callable[[], float]) -> None:
        self.client = client
        self.customer = customer_of(client)
        self.ended = anyio.Event()
        self._clock = clock
        self.told_at = clock()

    def tells(self) -> None:
        """An event goes out to its reader."""
        self.told_at = self._clock()


class Audience:
    """A bounded number of streams: in total, a client, and a customer, who may be many clients."""

    def __init__(self, total: int, a_client: int, a_customer: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._total = total
        self._a_client = a_client
        self._a_customer = max(a_client, a_customer)
        self._clock = clock
        self._seats: dict[Seat, None] = {}
        self._clients: Counter[str] = Counter()
        self._customers: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        return len(self._seats)

    @contextmanager
    def seat(self, client: str) -> Iterator[Seat]:
        """Hold one seat for the block, or until it is `ended`. Raises RateLimited when there is none."""
        mine = Seat(client, self._clock)
        theirs = self._clients[client] < self._a_client and self._customers[mine.customer] < self._a_customer
        if not theirs or (self.taken >= self._total and not self._make_room(mine.customer)):
            raise RateLimited("too many event streams at once", hint="close one, or try again later")
        self._seats[mine] = None
        self._clients[client] += 1
        self._customers[mine.customer] += 1
        try:
            yield mine
        finally:
            self._leave(mine)

    def _make_room(self, newcomer: str) -> bool:
        """Who has most gives up the stream that told nothing for longest, to whoever has less even then."""
        largest, most = self._customers.most_common(1)[0]
        if most <= self._customers[newcomer] + 1:
            return False
        idle = min((seat for seat in self._seats if seat.customer == largest), key=lambda seat: seat.told_at)
        self._leave(idle)
        idle.ended.set()
        return True

    def _leave(self, seat: Seat) -> None:
        """It counts no longer; a second time changes nothing."""
        if seat not in self._seats:
            return
        del self._seats[seat]
        for counter, name in ((self._clients, seat.client), (self._customers, seat.customer)):
            counter[name] -= 1
            if counter[name] <= 0:
                del counter[name]
