"""Models: listings, bundles of them, who earns on them."""

from __future__ import annotations

from collections.abc import Sequence

from gesso.chain.calls import ZERO, Calls, receipt_of
from gesso.chain.events import ListingPublished
from gesso.chain.records import Listing, Royalty, TxReceipt
from gesso_contracts import MARKETPLACE
from gesso_protocol.errors import ChainError
from gesso_protocol.ids import NO_LISTING, Address, BlobRef, ListingId


class Listings(Calls):
    """The marketplace."""

    async def publish_listing(
        self,
        name: str,
        manifest: BlobRef,
        *,
        kind: int,
        parent: ListingId = NO_LISTING,
        royalty_bps: int = 0,
        licence: bytes = bytes(32),
    ) -> ListingId:
        """Publish the next version of a name; the receipt is in the chain's log."""
        arguments = (name, manifest.value, kind, int(parent), royalty_bps, licence)
        mined = await self._send(MARKETPLACE, "publish", *arguments)
        for log in mined.logs:
            event = self._decoder.decode(log)
            if isinstance(event, ListingPublished):
                return event.listing
        raise ChainError("the listing was published, but its log is missing")

    async def yank_listing(self, listing: ListingId, *, yanked: bool = True) -> TxReceipt:
        return receipt_of(await self._send(MARKETPLACE, "yank" if yanked else "unyank", int(listing)))

    async def listing(self, listing: ListingId) -> Listing:
        """Raises ChainReverted ListingUnknown when there is none."""
        values = await self._read(MARKETPLACE, "listingOf", int(listing))
        owner, manifest, kind, parent, royalty_bps, licence, yanked, name, version = values
        return Listing(
            id=listing,
            owner=Address(owner),
            manifest=BlobRef(manifest),
            kind=kind,
            parent=ListingId(parent) if parent else None,
            royalty_bps=royalty_bps,
            licence=licence,
            yanked=yanked,
            name=name,
            version=version,
        )

    async def royalties(self, listing: ListingId) -> tuple[Royalty, ...]:
        """Who earns on a task of the listing or bundle: its owner first, then those of its parents. Empty for an
        unknown one."""
        (found,) = await self._read(MARKETPLACE, "royaltiesOf", int(listing))
        return tuple(Royalty(listing=ListingId(number), owner=Address(owner), bps=bps) for number, owner, bps in found)

    async def bundle(self, members: Sequence[ListingId]) -> ListingId:
        """The number under which tasks pay all these listings, rising; made with a transaction if nobody has yet."""
        number = await self.bundle_of(members)
        if number is None:
            await self._send(MARKETPLACE, "bundle", [int(one) for one in members])
            number = await self.bundle_of(members)
        if number is None:
            raise ChainError("the bundle was made, and the chain does not know it")
        return number

    async def bundle_of(self, members: Sequence[ListingId]) -> ListingId | None:
        """The number of a bundle, if somebody has made it."""
        (found,) = await self._read(MARKETPLACE, "bundleOf", [int(one) for one in members])
        return ListingId(found) if found else None

    async def members_of(self, bundle: ListingId) -> tuple[ListingId, ...]:
        """The listings of a bundle; none for an unknown one."""
        (found,) = await self._read(MARKETPLACE, "membersOf", int(bundle))
        return tuple(map(ListingId, found))

    async def transfer_listing(self, listing: ListingId, to: Address) -> TxReceipt:
        """Give a listing and its royalties away, from the next settlement on."""
        return receipt_of(await self._send(MARKETPLACE, "transferListing", int(listing), str(to)))

    async def listing_of_manifest(self, manifest: BlobRef) -> ListingId | None:
        """The first listing of these bytes: its owner alone may list them again."""
        (found,) = await self._read(MARKETPLACE, "listingOfManifest", manifest.value)
        return ListingId(found) if found else None

    async def listing_id(self, name: str, version: int) -> ListingId | None:
        (found,) = await self._read(MARKETPLACE, "idOf", name, version)
        return ListingId(found) if found else None

    async def latest_version(self, name: str) -> int:
        """The newest version of a name, 0 when nobody published it."""
        return int((await self._read(MARKETPLACE, "latestOf", name))[1])

    async def name_owner(self, name: str) -> Address | None:
        """Who alone may publish under a name, or as a publisher; None when nobody has yet."""
        owner = (await self._read(MARKETPLACE, "latestOf", name))[0]
        return None if owner == ZERO else Address(owner)

    async def max_royalty_bps(self) -> int:
        """What the owners that one task names may get of its fee together."""
        return int((await self._read(MARKETPLACE, "maxRoyaltyBps"))[0])

    async def listing_count(self) -> int:
        """Listings have the ids 1 to this."""
        return int((await self._read(MARKETPLACE, "listingCount"))[0])
