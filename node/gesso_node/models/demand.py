"""Which models are in demand, by the tasks that the chain shows, and fetching them before they are needed.

A model's demand halves every hour, so what was popular once makes room for what is wanted now. What is fetched is a
guess: it never pushes out a model that was used lately.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio
import structlog

from gesso_node.models.cache import ModelCache
from gesso_node.models.catalogue import Catalogue
from gesso_protocol.errors import GessoError
from gesso_protocol.ids import BlobRef, ListingId

log = structlog.get_logger("gesso.node.demand")

HALF_LIFE_S = 3600
KNOWN = 10_000
LEAST_DEMAND = 1.5
"""About two tasks within the last half hour: one alone says nothing of the next."""
EVERY_S = 20.0
SPARED_S = 3600.0
"""A model that was used within this time is not pushed out for a guess."""
RETRY_S = 600.0


@dataclass(slots=True)
class _Level:
    value: float
    at: int


class Demand:
    """Counts uses that fade. Pure; times are chain seconds."""

    def __init__(self) -> None:
        self._levels: dict[ListingId, _Level] = {}
        self._latest = 0

    def note(self, listing: ListingId, at: int) -> None:
        """A task names this listing."""
        self._latest = max(self._latest, at)
        if not listing:
            return
        self._levels[listing] = _Level(self.of(listing, at) + 1, max(at, self._at(listing)))
        if len(self._levels) > KNOWN:
            del self._levels[min(self._levels, key=lambda one: self.of(one, at))]

    def of(self, listing: ListingId, now: int) -> float:
        """How much a listing is wanted now: 1 is one task this second."""
        level = self._levels.get(listing)
        return 0.0 if level is None else level.value * 0.5 ** (max(0, now - level.at) / HALF_LIFE_S)

    def latest(self) -> int:
        """Chain seconds of the last task that was counted; demand is measured against that, not against a clock."""
        return self._latest

    def top(self, count: int, now: int) -> list[ListingId]:
        """The listings that are wanted most, of those worth a guess."""
        wanted = {listing: self.of(listing, now) for listing in self._levels}
        ordered = sorted(wanted, key=lambda listing: (-wanted[listing], listing))
        return [listing for listing in ordered[:count] if wanted[listing] >= LEAST_DEMAND]

    def _at(self, listing: ListingId) -> int:
        level = self._levels.get(listing)
        return 0 if level is None else level.at


class Prefetcher:
    """Keeps the models in demand at hand, each with those that it was made from, and pins what the operator pinned.

    `count` is how many; `wanted` says whether a label may be drawn with here at all.
    """

    def __init__(
        self,
        demand: Demand,
        catalogue: Catalogue,
        models: ModelCache,
        *,
        count: int,
        chain_now: Callable[[], int],
        clock: Callable[[], float],
        wanted: Callable[[str], bool],
        pins: tuple[str, ...] = (),
    ) -> None:
        self._demand = demand
        self._catalogue = catalogue
        self._models = models
        self._count = count
        self._chain_now = chain_now
        self._clock = clock
        self._wanted = wanted
        self._pins = pins
        self._not_before: dict[BlobRef, float] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while self._count or self._pins:
            await self.once()
            await anyio.sleep(EVERY_S)

    async def once(self) -> tuple[str, ...]:
        """Fetch what is in demand and not here; the labels of what came."""
        came = []
        self.pin()
        for number in self._demand.top(self._count, self._chain_now()):
            for listing in reversed(self._catalogue.lineage(number)):  # a LoRA is no use without its base
                label = f"{listing.name}@{listing.version}"
                if listing.yanked or not self._wanted(label):
                    break
                if await self._have(listing.manifest, label):
                    came.append(label)
                if not self._models.has(listing.manifest):
                    break
        return tuple(came)

    def pin(self) -> None:
        """What the operator wants kept; a name that nobody has published yet is pinned once somebody has."""
        known = self._catalogue.models()
        self._models.pin(known[label] for label in self._pins if label in known)

    async def _have(self, manifest: BlobRef, label: str) -> bool:
        now = self._clock()
        if self._models.has(manifest) or self._not_before.get(manifest, 0.0) > now:
            return False
        try:
            await self._models.ensure(manifest, idle_since=now - SPARED_S)
        except GessoError as error:
            self._not_before[manifest] = now + RETRY_S
            log.info("demand.not-fetched", model=label, code=error.code, reason=error.message)
            return False
        log.info("demand.fetched", model=label)
        return True
