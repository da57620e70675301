"""Whose listing the terms of a task must name. Pure; nodes hold requesters to it, because the board cannot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, TypeAlias

from gesso_protocol.ids import NO_LISTING, BlobRef, ListingId
from gesso_protocol.money import MAX_LINEAGE
from gesso_protocol.spec import Spec, TrainLora

BUNDLES = 1 << 63
"""Numbers above this are those of bundles: several listings whose owners all earn, named by terms like one."""
LISTINGS_A_BUNDLE_MAY_COST = 3
MOST_BPS = 5_000
"""Half of a fee, whatever a marketplace allows."""


class Listed(Protocol):
    """What matters here of a listing."""

    @property
    def id(self) -> ListingId: ...
    @property
    def manifest(self) -> BlobRef: ...
    @property
    def parent(self) -> ListingId | None: ...
    @property
    def royalty_bps(self) -> int: ...


Bundles: TypeAlias = Mapping[ListingId, tuple[ListingId, ...]]
"""The members of each bundle that is known."""


def is_bundle(number: ListingId) -> bool:
    """Whether terms that name this number name several listings."""
    return number > BUNDLES


def lineage(start: ListingId, listings: Mapping[ListingId, Listed]) -> Iterator[Listed]:
    """A listing and its parents, as far as they are known."""
    number: ListingId | None = start
    for _ in range(MAX_LINEAGE):
        found = None if number is None else listings.get(number)
        if found is None:
            return
        yield found
        number = found.parent


def royalty_bps(start: ListingId, listings: Mapping[ListingId, Listed]) -> int:
    """What the owners of a listing and of its parents get of a fee; 0 for no listing or one that is not known."""
    return sum(listing.royalty_bps for listing in lineage(start, listings))


def sharers(members: Sequence[ListingId], listings: Mapping[ListingId, Listed]) -> tuple[Listed, ...]:
    """The members and their parents, each once, as far as they are known."""
    found: dict[ListingId, Listed] = {}
    for member in members:
        for listing in lineage(member, listings):
            if listing.id in found:
                break  # its parents are there too
            found[listing.id] = listing
    return tuple(found.values())


def shares_bps(members: Sequence[ListingId], listings: Mapping[ListingId, Listed]) -> dict[ListingId, int]:
    """What each of the `sharers` gets of a fee: all that it was published with, whoever else is named beside it."""
    return {listing.id: listing.royalty_bps for listing in sharers(members, listings)}


def bundle_limit_bps(listing_limit_bps: int) -> int:
    """What the sharers of a bundle may ask for together, where one listing and its parents may ask for that."""
    return min(LISTINGS_A_BUNDLE_MAY_COST * listing_limit_bps, MOST_BPS)


def least_members(wanted: Sequence[ListingId], listings: Mapping[ListingId, Listed]) -> tuple[ListingId, ...]:
    """Those of `wanted`, rising, that terms must name so that all owners are paid: not one that asks for nothing that
    the others' lineages do not pay already. One at least."""
    left = sorted(set(wanted))
    for number in list(left):
        others = [one for one in left if one != number]
        if others and _asking(number, listings) <= _paid(others, listings):
            left = others
    return tuple(left)


def _asking(number: ListingId, listings: Mapping[ListingId, Listed]) -> set[ListingId]:
    return {one.id for one in lineage(number, listings) if one.royalty_bps}


def _paid(members: Sequence[ListingId], listings: Mapping[ListingId, Listed]) -> set[ListingId]:
    return {one.id for one in sharers(members, listings)}


def used_adapters(spec: Spec) -> tuple[BlobRef, ...]:
    """The manifests of the LoRAs that a task draws with, or goes on from."""
    if isinstance(spec, TrainLora):
        return () if spec.continue_from is None else (spec.continue_from.manifest,)
    return tuple(one.manifest for one in spec.loras)


def by_manifest(listings: Mapping[ListingId, Listed]) -> dict[BlobRef, tuple[ListingId, ...]]:
    """The listings of each manifest; made once where many tasks are judged."""
    found: dict[BlobRef, tuple[ListingId, ...]] = {}
    for listing in listings.values():
        found[listing.manifest] = (*found.get(listing.manifest, ()), listing.id)
    return found


def pays_its_owners(
    spec: Spec,
    base: BlobRef,
    named: ListingId,
    listings: Mapping[ListingId, Listed],
    listed: Mapping[BlobRef, tuple[ListingId, ...]],
    bundles: Bundles,
) -> bool:
    """Whether terms that name this listing or bundle pay whom the spec's models belong to; `listed` is `by_manifest`.

    Owed is every LoRA that is used and listed as made from this base; where there is none, the base. A LoRA whose
    publisher left its base out earns nothing. What is named must be owed, and everybody owed who asks for a royalty
    must be along its lineage, or a member's. Where nobody asks for a royalty, any listing will do that is there: what
    has a number and no listing yet may be published later, by the requester, and take from the node's price.
    """
    members = bundles.get(named, (named,))
    if named != NO_LISTING and not all(member in listings for member in members):
        return False
    made_from = [_made_from(base, listed.get(ref, ()), listings) for ref in used_adapters(spec)]
    owed = [numbers for numbers in made_from if numbers] or [list(listed.get(base, ()))]
    if all(royalty_bps(number, listings) == 0 for numbers in owed for number in numbers):
        return True
    if not all(any(member in numbers for numbers in owed) for member in members):
        return False
    paid = _paid(members, listings)
    return all(any(number in members or _asking(number, listings) <= paid for number in numbers) for numbers in owed)


def _made_from(base: BlobRef, numbers: Sequence[ListingId], listings: Mapping[ListingId, Listed]) -> list[ListingId]:
    return [number for number in numbers if any(one.manifest == base for one in lineage(number, listings))]
