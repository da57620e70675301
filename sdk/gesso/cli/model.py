"""`gesso model`: what the marketplace offers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gesso.chain.records import Listing
from gesso.cli.output import Common
from gesso.cli.session import client_for

KINDS = ("base", "lora", "controlnet", "vae", "dataset")


async def ls(*, common: Common | None = None) -> None:
    """List models that can be used in tasks."""
    common = common or Common()
    async with client_for(common, read_only=True) as client:
        models = await client.models()
    rows = [listing_row(listing) for listing in models]
    common.out.table(rows, ["model", "kind", "royalty", "owner", "manifest"], empty="nothing is listed on this network")
    if rows:
        common.out.hint(f"gesso generate PROMPT --model {rows[0]['model']}")


async def show(model: str, /, *, common: Common | None = None) -> None:
    """Show one model: listing, files and sizes.

    Parameters
    ----------
    model
        NAME@VERSION.
    """
    common = common or Common()
    async with client_for(common, read_only=True) as client:
        listing = await client.model(model)
        manifest = await client.manifest(listing)
    document = listing_row(listing)
    document["files"] = {entry.path: entry.size for entry in manifest.files}
    document["licence"] = manifest.licence
    common.out.result(document)


async def publish(
    file: Path,
    /,
    *,
    name: str,
    licence: str,
    base: str = "gesso-tiny@1",
    royalty: str = "0%",
    common: Common | None = None,
) -> None:
    """List a LoRA so that others can use it.

    Parameters
    ----------
    file
        A safetensors file.
    name
        Its name on the marketplace; yours once you have published it, versions count up.
    licence
        A short name such as openrail++ or CC-BY-4.0.
    base
        The model that it was trained for; its owner is paid for uses too.
    royalty
        Your share of what a use costs, as in 5%.
    """
    common = common or Common()
    async with client_for(common) as client:
        listing = await client.publish_lora(file, name, licence=licence, base=base, royalty=royalty)
    common.out.result(listing_row(listing))
    common.out.hint(f"gesso generate PROMPT --lora {listing.name}@{listing.version}:0.8")


def listing_row(listing: Listing) -> dict[str, Any]:
    """One listing for printing; the royalty in percent."""
    return {
        "model": f"{listing.name}@{listing.version}",
        "kind": KINDS[listing.kind] if listing.kind < len(KINDS) else str(listing.kind),
        "royalty": f"{listing.royalty_bps / 100:g} %",
        "owner": str(listing.owner),
        "manifest": str(listing.manifest),
    }
