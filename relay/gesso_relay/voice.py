"""Whose words a relay puts on the air: its voice is one for all clients, so nobody may use it up or speak over others.

What the index knows cost somebody a transaction and is always said, a few words about one thing at a time. All else,
announcements ahead of their block among it, has half of the voice, and half of that is for clients who seldom speak.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar

from gesso.transport.port import Rate
from gesso.transport.rates import Bucket, KeyedRates
from gesso_protocol.errors import RateLimited

AGAIN_AFTER_S = 4.0
MAX_SAID_OF_ONE = 16
MAX_SAID_BY_ONE = 2
"""Different words about one thing within `AGAIN_AFTER_S`, of all clients and of each."""
UNKNOWN = Rate(per_s=25, burst=50)
"""Twice that, for seldom and for frequent speakers, is half of what a peer publishes on a topic."""
SELDOM = Rate(per_s=8 / 60, burst=8)
_REMEMBERED = 4096
T = TypeVar("T")


class Voice:
    """What was said lately, and who may say more. `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._words: OrderedDict[tuple[str, Hashable], float] = OrderedDict()
        self._said_of: OrderedDict[tuple[str, Hashable], tuple[float, Counter[str]]] = OrderedDict()
        self._speakers = KeyedRates(SELDOM, max_keys=_REMEMBERED)
        self._shares: dict[tuple[str, bool], Bucket] = {}

    def is_new(self, topic: str, words: bytes) -> bool:
        """Whether these very words were not on the air a moment ago."""
        return self._clock() - self._words.get((topic, words), -AGAIN_AFTER_S) >= AGAIN_AFTER_S

    def heard(self, topic: str, words: bytes) -> None:
        """They are on the air, whoever said them."""
        _keep(self._words, (topic, words), self._clock())

    def admit(self, topic: str, about: Hashable, client: str, *, known: bool) -> None:
        """One more message of a client. Raises RateLimited when too much is said of this, or too many speak."""
        now = self._clock()
        since, by = self._said_of.get((topic, about), (now, Counter[str]()))
        if now - since >= AGAIN_AFTER_S:
            since, by = now, Counter()
        if by[client] >= MAX_SAID_BY_ONE or by.total() >= MAX_SAID_OF_ONE:
            raise RateLimited("too much is said about this at once", hint="say it again in some seconds")
        if not known:
            share = (topic, self._speakers.take(client, now))
            if not self._shares.setdefault(share, Bucket.full(UNKNOWN, now)).take(now):
                raise RateLimited("too many speak of what is not on chain yet", hint="say it again when it is")
        by[client] += 1
        _keep(self._said_of, (topic, about), (since, by))


def _keep(kept: OrderedDict[tuple[str, Hashable], T], key: tuple[str, Hashable], value: T) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > _REMEMBERED:
        kept.popitem(last=False)
