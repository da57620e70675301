"""Putting a package on the marketplace: everything that can be refused is refused before a byte is sent."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

from gesso.blobs.port import BlobStore
from gesso.chain.chain import Chain
from gesso.chain.records import Listing
from gesso.market.package import Package
from gesso_protocol.errors import UsageError
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import NO_LISTING, Address, BlobRef
from gesso_protocol.manifest import LISTING_KINDS
from gesso_protocol.money import BPS, MAX_LINEAGE


def parse_royalty(text: str) -> int:
    """`5%`, `2.5%` or `0.05` as basis points. Raises UsageError."""
    plain = text.strip()
    try:
        value = Decimal(plain.removesuffix("%")) / (100 if plain.endswith("%") else 1)
        bps = int((value * BPS).to_integral_exact())
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise UsageError(f"{text!r} is not a share", hint="as in --royalty 5%") from error
    if value * BPS != bps or not 0 <= bps < BPS:
        raise UsageError(f"a royalty of {text} is not possible", hint="0% up to the market's cap, in steps of 0.01%")
    return bps


def check_royalty(royalty_bps: int, above: Sequence[Listing], cap_bps: int) -> None:
    """Raises UsageError when a listing and those above it would take more than the market allows, or are too many."""
    taken = sum(listing.royalty_bps for listing in above)
    if royalty_bps + taken > cap_bps:
        beside = f" beside the {taken / 100:g} % of what it was made from" if taken else ""
        raise UsageError(
            f"a royalty of {royalty_bps / 100:g} %{beside} is over the market's cap of {cap_bps / 100:g} %",
            hint=f"at most --royalty {max(0, cap_bps - taken) / 100:g}%",
        )
    if len(above) >= MAX_LINEAGE:
        raise UsageError(f"a listing has at most {MAX_LINEAGE - 1} others above it", hint="name the base as its parent")


async def check_name(chain: Chain, name: str, owner: Address) -> None:
    """Raises UsageError when the name, or its publisher's part, is somebody else's."""
    publisher, slash, _ = name.partition("/")
    for part in (name, publisher) if slash else (name,):
        holder = await chain.name_owner(part)
        if holder is not None and holder != owner:
            raise UsageError(
                f"the name {part!r} belongs to {holder}", hint="choose a name of your own, as in alice/zbx"
            )


async def check_manifest(chain: Chain, manifest: BlobRef, owner: Address) -> None:
    """Raises UsageError when somebody else published this manifest first."""
    first = await chain.listing_of_manifest(manifest)
    if first is None:
        return
    holder = await chain.listing(first)
    if holder.owner != owner:
        raise UsageError(f"this is {holder.name}@{holder.version}, which belongs to {holder.owner}")


async def publish(
    chain: Chain, blobs: BlobStore, package: Package, *, parent: Listing | None, royalty_bps: int
) -> Listing:
    """Put the blobs, the manifest last, and then the listing. Raises ChainReverted when somebody was quicker."""
    manifest = package.manifest
    for ref, source in package.blobs.items():
        if not await blobs.has(ref):
            await blobs.put(source, expect=ref)
    await blobs.put(manifest.encode(), expect=manifest.ref)
    number = await chain.publish_listing(
        manifest.name,
        manifest.ref,
        kind=LISTING_KINDS.index(manifest.kind),
        parent=NO_LISTING if parent is None else parent.id,
        royalty_bps=royalty_bps,
        licence=keccak256(manifest.licence.encode()),
    )
    return await chain.listing(number)
