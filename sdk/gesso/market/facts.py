"""The marketplace as the chain's log tells it: listings, how often they were used and what they earned. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from gesso.chain import events as on_chain
from gesso.chain.records import Listing
from gesso_protocol.ids import NO_LISTING, ListingId, TaskId
from gesso_protocol.royalties import royalty_bps, sharers


@dataclass(slots=True)
class Tally:
    """`uses` counts settled tasks that named the listing or one made from it; `earned` is base units, so far."""

    uses: int = 0
    earned: int = 0


@dataclass(slots=True)
class MarketFacts:
    """Filled event by event, in the chain's order."""

    listings: dict[ListingId, Listing] = field(default_factory=dict)
    tallies: dict[ListingId, Tally] = field(default_factory=dict)
    _models: dict[TaskId, ListingId] = field(default_factory=dict)
    _bundles: dict[ListingId, tuple[ListingId, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, events: Iterable[object]) -> MarketFacts:
        """The facts that these events make."""
        facts = cls()
        for event in events:
            facts.take(event)
        return facts

    def tally(self, listing: ListingId) -> Tally:
        """What is known of a listing; zeros for one that nobody used."""
        return self.tallies.get(listing, Tally())

    def price_bps(self, listing: ListingId) -> int:
        """What all owners along the listing's parents get of a fee."""
        return royalty_bps(listing, self.listings)

    def take(self, event: object) -> None:
        """One more event; those of no interest here change nothing."""
        if isinstance(event, on_chain.ListingPublished):
            self.listings[event.listing] = _listing(event)
        elif isinstance(event, on_chain.ListingYanked | on_chain.ListingTransferred):
            self._change(event)
        elif isinstance(event, on_chain.BundleMade):
            self._bundles[event.bundle] = event.members
        elif isinstance(event, on_chain.TaskSubmitted):
            if event.terms.model != NO_LISTING:
                self._models[event.task] = event.terms.model
        elif isinstance(event, on_chain.TaskSettled):
            named = self._models.pop(event.task, NO_LISTING)
            for listing in sharers(self._bundles.get(named, (named,)), self.listings):
                self.tallies.setdefault(listing.id, Tally()).uses += 1
        elif isinstance(event, on_chain.TaskCancelled | on_chain.TaskExpired):
            self._models.pop(event.task, None)
        elif isinstance(event, on_chain.RoyaltyPaid):
            self.tallies.setdefault(event.listing, Tally()).earned += int(event.amount)

    def _change(self, event: on_chain.ListingYanked | on_chain.ListingTransferred) -> None:
        known = self.listings.get(event.listing)
        if known is None:
            return
        changed = {"yanked": event.yanked} if isinstance(event, on_chain.ListingYanked) else {"owner": event.owner}
        self.listings[event.listing] = known.model_copy(update=changed)


def _listing(event: on_chain.ListingPublished) -> Listing:
    return Listing(
        id=event.listing,
        owner=event.owner,
        manifest=event.manifest,
        kind=event.listing_kind,
        parent=event.parent or None,
        royalty_bps=event.royalty_bps,
        licence=event.licence,
        yanked=False,
        name=event.name,
        version=event.version,
    )
