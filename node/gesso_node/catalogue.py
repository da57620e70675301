"""Which models the marketplace knows: labels (`name@version`) to manifests, and which of them are withdrawn."""

from __future__ import annotations

from gesso.chain import Chain, Listing
from gesso_protocol import royalties
from gesso_protocol.ids import BlobRef, ListingId
from gesso_protocol.spec import Spec

BASE_MODEL_KIND = 0
MAX_LISTINGS = 100_000


class Catalogue:
    """Filled from the chain once, then kept up to date by its events."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._listings: dict[ListingId, Listing] = {}
        self._models: dict[str, BlobRef] | None = None
        self._by_manifest: dict[BlobRef, tuple[ListingId, ...]] | None = None

    async def load(self) -> None:
        """Read every listing. Raises Unreachable, ChainError."""
        count = min(await self._chain.listing_count(), MAX_LISTINGS)
        for number in range(len(self._listings) + 1, count + 1):
            await self.learn(ListingId(number))

    async def learn(self, listing: ListingId) -> None:
        """Read one listing again: it is new, or it changed."""
        if len(self._listings) < MAX_LISTINGS or listing in self._listings:
            self._listings[listing] = await self._chain.listing(listing)
            self._models = self._by_manifest = None

    def get(self, listing: ListingId) -> Listing | None:
        """A listing that we have seen."""
        return self._listings.get(listing)

    def models(self) -> dict[str, BlobRef]:
        """Every model by its label, and the newest of each name by the bare name. Withdrawn ones stay usable for
        tasks that are under way; new tasks for them are refused elsewhere."""
        if self._models is None:
            self._models = {}
            for listing in sorted(self._listings.values(), key=lambda each: each.version):
                self._models[f"{listing.name}@{listing.version}"] = listing.manifest
                if not listing.yanked:
                    self._models[listing.name] = listing.manifest
        return self._models

    def bases(self) -> tuple[BlobRef, ...]:
        """The base models: all that an executor without weights can draw with."""
        return tuple(sorted({one.manifest for one in self._listings.values() if one.kind == BASE_MODEL_KIND}))

    def listed(self, manifest: BlobRef) -> bool:
        """Whether these files are on the marketplace; those of private LoRAs are not."""
        return manifest in self._listed

    def lineage(self, listing: ListingId) -> tuple[Listing, ...]:
        """A listing and its parents; empty for none, or one that we have not seen."""
        found = royalties.lineage(listing, self._listings)
        return tuple(one for one in found if isinstance(one, Listing))

    def royalty_bps(self, listing: ListingId) -> int:
        """What the owners of the model and of its parents get of a fee; 0 for no listing or one we have not seen."""
        return royalties.royalty_bps(listing, self._listings)

    def pays_owners(self, spec: Spec, base: BlobRef, named: ListingId) -> bool:
        """Whether terms that name this listing pay those whose models the task uses."""
        return royalties.pays_its_owners(spec, base, named, self._listings, self._listed)

    @property
    def _listed(self) -> dict[BlobRef, tuple[ListingId, ...]]:
        if self._by_manifest is None:
            self._by_manifest = royalties.by_manifest(self._listings)
        return self._by_manifest
