"""Who holds the places for connections that others made to us, and whose goes when all are taken.

Keys cost nothing, so places are counted by address: IPv6 by household (/64), and by customer of a provider (/48) where
one must make room for another.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

_HOUSEHOLD = 64
_CUSTOMER = 48


@dataclass(frozen=True, slots=True)
class Origin:
    client: str
    customer: str


class Guests(Generic[T]):
    """At most `most`, and `most_a_client`. `busy`: whether a guest has something under way."""

    def __init__(self, most: int, most_a_client: int, busy: Callable[[T], bool]) -> None:
        self._most = most
        self._most_a_client = most_a_client
        self._busy = busy
        self._here: dict[T, Origin] = {}
        self._clients: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._here)

    def may_come(self, address: str) -> bool:
        """Whether its client has a place left of its share."""
        return self._clients[origin_of(address).client] < self._most_a_client

    def enter(self, guest: T, address: str) -> T | None:
        """Takes a place; then `leave` must follow. Returns who has lost its own to it. Raises ValueError when there is
        none to be had."""
        origin, gone = origin_of(address), None
        if not self.may_come(address):
            raise ValueError(f"{origin.client} has its share of connections")
        if len(self._here) >= self._most:
            gone = self._loser(origin.customer)
            self.leave(gone)
        self._here[guest] = origin
        self._clients[origin.client] += 1
        return gone

    def leave(self, guest: T) -> None:
        """It counts no longer; a second time changes nothing."""
        origin = self._here.pop(guest, None)
        if origin is not None:
            self._clients[origin.client] -= 1
            if not self._clients[origin.client]:
                del self._clients[origin.client]

    def _loser(self, newcomer: str) -> T:
        """Of whoever has most, if more than the newcomer even then: who has been here longest with nothing under way,
        else who has been here longest."""
        customers = Counter(origin.customer for origin in self._here.values())
        largest, most = customers.most_common(1)[0]
        if most <= customers[newcomer] + 1:
            raise ValueError("all places are taken")
        theirs = [guest for guest, origin in self._here.items() if origin.customer == largest]
        return next((guest for guest in theirs if not self._busy(guest)), theirs[0])


def origin_of(address: str) -> Origin:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return Origin("unknown", "unknown")
    if isinstance(parsed, ipaddress.IPv4Address):
        return Origin(str(parsed), str(parsed))
    if parsed.ipv4_mapped is not None:  # as who listens on :: calls its IPv4 peers
        return Origin(str(parsed.ipv4_mapped), str(parsed.ipv4_mapped))
    household, customer = (ipaddress.ip_network((parsed, prefix), strict=False) for prefix in (_HOUSEHOLD, _CUSTOMER))
    return Origin(str(household), str(customer))
