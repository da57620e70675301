"""Which models the marketplace knows: labels (`name@version`) to manifests, and which of them are withdrawn."""

from __future__ import annotations

from gesso.chain import Chain, Listing
from gesso_protocol.ids import BlobRef, ListingId
from gesso_protocol.money import MAX_LINEAGE

BASE_MODEL_KIND = 0
MAX_LISTINGS = 100_000


class Catalogue:
    """Filled from the chain once, then kept up to date by its events."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._listings: dict[ListingId, Listing] = {}

    async def load(self) -> None:
        """Read every listing. Raises Unreachable, ChainError."""
        count = min(await self._chain.listing_count(), MAX_LISTINGS)
        for number in range(len(self._listings) + 1, count + 1):
            await self.learn(ListingId(number))

    async def learn(self, listing: ListingId) -> None:
        """Read one listing again: it is new, or it changed."""
        if len(self._listings) < MAX_LISTINGS:
            self._listings[listing] = await self._chain.listing(listing)

    def models(self) -> dict[str, BlobRef]:
        """Every model by its label, and the newest of each name by the bare name. Withdrawn ones stay usable for
        tasks that are under way; new tasks for them are refused elsewhere."""
        found: dict[str, BlobRef] = {}
        for listing in sorted(self._listings.values(), key=lambda each: each.version):
            found[f"{listing.name}@{listing.version}"] = listing.manifest
            if not listing.yanked:
                found[listing.name] = listing.manifest
        return found

    def royalty_bps(self, listing: ListingId) -> int:
        """What the owners of the model and of its parents get of a fee; 0 for no listing or one we have not seen."""
        sum_bps = 0
        for _ in range(MAX_LINEAGE):
            known = self._listings.get(listing)
            if known is None:
                break
            sum_bps += known.royalty_bps
            if known.parent is None:
                break
            listing = known.parent
        return sum_bps
