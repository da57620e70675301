"""Whose listings a task must name so that everybody whose models it uses is paid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gesso.chain.records import Listing
from gesso.directory import Directory
from gesso_protocol.errors import UsageError
from gesso_protocol.fields import Adapter
from gesso_protocol.ids import ListingId
from gesso_protocol.royalties import bundle_limit_bps, least_members, shares_bps
from gesso_protocol.spec import Spec, TrainLora


@dataclass(frozen=True, slots=True)
class Owed:
    """`members` are to be named: one as itself, several as a bundle. `bps` is what each owner gets."""

    members: tuple[ListingId, ...]
    bps: tuple[int, ...]


async def owed_by(directory: Directory, spec: Spec, cap_bps: int) -> Owed:
    """Every LoRA of the marketplace that is used, if one is, else the base. `cap_bps` is the market's limit.

    Raises UsageError where a label is not what the spec pins by hash, and for LoRAs that cost too much together.
    """
    listings: dict[ListingId, Listing] = {}
    members = []
    for adapter in _labelled(spec):
        listing = await directory.listing(adapter.ref)
        if listing.manifest != adapter.manifest:
            raise UsageError(f"{adapter.ref} is not the LoRA that the spec pins by hash")
        members.append(listing.id)
        listings |= {one.id: one for one in await directory.lineage(listing)}
    if not members:
        base = await directory.listing(spec.model)
        members.append(base.id)
        listings |= {one.id: one for one in await directory.lineage(base)}
    named = least_members(members, listings)
    bps = tuple(shares_bps(named, listings).values())
    if len(named) > 1 and sum(bps) > bundle_limit_bps(cap_bps):
        raise UsageError(
            f"the owners of these LoRAs ask for {sum(bps) / 100:g} % of the fee together, and a task may pay them "
            f"{bundle_limit_bps(cap_bps) / 100:g} %",
            hint="leave one out; what each asks for: gesso model info NAME",
        )
    return Owed(named, bps)


def _labelled(spec: Spec) -> Sequence[Adapter]:
    if isinstance(spec, TrainLora):
        used: Sequence[Adapter] = () if spec.continue_from is None else (spec.continue_from,)
    else:
        used = spec.loras
    return [one for one in used if one.ref]
