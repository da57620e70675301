"""Which models the marketplace knows: labels (`name@version`) to manifests, and which of them are withdrawn."""

from __future__ import annotations

from gesso.chain import Chain, Listing
from gesso_protocol import royalties
from gesso_protocol.ids import NO_LISTING, BlobRef, ListingId
from gesso_protocol.spec import Spec

BASE_MODEL_KIND = 0
MAX_LISTINGS = 100_000
MAX_BUNDLES = 10_000
"""The one learnt first leaves, and is read again when it is named again."""


class Catalogue:
    """Filled from the chain once, then kept up to date by its events."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._listings: dict[ListingId, Listing] = {}
        self._bundles: dict[ListingId, tuple[ListingId, ...]] = {}
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

    async def knows(self, named: ListingId) -> bool:
        """Whether we know what terms name, if anything, having asked the chain about a new bundle; listings we learn by
        events."""
        if not royalties.is_bundle(named):
            return named == NO_LISTING or named in self._listings
        if named in self._bundles:
            return True
        members = await self._chain.members_of(named)
        if members and all(one in self._listings for one in members):
            while len(self._bundles) >= MAX_BUNDLES:
                del self._bundles[next(iter(self._bundles))]
            self._bundles[named] = members
        return named in self._bundles

    def members(self, named: ListingId) -> tuple[ListingId, ...]:
        """The listings that terms name: those of a bundle that we know, or the one."""
        return self._bundles.get(named, (named,))

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
        """What owners get of a fee of terms that name this listing or bundle; 0 for one that we have not seen."""
        return sum(royalties.shares_bps(self.members(listing), self._listings).values())

    def pays_owners(self, spec: Spec, base: BlobRef, named: ListingId) -> bool:
        """Whether terms that name this listing or bundle pay those whose models the task uses."""
        return royalties.pays_its_owners(spec, base, named, self._listings, self._listed, self._bundles)

    @property
    def _listed(self) -> dict[BlobRef, tuple[ListingId, ...]]:
        if self._by_manifest is None:
            self._by_manifest = royalties.by_manifest(self._listings)
        return self._by_manifest
