"""Token buckets and strikes: how much one peer may ask of us, and when we stop listening to it. Pure; time is given."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from gesso.transport.port import MAX_GOSSIP_BYTES, Rate
from gesso_protocol.errors import MessageTooLarge, RateLimited


@dataclass(slots=True)
class Bucket:
    """`take` answers whether one more is allowed at `now_s` (any monotonic clock, in seconds)."""

    rate: Rate
    tokens: float
    at_s: float

    @classmethod
    def full(cls, rate: Rate, now_s: float) -> Bucket:
        return cls(rate, float(rate.burst), now_s)

    def take(self, now_s: float, amount: float = 1.0) -> bool:
        elapsed_s = max(0.0, now_s - self.at_s)
        self.tokens = min(float(self.rate.burst), self.tokens + elapsed_s * self.rate.per_s)
        self.at_s = max(self.at_s, now_s)
        if self.tokens < amount:
            return False
        self.tokens -= amount
        return True


class KeyedRates:
    """One bucket a key, at most `max_keys`: a flood of new names evicts the least recently seen, never grows."""

    def __init__(self, rate: Rate, *, max_keys: int = 1024) -> None:
        self._rate = rate
        self._max_keys = max_keys
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, key: str, now_s: float) -> bool:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket.full(self._rate, now_s)
            if len(self._buckets) > self._max_keys:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket.take(now_s)

    def __len__(self) -> int:
        return len(self._buckets)


class Outbox:
    """What we may publish ourselves: so large, and so often a topic. Says no instead of losing it silently."""

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._topics: dict[str, Bucket] = {}

    def admit(self, topic: str, data: bytes) -> None:
        """Raises MessageTooLarge or RateLimited."""
        if len(data) > MAX_GOSSIP_BYTES:
            raise MessageTooLarge(f"{len(data)} bytes are too many for gossip; {MAX_GOSSIP_BYTES} are allowed")
        now_s = self._clock()
        if not self._topics.setdefault(topic, Bucket.full(self._rate, now_s)).take(now_s):
            raise RateLimited(f"too many messages on {topic}: {self._rate.per_s:g} a second are allowed")


class Strikes:
    """Counts misdeeds of peers; `strike` says when one has used up its patience and is banned for `ban_s` seconds."""

    def __init__(self, patience: Rate, *, ban_s: float, max_keys: int = 1024) -> None:
        self._patience = KeyedRates(patience, max_keys=max_keys)
        self._ban_s = ban_s
        self._max_keys = max_keys
        self._banned_until_s: OrderedDict[str, float] = OrderedDict()

    def strike(self, key: str, now_s: float) -> bool:
        if self._patience.take(key, now_s):
            return False
        self._banned_until_s[key] = now_s + self._ban_s
        self._banned_until_s.move_to_end(key)
        if len(self._banned_until_s) > self._max_keys:
            self._banned_until_s.popitem(last=False)
        return True

    def is_banned(self, key: str, now_s: float) -> bool:
        until_s = self._banned_until_s.get(key)
        if until_s is None:
            return False
        if now_s < until_s:
            return True
        del self._banned_until_s[key]
        return False
