"""How much one client may ask for: a token bucket a client, and counted seats for streams and uploads."""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from gesso_protocol.errors import RateLimited

CUSTOMER_PREFIX = 48
"""What one customer of a provider has of IPv6: 65,536 households' blocks, each a client by itself."""


class RateLimit:
    """Token buckets by client. Remembers a bounded number of clients, the longest silent are forgotten first."""

    def __init__(self, per_s: float, burst: int, remembered: int) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._remembered = remembered
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str, now_s: float, cost: float = 1.0) -> None:
        """Spend `cost` of the client's allowance. Raises RateLimited when it has not got so much."""
        left, since = self._buckets.pop(client, (self._burst, now_s))
        left = min(self._burst, left + max(0.0, now_s - since) * self._per_s)
        enough = left >= cost
        self._buckets[client] = (left - cost if enough else left, now_s)
        if len(self._buckets) > self._remembered:
            self._buckets.popitem(last=False)
        if not enough:
            raise RateLimited("too many requests from this address", hint="slow down and try again in a second")


class Seats:
    """A bounded number of things at once: in total, and a client, which all clients of one customer are together."""

    def __init__(self, what: str, total: int, a_client: int) -> None:
        self._what = what
        self._total = total
        self._a_client = a_client
        self._taken: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        return self._taken.total()

    @contextmanager
    def seat(self, client: str) -> Iterator[None]:
        """Hold one seat for the block. Raises RateLimited when there is none."""
        customer = customer_of(client)
        if self.taken >= self._total or self._taken[customer] >= self._a_client:
            raise RateLimited(f"too many {self._what} at once", hint="close one, or try again later")
        self._taken[customer] += 1
        try:
            yield
        finally:
            self._taken[customer] -= 1
            if self._taken[customer] <= 0:
                del self._taken[customer]


class Room:
    """Bytes that may be held at once, promised before the first of them comes: in total, and for one node."""

    def __init__(self, what: str, total: int, a_node: int) -> None:
        self._what = what
        self._total = total
        self._a_node = a_node
        self._taken: Counter[str] = Counter()

    @contextmanager
    def hold(self, node: str, size: int) -> Iterator[None]:
        """Hold so many bytes for the block. Raises RateLimited while others hold too many, or this node does."""
        if size > self._total - self._taken.total() or size > self._a_node - self._taken[node]:
            raise RateLimited(f"too many bytes of {self._what} at once", hint="try again later")
        self._taken[node] += size
        try:
            yield
        finally:
            self._taken[node] -= size
            if self._taken[node] <= 0:
                del self._taken[node]


def customer_of(client: str) -> str:
    """Whose a client is, as the gate names it; what is no block of addresses is its own."""
    try:
        block = ipaddress.IPv6Network(client)
    except ValueError:
        return client
    return str(block.supernet(new_prefix=min(block.prefixlen, CUSTOMER_PREFIX)))
