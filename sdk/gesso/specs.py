"""From what a requester says to a complete spec: models pinned by hash, and what was left open chosen."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from gesso.adapters import Adapters, agree
from gesso.blobs.port import BlobStore
from gesso.chain.records import Listing
from gesso.datasets.pictures import Shape
from gesso.datasets.source import Source
from gesso.directory import Directory
from gesso.families import Family, family_of, is_known
from gesso.manifests import Manifests
from gesso.training import Order, pack_dataset, spec_fields
from gesso_protocol.errors import BlobMissing, Unreachable, UsageError
from gesso_protocol.ids import BlobRef
from gesso_protocol.spec import MAX_SEED, Adapter, Spec, TextToImage, TrainLora, make_spec
from gesso_protocol.training.presets import filled, make_training


class Specs:
    """Made for one client; nothing here is paid for or sent, but that private LoRAs are put as blobs."""

    def __init__(self, blobs: BlobStore, directory: Directory, manifests: Manifests) -> None:
        self._directory = directory
        self._manifests = manifests
        self.adapters = Adapters(blobs, directory, manifests)

    async def picture(
        self, model: str, given: Mapping[str, Any], *, loras: Sequence[str], guidance: float | str | None
    ) -> TextToImage:
        """Size, guidance and seed that are None are chosen. Raises SpecInvalid, UsageError for what is not listed."""
        listing = await self._directory.usable(model)
        family = await self._family(listing)
        chosen = {"width": family.side_px, "height": family.side_px, "seed": secrets.randbelow(MAX_SEED)}
        return make_spec(
            {
                **given,
                **{name: value for name, value in chosen.items() if given[name] is None},
                "guidance": family.guidance if guidance is None else _number(guidance),
                "model": f"{listing.name}@{listing.version}",
                "model_manifest": listing.manifest,
                "loras": tuple([await self.adapters.use(one, listing.manifest) for one in loras]),
            }
        )

    def another(self, spec: TextToImage, prompt: str, seed: int | None) -> TextToImage:
        """The same for another prompt, and another seed where none is given."""
        return make_spec(
            {**dict(spec), "prompt": prompt, "seed": secrets.randbelow(MAX_SEED) if seed is None else seed}
        )

    async def training(
        self, source: Source, base: str, settings: dict[str, Any], *, trigger: str, continue_from: str | None,
        folder: Path | None,
    ) -> Order:  # fmt: skip
        """With the data set packed. Raises UsageError for another base or form than a LoRA's, SpecInvalid."""
        listing = await self._directory.usable(base)
        label = f"{listing.name}@{listing.version}"
        await self.expect_usable(listing.manifest, label)
        wanted = spec_fields(settings)
        if continue_from is not None:
            wanted |= agree(continue_from, await self.adapters.form(continue_from, listing.manifest), settings)
        family = label if is_known(label) else (await self._manifests.read(listing.manifest, label)).base_family
        fields = filled(family or label, wanted)
        start = None if continue_from is None else await self.adapters.use(continue_from, listing.manifest)
        given = {
            **fields,
            "model_manifest": listing.manifest,
            "dataset": BlobRef(bytes(32)),
            "trigger": trigger,
            "continue_from": None if start is None else Adapter(ref=start.ref, manifest=start.manifest),
            "seed": fields.get("seed", secrets.randbelow(MAX_SEED)),
        }
        # settings that make no sense are said before any picture is read
        spec = make_training(label, family=family, **given)
        bundle = await pack_dataset(source, Shape(spec.resolution, spec.bucket_step_px, spec.buckets), trigger, folder)
        return Order(spec.changed(dataset=bundle.ref), bundle)

    async def base_bytes(self, spec: Spec) -> int:
        """What the files of a training's base weigh, which decides how large its checkpoints are; 0 for pictures."""
        if not isinstance(spec, TrainLora):
            return 0
        manifest = spec.model_manifest or (await self._directory.listing(spec.model)).manifest
        return await self._manifests.weight(manifest, spec.model)

    async def expect_usable(self, manifest: BlobRef, what: str) -> None:
        """Raises BlobMissing for a model that nobody serves and no node has, ModelInvalid for one that no node can run,
        before anything is paid for it."""
        try:
            await self._manifests.check_base(manifest, what)
        except (BlobMissing, Unreachable):
            if not await self._directory.at_hand(manifest):
                raise

    async def _family(self, listing: Listing) -> Family:
        if is_known(listing.name):
            return family_of(listing.name)
        manifest = await self._manifests.read(listing.manifest, listing.name)
        unet, vae = [await self._manifests.config(manifest, f"{part}/config.json") for part in ("unet", "vae")]
        return family_of(listing.name, manifest.base_family, unet, vae)


def _number(value: float | str) -> float:
    try:
        return float(Decimal(str(value)))
    except ArithmeticError as error:
        raise UsageError(f"guidance {value!r} is not a number") from error
