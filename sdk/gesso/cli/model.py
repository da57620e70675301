"""`gesso model`: the marketplace, for those who look for models and those who publish them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from gesso.chain.records import Listing
from gesso.cli.inputs import Count, account
from gesso.cli.output import Common
from gesso.cli.session import client_for
from gesso.cli.wallet import confirm
from gesso_protocol.ids import Address

KINDS = ("base", "lora", "controlnet", "vae", "dataset")
Kind = Literal["base", "lora", "controlnet", "vae", "dataset"]
Licence = Annotated[str, Parameter(name=["--license", "--licence"])]
Tags = Annotated[tuple[str, ...], Parameter(name="--tag")]
Previews = Annotated[tuple[Path, ...], Parameter(name="--preview")]
_COLUMNS = ["model", "kind", "price", "uses", "earned", "owner"]
_MINE = ["model", "kind", "state", "royalty", "uses", "earned"]


async def ls(*, mine: bool = False, common: Common | None = None) -> None:
    """List models that can be used in tasks.

    Parameters
    ----------
    mine
        Yours, withdrawn ones too, with how often they were used and what they earned.
    """
    common = common or Common()
    if mine:
        async with client_for(common, signs=False) as client:
            found = await client.market.mine()
        owned = [one.document() for one in found]
        common.out.table(owned, _MINE, empty="nothing on this network belongs to your wallet")
        return
    async with client_for(common, read_only=True) as client:
        models = await client.models()
    rows = _narrow(common, [listing_row(listing) for listing in models])
    common.out.table(rows, ["model", "kind", "royalty", "owner"], empty="nothing is listed on this network")
    if rows:
        common.out.hint(f"gesso generate PROMPT --model {rows[0]['model']}")


async def search(
    text: str = "",
    /,
    *,
    kind: Kind | None = None,
    base: str | None = None,
    owner: str | None = None,
    sort: Literal["new", "use", "price"] = "new",
    limit: Count = 20,
    common: Common | None = None,
) -> None:
    """Look for models: newest, most used or cheapest first.

    Parameters
    ----------
    text
        Words that the name holds; where a relay answers, its card too.
    kind
        Only models of this kind.
    base
        Only what was made from this model, NAME or NAME@VERSION.
    owner
        Only what belongs to this address.
    sort
        Newest first, most used first, or cheapest first: the royalties of all owners above it count.
    limit
        At most this many.
    """
    common = common or Common()
    if owner is not None:
        account(owner)
    async with client_for(common, read_only=True) as client:
        found = await client.market.search(text, kind=kind, base=base, owner=owner, sort=sort, limit=limit)
    rows = _narrow(common, [one.document() for one in found])
    common.out.table(rows, _COLUMNS, empty="nothing of that kind is listed on this network")
    if rows:
        common.out.hint(f"gesso model info {rows[0]['model']}")


async def info(model: str, /, *, previews: Path | None = None, common: Common | None = None) -> None:
    """Show one model: card, lineage, files, licence, uses and income.

    Parameters
    ----------
    model
        NAME@VERSION, or NAME for the newest.
    previews
        A folder to write its preview pictures to.
    """
    common = common or Common()
    async with client_for(common, read_only=True) as client:
        shown = await client.market.info(model)
        pictures = [] if previews is None else await client.market.previews(model)
    common.out.result(shown.document())
    if previews is not None:
        for path in _write_pictures(previews, pictures):
            common.out.say(f"wrote {path}")


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
    licence: Licence,
    base: str | None = None,
    royalty: str = "0%",
    summary: str = "",
    card: Path | None = None,
    trigger: str = "",
    tags: Tags = (),
    previews: Previews = (),
    common: Common | None = None,
) -> None:
    """List a LoRA so that others can use it.

    Parameters
    ----------
    file
        A safetensors file.
    name
        Its name on the marketplace, as in alice/zbx; yours once you have published under it, versions count up.
    licence
        A short name such as openrail++ or CC-BY-4.0.
    base
        The model or LoRA that it was trained on, whose owner is paid for uses too; else the one that the file names.
    royalty
        Your share of what a use costs, as in 5%.
    summary
        One line about it.
    card
        A Markdown file about it, at most 16,000 characters.
    trigger
        The word that calls what it has learnt.
    tags
        A word to find it by; may be given several times.
    previews
        A PNG that it drew; up to four.
    """
    from gesso.market.package import CardDraft

    common = common or Common()
    draft = CardDraft(summary=summary, text=card or "", trigger=trigger, tags=tags, previews=previews)
    async with client_for(common) as client:
        listing = await client.market.publish(file, name, licence=licence, base=base, royalty=royalty, card=draft)
    common.out.result(listing_row(listing))
    common.out.hint(f"gesso generate PROMPT --lora {listing.name}@{listing.version}:0.8")


async def update(
    model: str,
    /,
    *,
    royalty: str | None = None,
    licence: Annotated[str | None, Parameter(name=["--license", "--licence"])] = None,
    summary: str = "",
    card: Path | None = None,
    trigger: str = "",
    tags: Tags = (),
    previews: Previews = (),
    keep: bool = False,
    anyway: bool = False,
    common: Common | None = None,
) -> None:
    """List a model of yours again with another royalty, licence or card: the next version, with the same weights.

    What is not given stays as it is. The version before is withdrawn; tasks that use it are not touched. LoRAs that
    were made from a model fit that version only, so a model that has some is left alone.

    Parameters
    ----------
    model
        NAME@VERSION, or NAME for the newest.
    royalty
        Your share of what a use costs from now on, as in 5%.
    licence
        A short name such as openrail++ or CC-BY-4.0.
    summary
        One line about it.
    card
        A Markdown file about it, at most 16,000 characters.
    trigger
        The word that calls what it has learnt.
    tags
        A word to find it by; may be given several times.
    previews
        A PNG that it drew; up to four.
    keep
        Leave the version before for use as well.
    anyway
        List it again even if it is a base, or LoRAs were made from it; the version before stays for them.
    """
    from gesso.market.package import CardDraft

    common = common or Common()
    draft = CardDraft(summary=summary, text=card or "", trigger=trigger, tags=tags, previews=previews)
    async with client_for(common) as client:
        listing = await client.market.update(
            model, royalty=royalty, licence=licence, card=draft, keep=keep, anyway=anyway
        )
    common.out.result(listing_row(listing))
    common.out.hint(f"gesso model info {listing.name}@{listing.version}")


async def import_(
    source: str,
    /,
    *,
    name: str,
    licence: Licence,
    revision: str | None = None,
    variant: str | None = None,
    family: str | None = None,
    royalty: str = "0%",
    summary: str = "",
    card: Path | None = None,
    tags: Tags = (),
    previews: Previews = (),
    common: Common | None = None,
) -> None:
    """List a base model from a diffusers folder or a hub repository; safetensors only.

    Parameters
    ----------
    source
        A folder with model_index.json in it, or ORGANISATION/NAME of a model hub.
    name
        Its name on the marketplace, as in alice/base.
    licence
        A short name such as openrail++ or CC-BY-4.0; you must be allowed to share the model under it.
    revision
        The commit of a hub repository, 40 digits.
    variant
        Take the weights of this variant, as in fp16.
    family
        sd-1, sd-2, sdxl or gesso-tiny: what sizes suit it; guessed when left out.
    royalty
        Your share of what a use costs, as in 5%.
    summary
        One line about it.
    card
        A Markdown file about it, at most 16,000 characters.
    tags
        A word to find it by; may be given several times.
    previews
        A PNG that it drew; up to four.
    """
    from gesso.market.package import CardDraft

    common = common or Common()
    draft = CardDraft(summary=summary, text=card or "", tags=tags, previews=previews)
    async with client_for(common) as client:
        listing = await client.market.import_base(
            source,
            name,
            licence=licence,
            revision=revision,
            variant=variant,
            family=family,
            royalty=royalty,
            card=draft,
        )
    common.out.result(listing_row(listing))
    common.out.hint(f"gesso generate PROMPT --model {listing.name}@{listing.version}")


async def yank(model: str, /, *, undo: bool = False, common: Common | None = None) -> None:
    """Withdraw a model of yours from new use; tasks that run are not touched.

    Parameters
    ----------
    model
        NAME@VERSION.
    undo
        Offer it again.
    """
    common = common or Common()
    async with client_for(common) as client:
        receipt = await client.market.yank(model, undo=undo)
    common.out.result({"model": model, "state": "listed" if undo else "withdrawn", "tx": receipt.tx_hash})


async def transfer(model: str, to: str, /, *, yes: bool = False, common: Common | None = None) -> None:
    """Give a model of yours and its royalties to another address; its name stays yours.

    Parameters
    ----------
    model
        NAME@VERSION.
    to
        An address.
    yes
        Do not ask.
    """
    common = common or Common()
    account(to)
    async with client_for(common) as client:
        confirm(f"give {model} and what it will earn to {to}?", yes)
        receipt = await client.market.transfer(model, to)
    common.out.result({"model": model, "owner": to, "tx": receipt.tx_hash})


def _write_pictures(folder: Path, pictures: list[bytes]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"preview-{number}.png" for number in range(1, len(pictures) + 1)]
    for path, picture in zip(paths, pictures, strict=True):
        path.write_bytes(picture)
    return paths


def _narrow(common: Common, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For people with the owner in short, so that a row fits a line; `model show` has all of it."""
    if common.format == "json":
        return rows
    return [row | {"owner": Address(row["owner"]).short} for row in rows]


def listing_row(listing: Listing) -> dict[str, Any]:
    """One listing for printing; the royalty in percent."""
    return {
        "model": f"{listing.name}@{listing.version}",
        "kind": KINDS[listing.kind] if listing.kind < len(KINDS) else str(listing.kind),
        "royalty": f"{listing.royalty_bps / 100:g} %",
        "owner": str(listing.owner),
        "manifest": str(listing.manifest),
    }
