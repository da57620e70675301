"""Whose listing the terms of a task must name. Pure; nodes hold requesters to it, because the board cannot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from gesso_protocol.ids import NO_LISTING, BlobRef, ListingId
from gesso_protocol.money import MAX_LINEAGE
from gesso_protocol.spec import Spec, TrainLora


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
) -> bool:
    """Whether terms that name listing `named` pay whom the spec's models belong to; `listed` is `by_manifest`.

    That is a listing of a LoRA that is used, if one is listed as made from this base, else one of the base. A LoRA
    whose publisher left its base out earns nothing. Where nobody asks for a royalty, any listing will do.
    """
    owed = [
        number
        for ref in used_adapters(spec)
        for number in listed.get(ref, ())
        if any(one.manifest == base for one in lineage(number, listings))
    ] or list(listed.get(base, ()))
    if named != NO_LISTING and named in owed:
        return True
    return all(royalty_bps(number, listings) == 0 for number in owed)
