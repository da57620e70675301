"""`AsyncMarket`: what `client.market` does. `gesso.Client().market`, its blocking twin, is generated from this file."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from anyio import to_thread

from gesso import wiring
from gesso.adapterfile import read_adapter
from gesso.adapters import BASE_OF_FILE, START_OF_FILE
from gesso.chain.records import Listing, TxReceipt
from gesso.manifests import Manifests
from gesso.market.folder import read_folder
from gesso.market.hub import fetch_repository, is_repository
from gesso.market.info import ModelInfo, Stats
from gesso.market.listing import check_manifest, check_name, check_royalty, parse_royalty, publish
from gesso.market.package import CardDraft, Label, Package, card_entry, pack_files, pack_lora, read_card, repacked
from gesso.market.search import MAX_RESULTS, Found, Sort, Wanted
from gesso_protocol.card import ModelCard
from gesso_protocol.errors import (
    BlobMissing,
    ChainError,
    EncodingInvalid,
    GessoError,
    ModelInvalid,
    Unreachable,
    UsageError,
    WalletError,
)
from gesso_protocol.ids import Address, BlobRef
from gesso_protocol.manifest import LISTING_KINDS, ModelManifest
from gesso_protocol.terms import BoardParams


class AsyncMarket:
    """The marketplace as a client sees it. Made by `AsyncClient.market`."""

    def __init__(self, ports: wiring.Ports, manifests: Manifests, params: Callable[[], Awaitable[BoardParams]]) -> None:
        self._ports = ports
        self._manifests = manifests
        self._params = params

    async def search(
        self,
        text: str = "",
        *,
        kind: str | None = None,
        base: str | None = None,
        owner: str | None = None,
        sort: Sort = "new",
        limit: int = 20,
    ) -> list[Found]:
        """Listings whose name (on a relay, also whose card) holds every word of `text`, best first.

        `base` keeps what was made from that model, `owner` what belongs to that address; `sort` is new, use (most used
        first) or price (least royalties first). Without a relay the chain's log is read. Raises UsageError.
        """
        root = None if base is None else (await self._ports.directory.listing(base)).id
        whose = None if owner is None else Address(owner)
        wanted = Wanted(text, kind, root, whose, sort=sort, limit=limit)
        return await self._ports.directory.search(wanted.checked())

    async def mine(self) -> list[Found]:
        """What this wallet has listed or was given, withdrawn or not, with uses and income: the newest 200, newest
        first. Raises WalletError."""
        return await self._ports.directory.search(Wanted(owner=self._owner(), withdrawn=True, limit=MAX_RESULTS))

    async def info(self, ref: str) -> ModelInfo:
        """Everything about one model, withdrawn ones too. Raises UsageError when there is none of that name."""
        directory = self._ports.directory
        listing = await directory.listing(ref)
        listing = await self._ports.chain.listing(listing.id)
        lineage = await directory.lineage(listing)
        manifest = card = None
        try:
            manifest = await self._manifests.read(listing.manifest, ref)
            card = await self._card(manifest)
        except (BlobMissing, ModelInvalid, Unreachable):
            pass
        return ModelInfo(listing, lineage, await self.stats(ref), manifest, card)

    async def stats(self, ref: str) -> Stats:
        """How often a listing was used and what it earned. A relay counts the uses, and is believed where it names the
        income that the chain's log shows; else the log itself is counted, if it is not too long. Raises UsageError."""
        return await self._ports.directory.stats(await self._ports.directory.listing(ref))

    async def previews(self, ref: str) -> list[bytes]:
        """The preview pictures of a model's card, PNG files checked by hash. Raises UsageError, BlobMissing."""
        info = await self.info(ref)
        wanted = () if info.card is None else info.card.previews
        return [await self._ports.blobs.get(preview.blob, max_bytes=preview.size) for preview in wanted]

    async def publish(
        self,
        path: str | Path,
        name: str,
        *,
        licence: str,
        base: str | None = None,
        royalty: str = "0%",
        card: CardDraft | None = None,
    ) -> Listing:
        """List a LoRA file of ours under `name`, its next version, as a child of `base`; uses of it pay `royalty`.

        `base` may be a LoRA that it goes on from; left out, it is the one that the file names, LoRA before base.
        Raises UsageError, ModelInvalid before anything is sent; ChainReverted when somebody was quicker.
        """
        file = Path(path)
        parent = await self._parent(file, base)
        lineage = await self._ports.directory.lineage(parent)
        bps = await self._check(name, royalty, lineage)
        label = Label(
            name=name,
            version=await self._ports.chain.latest_version(name) + 1,
            licence=licence,
            kind="lora",
            base_family=_family(lineage[-1].name),
            parent=parent.manifest,
        )
        package = await to_thread.run_sync(pack_lora, file, label, card or CardDraft())
        return await self._publish(package, parent, bps)

    async def import_base(
        self,
        source: str | Path,
        name: str,
        *,
        licence: str,
        revision: str | None = None,
        variant: str | None = None,
        family: str | None = None,
        royalty: str = "0%",
        card: CardDraft | None = None,
        endpoint: str | None = None,
    ) -> Listing:
        """List a base model: a diffusers folder, or ORGANISATION/NAME of a model hub at a pinned `revision`.

        Safetensors only. `family` (sd-1, sd-2, sdxl, gesso-tiny, …) chooses default sizes; it is guessed when left out.
        Raises UsageError, ModelInvalid, MissingExtra, Unreachable before anything is sent.
        """
        bps = await self._check(name, royalty, ())
        label = Label(name, await self._ports.chain.latest_version(name) + 1, licence, "base", family or "")
        draft = card or CardDraft()
        with tempfile.TemporaryDirectory(prefix="gesso-import-") as temporary:
            folder = Path(source)
            if is_repository(str(source)) and not await to_thread.run_sync(folder.is_dir):
                fetch = partial(fetch_repository, variant=variant, endpoint=endpoint)
                folder = await to_thread.run_sync(fetch, str(source), revision, Path(temporary))
                draft = _with_source(draft, f"{source} at {revision}")
            package = await to_thread.run_sync(partial(_pack_base, folder, label, draft, variant))
            return await self._publish(package, None, bps)

    async def update(
        self,
        ref: str,
        *,
        royalty: str | None = None,
        licence: str | None = None,
        card: CardDraft | None = None,
        keep: bool = False,
        anyway: bool = False,
    ) -> Listing:
        """The next version of a model of ours, with the same files: another royalty, licence or card. What is None
        stays, and so does every field of `card` that is empty. The version before is withdrawn unless `keep`; tasks
        under way go on under its terms. What others are made from is bound to its hash, so a base, or a LoRA that has
        some below it, is listed again only `anyway`, and then the version before stays for them. Raises UsageError,
        BlobMissing before anything is sent, ChainError when only the version before could not be withdrawn.
        """
        old = await self._owned(ref)
        if not anyway:
            await self._expect_childless(old)
        manifest = await self._manifests.read(old.manifest, ref)
        lineage = await self._ports.directory.lineage(old)
        bps = await self._check(old.name, f"{old.royalty_bps / 100:g}%" if royalty is None else royalty, lineage[1:])
        version = await self._ports.chain.latest_version(old.name) + 1
        shown = await self._card(manifest)
        if shown is None and card_entry(manifest.files) is not None:
            raise BlobMissing(f"nobody serves the card of {ref}", hint=f"publish the file again as {old.name}")
        repack = partial(repacked, manifest, shown, card or CardDraft(), licence, version)
        package = await to_thread.run_sync(repack)
        if bps == old.royalty_bps and package.manifest.model_copy(update={"version": old.version}) == manifest:
            raise UsageError(
                f"{ref} is like that already",
                hint="give it another royalty, licence or card; which versions are listed: gesso model ls --mine",
            )
        for entry in package.manifest.files:
            if entry.blob not in package.blobs and not await self._ports.blobs.has(entry.blob):
                raise BlobMissing(f"nobody serves {entry.path} of {ref}", hint=f"publish the file again as {old.name}")
        parent = None if old.parent is None else await self._ports.directory.by_id(old.parent)
        listing = await self._publish(package, parent, bps)
        if not keep and not anyway and not old.yanked:
            try:
                await self._ports.chain.yank_listing(old.id)
            except GessoError as error:
                now, before = f"{listing.name}@{listing.version}", f"{old.name}@{old.version}"
                raise ChainError(
                    f"{now} is listed, and {before} could not be withdrawn: {error.message}",
                    hint=f"gesso model yank {before}",
                ) from error
        return listing

    async def yank(self, ref: str, *, undo: bool = False) -> TxReceipt:
        """Withdraw a listing of ours from new use, or take that back; tasks under way go on. Raises UsageError."""
        listing = await self._owned(ref)
        return await self._ports.chain.yank_listing(listing.id, yanked=not undo)

    async def transfer(self, ref: str, to: str) -> TxReceipt:
        """Give a listing and its royalties to another address, from the next settlement on. Raises UsageError."""
        listing = await self._owned(ref)
        return await self._ports.chain.transfer_listing(listing.id, Address(to))

    async def _expect_childless(self, listing: Listing) -> None:
        label = f"{listing.name}@{listing.version}"
        below = [f"{one.name}@{one.version}" for one in await self._ports.directory.made_from(listing)]
        if listing.kind == LISTING_KINDS.index("base") or below:
            shown = f" ({', '.join(below[:3])}{', …' if len(below) > 3 else ''})" if below else ""
            raise UsageError(
                f"what is made from {label}{shown} is bound to it by its hash and does not fit another version",
                hint="list it again for new work only, and leave this version for use: --anyway",
            )

    async def _owned(self, ref: str) -> Listing:
        listing = await self._ports.directory.listing(ref)
        listing = await self._ports.chain.listing(listing.id)
        if listing.owner != self._owner():
            raise UsageError(f"{ref} belongs to {listing.owner}", hint="only its owner can change a listing")
        return listing

    async def _check(self, name: str, royalty: str, above: tuple[Listing, ...]) -> int:
        bps = parse_royalty(royalty)
        check_royalty(bps, above, (await self._params()).max_royalty_bps)
        await check_name(self._ports.chain, name, self._owner())
        return bps

    async def _publish(self, package: Package, parent: Listing | None, royalty_bps: int) -> Listing:
        chain = self._ports.chain
        await check_manifest(chain, package.manifest.ref, self._owner())
        return await publish(chain, self._ports.blobs, package, parent=parent, royalty_bps=royalty_bps)

    async def _parent(self, file: Path, base: str | None) -> Listing:
        if base is not None:
            parent = await self._ports.directory.listing(base)
            if parent.kind > 1:
                raise UsageError(f"{base} is neither a base model nor a LoRA")
            return parent
        metadata = (await to_thread.run_sync(read_adapter, file)).metadata
        for key in (START_OF_FILE, BASE_OF_FILE):
            try:
                number = await self._ports.chain.listing_of_manifest(BlobRef.parse(metadata.get(key, "")))
            except EncodingInvalid:
                continue
            if number is not None:
                return await self._ports.directory.by_id(number)
        raise UsageError(
            f"{file.name} does not say which listed model it was trained on",
            hint="name it, as in --base gesso-tiny@1",
        )

    async def _card(self, manifest: ModelManifest) -> ModelCard | None:
        entry = card_entry(manifest.files)
        if entry is None:
            return None
        try:
            return read_card(await self._ports.blobs.get(entry.blob, max_bytes=entry.size))
        except GessoError:
            return None

    def _owner(self) -> Address:
        if self._ports.address is None:
            raise WalletError("no wallet is configured", hint="gesso wallet new, then export GESSO_WALLET=default")
        return self._ports.address


def _pack_base(folder: Path, label: Label, card: CardDraft, variant: str | None) -> Package:
    found = read_folder(folder, variant=variant)
    family = label.base_family or found.family
    named = Label(label.name, label.version, label.licence, "base", family, pipeline=found.pipeline)
    return pack_files(found.files, named, card)


def _with_source(card: CardDraft, source: str) -> CardDraft:
    return CardDraft(card.summary, card.text, card.trigger, card.tags, card.source or source, card.previews)


def _family(name: str) -> str:
    return name.rpartition("/")[2]
