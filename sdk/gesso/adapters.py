"""Whether a LoRA fits what it is wanted for, found out before anything is paid: its base, its rank, its layers."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyio import to_thread

from gesso.adapterfile import MAX_ADAPTER_BYTES, AdapterFile, read_adapter
from gesso.blobs.port import BlobStore
from gesso.chain.records import Listing
from gesso.diffusers_layout import SDXL
from gesso.directory import Directory
from gesso.manifests import Manifests
from gesso.training import local_adapter, parse_use
from gesso_protocol.errors import BlobMissing, EncodingInvalid, ModelInvalid, Unreachable, UsageError
from gesso_protocol.fields import UsedAdapter
from gesso_protocol.ids import BlobRef
from gesso_protocol.manifest import LISTING_KINDS, ModelManifest
from gesso_protocol.training.spec import Target
from gesso_protocol.training.targets import targets_of

BASE_OF_FILE = "gesso.base_manifest"
START_OF_FILE = "gesso.continued_from"
"""Metadata keys under which files that were trained here name their base, and the LoRA they go on from."""
_BLOCK = re.compile(r"(down|up)_blocks_([0-9]{1,2})_.*attn1_to_q\Z")


@dataclass(frozen=True, slots=True)
class Form:
    """What a training must agree with to go on from a LoRA."""

    rank: int
    alpha: int
    targets: tuple[Target, ...]
    text_encoder: bool


def check_lineage(what: str, lineage: tuple[Listing, ...], base: BlobRef) -> None:
    """Raises UsageError unless a listed LoRA descends, on chain, from the model whose manifest is `base`."""
    if any(listing.manifest == base for listing in lineage[1:]):
        return
    root = lineage[-1]
    made_for = f"made for {root.name}@{root.version}" if len(lineage) > 1 else "listed without the base it was made for"
    raise UsageError(
        f"{what} is {made_for}, which is not the model of this task",
        hint=f"choose that model, or another LoRA: gesso model info {what}",
    )


def check_named_base(file: AdapterFile, base: BlobRef) -> None:
    """Raises ModelInvalid when a file that says which base it was trained on says another."""
    named = file.metadata.get(BASE_OF_FILE)
    if named is None:
        return
    try:
        other = BlobRef.parse(named)
    except EncodingInvalid:
        return
    if other != base:
        raise ModelInvalid(
            f"{file.file.path.name} was trained on another base ({file.metadata.get('gesso.base', other.short)[:80]})",
            hint="name that base, or train on this one",
        )


def check_shapes(
    file: AdapterFile, unet: Mapping[str, Any], text: Mapping[str, Any], second: Mapping[str, Any] | None = None
) -> None:
    """Raises ModelInvalid when a layer cannot belong to a base with these configurations; unknown widths pass.
    `second` is that of the second text encoder, None for a base without."""
    encoders = {"text_encoder": text, "text_encoder_2": second}
    blocks = unet.get("block_out_channels")
    channels = [side for side in blocks if isinstance(side, int)] if isinstance(blocks, list) else []
    for (part, key), layer in file.layers.items():
        down, up = file.shapes(layer)
        wanted, found = None, 0
        block = _BLOCK.match(key)
        encoder = encoders.get(part, text)
        if encoder is None:
            raise ModelInvalid(
                f"{file.file.path.name} is made for another base: this one has no second text encoder",
                hint="a LoRA works on the model family that it was trained on",
            )
        if part in encoders and key.endswith(("q_proj", "k_proj", "v_proj")):
            wanted, found = encoder.get("hidden_size"), down[1]
        elif part == "unet" and key.endswith(("attn2_to_k", "attn2_to_v")):
            wanted, found = unet.get("cross_attention_dim"), down[1]
        elif part == "unet" and block is not None and channels:
            index = int(block[2])
            ordered = channels if block[1] == "down" else channels[::-1]
            wanted, found = (ordered[index] if index < len(ordered) else -1), up[0]
        if isinstance(wanted, int) and wanted != found:
            raise ModelInvalid(
                f"{file.file.path.name} is made for another base: its layer {layer.module} is {found} wide there",
                hint="a LoRA works on the model family that it was trained on",
            )


def form_of(file: AdapterFile) -> Form | None:
    """Rank, alpha and layers, where they are the same throughout; None for a file that no training here could give."""
    sizes = {(layer.rank, layer.alpha or float(layer.rank)) for layer in file.layers.values()}
    targets = targets_of(key for part, key in file.layers if part == "unet")
    if len(sizes) != 1 or not targets or file.kohya:
        return None
    rank, alpha = sizes.pop()
    if alpha != int(alpha):
        return None
    return Form(rank, int(alpha), targets, any(part != "unet" for part, _ in file.layers))


def agree(what: str, form: Form | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a training that goes on from a LoRA: its own, unless the caller wants others. Raises UsageError."""
    if form is None:
        raise UsageError(
            f"{what} cannot be trained on: its layers differ in rank, or are not in diffusers form",
            hint="go on from a LoRA that was trained here",
        )
    fields: dict[str, Any] = {
        "rank": form.rank,
        "alpha": form.alpha,
        "targets": form.targets,
        "text_encoder": form.text_encoder,
    }
    for name, value in fields.items():
        wanted = given.get(name)
        if wanted is not None and (tuple(sorted(set(wanted))) if name == "targets" else wanted) != value:
            shown = ", ".join(value) if isinstance(value, tuple) else value
            raise UsageError(
                f"{what} has {name.replace('_', ' ')} {shown}, and {wanted} is asked for",
                hint=f"training goes on with what the LoRA has; leave --{name.replace('_', '-')} out",
            )
    return fields if form.text_encoder else {**fields, "text_learning_rate_nano": 0}


async def fetch_file(blobs: BlobStore, manifest: ModelManifest) -> AdapterFile:
    """The header of a listed LoRA's file, from a copy that is gone again. Raises ModelInvalid, BlobMissing, …"""
    entries = [entry for entry in manifest.files if entry.path.endswith(".safetensors")]
    named = [entry for entry in entries if entry.path == "adapter.safetensors"] or entries
    if manifest.kind != "lora" or len(named) != 1:
        raise ModelInvalid(f"{manifest.label} is no LoRA of one file")
    with tempfile.TemporaryDirectory(prefix="gesso-lora-") as folder:
        path = Path(folder) / "adapter.safetensors"
        await blobs.fetch(named[0].blob, path, max_bytes=min(named[0].size, MAX_ADAPTER_BYTES))
        return await to_thread.run_sync(read_adapter, path)


class Adapters:
    """LoRAs as people name them, checked against the base they are wanted for."""

    def __init__(self, blobs: BlobStore, directory: Directory, manifests: Manifests) -> None:
        self._blobs = blobs
        self._directory = directory
        self._manifests = manifests

    async def use(self, text: str, base: BlobRef | None) -> UsedAdapter:
        """`alice/zbx@1:0.8`, or a safetensors file of ours, put as a private blob. `base` None: any.

        Raises UsageError for the wrong base, ModelInvalid for a file that cannot be used, BlobMissing, Unreachable.
        """
        name, milli = parse_use(text)
        if name.endswith(".safetensors"):
            await self._local(Path(name), base)
            return await local_adapter(self._blobs, Path(name), milli, base)
        listing = await self._listed(name, base)
        try:
            await self._manifest(listing)
        except (BlobMissing, Unreachable):
            if not await self._directory.at_hand(listing.manifest):
                raise
        return UsedAdapter(ref=f"{listing.name}@{listing.version}", manifest=listing.manifest, strength_milli=milli)

    async def form(self, text: str, base: BlobRef) -> Form | None:
        """What a training that goes on from this LoRA must agree with. Raises as `use` does."""
        name, _ = parse_use(text)
        if name.endswith(".safetensors"):
            return form_of(await self._local(Path(name), base))
        manifest = await self._manifest(await self._listed(name, base))
        return form_of(await fetch_file(self._blobs, manifest))

    async def _listed(self, name: str, base: BlobRef | None) -> Listing:
        listing = await self._directory.usable(name)
        what = f"{listing.name}@{listing.version}"
        if listing.kind != LISTING_KINDS.index("lora"):
            raise UsageError(f"{what} is a {LISTING_KINDS[listing.kind]}, not a LoRA")
        if base is not None:
            check_lineage(what, await self._directory.lineage(listing), base)
        return listing

    async def _manifest(self, listing: Listing) -> ModelManifest:
        what = f"{listing.name}@{listing.version}"
        manifest = await self._manifests.read(listing.manifest, what)
        if manifest.kind != "lora":
            raise ModelInvalid(f"{what} is listed as a LoRA, and its manifest says {manifest.kind}")
        return manifest

    async def _local(self, path: Path, base: BlobRef | None) -> AdapterFile:
        file = await to_thread.run_sync(read_adapter, path)
        if base is not None:
            check_named_base(file, base)
            manifest = await self._manifests.read(base, "the base model")
            parts = ("unet", "text_encoder", "text_encoder_2")
            unet, text, second = [await self._manifests.config(manifest, f"{part}/config.json") for part in parts]
            check_shapes(file, unet, text, second if manifest.pipeline == SDXL.pipeline else None)
        return file
